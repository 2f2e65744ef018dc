"""Every executor keeps the promises of the port."""

from dataclasses import dataclass
from typing import Any

import pytest

from tablevault.rows.coroutines import AsyncExecutor
from tablevault.rows.threads import InlineExecutor, ThreadExecutor
from tablevault.testing import EXECUTOR_CHECKS


@dataclass
class Awaited:
    """Lets an async executor call a plain function."""

    opened: Any

    async def call(self, **arguments):
        return self.opened.call(**arguments)

    def close(self):
        return self.opened.close()


MAKERS = {
    "inline": InlineExecutor,
    "one thread": lambda open_function: ThreadExecutor(1, open_function),
    "four threads": lambda open_function: ThreadExecutor(4, open_function),
    "async": lambda open_function: AsyncExecutor(4, lambda: Awaited(open_function())),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
@pytest.mark.parametrize("check", EXECUTOR_CHECKS, ids=lambda check: check.__name__)
def test_executor_conforms(check, make):
    check(make)
