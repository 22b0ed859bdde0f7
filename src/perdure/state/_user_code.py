"""Whose code a file holds; see `perdure._user_code`."""

from perdure._user_code import is_installed_file as is_installed_file
from perdure._user_code import is_users_file as is_users_file
