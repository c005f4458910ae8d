"""Rows out of files: CSV, JSONL and JSON, plain or gzipped, streamed and bounded. No Django.

A file that cannot be read as a whole is Unreadable; a single bad row is a BadRow among the rows.
"""

from __future__ import annotations

import codecs
import csv
import math
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from apps.base.gate import MAXIMUM_DEPTH, parse_json
from apps.base.problems import Problem

MAXIMUM_PACKED = 50 * 2**20
MAXIMUM_UNPACKED = 400 * 2**20
MAXIMUM_RATIO = 100
MAXIMUM_ROWS = 1_000_000
MAXIMUM_COLUMNS = 50
MAXIMUM_RECORD = 4 * 2**20
LOOKED_AT = 4 * 2**20
"""Bytes that are read for a preview, which somebody waits for."""
FORMATS = ("csv", "jsonl", "json")
_CHUNK = 2**16
_MAGIC = {b"PK\x03\x04": "a zip archive", b"%PDF": "a PDF", b"\x89PNG": "a picture"}


class _Enough(Exception):
    """More of the file is not wanted."""


class Unreadable(Exception):
    """The file as a whole cannot be imported; the message says what to do."""


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be taken, and why."""

    reason: str


Row = dict[str, Any] | BadRow


def format_of(file_name: str) -> str:
    """csv, jsonl or json, by the file's name; raises Unreadable for any other."""
    name = file_name.lower().removesuffix(".gz")
    ending = name.rpartition(".")[2]
    ending = "jsonl" if ending == "ndjson" else ending
    if ending not in FORMATS:
        raise Unreadable(
            "Parapet reads .csv, .jsonl, .ndjson and .json files, each also with .gz; "
            "save the data in one of these formats."
        )
    return ending


def rows(path: Path, file_format: str, *, most: float = math.inf) -> Iterator[tuple[int, Row]]:
    """Yield (row number, row) of a file, or of its first `most` bytes.

    Row numbers count from 1 as an editor or a spreadsheet shows them: lines of JSONL, records
    of CSV with its header as row 1, elements of a JSON array.

    Raises:
        Unreadable: wherever the file stops making sense.
    """
    with path.open("rb") as file:
        reader = {"csv": _csv_rows, "jsonl": _jsonl_rows, "json": _json_rows}[file_format]
        with suppress(_Enough):
            for count, item in enumerate(reader(_beginning(_unpacked(file), most)), start=1):
                if count > MAXIMUM_ROWS:
                    raise Unreadable(f"A file may have at most {MAXIMUM_ROWS:,} rows; split it.")
                yield item


def count_rows(path: Path, file_format: str) -> int:
    """Read the whole file once, without keeping it; raises Unreadable if any of it is bad."""
    if file_format != "jsonl":
        return sum(1 for _ in rows(path, file_format))
    count = 0
    with path.open("rb") as file:
        for line in _lines(_unpacked(file)):
            count += bool(line.strip())
            if count > MAXIMUM_ROWS:
                raise Unreadable(f"A file may have at most {MAXIMUM_ROWS:,} rows; split it.")
    return count


def columns(path: Path, file_format: str, *, sample: int = 10) -> tuple[list[str], list[Row]]:
    """The column names and the first rows, for the mapping page."""
    names: dict[str, None] = {}
    first: list[Row] = []
    for _, row in rows(path, file_format, most=LOOKED_AT):
        if isinstance(row, dict):
            names.update(dict.fromkeys(row))
        first.append(row)
        if len(first) == sample:
            break
    if not names and file_format == "csv":
        with path.open("rb") as file:
            names.update(dict.fromkeys(_header(csv.reader(_lines(_unpacked(file)), strict=True))))
    return list(names)[:MAXIMUM_COLUMNS], first


def _beginning(chunks: Iterator[bytes], most: float) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        yield chunk
        size += len(chunk)
        if size >= most:
            raise _Enough


def _unpacked(file: BinaryIO) -> Iterator[bytes]:
    """The file's bytes in chunks, gunzipped if it is gzip, counted against every cap."""
    start = file.read(4)
    file.seek(0)
    for magic, what in _MAGIC.items():
        if start.startswith(magic):
            raise Unreadable(f"This is {what}; send CSV, JSONL or JSON, optionally gzipped.")
    if start[:2] != b"\x1f\x8b":
        size = 0
        while chunk := file.read(_CHUNK):
            size += len(chunk)
            if size > MAXIMUM_UNPACKED:
                raise _too_large()
            yield chunk
        return
    yield from _gunzip(file)


def _gunzip(file: BinaryIO) -> Iterator[bytes]:
    inflater = zlib.decompressobj(wbits=31)
    packed = unpacked = 0
    try:
        while not inflater.eof:
            data = inflater.unconsumed_tail or file.read(_CHUNK)
            if not data:
                raise Unreadable("The gzip file is cut off; upload it again.")
            packed = file.tell()
            chunk = inflater.decompress(data, _CHUNK)
            unpacked += len(chunk)
            if unpacked > MAXIMUM_UNPACKED:
                raise _too_large()
            if unpacked > max(packed, 4096) * MAXIMUM_RATIO:
                raise Unreadable(
                    f"The file unpacks to more than {MAXIMUM_RATIO} times its size; "
                    "upload it unpacked."
                )
            if chunk:
                yield chunk
    except zlib.error:
        raise Unreadable("The gzip file is damaged; pack it again.") from None
    if inflater.unused_data or file.read(1):
        raise Unreadable("The gzip file has more than one member; pack it as one.")


def _too_large() -> Unreadable:
    return Unreadable(f"At most {MAXIMUM_UNPACKED // 2**20} MB unpacked; split the file.")


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    """Lines split on LF only (U+2028 and U+0085 are text), decoded as strict UTF-8."""
    pending = bytearray()
    start = 0
    first = True
    for chunk in chunks:
        pending += chunk
        end = pending.rfind(b"\n") + 1
        if not end:
            if len(pending) > MAXIMUM_RECORD:
                raise Unreadable(f"A line is longer than {MAXIMUM_RECORD // 2**20} MB.")
            continue
        block = bytes(pending[:end])
        del pending[:end]
        for line in block.split(b"\n")[:-1]:
            yield _decode(line, start, first) + "\n"
            start += len(line) + 1
            first = False
    if pending:
        yield _decode(bytes(pending), start, first)


def _decode(line: bytes, offset: int, first: bool) -> str:
    if first:
        if line[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise Unreadable("The file is UTF-16; save it as UTF-8.")
        line = line.removeprefix(b"\xef\xbb\xbf")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable(
            f"The file is not UTF-8: byte {offset + error.start:,} is wrong. Save it as UTF-8."
        ) from None


def _header(reader: Any) -> list[str]:
    try:
        names = next(reader, None)
    except csv.Error as error:
        raise _bad_csv(reader, error) from None
    if not names:
        raise Unreadable("The file is empty.")
    if len(names) > MAXIMUM_COLUMNS:
        raise Unreadable(f"At most {MAXIMUM_COLUMNS} columns; this file has {len(names)}.")
    if len(set(names)) != len(names):
        raise Unreadable("Two columns have the same name; rename one.")
    if any("\x00" in name for name in names):
        raise Unreadable("The header contains NUL; this is not a CSV file.")
    return list(names)


def _csv_rows(chunks: Iterator[bytes]) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(MAXIMUM_RECORD)
    reader = csv.reader(_lines(chunks), strict=True)
    names = _header(reader)
    number = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _bad_csv(reader, error) from None
        number += 1
        if not cells:
            continue
        if len(cells) != len(names):
            yield number, BadRow(f"{len(cells)} cells, but the header has {len(names)}.")
        else:
            yield number, dict(zip(names, cells, strict=True))


def _bad_csv(reader: Any, error: csv.Error) -> Unreadable:
    return Unreadable(f"Not CSV at line {reader.line_num}: {error}.")


def _jsonl_rows(chunks: Iterator[bytes]) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(_lines(chunks), start=1):
        if not line.strip():
            continue
        try:
            value = parse_json(line.encode(), maximum_bytes=MAXIMUM_RECORD)
        except Problem as problem:
            yield number, BadRow(problem.detail)
            continue
        yield number, value if isinstance(value, dict) else BadRow("Not a JSON object.")


def _json_rows(chunks: Iterator[bytes]) -> Iterator[tuple[int, Row]]:
    """Elements of one JSON array, decoded as they arrive."""
    text = _Text(chunks)
    if text.skip_space() != "[":
        raise Unreadable("A JSON file must be an array of objects: [{...}, {...}].")
    text.position += 1
    number = 0
    while (character := text.skip_space()) != "]":
        if character == "":
            raise Unreadable("The JSON is cut off; the array has no end.")
        if number:
            if character != ",":
                raise Unreadable(f"Not JSON after element {number}: a comma is missing.")
            text.position += 1
            text.skip_space()
        number += 1
        source = text.element(number)
        try:
            value = parse_json(
                source.encode("utf-8", "surrogatepass"), maximum_bytes=MAXIMUM_RECORD
            )
        except Problem as problem:
            if problem.code == "not_json":
                raise Unreadable(f"Element {number}: {problem.detail}") from None
            yield number, BadRow(problem.detail)
            continue
        yield number, value if isinstance(value, dict) else BadRow("Not a JSON object.")
    text.position += 1
    if text.skip_space():
        raise Unreadable("There is something after the end of the JSON array.")


class _Text:
    """A sliding window over decoded text, for finding where one JSON element ends."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.chunks = chunks
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.buffer = ""
        self.position = 0
        self.offset = 0
        self.begun = self.ended = False

    def more(self) -> bool:
        if self.ended:
            return False
        chunk = next(self.chunks, b"")
        self.ended = not chunk
        try:
            text = self.decoder.decode(chunk, final=self.ended)
        except UnicodeDecodeError as error:
            raise Unreadable(
                f"The file is not UTF-8: byte {self.offset + error.start:,} is wrong. "
                "Save it as UTF-8."
            ) from None
        if not self.begun:
            self.begun = bool(text)
            text = text.removeprefix("\ufeff")
        self.offset += len(chunk)
        self.buffer = self.buffer[self.position :] + text
        self.position = 0
        return not self.ended

    def skip_space(self) -> str:
        """Move to the next character that is not white space and return it; "" at the end."""
        while True:
            while self.position < len(self.buffer):
                if self.buffer[self.position] not in " \t\r\n":
                    return self.buffer[self.position]
                self.position += 1
            if not self.more():
                return ""

    def element(self, number: int) -> str:
        """The source of the value that starts here: up to its closing bracket or a comma."""
        depth = 0
        inside = escaped = False
        at = self.position
        while True:
            while at < len(self.buffer):
                character = self.buffer[at]
                if inside:
                    if escaped:
                        escaped = False
                    elif character == "\\":
                        escaped = True
                    elif character == '"':
                        inside = False
                elif character == '"':
                    inside = True
                elif character in "[{":
                    depth += 1
                    if depth > MAXIMUM_DEPTH:
                        raise Unreadable(f"JSON may be nested at most {MAXIMUM_DEPTH} deep.")
                elif character in "]}" and depth:
                    depth -= 1
                    if depth == 0:
                        return self._take(at + 1)
                elif character in ",]" and depth == 0:
                    return self._take(at)
                at += 1
            scanned = at - self.position
            if scanned > MAXIMUM_RECORD:
                raise Unreadable(f"Element {number} is longer than {MAXIMUM_RECORD // 2**20} MB.")
            if not self.more():
                raise Unreadable(f"The JSON is cut off in element {number}.")
            at = self.position + scanned

    def _take(self, end: int) -> str:
        source = self.buffer[self.position : end]
        self.position = end
        return source


__all__ = ["FORMATS", "BadRow", "Unreadable", "columns", "count_rows", "format_of", "rows"]
