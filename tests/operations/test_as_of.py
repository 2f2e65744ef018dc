"""Reads as of an earlier moment.

They use the newest instance in the order of commits, independently of clocks.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tablevault import TableVault, tv_errors
from tablevault.catalog.sql import codec

START = datetime(2026, 11, 1, 12, tzinfo=UTC)


class Clock(datetime):
    """The time that the catalog records."""

    present = START

    @classmethod
    def now(cls, tz=None):
        return cls.present


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(codec, "datetime", Clock)
    Clock.present = START
    return Clock


def write(vault, table, value, **options):
    return vault.write(table, pd.DataFrame({"x": [value]}), skip_unchanged=False, **options)


def value(vault, table="t", **options):
    return vault.get_dataframe(table, **options)[0]["x"].tolist()[0]


def test_moment_or_process_stands_for_the_instances_until_then(vault, clock):
    made = []
    for number in range(3):
        clock.present = START + timedelta(hours=number)
        made.append(write(vault, "t", number))
    for number in range(3):
        assert value(vault, as_of=START + timedelta(hours=number)) == number
        assert value(vault, as_of=START + timedelta(hours=number, minutes=59)) == number
        assert value(vault, as_of=made[number]) == number
        assert vault.read("t", as_of=made[number])["x"].tolist() == [number]
        assert len(vault.get_table_instances("t", as_of=made[number])) == number + 1
    berlin = timezone(timedelta(hours=1))
    assert value(vault, as_of=datetime(2026, 11, 1, 14, 30, tzinfo=berlin)) == 1
    with pytest.raises(tv_errors.TVArgumentError, match="Table 't' had no instance of version 'base' as of 2026-11-01"):
        vault.get_dataframe("t", as_of=START - timedelta(seconds=1))


def test_process_without_an_instance_stands_for_the_state_at_its_end(vault):
    write(vault, "t", 1)
    between = vault.create_table("u")
    write(vault, "t", 2)
    assert value(vault, as_of=between) == 1
    with pytest.raises(tv_errors.TVArgumentError, match="Table 'u' had no instance"):
        vault.get_dataframe("u", as_of=between)


def test_active_does_not_count_in_the_past_but_success_does(vault):
    vault.create_table("t", has_side_effects=True)
    first, second = write(vault, "t", 1), write(vault, "t", 2)
    third = write(vault, "t", 3)
    assert [value(vault, as_of=made) for made in (first, second, third)] == [1, 2, 3]
    code = "import pandas as pd\ndef rows():\n    yield 1\n    raise OSError('no network')\n"
    vault.create_code_module("made", text=code)
    index = (
        "builder_type: IndexBuilder\nchanged_columns: [x]\npython_function: rows\ncode_module: made\nis_custom: true\n"
        "return_type: generator\n"
    )
    vault.create_instance("t", builders={"t_index": index})
    with pytest.raises(OSError, match="no network"):
        vault.execute_instance("t", process_id="cut")
    stopped = vault.stop_process("cut", materialize=True)
    assert value(vault, as_of="cut") == 1
    assert value(vault, as_of="cut", successful_only=True) == 3
    assert value(vault, as_of=stopped) == 1


def test_as_of_refuses_invalid_moments(vault):
    write(vault, "t", 1)
    [instance] = vault.get_table_instances("t")
    vault.create_tag("paper", "t")
    with pytest.raises(tv_errors.TVArgumentError, match="There is no table"):
        vault.delete_table("nothing", process_id="refused")
    moment = datetime.now(UTC)
    for call, kind, said in (
        (lambda: vault.get_dataframe("t", as_of=datetime(2026, 11, 1)), tv_errors.TVArgumentError, "without an offset"),
        (lambda: vault.get_dataframe("t", as_of="nothing"), tv_errors.TVProcessError, "no process 'nothing'"),
        (
            lambda: vault.get_dataframe("t", as_of="refused"),
            tv_errors.TVArgumentError,
            "is reverted and committed nothing",
        ),
        (lambda: vault.get_dataframe("t", instance, as_of=moment), tv_errors.TVArgumentError, "either the instance or"),
        (lambda: vault.get_dataframe("t", "@paper", as_of=moment), tv_errors.TVArgumentError, "either the instance or"),
        (lambda: vault.get_dataframe("t", "TEMP_base", as_of=moment), tv_errors.TVArgumentError, "is temporary"),
        (lambda: vault.read("t(TEMP_base)", as_of=moment), tv_errors.TVArgumentError, "is temporary"),
        (lambda: vault.get_table_instances(as_of=moment), tv_errors.TVArgumentError, "as_of needs table_name"),
        (lambda: vault.get_table_instances("t", "base", True, as_of=moment), tv_errors.TVArgumentError, "include_temp"),
        (lambda: vault.get_table_instances("t", "v2", as_of=moment), tv_errors.TVArgumentError, "no version 'v2'"),
        (lambda: vault.get_dataframe("t", version="v2", as_of=moment), tv_errors.TVArgumentError, "version 'v2'"),
    ):
        with pytest.raises(kind, match=said):
            call()
    early = START.replace(year=2000)
    assert vault.read(f"t({instance})", as_of=early)["x"].tolist() == [1]
    assert vault.read("t@paper", as_of=early)["x"].tolist() == [1]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("2026-11-30", "2026-11-30T00:00Z"),
        ("2026-11-30T12:30", "2026-11-30T12:30Z"),
        ("20261130T123005", "2026-11-30T12:30:05Z"),
        ("2026-11-30T12:30+01:00", r"2026-11-30T12:30\+01:00"),
    ],
)
def test_text_of_a_time_is_answered_with_one_that_has_an_offset(vault, text, written):
    write(vault, "t", 1)
    for read in (vault.read, vault.get_table_instances, lambda name, as_of: vault.query(f"FROM {name}", as_of=as_of)):
        with pytest.raises(tv_errors.TVArgumentError, match=rf"no process .*such as {written}; .*\('{written}'\)"):
            read("t", as_of=text)
    write(vault, "t", 2, process_id="2026-11-30")
    write(vault, "t", 3)
    assert value(vault, as_of="2026-11-30") == 2


def test_instance_that_was_deleted_since_is_named_with_its_end(vault):
    first = write(vault, "t", 1)
    second = write(vault, "t", 2)
    old, new = vault.get_table_instances("t")
    vault.delete_instance(new, "t", process_id="clean")
    said = (
        f"Instance '{new}', the newest one .* as of process '{second}', was deleted on 20.* by process 'clean' of ada"
    )
    with pytest.raises(tv_errors.TVTableError, match=said):
        vault.get_dataframe("t", as_of=second)
    assert vault.get_table_instances("t", as_of=second) == [old]
    assert value(vault, as_of=first) == 1


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["write t", "write t", "write u", "write v2", "create", "tag", "delete"]),
        st.integers(-120, 120),
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.filterwarnings("ignore:Tag .* already names these instances:tablevault.TableVaultWarning")
@settings(max_examples=25, deadline=None)
@given(OPERATIONS)
@pytest.mark.slow
def test_each_commit_of_a_random_history_shows_the_state_of_then(tmp_path_factory, operations):
    vault = TableVault(tmp_path_factory.mktemp("history") / "vault", author="a", create=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(codec, "datetime", Clock)
        Clock.present = START
        newest: dict[tuple[str, str], str] = {}
        deleted: set[str] = set()
        commits = []
        for number, (operation, minutes) in enumerate(operations):
            Clock.present += timedelta(minutes=minutes)
            if operation.startswith("write"):
                table, version = ("t", "v2") if operation == "write v2" else (operation[-1], "base")
                made = write(vault, table, number, version=version)
                newest[table, version] = vault.get_process(made).instance_id
            elif operation == "create":
                made = vault.create_table(f"empty{number}")
            elif newest.get(("t", "base"), "") in ("", *deleted):
                continue
            elif operation == "tag":
                made = vault.create_tag("one", f"t({newest['t', 'base']})", move=True)
            else:
                if vault.get_tags("t"):
                    commits.append((vault.delete_tag("one"), Clock.present, dict(newest)))
                made = vault.delete_instance(newest["t", "base"], "t")
                deleted.add(newest["t", "base"])
            commits.append((made, Clock.present, dict(newest)))
        tables = vault.get_tables()
        for position, (made, moment, _) in enumerate(commits):
            until = max(place for place, (_, recorded, _) in enumerate(commits) if recorded <= moment)
            for as_of, state in ((made, commits[position][2]), (moment, commits[until][2])):
                for table, version in (("t", "base"), ("t", "v2"), ("u", "base")):
                    if table not in tables:
                        continue
                    expected = state.get((table, version))
                    if expected is None:
                        with pytest.raises(tv_errors.TVArgumentError):
                            vault.get_dataframe(table, version=version, as_of=as_of)
                    elif expected in deleted:
                        with pytest.raises(tv_errors.TVTableError, match=expected):
                            vault.get_dataframe(table, version=version, as_of=as_of)
                    else:
                        assert vault.get_dataframe(table, version=version, as_of=as_of)[1] == expected
