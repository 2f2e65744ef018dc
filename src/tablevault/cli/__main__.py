"""The command line as `python -m tablevault.cli`."""

from tablevault.cli import main

main()
