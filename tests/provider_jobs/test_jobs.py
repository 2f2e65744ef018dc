"""Rows as jobs of a provider.

They are submitted in groups, found again, and kept after any failure.
"""

from __future__ import annotations

import warnings

import pytest
from providers import CODE, doubled

from tablevault import TableVaultWarning, TVBuilderError, tv_errors


def test_rows_are_submitted_in_groups_and_come_back_to_their_places(make, provider):
    table = make(rows=10, max_concurrency=2)
    provider.be_ready()
    table.execute()
    assert provider.rows == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert table.answers() == doubled(range(10))


def test_no_more_jobs_are_out_than_the_builder_says(make, provider):
    table = make(rows=20, max_concurrency=2, wait=False)
    with pytest.raises(tv_errors.JobsPending, match="0 of 5 jobs are ready; next look at"):
        table.execute()
    assert len(provider.jobs) == 2
    provider.finish("job-0")
    with pytest.raises(tv_errors.JobsPending, match="1 of 5 jobs is ready"):
        table.execute()
    assert len(provider.jobs) == 3


def test_a_run_that_does_not_wait_pauses_and_looks_once_when_it_is_resumed(vault, make, provider):
    table = make(wait=False, poll_seconds=3600)
    with pytest.raises(tv_errors.JobsPending, match="0 of 3 jobs are ready") as caught:
        table.execute()
    assert "paused as 'night'" in "".join(caught.value.__notes__)
    paused = vault.get_process("night")
    assert paused.status == "paused"
    assert paused.waiting.startswith("0 of 3 jobs are ready; next look at ")
    assert paused.error.type.endswith("JobsPending")
    assert provider.count("poll") == 0
    provider.finish("job-1")
    with pytest.raises(tv_errors.JobsPending, match="1 of 3 jobs is ready"):
        table.execute()
    assert provider.count("poll") == 3
    assert vault.get_process("night").progress["answer"].computed == 4
    provider.be_ready()
    table.execute()
    assert provider.count("poll") == 5
    assert len(provider.jobs) == 3
    assert table.answers() == doubled(range(10))
    assert vault.get_process("night").waiting == ""


def test_not_waiting_needs_an_id_to_go_on_by(make, provider):
    table = make(wait=False)
    with pytest.raises(TVBuilderError, match=r"answer\.yaml, line \d+, wait: .*pass a process_id"):
        table.execute("")
    assert provider.count("submit") == 0


def test_waiting_can_be_decided_by_the_call(make, provider):
    table = make()
    provider.be_ready()
    policies = {"answer": {"wait": False, "poll_seconds": 3600}}
    with pytest.raises(tv_errors.JobsPending):
        table.execute(policies=policies)
    table.execute(policies={"answer": {"wait": True}})
    assert table.answers() == doubled(range(10))


def test_a_glitch_while_polling_is_repeated_and_fails_no_paid_row(make, provider):
    table = make(on_error="collect", retry={"max_retries": 5, "wait": 0.01})
    provider.be_ready()
    provider.fail("poll", "ConnectionError", 503, "TimeoutError", 429)
    table.execute()
    assert table.answers() == doubled(range(10))
    assert len(provider.jobs) == 3


@pytest.mark.parametrize("fault", ["ConnectionError", "KeyError"])
def test_a_poll_that_keeps_failing_ends_the_run_and_the_jobs_stay(make, provider, fault):
    table = make(on_error="collect")
    provider.be_ready()
    provider.fail("poll", fault)
    with pytest.raises(Exception, match="raised at poll") as caught:
        table.execute()
    assert "raised by poll() of" in "".join(caught.value.__notes__)
    table.execute()
    assert len(provider.jobs) == 3
    assert table.answers() == doubled(range(10))


def test_polls_are_repeated_five_times_where_the_builder_does_not_say(make, provider):
    table = make(rows=1, retry=None)
    provider.be_ready()
    provider.fail("poll", *["RetryLater"] * 0, *["ConnectionError"] * 1)
    table.execute()
    assert provider.count("poll") == 2


def test_a_result_that_is_not_the_rows_ends_the_run_and_can_be_read_again(make, provider):
    table = make(rows=3, on_error="collect", wait=False)
    with pytest.raises(tv_errors.JobsPending):
        table.execute()
    provider.finish("job-0", results=[1, 2])
    with pytest.raises(ValueError, match=r"poll\(\) of .*returned 2 rows for the 3 rows given"):
        table.execute()
    provider.finish("job-0")
    table.execute()
    assert table.answers() == doubled(range(3))
    assert len(provider.jobs) == 1


def test_rows_of_a_job_that_expired_fail_and_those_it_finished_are_kept(vault, make, provider):
    table = make(wait=False, on_error="collect", max_failures="100%", max_consecutive_failures="none")
    with pytest.raises(tv_errors.JobsPending):
        table.execute()
    provider.finish("job-0", expired=[1, 3])
    provider.finish("job-1", expired=range(10))
    provider.finish("job-2")
    with pytest.warns(TableVaultWarning, match="6 failed rows in 'answer'"):
        table.execute()
    assert table.answers() == [0, None, 4, None, None, None, None, None, 16, 18]
    errors = vault.get_errors("answers")
    assert set(errors["error"]) == {"providers_code.Expired"}
    assert list(errors["index"]) == [1, 3, 4, 5, 6, 7]
    provider.be_ready()
    vault.retry_failed("answers", process_id="again", policies={"answer": {"wait": True}})
    assert provider.rows[3:] == [[1, 3, 4, 5], [6, 7]]
    assert table.answers() == doubled(range(10))


def test_expired_row_pauses_and_is_resubmitted_by_the_same_call(make, provider):
    table = make(wait=False)
    with pytest.raises(tv_errors.JobsPending):
        table.execute()
    for job in provider.jobs:
        provider.finish(job, expired=[2])
    with pytest.raises(Exception, match="the job expired"):
        table.execute()
    provider.be_ready()
    table.execute(policies={"answer": {"wait": True}})
    assert provider.rows[3:] == [[2]]
    assert table.answers() == doubled(range(10))


def test_failed_rows_are_submitted_again_only_with_other_code(vault, make, provider):
    table = make(rows=8, wait=False, on_error="collect", max_failures="100%")
    with pytest.raises(tv_errors.JobsPending):
        table.execute()
    provider.finish("job-0", expired=[1])
    for _ in range(2):
        with pytest.raises(tv_errors.JobsPending, match="1 of 2 jobs is ready"):
            table.execute()
    assert len(provider.jobs) == 2
    vault.create_code_module("providers_code", text=CODE.replace("2 * x for", "x + x for"))
    with pytest.raises(tv_errors.JobsPending):
        table.execute()
    assert provider.rows == [[0, 1, 2, 3], [4, 5, 6, 7], [1]]
    provider.be_ready()
    table.execute()
    assert table.answers() == doubled(range(8))


def test_rows_that_are_retried_make_one_job_together(make, provider):
    table = make(wait=False, retry={"max_retries": 2, "on": ["Expired"], "wait": 0.01}, batch_size=10)
    with pytest.raises(tv_errors.JobsPending):
        table.execute()
    provider.finish("job-0", expired=[1, 2, 5, 7])
    provider.be_ready()
    table.execute(policies={"answer": {"wait": True}})
    assert provider.rows[1:] == [[1, 2, 5, 7]]
    assert table.answers() == doubled(range(10))


def test_refused_results_are_those_of_their_rows(vault, make, provider):
    table = make(rows=4, validate="check", on_error="collect", max_failures=4, wait=False)
    with pytest.raises(tv_errors.JobsPending):
        table.execute()
    provider.finish("job-0", results=[0, 3, 4, "text"])
    with pytest.warns(TableVaultWarning, match="2 failed rows"):
        table.execute()
    assert table.answers() == [0, None, 4, None]


@pytest.mark.parametrize("step", ["submit", "submitted"])
def test_a_submission_whose_end_is_unknown_is_looked_for(make, provider, step):
    table = make(rows=4, retry={"max_retries": 1, "wait": 0.01})
    provider.be_ready()
    provider.fail(step, "ConnectionError")
    table.execute()
    assert provider.count("find") == 1
    assert len(provider.jobs) == 1
    assert table.answers() == doubled(range(4))


def test_a_submission_that_fails_after_all_is_looked_for_once_more(make, provider):
    table = make(rows=4)
    provider.be_ready()
    provider.fail("submitted", "KeyError")
    table.execute()
    assert len(provider.jobs) == 1
    assert table.answers() == doubled(range(4))


def test_without_find_a_job_is_submitted_again_with_a_warning(make, provider):
    table = make(rows=4, python_function="Forgetful")
    provider.be_ready()
    provider.fail("submitted", "ConnectionError")
    with pytest.raises(ConnectionError, match="raised at submitted"):
        table.execute()
    with pytest.warns(TableVaultWarning, match="may be charged twice"):
        table.execute()
    assert len(provider.jobs) == 2
    assert table.answers() == doubled(range(4))


def test_a_refused_submission_is_the_error_of_its_rows_and_no_job(make, provider):
    table = make(rows=4, python_function="Forgetful")
    provider.be_ready()
    provider.fail("submit", 400)
    with pytest.raises(Exception, match="status 400"):
        table.execute()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table.execute()
    assert len(provider.jobs) == 1


def test_a_throttled_submission_is_repeated_without_a_warning(make, provider):
    table = make(rows=4, python_function="Forgetful", retry={"max_retries": 3, "wait": 0.01})
    provider.be_ready()
    provider.fail("submit", 429, 429)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table.execute()
    assert len(provider.jobs) == 1


def test_collect_halves_a_group_that_the_provider_refuses(vault, make, provider):
    table = make(rows=4, on_error="collect", max_failures=4)
    provider.be_ready()
    provider.fail("submit", 400, 400, "pass", 400, "pass")
    with pytest.warns(TableVaultWarning, match="1 failed row in 'answer'"):
        table.execute()
    assert sorted(provider.submitted.values()) == [1, 1, 1]
    assert sum(answer is None for answer in table.answers()) == 1


def test_a_network_that_is_down_fails_no_rows_under_collect(make, provider):
    table = make(rows=4, on_error="collect", max_failures="100%")
    provider.be_ready()
    provider.fail("submit", "ConnectionError")
    with pytest.raises(ConnectionError):
        table.execute()
    table.execute()
    assert len(provider.jobs) == 1
    assert table.answers() == doubled(range(4))


def test_a_job_that_takes_too_long_is_given_up_and_cancelled(vault, make, provider):
    table = make(rows=4, timeout=0.3, on_error="collect", max_failures=4, max_consecutive_failures="none")
    with pytest.warns(TableVaultWarning, match="4 failed rows in 'answer'"):
        table.execute()
    assert provider.cancelled == ["job-0"]
    assert table.answers() == [None] * 4


def test_the_timeout_counts_from_the_submission_over_all_attempts(make, provider):
    table = make(rows=4, wait=False)
    with pytest.raises(tv_errors.JobsPending):
        table.execute()
    with pytest.raises(TimeoutError):
        table.execute(policies={"answer": {"timeout": 0.001}})
    assert provider.cancelled == ["job-0"]


def test_job_id_other_than_text_ends_the_run(vault, make, provider):
    table = make(rows=4)
    vault.create_code_module("providers_code", text=CODE.replace('return f"job-{number}"', "return number"))
    with pytest.raises(TypeError, match=r"submit\(\) of .*returned a int; return a str that identifies the job"):
        table.execute()


# --- stopping -----------------------------------------------------------------------------------------------------


def test_stopping_cancels_the_jobs_that_are_out(vault, make, provider):
    table = make(wait=False)
    with pytest.raises(tv_errors.JobsPending):
        table.execute()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vault.stop_process("night")
    assert provider.cancelled == ["job-0", "job-1", "job-2"]
    assert vault.get_process("night").waiting == ""


def test_stopping_says_which_jobs_may_still_be_charged(vault, make, provider):
    table = make(wait=False, python_function="Forgetful")
    with pytest.raises(tv_errors.JobsPending):
        table.execute()
    provider.finish("job-1")
    with pytest.raises(tv_errors.JobsPending):
        table.execute()
    with pytest.warns(TableVaultWarning, match=r"job-0 \(its class has no method cancel\(job\)\), job-2 \(its") as told:
        vault.stop_process("night")
    assert "job-1" not in str(told[0].message)
    assert "may still be charged: job-0" in vault.get_process("night").waiting


def test_failed_cancellation_does_not_prevent_a_stop(vault, make, provider):
    table = make(wait=False)
    with pytest.raises(tv_errors.JobsPending):
        table.execute()
    provider.fail("cancel", "KeyError")
    with pytest.warns(TableVaultWarning, match=r"charged: job-0 \(KeyError"):
        vault.stop_process("night")
    assert provider.cancelled == ["job-1", "job-2"]
    assert vault.get_process("night").status == "stopped"


def test_stopping_looks_for_a_job_whose_submission_is_unknown(vault, make, provider):
    table = make(rows=4)
    provider.fail("submitted", "ConnectionError")
    provider.fail("find", "ConnectionError", "ConnectionError")
    with pytest.raises(ConnectionError):
        table.execute()
    provider.fail("find")
    vault.stop_process("night")
    assert provider.cancelled == ["job-0"]


def test_a_stop_keeps_the_rows_of_finished_jobs_as_an_instance(vault, make, provider):
    table = make(wait=False)
    with pytest.raises(tv_errors.JobsPending):
        table.execute()
    provider.finish("job-1")
    with pytest.raises(tv_errors.JobsPending):
        table.execute()
    vault.stop_process("night", materialize=True)
    assert table.answers() == [None] * 4 + [8, 10, 12, 14] + [None] * 2
    assert provider.cancelled == ["job-0", "job-2"]


def test_jobs_of_a_process_that_is_reverted_are_cancelled(vault, make, provider):
    table = make(rows=4)
    provider.fail("poll", "interrupt")
    with pytest.raises(KeyboardInterrupt):
        table.execute("")
    assert provider.cancelled == ["job-0"]


def test_the_error_of_a_revert_names_the_jobs_that_may_be_charged(vault, make, provider):
    table = make(rows=4, python_function="Forgetful")
    provider.fail("poll", "KeyError")
    with pytest.raises(KeyError) as caught:
        table.execute("")
    assert "a job that was not cancelled may still be charged: job-0" in "".join(caught.value.__notes__)


# --- code, usage, fields ------------------------------------------------------------------------------------------


def test_rows_count_as_those_of_the_code_that_submitted_them(vault, make, provider):
    table = make(wait=False, max_concurrency=2)
    with pytest.raises(tv_errors.JobsPending):
        table.execute()
    edited = CODE.replace('self.act("poll")', 'self.act("poll"), 1')
    vault.create_code_module("providers_code", text=edited)
    provider.be_ready()
    table.execute(policies={"answer": {"wait": True}})
    assert provider.rows == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    vault.create_instance("answers", copy=True)
    table.execute("morning", policies={"answer": {"wait": True}})
    assert provider.rows[3:] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_job_counts_as_one_call_across_attempts(vault, make, provider):
    table = make(wait=False, budget={"calls": 3})
    with pytest.raises(tv_errors.JobsPending):
        table.execute()
    assert vault.get_process("night").progress["answer"].usage == {"calls": 3, "cost": 10}
    provider.be_ready()
    table.execute()
    assert vault.get_process("night").progress["answer"].usage == {"calls": 3, "cost": 10}


def test_a_spent_budget_pauses_and_the_jobs_that_are_out_stay(make, provider):
    table = make()
    provider.be_ready()
    with pytest.raises(tv_errors.BudgetSpent):
        table.execute(policies={"answer": {"budget": {"calls": 2}}})
    table.execute(policies={"answer": {"budget": {"calls": 3}}})
    assert len(provider.jobs) == 3
    assert table.answers() == doubled(range(10))


WRONG = {
    "row-wise": ({"return_type": "row-wise", "batch_size": None}, "executor"),
    "function": ({"python_function": "check", "setup_arguments": None}, "python_function"),
    "class without the methods": ({"python_function": "Expired", "setup_arguments": None}, "python_function"),
    "argument that submit does not take": ({"arguments": {"y": "<<self.x[index]>>"}}, "arguments"),
    "poll_seconds of other executors": ({"executor": None}, "poll_seconds"),
    "wait of other executors": ({"executor": "threads", "poll_seconds": None, "wait": False}, "wait"),
    "poll_seconds: 0": ({"poll_seconds": 0}, "poll_seconds"),
    "wait: text": ({"wait": "no"}, "wait"),
}


@pytest.mark.parametrize(("fields", "named"), WRONG.values(), ids=WRONG)
def test_wrong_fields_are_refused_before_anything_is_submitted(make, provider, fields, named):
    table = make(**fields)
    with pytest.raises(TVBuilderError, match=rf"answer\.yaml, line \d+, {named}"):
        table.execute()
    assert provider.count("submit") == 0


def test_async_requests_are_refused(vault, make):
    table = make()
    vault.create_code_module("providers_code", text=CODE.replace("    def poll", "    async def poll"))
    with pytest.raises(TVBuilderError, match="executor: jobs' cannot await"):
        table.execute()
