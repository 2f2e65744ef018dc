"""Try to delete a table from another interpreter, and print the refusal.

The exit status is 0 if the call was refused at once, 1 if it succeeded, and 2 if it was refused late.
"""

from __future__ import annotations

import sys
import time

from tablevault import TableVault, tv_errors

AT_ONCE = 3.0  # seconds, on a busy machine; a vault waits 5 s for locks of running processes


def main(db_dir: str, table_name: str) -> int:
    """Try to delete a table; return the exit status."""
    vault = TableVault(db_dir, author="colleague")
    asked_at = time.monotonic()
    try:
        vault.delete_table(table_name)
    except tv_errors.TVLockError as error:
        waited = time.monotonic() - asked_at
        print(f"TVLockError after {waited:.2f} s: {error}")
        return 0 if waited < AT_ONCE else 2
    print("The table was deleted.")
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
