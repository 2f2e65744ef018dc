"""Steps on disk that fail after a decision.

A later operation retries them, without replacing newer files.
"""

from __future__ import annotations

import errno
import os
import warnings
from contextlib import contextmanager

import pandas as pd
import pytest
from jobs import INDEX

from tablevault import TableVault, tv_errors
from tablevault.catalog.sql.tidying import TidyingSteps


@contextmanager
def failing(name, matches, number=errno.EBUSY):
    """Let a function of `os` refuse what `matches` says of its source and target."""
    real, refused = getattr(os, name), []

    def call(source, target, **options):
        if matches(str(source), str(target)):
            refused.append(target)
            raise OSError(number, "held open elsewhere", str(target))
        return real(source, target, **options)

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", tv_errors.TableVaultWarning)
        patch.setattr(os, name, call)
        yield
    assert refused, "nothing was refused"


def busy(path, *rest, **options):
    raise OSError(errno.EBUSY, "held open elsewhere", str(path))


def no_folders(source, _target):
    return os.path.isdir(source) and "_temp" not in source


def replacing(name):
    return lambda _source, target: target.endswith(name) and "_temp" not in target


@pytest.fixture
def module(vault):
    """A vault with a module whose new text could not be put in its place."""
    vault.create_code_module("m", text="ANSWER = 1\n")
    with failing("replace", replacing("/m.py")):
        vault.create_code_module("m", text="ANSWER = 2\n")
    return vault


def path_of(vault, name="m"):
    return f"{vault.db_dir}/code_functions/{name}.py"


def test_opening_puts_a_file_in_its_place_and_later_edits_count(module):
    assert module.get_code_module_str("m") == "ANSWER = 2\n"
    again = TableVault(module.db_dir)
    with open(path_of(module)) as file:
        assert file.read() == "ANSWER = 2\n"
    with open(path_of(module), "w") as file:
        file.write("ANSWER = 3\n")
    assert again.get_code_module_str("m") == "ANSWER = 3\n"
    assert again.verify(repair=True).ok
    assert again.get_code_module_str("m") == "ANSWER = 3\n"


def test_next_operation_puts_a_file_in_its_place(module):
    module.create_table("t")
    with open(path_of(module)) as file:
        assert file.read() == "ANSWER = 2\n"
    assert module.verify().ok


def test_edit_made_before_the_file_was_put_stays(module):
    with open(path_of(module), "w") as file:
        file.write("ANSWER = 3\n")
    assert module.get_code_module_str("m") == "ANSWER = 3\n"
    with pytest.warns(tv_errors.TableVaultWarning, match=r"code_functions/m\.py was edited by hand"):
        again = TableVault(module.db_dir)
    assert again.get_code_module_str("m") == "ANSWER = 3\n"
    assert again.verify(repair=True).ok
    [kept] = [name for name in os.listdir(f"{module.db_dir}/metadata/ARCHIVED_TRASH") if name.endswith("m.py")]
    with open(f"{module.db_dir}/metadata/ARCHIVED_TRASH/{kept}") as file:
        assert file.read() == "ANSWER = 2\n"


def test_newer_text_is_not_replaced_by_the_one_that_failed(module):
    with failing("replace", replacing("/m.py")):
        module.create_code_module("m", text="ANSWER = 4\n")
    assert TableVault(module.db_dir).get_code_module_str("m") == "ANSWER = 4\n"
    with open(path_of(module)) as file:
        assert file.read() == "ANSWER = 4\n"


def test_builder_that_could_not_be_put_runs_and_leaves_no_finding(job):
    vault = job.vault
    with failing("replace", replacing("/stories_index.yaml")):
        vault.create_builder_file("stories", text=INDEX.format(count=2))
        vault.execute_instance("stories")
    assert len(vault.get_dataframe("stories")[0]) == 2
    report = vault.verify(repair=True)
    assert report.ok, report.problems


def test_folder_that_can_never_be_moved_is_renamed_again_and_again(job):
    job.execute()
    vault = job.vault
    vault.create_instance("stories", copy=True)
    with failing("replace", no_folders):
        for before, after in (("stories", "tales"), ("tales", "stories"), ("stories", "Stories"), ("Stories", "myths")):
            vault.rename_table(after, before)
            again = TableVault(vault.db_dir)
            assert again.get_dataframe(after)[0]["answer"].tolist() == job.complete()
            assert again.get_builders_list(after) == sorted(["answer", f"{after}_index"])
        vault.execute_instance("myths", force_execute=True)
        assert len(vault.get_table_instances("myths")) == 2
    again = TableVault(vault.db_dir)
    assert again.verify().ok, again.verify().problems
    assert os.path.isdir(f"{vault.db_dir}/myths")
    assert not os.path.exists(f"{vault.db_dir}/stories")


def test_table_whose_folder_could_not_be_moved_can_be_deleted(job):
    job.execute()
    with failing("replace", no_folders):
        job.vault.rename_table("tales", "stories")
        job.vault.delete_table("tales")
        job.vault.create_table("stories")
    again = TableVault(job.vault.db_dir)
    assert again.verify().ok, again.verify().problems
    assert again.get_tables() == ["stories"]


def test_file_that_could_not_be_put_follows_its_table(job):
    vault = job.vault
    with failing("replace", replacing("/answer.yaml")):
        vault.create_builder_file("stories", "answer", text="builder_type: ColumnBuilder\n")
        vault.rename_table("tales", "stories")
    assert TableVault(vault.db_dir).get_builder_str("tales", "answer") == "builder_type: ColumnBuilder\n"
    assert vault.verify().ok


def test_artifacts_that_cannot_be_removed_are_one_finding(vault, monkeypatch):
    vault.create_code_module(
        "m",
        text=(
            "import pandas as pd\nfrom pathlib import Path\n"
            "def rows():\n    return pd.DataFrame({'k': [1]})\n"
            "def file(k, folder):\n    Path(folder, 'a.txt').write_text('x')\n    return 'a.txt'\n"
        ),
    )
    vault.create_table("t")
    index = "builder_type: IndexBuilder\nchanged_columns: [k]\npython_function: rows\ncode_module: m\nis_custom: true\n"
    file = (
        "builder_type: ColumnBuilder\nchanged_columns: [f]\npython_function: file\ncode_module: m\nis_custom: true\n"
        "return_type: row-wise\ndtypes: {f: artifact_string}\n"
        "arguments: {k: '<<self.k[index]>>', folder: ~ARTIFACT_FOLDER~}\n"
    )
    vault.create_instance("t", builders={"t_index": index, "f": file})
    vault.execute_instance("t")
    vault.create_instance("t", copy=True)
    real = os.rmdir

    def refuse(path, *rest, **options):
        if str(path).endswith("artifacts") and "base_" in str(path):
            raise OSError(errno.EBUSY, "held open elsewhere", str(path))
        return real(path, *rest, **options)

    monkeypatch.setattr(os, "rmdir", refuse)
    with pytest.warns(tv_errors.TableVaultWarning, match="Tidying up failed"):
        vault.execute_instance("t", force_execute=True)
    problems = vault.verify().problems
    assert [problem.kind for problem in problems] == ["tidying failed"]
    monkeypatch.undo()
    assert vault.verify(repair=True).ok
    assert isinstance(vault.get_dataframe("t", full_artifact_path=False)[0], pd.DataFrame)


def test_folder_of_a_lower_layer_is_copied_where_it_cannot_be_moved(job):
    job.execute()
    vault = job.vault
    frame = vault.get_dataframe("stories")[0]
    with failing("replace", no_folders, errno.EXDEV):
        vault.rename_table("tales", "stories")
        assert vault.verify().ok, vault.verify().problems
        assert vault.get_dataframe("tales")[0].equals(frame)
        instance = vault.get_table_instances("tales")[0]
        assert os.stat(f"{vault.db_dir}/tales/{instance}").st_mode & 0o222 == 0
        vault.delete_instance(instance, "tales")
        vault.delete_table("tales")
    assert vault.verify().ok, vault.verify().problems
    assert not os.path.exists(f"{vault.db_dir}/stories")
    assert os.listdir(f"{vault.db_dir}/_temp") == []


def test_warnings_that_are_errors_leave_nothing_half_done(vault):
    vault.create_code_module("m", text="ANSWER = 1\n")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("error")
        real = os.replace

        def replace(source, target, **options):
            if str(target).endswith("/m.py") and "_temp" not in str(target):
                raise OSError(errno.EBUSY, "held open elsewhere", str(target))
            return real(source, target, **options)

        patch.setattr(os, "replace", replace)
        with pytest.raises(tv_errors.TableVaultWarning, match="Tidying up failed"):
            vault.create_code_module("m", text="ANSWER = 2\n")
        assert vault.get_history()[0].status == "succeeded"
        assert vault.get_history()[0].locks == ()
        assert TableVault(vault.db_dir).get_code_module_str("m") == "ANSWER = 2\n"
    TableVault(vault.db_dir)
    assert vault.verify().ok


def test_step_that_another_process_has_done_is_not_repeated(vault, monkeypatch):
    """Two processes find the same failed step.

    Before the slower one comes to it, something new is in its place.
    """
    vault.create_table("t")
    vault.create_instance("t", external_edit=True)
    folder = f"{vault.db_dir}/t/TEMP_base"
    monkeypatch.setattr(os, "rmdir", busy)
    with pytest.warns(tv_errors.TableVaultWarning, match="Tidying up failed"):
        vault.write_instance(pd.DataFrame({"a": [1]}), "t")
    monkeypatch.undo()
    assert os.path.isdir(folder)
    real = TidyingSteps.of

    def slowly(steps, serial):
        found = real(steps, serial)
        monkeypatch.setattr(TidyingSteps, "of", real)
        faster = TableVault(vault.db_dir)
        assert not os.path.exists(folder)
        faster.create_instance("t", external_edit=True)
        return found

    monkeypatch.setattr(TidyingSteps, "of", slowly)
    TableVault(vault.db_dir).write_instance(pd.DataFrame({"a": [2]}), "t")
    assert vault.get_dataframe("t")[0]["a"].tolist() == [2]
    assert vault.verify().ok
