"""`python -m perdure.cli`, where the command itself is not on the path."""

from perdure.cli import main

main()
