import os
import sys
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from tablevault.functions.table_generation import (
    create_data_table_from_csv,
    create_data_table_from_list,
    create_data_table_from_table,
    create_paper_table_from_folder,
)


@pytest.fixture
def papers(tmp_path):
    folder = tmp_path / "papers"
    folder.mkdir()
    for name in ("beta.pdf", "alpha.pdf", "gamma.txt", "delta.PDF"):
        (folder / name).write_bytes(name.encode())
    (folder / "subfolder.pdf").mkdir()
    return folder


@pytest.fixture
def artifacts(tmp_path):
    folder = tmp_path / "artifacts"
    folder.mkdir()
    return folder


class TestPaperTable:
    def test_one_row_per_file_with_the_extension_in_order_of_names(self, papers, artifacts):
        frame = create_paper_table_from_folder(str(papers), 1, str(artifacts))

        assert list(frame.columns) == ["file_name", "artifact_name", "original_path"]
        assert frame.values.tolist() == [
            ["alpha", "alpha.pdf", str(papers / "alpha.pdf")],
            ["beta", "beta.pdf", str(papers / "beta.pdf")],
        ]

    def test_every_named_artifact_is_a_copy_of_its_file_and_every_file_is_named(self, papers, artifacts):
        frame = create_paper_table_from_folder(str(papers), 1, str(artifacts))

        contents = {name: (artifacts / name).read_bytes() for name in frame["artifact_name"]}
        assert contents == {"alpha.pdf": b"alpha.pdf", "beta.pdf": b"beta.pdf"}
        assert {path.name for path in artifacts.iterdir()} == set(frame["artifact_name"])

    def test_several_copies_are_numbered_and_stay_beside_each_other(self, papers, artifacts):
        frame = create_paper_table_from_folder(str(papers), 2, str(artifacts))

        assert frame["file_name"].tolist() == ["alpha_0", "alpha_1", "beta_0", "beta_1"]
        assert frame["artifact_name"].tolist() == ["alpha_0.pdf", "alpha_1.pdf", "beta_0.pdf", "beta_1.pdf"]
        assert (artifacts / "beta_1.pdf").read_bytes() == b"beta.pdf"
        assert frame["original_path"].tolist() == [str(papers / "alpha.pdf")] * 2 + [str(papers / "beta.pdf")] * 2

    def test_another_extension_may_be_asked_for(self, papers, artifacts):
        frame = create_paper_table_from_folder(papers, 1, artifacts, extension=".txt")

        assert frame["artifact_name"].tolist() == ["gamma.txt"]

    def test_a_folder_without_such_files_gives_an_empty_frame_with_the_columns(self, papers, artifacts):
        frame = create_paper_table_from_folder(papers, 1, artifacts, extension=".docx")

        assert frame.empty
        assert list(frame.columns) == ["file_name", "artifact_name", "original_path"]

    def test_running_again_over_copies_of_read_only_files_succeeds(self, papers, artifacts):
        (papers / "alpha.pdf").chmod(0o444)

        create_paper_table_from_folder(papers, 1, artifacts)
        again = create_paper_table_from_folder(papers, 1, artifacts)

        assert again["file_name"].tolist() == ["alpha", "beta"]
        assert (artifacts / "alpha.pdf").stat().st_mode & 0o200

    def test_fewer_than_one_copy_is_refused_before_anything_is_copied(self, papers, artifacts):
        with pytest.raises(ValueError, match="copies must be at least 1, not 0"):
            create_paper_table_from_folder(papers, 0, artifacts)

        assert list(artifacts.iterdir()) == []

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are always text")
    def test_a_file_name_that_is_not_utf8_is_named(self, papers, artifacts):
        Path(os.fsdecode(os.fsencode(papers) + b"/caf\xe9.pdf")).touch()

        with pytest.raises(ValueError, match=r"caf\\xe9.pdf' is not UTF-8.*rename it, for example to 'caf\?.pdf'"):
            create_paper_table_from_folder(papers, 1, artifacts)

        assert list(artifacts.iterdir()) == []

    def test_a_missing_folder_is_an_error_that_names_it(self, tmp_path, artifacts):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            create_paper_table_from_folder(tmp_path / "nowhere", 1, artifacts)


class TestTableFromTable:
    frame = pd.DataFrame({"number": range(10), "letter": list("abcdefghij")})

    def test_all_rows_are_copied_by_default(self):
        copy = create_data_table_from_table(self.frame)
        copy.loc[0, "number"] = 99

        assert self.frame.loc[0, "number"] == 0
        assert_frame_equal(copy.iloc[1:], self.frame.iloc[1:])

    def test_the_first_rows_are_taken(self):
        assert_frame_equal(create_data_table_from_table(self.frame, nrows=3), self.frame.iloc[:3])

    def test_a_random_sample_has_whole_rows_of_the_frame_and_none_twice(self):
        sample = create_data_table_from_table(self.frame, nrows=5, random_sample=True)

        assert len(sample) == sample["number"].nunique() == 5
        assert list(sample.index) == list(range(5))
        assert set(zip(sample["number"], sample["letter"], strict=True)) <= set(enumerate("abcdefghij"))

    @pytest.mark.parametrize("random_sample", [False, True])
    def test_more_rows_than_there_are_give_all_of_them(self, random_sample):
        taken = create_data_table_from_table(self.frame, nrows=11, random_sample=random_sample)

        assert sorted(taken["number"]) == list(range(10))

    def test_a_negative_number_of_rows_is_refused(self):
        with pytest.raises(ValueError, match="nrows must not be negative, but it is -1"):
            create_data_table_from_table(self.frame, nrows=-1)


class TestTableFromCsv:
    def test_the_header_names_the_columns_and_types_are_inferred(self, tmp_path):
        file = tmp_path / "fruit.csv"
        file.write_text("fruit,count,price\napple,3,0.5\npear,4,0.25\n")

        frame = create_data_table_from_csv(str(file))

        assert list(frame.columns) == ["fruit", "count", "price"]
        assert frame.values.tolist() == [["apple", 3, 0.5], ["pear", 4, 0.25]]

    def test_whole_numbers_stay_whole_where_cells_are_empty(self, tmp_path):
        file = tmp_path / "counts.csv"
        file.write_text("fruit,count\napple,9007199254740993\npear,\n")

        counts = create_data_table_from_csv(file)["count"]

        assert str(counts.dtype) == "Int64"
        assert counts[0] == 9007199254740993
        assert counts[1] is pd.NA


class TestTableFromList:
    def test_each_value_becomes_a_row_as_it_is(self):
        values = [1, None, "two", {"three": 3}, [4, 5]]

        frame = create_data_table_from_list(values)

        assert list(frame.columns) == ["temp_name"]
        assert frame["temp_name"].tolist() == values

    def test_no_values_give_no_rows(self):
        assert len(create_data_table_from_list([])) == 0
