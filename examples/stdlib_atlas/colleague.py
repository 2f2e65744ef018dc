"""Somebody else, in an interpreter of their own, who wants to change the table: prints what they are told.

The exit status is 0 if they were refused at once, 1 if they were let in, 2 if they were kept waiting.
"""

from __future__ import annotations

import sys
import time

from tablevault import TableVault, tv_errors

AT_ONCE = 3.0  # seconds, on a busy machine; a vault waits 5 s for locks that may soon be free


def main(db_dir: str, table_name: str) -> int:
    """Try to delete a table and tell how that went."""
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
