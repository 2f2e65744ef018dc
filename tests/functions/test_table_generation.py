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


def plain(value):
    """Return a value of pandas as one of Python."""
    return value.item() if hasattr(value, "item") else value


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

    def test_named_artifacts_are_copies_of_files_and_all_files_are_named(self, papers, artifacts):
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

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("A,B,C\n1,4,7,\n2,5,8,\n", "Row #2: Expected 3 columns, got 4"),
            ("A,B,C\n1,4,7\n2,5\n", "Row #3: Expected 3 columns, got 2"),
            ("A,A\n1,2\n", "two columns 'A'"),
            ("A,\n1,2\n", "Column 2 of .*fruit.csv' has no name"),
            (",A\n0,2\n", "Column 1 of .*fruit.csv' has no name"),
            ("A;B\n1;2\n", "seems to be separated by ';'"),
            ("A\tB\n1\t2\n", "seems to be separated by"),
            ("", "no header line"),
            ('A,B\n1,"2\n3,4\n', "never closed"),
        ],
    )
    def test_a_file_that_does_not_fit_its_header_is_refused(self, tmp_path, text, said):
        file = tmp_path / "fruit.csv"
        file.write_text(text)
        with pytest.raises(ValueError, match=f"(?s){said}"):
            create_data_table_from_csv(file)

    @pytest.mark.parametrize("content", [b"A,B\n1,\xe9\n", b"\xe9,B\n1,2\n"])
    def test_a_file_in_another_encoding_is_refused(self, tmp_path, content):
        file = tmp_path / "fruit.csv"
        file.write_bytes(content)
        with pytest.raises(ValueError, match="(?s)fruit.csv.*UTF-8"):
            create_data_table_from_csv(file)

    @pytest.mark.parametrize(
        ("fields", "dtype", "values"),
        [
            (["1", "-2", "NA", ""], "Int64", [1, -2, None, None]),
            ([" 1", "2 "], "Int64", [1, 2]),
            (["1", "0.5", "NaN", "null", "-inf"], "Float64", [1.0, 0.5, float("nan"), None, float("-inf")]),
            (["true", "False", "N/A"], "boolean", [True, False, None]),
            (["NA", "null", "None"], "string", ["NA", "null", "None"]),
            (["00501", "10001"], "string", ["00501", "10001"]),
            (["+49", "49"], "string", ["+49", "49"]),
            (["9007199254740993", "0.5"], "string", ["9007199254740993", "0.5"]),
            (["123456789012345678901", "1"], "string", ["123456789012345678901", "1"]),
            (["1e999", "1"], "string", ["1e999", "1"]),
            (["1e-999", "1"], "string", ["1e-999", "1"]),
            (["0e-999", "-0.0", "5e-324"], "Float64", [0.0, -0.0, 5e-324]),
            (["1\x1c", "\x852"], "string", ["1\x1c", "\x852"]),
            (["e5", "1"], "string", ["e5", "1"]),
            (['""', "x"], "string", ["", "x"]),
            (['"a\nb"', '"say ""hi"""'], "string", ["a\nb", 'say "hi"']),
            (["2024-01-01", "2024-01-02"], "string", ["2024-01-01", "2024-01-02"]),
        ],
    )
    def test_types_are_inferred_where_no_digit_is_lost(self, tmp_path, fields, dtype, values):
        file = tmp_path / "column.csv"
        file.write_text("\n".join(["key,value", *(f"k,{field}" for field in fields)]) + "\n", encoding="utf-8")

        column = create_data_table_from_csv(file)["value"]

        assert str(column.dtype) == dtype
        assert repr([None if value is pd.NA else plain(value) for value in column]) == repr(values)

    @pytest.mark.parametrize("size", [3_000_000, 20_000_000])
    def test_a_text_of_millions_of_characters_is_read(self, tmp_path, size):
        file = tmp_path / "long.csv"
        text = "line\n" * (size // 5)
        file.write_text(f'key,value\n1,"{text}"\n2,b\n')
        assert create_data_table_from_csv(file).values.tolist() == [[1, text], [2, "b"]]

    def test_a_blank_line_is_an_empty_field_of_a_file_of_one_column(self, tmp_path):
        file = tmp_path / "column.csv"
        file.write_text("value\n1\n\n3\n")
        assert create_data_table_from_csv(file)["value"].isna().tolist() == [False, True, False]

    def test_no_row_is_lost_after_a_header_with_a_null_character(self, tmp_path):
        file = tmp_path / "fruit.csv"
        file.write_bytes(b"a\0b,c\n1,2\n3,4\n")
        assert create_data_table_from_csv(file).to_dict("list") == {"a\0b": [1, 3], "c": [2, 4]}

    def test_byte_order_mark_is_stripped_from_the_first_name(self, tmp_path):
        file = tmp_path / "fruit.csv"
        file.write_text("fruit,count\napple,3\n", encoding="utf-8-sig")
        assert list(create_data_table_from_csv(file).columns) == ["fruit", "count"]

    def test_a_tsv_file_is_separated_by_tabs(self, tmp_path):
        file = tmp_path / "fruit.tsv"
        file.write_text("fruit\tcount\na,b\t3\n")
        assert create_data_table_from_csv(file).values.tolist() == [["a,b", 3]]


class TestTableFromList:
    def test_each_value_becomes_a_row_as_it_is(self):
        values = [1, None, "two", {"three": 3}, [4, 5]]

        frame = create_data_table_from_list(values)

        assert list(frame.columns) == ["temp_name"]
        assert frame["temp_name"].tolist() == values

    def test_no_values_give_no_rows(self):
        assert len(create_data_table_from_list([])) == 0
