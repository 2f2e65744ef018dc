"""Every executor keeps the promises of the port."""

import pytest

from tablevault.rows.coroutines import AsyncExecutor
from tablevault.rows.processes import ProcessExecutor
from tablevault.rows.threads import InlineExecutor, ThreadExecutor
from tablevault.testing import EXECUTOR_CHECKS, LOCAL_EXECUTOR_CHECKS, Awaited

LOCAL_MAKERS = {
    "inline": InlineExecutor,
    "one thread": lambda open_function: ThreadExecutor(1, open_function),
    "four threads": lambda open_function: ThreadExecutor(4, open_function),
    "async": lambda open_function: AsyncExecutor(4, Awaited(open_function)),
}


def two_processes(open_function):
    return ProcessExecutor(2, open_function)


@pytest.mark.parametrize("make", LOCAL_MAKERS.values(), ids=LOCAL_MAKERS.keys())
@pytest.mark.parametrize("check", LOCAL_EXECUTOR_CHECKS, ids=lambda check: check.__name__)
def test_executor_conforms(check, make, tmp_path):
    check(make, tmp_path)


@pytest.mark.parametrize("check", EXECUTOR_CHECKS, ids=lambda check: check.__name__)
def test_process_executor_conforms(check, tmp_path):
    check(two_processes, tmp_path)
