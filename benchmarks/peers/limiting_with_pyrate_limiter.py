"""Limits of pyrate-limiter.

A call and 3,000 tokens are each taken from a bucket in SQLite that interpreters can share.
"""

import sys
import time
from pathlib import Path

from pyrate_limiter import Duration, Limiter, Rate, SQLiteBucket

count, folder = int(sys.argv[1]), Path(sys.argv[2])


def limiter(name: str, limit: int) -> Limiter:
    """Return a limiter whose state other interpreters see."""
    path = str(folder / f"{name}.sqlite")
    return Limiter(SQLiteBucket.init_from_file([Rate(limit, Duration.DAY)], db_path=path, use_file_lock=True))


calls, tokens = limiter("calls", 10**9), limiter("tokens", 10**12)
start = time.perf_counter()
for _ in range(count):
    assert calls.try_acquire("api")
    assert tokens.try_acquire("api", weight=3_000)
sys.stdout.write(f"{time.perf_counter() - start}\n")
