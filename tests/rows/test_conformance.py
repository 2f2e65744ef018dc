"""Every executor keeps the promises of the interface."""

import pytest

from tablevault.rows.threads import ThreadExecutor
from tablevault.testing import EXECUTOR_CHECKS

MAKERS = {
    "one thread": lambda: ThreadExecutor(1),
    "four threads": lambda: ThreadExecutor(4),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
@pytest.mark.parametrize("check", EXECUTOR_CHECKS, ids=lambda check: check.__name__)
def test_executor_conforms(check, make):
    check(make)


@pytest.mark.parametrize("n_threads", [0, -1])
def test_an_executor_without_threads_is_refused(n_threads):
    with pytest.raises(ValueError, match="at least 1"):
        ThreadExecutor(n_threads)
