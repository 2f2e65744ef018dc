"""What is kept of generators and of rows that name files, and how they go on."""

from __future__ import annotations

import signal

import pytest
from jobs import INDEX, ended
from waiting import until

CODE = '''
from pathlib import Path

from jobs import is_told, note


def numbers(first, count, control):
    """Yield rows, failing and holding as it is told."""
    for x in range(first, count):
        note(control, "called", x)
        if is_told(control, "fail", x):
            raise RuntimeError(f"no row {x}")
        while is_told(control, "hold", x):
            note(control, "held", x)
            import time
            time.sleep(0.01)
        shift = 100 if is_told(control, "shift", x) else 0
        yield x + shift, f"{x}-ok"


def replayed(count, control):
    return numbers(0, count, control)


def continuing(frame, count, control):
    note(control, "shown", len(frame))
    assert list(frame.columns)[:1] == ["x"]
    return numbers(len(frame), count, control)


def filling(frame, control):
    filled = int(frame["answer"].notna().sum())
    note(control, "shown", filled)
    for x, answer in numbers(filled, len(frame), control):
        yield answer


def repeating(count, control):
    for x, answer in numbers(0, count, control):
        yield answer


def file(x, folder, control):
    note(control, "called", x)
    if is_told(control, "fail", x):
        raise RuntimeError(f"no file {x}")
    (Path(folder) / f"{x}.txt").write_text(f"text {x}")
    return f"{x}.txt"
'''

INDEX_GENERATOR = """
builder_type: IndexBuilder
changed_columns: [x, answer]
python_function: {function}
code_module: generators
is_custom: true
return_type: generator
primary_key: [x]
arguments: {{{frame}count: 10, control: "{control}"}}
"""

COLUMN_GENERATOR = """
builder_type: ColumnBuilder
changed_columns: [answer]
python_function: {function}
code_module: generators
is_custom: true
return_type: generator
arguments: {{{arguments}, control: "{control}"}}
"""

FILES = """
builder_type: ColumnBuilder
changed_columns: [answer]
python_function: file
code_module: generators
is_custom: true
return_type: row-wise
dtypes: {{answer: artifact_string}}
arguments: {{x: "<<self.x[index]>>", folder: ~ARTIFACT_FOLDER~, control: "{control}"}}
"""


@pytest.fixture
def generators(job):
    """The job with the module of this page, and its index builder still a plain one."""
    job.vault.create_code_module("generators", text=CODE)
    return job


def index(job, function, frame=""):
    """Make the index builder a generator, and the only builder."""
    job.vault.delete_builder_file("answer", "stories")
    text = INDEX_GENERATOR.format(function=function, frame=frame, control=job.control)
    job.vault.create_builder_file("stories", text=text)


def column(job, function, arguments):
    """Make the column builder a generator."""
    text = COLUMN_GENERATOR.format(function=function, arguments=arguments, control=job.control)
    job.vault.create_builder_file("stories", "answer", text=text)


def pause(job):
    """Let the process `nightly` fail at row 4, and forget what was called until then."""
    job.tell("fail", 4)
    with pytest.raises(RuntimeError, match="4"):
        job.execute("nightly")
    job.forget()
    job.tell("fail")


def test_an_index_generator_that_looks_at_itself_continues_after_its_rows(generators):
    index(generators, "continuing", "frame: <<self>>, ")
    pause(generators)
    generators.execute("nightly")
    assert generators.noted("called") == [4, 5, 6, 7, 8, 9]
    assert generators.noted("shown") == [0, 4]
    assert generators.answers() == generators.complete()


def test_generator_that_reads_itself_continues_with_unfilled_rows(generators):
    column(generators, "filling", "frame: <<self>>")
    pause(generators)
    generators.execute("nightly")
    assert generators.noted("called") == [4, 5, 6, 7, 8, 9]
    assert generators.noted("shown") == [0, 4]
    assert generators.answers() == generators.complete()


def test_any_other_generator_is_replayed_and_its_first_rows_passed_over(generators):
    index(generators, "replayed")
    pause(generators)
    assert generators.vault.get_process("nightly").progress["stories_index"].computed == 4
    generators.execute("nightly")
    assert generators.noted("called") == list(range(10))
    assert generators.vault.get_process("nightly").progress["stories_index"].computed == 10
    assert generators.answers() == generators.complete()


def test_a_column_generator_is_replayed_likewise(generators):
    column(generators, "repeating", "count: 10")
    pause(generators)
    generators.execute("nightly")
    assert generators.answers() == generators.complete()


def test_replay_that_yields_another_key_names_the_row_and_stays_paused(generators):
    index(generators, "replayed")
    pause(generators)
    generators.tell("shift", 2)
    with pytest.raises(ValueError, match=r"row 2.*102.*2"):
        generators.execute("nightly")
    assert generators.vault.get_process("nightly").status == "paused"
    generators.tell("shift")
    generators.execute("nightly")
    assert generators.answers() == generators.complete()


@pytest.mark.slow
def test_rows_that_a_killed_generator_had_yielded_are_kept(generators):
    index(generators, "continuing", "frame: <<self>>, ")
    generators.tell("hold", 4)
    other = generators.interpreter("vault.execute_instance('stories', process_id='nightly')")
    # What was yielded is on its way to the disk while the next row takes its time.
    until(lambda: generators.noted("held").count(4) > 30, other)
    other.kill()
    assert ended(other).status == -signal.SIGKILL
    generators.forget()
    generators.tell("hold")
    generators.execute("nightly")
    assert generators.noted("called") == [4, 5, 6, 7, 8, 9]
    assert generators.answers() == generators.complete()


@pytest.fixture
def files(generators):
    """The job, paused at row 4, with files in the cells of rows 0 to 3."""
    generators.vault.create_builder_file("stories", text=INDEX.format(count=10))
    generators.vault.create_builder_file("stories", "answer", text=FILES.format(control=generators.control))
    pause(generators)
    return generators


def artifact(job, name):
    """Return where the paused process keeps a file."""
    (found,) = job.path.glob(f"stories/base_*/artifacts/{name}")
    return found


def test_files_of_finished_rows_are_kept(files):
    files.execute("nightly")
    assert files.noted("called") == [4, 5, 6, 7, 8, 9]
    assert [path.rsplit("/", 1)[1] for path in files.answers()] == [f"{x}.txt" for x in range(10)]


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_row_with_a_changed_file_is_recomputed(files, damage):
    if damage == "gone":
        artifact(files, "2.txt").unlink()
    else:
        artifact(files, "2.txt").write_text("text X")
    files.execute("nightly")
    assert files.noted("called") == [2, 4, 5, 6, 7, 8, 9]
    folder = files.vault.get_artifact_folder("stories", is_temp=False)
    with open(f"{folder}/2.txt") as restored:
        assert restored.read() == "text 2"
