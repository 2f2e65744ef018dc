"""The command line as `python -m tablevault`."""

from tablevault.cli import main

main()
