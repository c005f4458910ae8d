"""Rows out of files: the same rows whatever the file's form, and exactly the text that is there."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from apps.corpus import reading

ROWS = [
    {"id": "1", "output": "plain"},
    {"id": "2", "output": 'quotes " and, commas'},
    {"id": "3", "output": "lines\nand\r\nmore\rlines"},
    {"id": "4", "output": "separators \u2028 \u2029 \u0085 \x0b \x0c"},
    {"id": "5", "output": "\ufeffa mark inside, \u202e and \U0001f600"},
    {"id": "6", "output": "  spaces  "},
    {"id": "7", "output": ""},
]


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, ["id", "output"], lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def as_jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def as_json(rows: list[dict[str, Any]]) -> bytes:
    return json.dumps(rows, ensure_ascii=False, indent=1).encode()


FORMS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "csv": as_csv,
    "jsonl": as_jsonl,
    "json": as_json,
}
BOM = b"\xef\xbb\xbf"


def read(folder: Path, data: bytes, file_format: str) -> list[tuple[int, reading.Row]]:
    path = folder / "file"
    path.write_bytes(data)
    rows = list(reading.rows(path, file_format))
    assert reading.count_rows(path, file_format) == len(rows)
    return rows


def texts(rows: list[tuple[int, reading.Row]]) -> list[Any]:
    return [row for _, row in rows]


@pytest.mark.parametrize("file_format", FORMS)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("mark", [b"", BOM])
def test_every_form_of_a_file_gives_the_same_rows(
    tmp_path: Path, file_format: str, packed: bool, mark: bytes
) -> None:
    data = mark + FORMS[file_format](ROWS)
    data = gzip.compress(data) if packed else data
    assert texts(read(tmp_path, data, file_format)) == ROWS


plain = some.text(
    some.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40
)


@pytest.mark.parametrize("file_format", FORMS)
@given(rows=some.lists(some.fixed_dictionaries({"id": plain, "output": plain}), max_size=8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_text_comes_out_as_it_went_in(tmp_path: Path, file_format: str, rows: Any) -> None:
    assert texts(read(tmp_path, FORMS[file_format](rows), file_format)) == rows


@pytest.mark.parametrize("file_format", ["jsonl", "json"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_it_does_not_matter_where_a_chunk_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: str, size: int
) -> None:
    monkeypatch.setattr(reading, "_CHUNK", size)
    assert texts(read(tmp_path, BOM + FORMS[file_format](ROWS), file_format)) == ROWS


def test_rows_end_with_crlf_or_lf(tmp_path: Path) -> None:
    data = b"id,output\r\n1,one\r\n2,two\r\n"
    assert texts(read(tmp_path, data, "csv")) == [
        {"id": "1", "output": "one"},
        {"id": "2", "output": "two"},
    ]
    data = b'{"output": "one"}\r\n\r\n{"output": "two"}'
    assert texts(read(tmp_path, data, "jsonl")) == [{"output": "one"}, {"output": "two"}]


def test_rows_are_numbered_as_an_editor_shows_them(tmp_path: Path) -> None:
    csv_rows = read(tmp_path, b'output\none\n\n"two\nlines"\nthree,x\n', "csv")
    assert [number for number, _ in csv_rows] == [2, 4, 5]
    lines = read(tmp_path, b'{"a": 1}\n\nx\n[1]\n', "jsonl")
    assert [(n, isinstance(row, reading.BadRow)) for n, row in lines] == [
        (1, False),
        (3, True),
        (4, True),
    ]
    elements = read(tmp_path, b'[{"a": 1}, 5, {"a": 2}]', "json")
    assert [n for n, row in elements if isinstance(row, reading.BadRow)] == [2]


def test_a_bad_row_says_why_and_does_not_repeat_the_row(tmp_path: Path) -> None:
    ((_, row),) = read(tmp_path, b'{"canary4711": 1, "canary4711": 2}\n', "jsonl")
    assert isinstance(row, reading.BadRow)
    assert "twice" in row.reason
    assert "4711" not in row.reason


@pytest.mark.parametrize(
    ("name", "file_format"),
    [
        ("a.csv", "csv"), ("A.CSV", "csv"), ("a.csv.gz", "csv"), ("a.jsonl", "jsonl"),
        ("a.ndjson", "jsonl"), ("a.ndjson.gz", "jsonl"), ("a.json", "json"), ("x.y.json", "json"),
    ],
)  # fmt: skip
def test_the_ending_says_the_format(name: str, file_format: str) -> None:
    assert reading.format_of(name) == file_format


@pytest.mark.parametrize("name", ["", "csv", "a", "a.gz", "a.zip", "a.tsv", "a.csv.zip", "a.csv "])
def test_another_ending_is_refused(name: str) -> None:
    if name == "csv":  # a name that is only the ending counts as one
        assert reading.format_of(name) == "csv"
        return
    with pytest.raises(reading.Unreadable):
        reading.format_of(name)


def test_where_the_encoding_is_wrong_is_said_by_byte(tmp_path: Path) -> None:
    for file_format, data in (("csv", b"output\nab\xff\n"), ("json", b'["ab\xff"]')):
        with pytest.raises(reading.Unreadable, match=r"byte \d"):
            read(tmp_path, data, file_format)


@pytest.mark.parametrize(
    ("limit", "value", "data", "file_format"),
    [
        ("MAXIMUM_ROWS", 2, b"output\n1\n2\n3\n", "csv"),
        ("MAXIMUM_ROWS", 2, b'{"a":1}\n{"a":1}\n{"a":1}\n', "jsonl"),
        ("MAXIMUM_ROWS", 2, b"[{},{},{}]", "json"),
        ("MAXIMUM_UNPACKED", 10, b"output\n123456\n", "csv"),
        ("MAXIMUM_UNPACKED", 10, gzip.compress(b"output\n123456\n", mtime=0), "csv"),
        ("MAXIMUM_COLUMNS", 2, b"a,b,c\n1,2,3\n", "csv"),
        ("MAXIMUM_RECORD", 10, b'["' + b"x" * 70_000 + b'"]', "json"),
        ("MAXIMUM_RECORD", 10, b'"' + b"x" * 140_000, "csv"),
    ],
)
def test_every_cap_is_kept(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    value: int,
    data: bytes,
    file_format: str,
) -> None:
    monkeypatch.setattr(reading, limit, value)
    with pytest.raises(reading.Unreadable):
        read(tmp_path, data, file_format)


def test_the_preview_reads_no_more_than_it_shows(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"id,output\n" + b"1,x\n" * 10 + b"\xff")
    names, first = reading.columns(path, "csv", sample=3)
    assert (names, len(first)) == (["id", "output"], 3)


@pytest.mark.parametrize("blank", [b"\n", b" \n", b'[{"output": "x"},' + b" "])
def test_the_preview_gives_up_where_there_is_nothing(tmp_path: Path, blank: bytes) -> None:
    file_format = "json" if blank.startswith(b"[") else "jsonl"
    path = tmp_path / "file"
    path.write_bytes(blank + b" " * reading.LOOKED_AT + b"\xff" * 10)
    _, first = reading.columns(path, file_format)
    assert len(first) == (1 if file_format == "json" else 0)


def test_an_import_reads_on_where_the_preview_stops(tmp_path: Path) -> None:
    path = tmp_path / "file"
    row = b'{"output": "' + b"x" * 2**19 + b'"}\n'
    path.write_bytes(row * 12)
    assert len(list(reading.rows(path, "jsonl"))) == 12
    assert len(list(reading.rows(path, "jsonl", most=reading.LOOKED_AT))) < 12
