"""Read somebody's CSV, TSV or Parquet file, or say exactly why not.

pandas, pyarrow, `csv` and charset-normalizer do the reading; this module looks at what usually goes wrong before and
after. What would silently change the data is an error that names the line or column; what can be read in one sensible
way is read so and noted in `table.attrs["notes"]`, which `audit` reports. `table.attrs["source"]` says how it was read.

What this does not do: read Excel, JSON or several tables in one file; guess column names.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import lzma
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from helpers.training_data.splits import near_names, plain_scalar
from helpers.training_data.values import (
    DECIMAL_COMMA,
    EURO_THOUSANDS,
    MISSING,
    NUMBER,
    THOUSANDS,
    date_formats,
    is_placeholder,
    matches,
)

TEXT_ENDINGS = {".csv": None, ".tsv": "\t", ".tab": "\t", ".txt": None, ".dat": None, ".data": None}
PARQUET_ENDINGS = (".parquet", ".pq")
ACCEPTED = "CSV, TSV or Parquet (.csv .tsv .tab .txt .dat .data .parquet .pq), also as .gz .bz2 .xz .zip"
DELIMITERS = (",", "\t", ";", "|")
SAMPLE = 200_000
"""So many characters are looked at to find the delimiter."""
EXACT = 2**53
"""Whole numbers beyond this are not exact as float."""

_BINARY: tuple[tuple[bytes, str], ...] = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook (.xls): open it and save it as CSV (UTF-8)"),
    (b"%PDF", "a PDF document: export the table as CSV"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"SQLite format 3\x00", "an SQLite database: export the table as CSV"),
    (b"\x89HDF", "an HDF5 file: export the table as Parquet"),
    (b"ARROW1", "an Arrow (Feather) file: write it as Parquet"),
    (b"\x80\x04\x95", "a Python pickle, which is never opened here because it may run code: write it as Parquet"),
    (b"\x93NUMPY", "a NumPy array: write it as CSV with column names"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it"),
    (b"Rar!", "a RAR archive: unpack it"),
)
_OTHER_ENDINGS = {
    ".xlsx": "an Excel workbook: save the sheet as CSV (UTF-8)",
    ".xls": "an Excel workbook: save the sheet as CSV (UTF-8)",
    ".ods": "a spreadsheet: save the sheet as CSV (UTF-8)",
    ".json": "JSON: use pandas.read_json and give the DataFrame to audit",
    ".jsonl": "JSON lines: use pandas.read_json(lines=True) and give the DataFrame to audit",
    ".pkl": "a pickle, which is never opened here because it may run code: write it as Parquet",
    ".pickle": "a pickle, which is never opened here because it may run code: write it as Parquet",
    ".feather": "Feather: write it as Parquet",
    ".sqlite": "a database: export the table as CSV",
    ".db": "a database: export the table as CSV",
}


class TableError(ValueError):
    """A file that is not a table, or not one that can be read without changing its data.

    The message is one line: file, line or column, what was found, what is accepted.
    """


def load_table(
    path: str | os.PathLike[str],
    *,
    target: Hashable | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
) -> pd.DataFrame:
    """Read a CSV, TSV or Parquet file (also .gz, .bz2, .xz, .zip) into a DataFrame.

    Encoding and delimiter are found out unless given. Columns get the narrowest type that loses nothing: whole
    numbers, decimals, booleans, dates; ids with leading zeros or more digits than 64 bits hold stay text. "NA",
    "NaN", "NULL" and empty cells are missing.

    Args:
        path: the file.
        target: the column to be predicted; checked here so that a typing error costs nothing.
        delimiter: one character.
        encoding: such as "utf-8" or "cp1252".

    Returns the table; `attrs["notes"]` holds what had to be decided, `attrs["source"]` how it was read.

    Raises TypeError for a path that is none, TableError (a ValueError) for everything wrong with the file.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be a str or Path, got {type(path).__name__}")
    file = Path(path).expanduser()
    _check_options(delimiter, encoding)
    notes = _Notes(file.name)
    raw, inner = _read_bytes(file)
    if raw[:4] == b"PAR1" or inner.suffix.lower() in PARQUET_ENDINGS:
        table = _read_parquet(raw, inner, notes)
        source: dict[str, Any] = {"file": file.name, "format": "Parquet"}
    else:
        text, used = _decode(_check_content(raw, file.name), encoding, notes)
        by_ending = TEXT_ENDINGS.get(inner.suffix.lower())
        layout = _read_layout(text, "\t" if delimiter == "\\t" else delimiter, by_ending, notes)
        table = _convert(_parse(text, layout, notes), notes, layout.delimiter)
        source = {"file": file.name, "format": "CSV", "encoding": used, "delimiter": layout.delimiter}
    if target is not None:
        _check_target(table, target, notes)
    table.attrs["source"] = source
    table.attrs["notes"] = notes.kept
    return table


class _Notes:
    """Collects notes, and makes errors that name the file."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.kept: list[dict[str, Any]] = []

    def add(
        self, code: str, message: str, consequence: str, remedy: str, *columns: Hashable, severity: str = "note"
    ) -> None:
        self.kept.append(
            {
                "code": code,
                "severity": severity,
                "columns": list(columns),
                "message": message,
                "consequence": consequence,
                "remedy": remedy,
            }
        )

    def error(self, message: str, line: int | None = None) -> TableError:
        where = f"{self.file}, line {line}" if line else self.file
        return TableError(f"{where}: {message}")


def _check_options(delimiter: str | None, encoding: str | None) -> None:
    if delimiter is not None and not (isinstance(delimiter, str) and (len(delimiter) == 1 or delimiter == "\\t")):
        raise TableError(f"delimiter must be one character such as ',' or ';', got {delimiter!r}")
    if delimiter in ("\n", "\r", '"'):
        raise TableError(f"delimiter cannot be a line break or a quote, got {delimiter!r}")
    if encoding is not None:
        try:
            codecs.lookup(encoding)
        except (LookupError, TypeError):
            raise TableError(f"encoding {encoding!r} is not known; try 'utf-8', 'cp1252' or 'utf-16'") from None


# --------------------------------------------------------------------------------------------------- bytes and text


def _read_bytes(file: Path) -> tuple[bytes, Path]:
    """The bytes of the file, unpacked, and the name without the packing's ending."""
    if file.is_dir():
        inside = sorted(p.name for p in file.iterdir() if _ending(p) in (*TEXT_ENDINGS, *PARQUET_ENDINGS))[:5]
        hint = f"; it holds {', '.join(inside)}" if inside else ""
        raise TableError(f"{file.name or file}: this is a folder, a file is wanted{hint}")
    if not file.exists():
        raise TableError(f"{file.name}: no such file in {file.parent}{_similar_files(file)}")
    ending = _ending(file)
    if ending in _OTHER_ENDINGS:
        raise TableError(f"{file.name}: this is {_OTHER_ENDINGS[ending]}. Accepted: {ACCEPTED}")
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise TableError(f"{file.name}: cannot be read ({error.strerror or error})") from None
    raw, inner = _unpack(raw, file)
    if _ending(inner) not in TEXT_ENDINGS and _ending(inner) not in PARQUET_ENDINGS and raw[:4] != b"PAR1":
        raise TableError(
            f"{file.name}: the ending {_ending(inner) or '(none)'!r} is not accepted. Accepted: {ACCEPTED}"
        )
    if not raw.strip():
        raise TableError(
            f"{file.name}: the file is empty ({len(raw)} bytes); a line of column names and rows are wanted"
        )
    return raw, inner


def _ending(file: Path) -> str:
    return file.suffix.lower()


def _similar_files(file: Path) -> str:
    if not file.parent.is_dir():
        return " (nor such a folder)"
    close = get_close_matches(file.name, [p.name for p in file.parent.iterdir()], n=3)
    return "; did you mean " + " or ".join(close) + "?" if close else ""


def _unpack(raw: bytes, file: Path) -> tuple[bytes, Path]:
    openers: dict[bytes, tuple[str, Callable[[bytes], bytes]]] = {
        b"\x1f\x8b": (".gz", gzip.decompress),
        b"BZh": (".bz2", bz2.decompress),
        b"\xfd7zXZ": (".xz", lzma.decompress),
    }
    for magic, (suffix, opener) in openers.items():
        if raw.startswith(magic):
            inner = Path(file.stem) if _ending(file) == suffix else file
            try:
                return opener(raw), inner
            except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
                raise TableError(f"{file.name}: the {suffix} file is damaged or cut off ({error})") from None
        if _ending(file) == suffix:
            raise TableError(f"{file.name}: the name says {suffix}, the content does not; rename it to what it is")
    if raw.startswith(b"PK\x03\x04"):
        return _unzip(raw, file)
    if _ending(file) == ".zip":
        raise TableError(f"{file.name}: not a whole zip file; download it again")
    return raw, file


def _unzip(raw: bytes, file: Path) -> tuple[bytes, Path]:
    try:
        archive = zipfile.ZipFile(io.BytesIO(raw))
        names = [n for n in archive.namelist() if not n.endswith("/") and not n.startswith("__MACOSX/")]
        if "[Content_Types].xml" in names or "mimetype" in names:
            raise TableError(f"{file.name}: this is an Excel or OpenDocument file: save the sheet as CSV (UTF-8)")
        tables = [n for n in names if _ending(Path(n)) in (*TEXT_ENDINGS, *PARQUET_ENDINGS)]
        if len(tables) != 1:
            inside = ", ".join(names[:6]) or "nothing"
            raise TableError(f"{file.name}: the zip file must hold one table, it holds {inside}; unpack it and choose")
        return archive.read(tables[0]), Path(tables[0])
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError) as error:
        raise TableError(f"{file.name}: the zip file cannot be opened ({error})") from None


def _check_content(raw: bytes, name: str) -> bytes:
    """The bytes, unless they are plainly something else than text in lines and columns."""
    for magic, words in _BINARY:
        if raw.startswith(magic):
            raise TableError(f"{name}: this is {words}. Accepted: {ACCEPTED}")
    start = raw.removeprefix(codecs.BOM_UTF8).lstrip()[:300].lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<table", b"<head")):
        raise TableError(
            f"{name}: this is a web page (HTML or XML), not a table: the download probably saved a log-in or error page"
        )
    if start.startswith((b"{", b"[{", b"[[")):
        raise TableError(f"{name}: this is JSON: use pandas.read_json and give the DataFrame to audit")
    return raw


def _decode(raw: bytes, encoding: str | None, notes: _Notes) -> tuple[str, str]:
    """The text and the encoding used."""
    if encoding is not None:
        chosen = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
        try:
            return _without_nul(raw.decode(chosen), notes), encoding
        except UnicodeError as error:
            at = getattr(error, "start", 0)
            raise notes.error(
                f"byte {at} is not {encoding} ({getattr(error, 'reason', error)}); leave encoding out to have it found",
                raw[:at].count(b"\n") + 1,
            ) from None
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if raw.startswith(mark):
            return _without_nul(_strictly(raw, name, notes), notes), name
    if wide := _utf16_without_mark(raw):
        notes.add(
            "encoding",
            f"the file is not UTF-8; it was read as {wide}",
            "Other programs may show it as garbage.",
            "Save it as UTF-8.",
        )
        return _without_nul(_strictly(raw, wide, notes), notes), wide
    try:
        return _without_nul(raw.decode("utf-8"), notes), "utf-8"
    except UnicodeDecodeError as error:
        return _guess_encoding(raw, error.start, notes)


def _strictly(raw: bytes, encoding: str, notes: _Notes) -> str:
    try:
        return raw.decode(encoding)
    except UnicodeError as error:
        raise notes.error(f"begins like {encoding} but is not ({error}); the file may be cut off") from None


def _utf16_without_mark(raw: bytes) -> str | None:
    """UTF-16 is every other byte zero, for Western text."""
    head = np.frombuffer(raw[: 2 * (min(len(raw), 4000) // 2)], dtype=np.uint8)
    if len(head) < 8:
        return None
    even, odd = (head[::2] == 0).mean(), (head[1::2] == 0).mean()
    if odd > 0.6 and even < 0.1:
        return "utf-16-le"
    return "utf-16-be" if even > 0.6 and odd < 0.1 else None


def _without_nul(text: str, notes: _Notes) -> str:
    at = text.find("\0")
    if at >= 0:
        count = text.count("\0")
        raise notes.error(
            f"{count:,} NUL characters: the file is binary or damaged (a copy that broke off?); get it again",
            text.count("\n", 0, at) + 1,
        )
    return text


def _guess_encoding(raw: bytes, first_bad: int, notes: _Notes) -> tuple[str, str]:
    """Not UTF-8: what charset-normalizer says of the lines that are not ASCII."""
    from charset_normalizer import from_bytes

    line = raw[:first_bad].count(b"\n") + 1
    if b"\0" in raw[:4000]:
        raise notes.error(f"this is a binary file, not text. Accepted: {ACCEPTED}")
    special = b"\n".join(row for row in raw.splitlines() if not row.isascii())[:100_000]
    chosen = _likely_encoding(special, from_bytes(special, cp_isolation=list(_CODE_PAGES)))
    for candidate in (chosen, "cp1252", "latin-1"):
        try:
            text = raw.decode(candidate) if candidate else None
        except UnicodeError:
            continue
        if text is not None:
            break
    else:  # pragma: no cover - latin-1 reads everything
        raise notes.error("the encoding was not found; pass encoding=", line)
    if _control_share(text) > 0.02:
        raise notes.error(f"this is a binary file, not text. Accepted: {ACCEPTED}", line)
    notes.add(
        "encoding",
        f"the file is not UTF-8 (first at line {line}); it was read as {candidate}",
        "If the guess is wrong, letters with accents are wrong, and categories that are equal look different.",
        "Look at some names; pass encoding= if they are wrong; save the file as UTF-8.",
        severity="warning",
    )
    return text, candidate


_CODE_PAGES = (
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "koi8_r"),
    *("cp932", "euc_jp", "gb18030", "big5", "cp949"),
)
"""The encodings that tables come in; among all that exist, short texts would fit a dozen."""


def _likely_encoding(special: bytes, found: Any) -> str:
    """The usual Western code page where it fits about as well as the best; it also gets what is too short to tell."""
    best = found.best()
    if best is None or sum(byte >= 128 for byte in special[:1000]) < 8:
        return "cp1252"
    fits = [match for match in found if match.chaos <= best.chaos + 0.15]
    if any("cp1252" in (match.encoding, *match.could_be_from_charset) for match in fits):
        return "cp1252"
    return str(best.encoding)


def _control_share(text: str) -> float:
    head = text[:20_000]
    return sum((c < " " and c not in "\t\r\n\x0c") or "\x7f" <= c < "\xa0" for c in head) / max(1, len(head))


# ----------------------------------------------------------------------------------------------- lines and columns


@dataclass(frozen=True)
class _Layout:
    delimiter: str
    names: list[str]
    lines_before: int  # physical lines up to and with the header
    rows: int
    drop_last: bool
    skip_blanks: bool
    plain_lines: bool  # every row is one line


def _read_layout(text: str, given: str | None, by_ending: str | None, notes: _Notes) -> _Layout:
    """Delimiter, column names and the number of rows; every row has as many fields as there are names."""
    skipped = _comment_lines(text)
    if skipped:
        notes.add(
            "comment_lines",
            f"{skipped} line{'s' if skipped > 1 else ''} before the column names were skipped",
            "They are no data.",
            "Nothing, if they are a comment.",
        )
    head = _lines(text, skipped)
    delimiter = _find_delimiter(head, given, by_ending, notes)
    header_line = next((line for line in head.splitlines() if line.strip()), "")
    skip_blanks = delimiter == " " or (delimiter + " ") in header_line
    with _long_fields():
        return _scan(text, delimiter, skipped, skip_blanks, notes)


def _lines(text: str, skipped: int) -> str:
    """The first lines, whole, after those skipped."""
    head = text[:SAMPLE]
    if len(text) > SAMPLE:
        head = head[: head.rfind("\n") + 1] or head
    return "".join(head.splitlines(keepends=True)[skipped:])


def _comment_lines(text: str) -> int:
    """Leading lines that start with # and have fewer fields than the line after them."""
    lines = text[:SAMPLE].splitlines()[:50]
    count = next((i for i, line in enumerate(lines) if not line.startswith("#")), 0)
    if count == 0:
        return 0
    last, after = lines[count - 1], lines[count]
    # "#id,name" is a header
    return count if max(map(after.count, DELIMITERS)) > max(map(last.count, DELIMITERS)) else max(0, count - 1)


@contextmanager
def _long_fields() -> Iterator[None]:
    """The csv module refuses fields of more than 131,072 characters; documents are longer."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _widths(head: str, delimiter: str) -> list[int]:
    with _long_fields():
        reader = csv.reader(io.StringIO(head, newline=""), delimiter=delimiter, skipinitialspace=delimiter == " ")
        return [len(row) for row, _ in zip(reader, range(300), strict=False) if row and any(map(str.strip, row))]


def _find_delimiter(head: str, given: str | None, by_ending: str | None, notes: _Notes) -> str:
    fits = {d: _fit(_widths(head, d)) for d in (*DELIMITERS, " ")}
    best = max(DELIMITERS, key=lambda d: fits[d])
    if fits[best][0] < 0.5 and fits[" "][0] >= 0.9:
        best = " "
    if given is not None:
        widths = _widths(head, given)
        if fits[best][1] > 1 and (not widths or max(widths) == 1):
            raise notes.error(f"delimiter {given!r} does not occur, but {best!r} gives {fits[best][1]} columns", 1)
        return given
    if by_ending is not None and fits[by_ending][0] >= 0.5:
        return by_ending
    if fits[best][0] == 0:
        return ","  # one column
    if by_ending is not None and best != by_ending:
        notes.add(
            "delimiter",
            f"the name says the columns are divided by {by_ending!r}, the file divides them by {best!r}",
            "Programs that trust the name read one wide column.",
            "Rename the file, or convert it.",
        )
    return best


def _fit(widths: list[int]) -> tuple[float, int]:
    """(share of rows as wide as the header or one wider, width): how well a delimiter explains the first rows."""
    if not widths or max(widths) < 2:
        return 0.0, 1
    usual = int(np.bincount(widths).argmax())
    if usual < 2:
        return 0.0, 1
    share = float(np.mean([w == usual for w in widths]))
    return share if widths[0] in (usual, usual - 1) else 0.5 * share, usual


def _records(text: str, delimiter: str, skip_blanks: bool, strict: bool) -> Any:
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=skip_blanks, strict=strict)


def _scan(text: str, delimiter: str, skipped: int, skip_blanks: bool, notes: _Notes) -> _Layout:
    """Go through all records once and count their fields."""
    reader = _records(text, delimiter, skip_blanks, strict=True)
    try:
        return _scan_with(reader, delimiter, skipped, skip_blanks, notes)
    except csv.Error as error:
        start = getattr(reader, "line_num", 0)
        raise_at = _unclosed(text, delimiter, skip_blanks)
        if "unexpected end" in str(error) or raise_at:
            line = raise_at or start
            raise notes.error(
                f'a quote (") that opens on line {line} is never closed, or closes lines later', line
            ) from None
    # a quote inside a field, "like "this": the lenient reading is what other programs do
    return _scan_with(_records(text, delimiter, skip_blanks, strict=False), delimiter, skipped, skip_blanks, notes)


def _unclosed(text: str, delimiter: str, skip_blanks: bool) -> int | None:
    """The line on which the record starts that a strict reader gives up in, if it spans several lines."""
    reader = _records(text, delimiter, skip_blanks, strict=True)
    start = 1
    try:
        for _ in reader:
            start = reader.line_num + 1
    except csv.Error:
        return start if reader.line_num > start or "unexpected end" in str(sys.exc_info()[1]) else None
    return None


def _scan_with(reader: Any, delimiter: str, skipped: int, skip_blanks: bool, notes: _Notes) -> _Layout:
    header: list[str] = []
    for header in reader:
        if reader.line_num > skipped and any(map(str.strip, header)):
            break
    before = reader.line_num
    named = len(header)
    rows, last_line, blank_lines = 0, before, 0
    odd: list[tuple[int, int]] = []
    wider, trailing = 0, True
    for row in reader:
        width = len(row)
        if width != named:
            if not row or (width == 1 and not row[0].strip()):
                blank_lines += 1
                continue
            if width == named + 1:
                wider += 1
                trailing = trailing and row[-1] == ""
            if len(odd) < 1000:
                odd.append((reader.line_num, width))
        rows += 1
        last_line = reader.line_num
    if rows == 0:
        shown = delimiter.join(header)[:80]
        raise notes.error(f"the file has column names but no rows ({shown!r})")
    # one name above two columns is a title rather than R's way to write row names
    extra = wider == rows and (named > 1 or trailing)
    if odd and not extra:
        _ragged(odd, named, rows, last_line, notes)
    names = _names(header if not extra or trailing else [_free_name("row_name", header), *header], notes)
    if extra and not trailing:
        notes.add(
            "row_names",
            f"every row has one field more than there are column names: the first was called {names[0]!r}",
            "It is probably the row's name or number, which tells a model nothing about new rows.",
            "Leave it out of the features.",
            names[0],
        )
    plain = last_line - before - blank_lines == rows
    return _Layout(delimiter, names, before, rows, extra and trailing, skip_blanks, plain)


def _ragged(odd: list[tuple[int, int]], named: int, rows: int, last_line: int, notes: _Notes) -> None:
    line, width = odd[0]
    more = f" ({len(odd):,}{'+' if len(odd) == 1000 else ''} such lines of {rows:,})" if len(odd) > 1 else ""
    if line == last_line and width < named and len(odd) == 1:
        hint = "; it is the last line: the file may be cut off"
    elif named == 1 and len(odd) > 0.5 * rows:
        hint = "; the first line may be a title: remove it, or pass delimiter="
    elif width > named:
        hint = "; a delimiter inside a text must stand in quotes"
    else:
        hint = "; a field or a line break is missing or too many"
    raise notes.error(f"{width} fields, but there are {named} column names{more}{hint}", line)


def _names(header: list[str], notes: _Notes) -> list[str]:
    """Column names: stripped, none empty, none twice."""
    names = [name.strip() for name in header]
    if len(names) > 1 and all(len(n) > 2 and n[0] == n[-1] == "'" for n in names):
        names = [name[1:-1] for name in names]
    for place, name in enumerate(names):
        if not name:
            names[place] = _free_name(f"unnamed_{place + 1}", names)
            notes.add(
                "unnamed_column",
                f"column {place + 1} has no name: it was called {names[place]!r}",
                "It is often a row number that somebody's program saved along: a model may learn the file's order.",
                "Name it, or leave it out of the features.",
                names[place],
            )
    twice = (
        sorted({name for name in names if names.count(name) > 1}, key=names.index)
        if len(set(names)) < len(names)
        else []
    )
    numeric = [float(n) for n in names if re.fullmatch(NUMBER, n)]
    if twice and len(numeric) > 0.5 * len(names):
        raise notes.error(
            f"the first line looks like values, not column names: {', '.join(map(repr, names[:4]))}; "
            "put a line of names first"
        )
    if twice:
        places = ", ".join(f"{name!r} (columns {_places(names, name)})" for name in twice[:3])
        raise notes.error(f"column names occur several times: {places}; rename them")
    # years as names rise; values of a first row do so rarely
    if len(numeric) >= 2 and (np.diff(numeric) <= 0).any():
        notes.add(
            "no_header",
            f"the first line looks like values, not names: {', '.join(map(repr, names[:4]))}",
            "The first row is lost, and columns are known by a value.",
            "Put a line with column names first.",
            severity="warning",
        )
    return names


def _places(names: list[str], name: str) -> str:
    return " and ".join(str(i + 1) for i, other in enumerate(names) if other == name)


def _free_name(wanted: str, names: list[str]) -> str:
    while wanted in names:
        wanted += "_"
    return wanted


def _parse(text: str, layout: _Layout, notes: _Notes) -> pd.DataFrame:
    """All cells as text, by pandas."""
    columns: list[Any] = [*layout.names, None] if layout.drop_last else list(layout.names)
    try:
        table = pd.read_csv(
            io.StringIO(text, newline=""),
            sep=r"\s+" if layout.delimiter == " " else layout.delimiter,
            header=None,
            names=range(len(columns)),
            skiprows=layout.lines_before,
            dtype=str,
            na_filter=False,
            index_col=False,
            skipinitialspace=layout.skip_blanks,
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, csv.Error) as error:
        raise notes.error(f"cannot be read: {str(error).strip().splitlines()[-1]}") from None
    if len(layout.names) > 1:
        first_only = table.iloc[:, 0].str.strip().eq("") & table.iloc[:, 1].isna()
        table = table[~first_only] if first_only.any() else table  # lines of blanks
    if len(table) != layout.rows:
        raise notes.error(
            f"read {len(table):,} rows where {layout.rows:,} were counted; are line ends or quotes mixed?"
        )
    table = table.reset_index(drop=True).iloc[:, : len(layout.names)]
    table.columns = pd.Index(layout.names)
    return table


# ------------------------------------------------------------------------------------------------------ from text on


def _convert(table: pd.DataFrame, notes: _Notes, delimiter: str) -> pd.DataFrame:
    """Each column in the narrowest type that loses nothing."""
    return pd.DataFrame({name: _convert_column(table[name], name, notes, delimiter) for name in table.columns})


def _convert_column(column: pd.Series, name: str, notes: _Notes, delimiter: str) -> pd.Series:
    words = column.str.strip()
    gone = words.isin(MISSING)
    present = words[~gone]
    if len(present) == 0:
        return pd.Series(np.nan, index=column.index, dtype=float)
    distinct = present.drop_duplicates()
    numeric = matches(distinct, NUMBER)
    if numeric.all():
        number = _whole_numbers(words, gone, distinct, name, notes)
        return number if number is not None else _fill(column, gone, present.astype(float), float)
    if set(distinct.str.lower().tolist()) <= {"true", "false"}:
        return _fill(column, gone, present.str.lower() == "true", "boolean" if gone.any() else bool)
    for attempt in (_with_placeholders, _with_separators, _as_dates):
        converted = attempt(words, gone, distinct, numeric, name, notes, delimiter)
        if converted is not None:
            return converted
    _note_units(distinct, name, notes)
    return column.mask(gone)


def _fill(column: pd.Series, gone: pd.Series, values: pd.Series, dtype: Any) -> pd.Series:
    """`values` in the rows that are not missing."""
    if not gone.any():
        return values.astype(dtype)
    return values.astype(dtype).reindex(column.index)


def _whole_numbers(
    words: pd.Series, gone: pd.Series, distinct: pd.Series, name: str, notes: _Notes
) -> pd.Series | None:
    """Whole numbers exactly, as int64, Int64 or text; None when there are decimals."""
    if not matches(distinct, r"[+-]?\d+").all():
        return None
    codes = matches(distinct, r"0\d+")
    if codes.any():
        notes.add(
            "leading_zeros",
            f"{name!r} has leading zeros, such as {distinct[codes].iloc[0]!r}: kept as text",
            "As numbers 007 and 7 would be the same; as text it is a code.",
            "If it is a quantity after all: table[…].astype(int).",
            name,
        )
        return words.mask(gone)
    long = distinct[distinct.str.len() >= 16]
    largest = max((abs(int(word)) for word in long), default=0)
    if largest >= 2**63:
        notes.add(
            "huge_integers",
            f"{name!r} has whole numbers of more than 64 bits, such as {long.iloc[0]!r}: kept as text",
            "As floating-point numbers different ids would become equal.",
            "Treat it as an id; if it is a quantity, store it in a larger unit.",
            name,
        )
        return words.mask(gone)
    if not gone.any():
        return words.astype("int64")
    if largest > EXACT:
        notes.add(
            "huge_integers",
            f"{name!r} has whole numbers beyond 2^53 and gaps: read as Int64, which keeps both",
            "As float64, which most programs use for a column with gaps, different ids would become equal.",
            "Keep the type; do not convert it to float.",
            name,
        )
        return words.mask(gone).astype("Int64")
    return _fill(words, gone, words[~gone].astype(float), float)


def _with_placeholders(
    words: pd.Series,
    gone: pd.Series,
    distinct: pd.Series,
    numeric: np.ndarray,
    name: str,
    notes: _Notes,
    delimiter: str,
) -> pd.Series | None:
    """A column of numbers in which "?" or "unknown" stand for missing."""
    odd = distinct[~numeric]
    if numeric.sum() < 3 or len(odd) > 5 or not is_placeholder(odd).all():
        return None
    rows = words.isin(odd.tolist())
    notes.add(
        "placeholder",
        f"{name!r}: {', '.join(map(repr, odd.head(3)))} in {int(rows.sum()):,} rows among numbers was read as missing",
        "Left as it is, the whole column would be text.",
        'Check that it means missing, and not zero or "not measured because too small".',
        name,
    )
    gone = gone | rows
    number = _whole_numbers(words, gone, distinct[numeric], name, notes)
    return number if number is not None else _fill(words, gone, words[~gone].astype(float), float)


def _with_separators(
    words: pd.Series,
    gone: pd.Series,
    distinct: pd.Series,
    numeric: np.ndarray,
    name: str,
    notes: _Notes,
    delimiter: str,
) -> pd.Series | None:
    """Numbers with thousands separators or a decimal comma."""
    american, european = matches(distinct, THOUSANDS), matches(distinct, EURO_THOUSANDS)
    comma = matches(distinct, DECIMAL_COMMA)
    with_comma = distinct.str.contains(",", regex=False).to_numpy(dtype=bool)
    if (american | numeric).all():
        if delimiter != "," and (american | ~with_comma).all() and distinct.str.count(",").max() == 1:
            notes.add(
                "ambiguous_numbers",
                f"{name!r}: {distinct[american].iloc[0]!r} may be thousands or a decimal comma: kept as text",
                "Read the wrong way every value is wrong by a factor of 1,000.",
                "Ask the source, then convert it.",
                name,
                severity="warning",
            )
            return None
        plain, what = words.str.replace(",", "", regex=False), "thousands separators (1,234)"
    elif with_comma.any() and (comma | european).all():
        plain = words.str.replace(r"[.\u00a0\u202f ']", "", regex=True).str.replace(",", ".", regex=False)
        what = "decimal commas (1,5)"
    else:
        grouped = matches(distinct, r"[+-]?\d{1,3}(?:[\u00a0\u202f ']\d{3})+")
        if not ((grouped | numeric).all() and grouped.any()):
            return None
        plain, what = words.str.replace(r"[\u00a0\u202f ']", "", regex=True), "thousands separators (1 234)"
    notes.add(
        "number_format",
        f"{name!r} has {what}: read as numbers",
        "Most programs read such a column as text.",
        "Check two values against the source.",
        name,
    )
    whole = _whole_numbers(plain, gone, plain[~gone].drop_duplicates(), name, notes)
    return whole if whole is not None else _fill(words, gone, plain[~gone].astype(float), float)


def _as_dates(
    words: pd.Series,
    gone: pd.Series,
    distinct: pd.Series,
    numeric: np.ndarray,
    name: str,
    notes: _Notes,
    delimiter: str,
) -> pd.Series | None:
    """Dates, when one format reads all values."""
    if numeric.any():
        return None
    forms = date_formats(distinct)
    day_first = {form for form in forms if form.startswith("%d")}
    month_first = {form for form in forms if form.startswith("%m")}
    if not forms:
        return None
    if day_first and month_first:
        notes.add(
            "ambiguous_dates",
            f"{name!r}: in {distinct.iloc[0]!r} day and month cannot be told apart: kept as text",
            "Read the wrong way most dates are wrong, and a split by time is no split by time.",
            f"Ask the source, then pd.to_datetime(table[{name!r}], format={forms[0]!r} or {sorted(month_first)[0]!r}).",
            name,
            severity="warning",
        )
        return None
    zone = bool(distinct.str.contains(r"(?:Z|[+-]\d{2}:?\d{2})$", regex=True).any()) and forms[0] == "ISO8601"
    has_time = distinct.str.contains(":", regex=False).any()
    dates = pd.to_datetime(words[~gone], format=forms[0], utc=(zone and bool(has_time)) or None)
    notes.add(
        "dates",
        f"{name!r} holds dates as text: read as dates ({forms[0]})",
        "As text every date would be a category of its own.",
        "Nothing, if the dates are right; for the order of the rows give it as time.",
        name,
    )
    return dates.reindex(words.index)


def _note_units(distinct: pd.Series, name: str, notes: _Notes) -> None:
    """'12 kg', '5%', '$ 3': a number and a unit in each cell."""
    sample = distinct.head(1000)
    parts = sample.str.extract(rf"^([$€£¥]?)\s*{NUMBER}\s*([a-zA-Zµ°%/²³]{{0,6}})$")
    fits = parts[1].notna() & (parts[0].fillna("").str.len() + parts[1].fillna("").str.len() > 0)
    if fits.mean() < 0.95:
        return
    units = sorted({(a + b).strip() for a, b in zip(parts[0][fits], parts[1][fits], strict=True)})
    if len(units) <= 4:
        notes.add(
            "numbers_with_unit",
            f"{name!r} holds numbers with {'a unit' if len(units) == 1 else 'units'} ({', '.join(units)}) as text",
            "A model sees each value as a word of its own" + (", in different units." if len(units) > 1 else "."),
            "Take the unit out (str.extract), convert to one unit and to numbers.",
            name,
            severity="warning",
        )


# ----------------------------------------------------------------------------------------------- Parquet and target


def _read_parquet(raw: bytes, file: Path, notes: _Notes) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if raw[:4] != b"PAR1":
        raise notes.error("the name says Parquet, the content does not (it does not begin with PAR1)")
    if raw[-4:] != b"PAR1":
        raise notes.error(
            f"the Parquet file is cut off after {len(raw):,} bytes (it does not end with PAR1); get it again"
        )
    if file.suffix.lower() not in PARQUET_ENDINGS:
        notes.add(
            "file_ending",
            "the content is Parquet, whatever the name says: read as Parquet",
            "Other programs will fail on it.",
            "Rename it to .parquet.",
        )
    try:
        opened = pq.ParquetFile(pa.BufferReader(raw))
        names = opened.schema_arrow.names
        if len(set(names)) < len(names):
            raise notes.error(f"column names occur several times: {sorted({n for n in names if names.count(n) > 1})}")
        arrow = opened.read()
    except TableError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise notes.error(f"the Parquet file is damaged ({str(error).splitlines()[0]})") from None
    if arrow.num_rows == 0 or not names:
        raise notes.error(f"the file has {len(names)} columns but no rows")
    return _from_arrow(arrow, notes)


def _from_arrow(arrow: Any, notes: _Notes) -> pd.DataFrame:
    """pandas columns; whole numbers with gaps stay exact, decimals become floats, nested values text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    nested = []
    for i, column in enumerate(arrow.schema):
        values = arrow.column(i)
        if pa.types.is_decimal(column.type):
            arrow = arrow.set_column(i, column.name, values.cast(pa.float64()))
        elif pa.types.is_nested(column.type):
            nested.append(column.name)
            arrow = arrow.set_column(
                i, column.name, pa.array([None if v is None else repr(v) for v in values.to_pylist()])
            )
    if nested:
        notes.add(
            "nested_columns",
            f"{', '.join(map(repr, nested[:4]))} holds lists or records: kept as text",
            "No column-by-column check can look into it.",
            "Flatten what you need into columns of its own.",
            *nested,
        )
    table = arrow.to_pandas()
    for i, column in enumerate(arrow.schema):
        values = arrow.column(i)
        if pa.types.is_integer(column.type) and values.null_count and column.name in table.columns:
            limits = pc.min_max(values).as_py()
            if max(abs(limits["min"] or 0), abs(limits["max"] or 0)) > EXACT:
                table[column.name] = pd.array(values.to_pylist(), dtype="Int64")
    if not isinstance(table.index, pd.RangeIndex):
        table = table.reset_index(drop=all(name is None for name in table.index.names))
    table = table.reset_index(drop=True)
    table.attrs.clear()
    return table


def _check_target(table: pd.DataFrame, target: Hashable, notes: _Notes) -> None:
    if target not in table.columns:
        raise notes.error(f"target {target!r} is not a column{near_names(target, table.columns)}")
    values = table[target].dropna()
    if len(values) == 0:
        raise notes.error(f"target {target!r} is missing in every row")
    if values.nunique() == 1:
        raise notes.error(f"target {target!r} has one class only ({plain_scalar(values.iloc[0])!r}): nothing to learn")
    if len(values) < len(table):
        gone = len(table) - len(values)
        notes.add(
            "target_gaps",
            f"target {target!r} is missing in {gone:,} of {len(table):,} rows",
            "These rows cannot be trained on.",
            "Find out why; drop them before splitting.",
            target,
        )
