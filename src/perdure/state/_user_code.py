"""Whose code a file holds; see `perdure.errors`."""

from perdure.errors import is_installed_file as is_installed_file
from perdure.errors import is_users_file as is_users_file
