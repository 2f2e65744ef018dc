"""The page runner detects failing examples."""

from __future__ import annotations

from subprocess import CalledProcessError

import pytest
from markdown_blocks import PageRun, anchors


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run_page(*blocks):
        page = tmp_path / "page.md"
        page.write_text("\n".join(f"```{head}\n{body}\n```\n" for head, body in blocks), encoding="utf-8")
        PageRun(page).run()

    return run_page


PRINTING = ("python", "print('one\\ntwo\\nthree')")


@pytest.mark.parametrize("output", ["one\ntwo\nthree", "…\nthree", "one\n…\nthree", "o…\n…\nthr…e", "one\n…"])
def test_output_matches_omissions(run, output):
    run(PRINTING, ("text output", output))


@pytest.mark.parametrize("output", ["one\nthree", "one\n…\nfour", "one\nt…", "…o"])
def test_output_rejects_differences(run, output):
    with pytest.raises(AssertionError, match="printed instead"):
        run(PRINTING, ("text output", output))


def test_output_matches_wider_columns_but_not_joined_ones(run):
    run(("python", "print('id     state')"), ("text output", "id  state"))
    with pytest.raises(AssertionError, match="printed instead"):
        run(("python", "print('id state')"), ("text output", "id  state"))


def test_block_must_raise_the_expected_error_and_shows_its_notes(run):
    with pytest.raises(pytest.fail.Exception):
        run(("python raises=ValueError", "pass"))
    raising = "error = ValueError('no')\nerror.add_note('a note')\nraise error"
    run(("python raises=ValueError", raising), ("text output", "Traceback…\n…\nValueError: no\na note"))


def test_block_must_warn_as_expected_and_shows_its_warning(run):
    with pytest.raises(pytest.fail.Exception):
        run(("python warns=UserWarning", "pass"))
    warning = "import warnings\nprint('done')\nwarnings.warn('careful')"
    run(("python warns=UserWarning", warning), ("text output", "done\nUserWarning: careful"))


def test_shell_blocks_share_a_shell_and_check_the_exit_status(run):
    run(
        ("sh", "mkdir folder && cd folder\nexport WORD='two\nlines'"),
        ("sh", 'basename "$PWD"; echo "$WORD"; test -t 1 && echo terminal'),
        ("text output", "folder\ntwo\nlines\nterminal"),
        ("sh exit=4", "echo before\n(exit 4)\necho after"),
        ("text output", "before"),
    )
    with pytest.raises(AssertionError, match="ended with 4"):
        run(("sh", "(exit 4)"))


def test_shell_block_is_interrupted(run):
    run(
        ("sh exit=4 interrupt=begun", "trap 'exit 4' INT\necho begun\nwhile true; do sleep 0.05; done"),
        ("text output", "begun\n…"),
    )


def test_make_line_checks_only_the_goals(run):
    run(("sh", "make test  # takes minutes"))
    with pytest.raises(CalledProcessError):
        run(("sh", "make no-such-goal"))


def test_anchors_equal_those_of_the_repository(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One, and `two_three`\n\n## 0.1 (old)\n\n```sh\n# no heading\n```\n")
    assert anchors(page) == {"one-and-two_three", "01-old"}
