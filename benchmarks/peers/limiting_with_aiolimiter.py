"""Limits of aiolimiter.

A call and 3,000 tokens are each taken from a bucket in the memory of one event loop.
"""

import asyncio
import sys
import time

from aiolimiter import AsyncLimiter

count, DAY = int(sys.argv[1]), 86_400


async def measure() -> float:
    """Return the seconds that all takes need."""
    calls, tokens = AsyncLimiter(10**9, DAY), AsyncLimiter(10**12, DAY)
    start = time.perf_counter()
    for _ in range(count):
        await calls.acquire()
        await tokens.acquire(3_000)
    return time.perf_counter() - start


sys.stdout.write(f"{asyncio.run(measure())}\n")
