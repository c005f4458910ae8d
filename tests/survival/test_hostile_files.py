"""Malformed uploads, by page and by API: a clear reason, nothing half-imported, bounded memory."""

from __future__ import annotations

import gzip
import io
import json
import os
import resource
import subprocess
import sys
import time
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile

from apps.corpus import importing, reading
from apps.corpus.models import Example, Import
from tests import factories
from tests.hostile import ROOT, SHARED_FILES

pytestmark = pytest.mark.django_db
SLOWEST = 15.0
USUAL = ("output", "id", "prompt", "tags", "metadata")


def _zip(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


GOOD = b"id,output\n1,one\n2,two\n"
# name, bytes, whether any of it can be read, and the rows that are rejected
OWN: dict[str, tuple[bytes, bool, list[int]]] = {
    "good.csv": (GOOD, True, []),
    "good_bom.csv": (b"\xef\xbb\xbf" + GOOD, True, []),
    "good_crlf.csv": (GOOD.replace(b"\n", b"\r\n"), True, []),
    "good.csv.gz": (gzip.compress(GOOD), True, []),
    "empty.csv": (b"", False, []),
    "header_only.csv": (b"id,output\n", True, []),
    "blank_lines.csv": (b"\n\n\n", False, []),
    "duplicate_header.csv": (b"output,output\n1,2\n", False, []),
    "nul_header.csv": (b"out\x00put,id\n1,2\n", False, []),
    "nul_cell.csv": (b"id,output\n1,a\x00b\n2,fine\n", True, [2]),
    "ragged.csv": (b"id,output\n1\n2,fine\n3,x,y\n", True, [2, 4]),
    "unclosed.csv": (b'id,output\n1,"never closed\n2,fine\n', False, []),
    "quote_in_field.csv": (b'id,output\n1,"a"b"\n', False, []),
    "latin1.csv": ("id,output\n1,é\n".encode("latin-1"), False, []),
    "utf16.csv": ("id,output\n1,x\n".encode("utf-16"), False, []),
    "utf7.csv": (b"id,output\n1,+ADw-script+AD4-\n", True, []),
    "surrogate_bytes.csv": (b"id,output\n1,\xed\xa0\x80\n", False, []),
    "huge_field.csv": (b"id,output\n1," + b"x" * (2**20 + 1) + b"\n2,fine\n", True, [2]),
    "endless_line.csv": (b"id,output\n1," + b"x" * (5 * 2**20), False, []),
    "many_columns.csv": (b",".join(b"c%d" % n for n in range(51)) + b"\n", False, []),
    "old_mac.csv": (b"id,output\r1,one\r2,two\r", False, []),
    "html.csv": (b"<!DOCTYPE html><html><body>not a table</body></html>", False, []),
    "no_such_column.csv": (b"a,b\n1,2\n", False, []),
    "truncated.csv.gz": (gzip.compress(GOOD * 500)[:60], False, []),
    "bad_crc.csv.gz": (gzip.compress(GOOD)[:-8] + b"\x00" * 8, False, []),
    "two_members.csv.gz": (gzip.compress(GOOD) + gzip.compress(GOOD), False, []),
    "trailing_garbage.csv.gz": (gzip.compress(GOOD) + b"garbage", False, []),
    "not_gzip.csv.gz": (b"this is no gzip, \x1f\x8b", False, []),
    "header_of_gzip.csv.gz": (b"\x1f\x8b", False, []),
    "zip.csv": (_zip("rows.csv", GOOD), False, []),
    "traversal.json": (_zip("../../../../tmp/parapet-was-here", GOOD), False, []),
    "picture.csv": (b"\x89PNG\r\n\x1a\n" + b"\x00" * 50, False, []),
    "depth.json": (b"[" * 10_000 + b"]" * 10_000, False, []),
    "wrong_top.json": (b'{"output": "x"}', False, []),
    "cut_off.json": (b'[{"output": "x"}, {"out', False, []),
    "after_the_end.json": (b'[{"output": "x"}] x', False, []),
    "no_comma.json": (b'[{"output": "x"} {"output": "y"}]', False, []),
    "empty_array.json": (b"[]", True, []),
    "duplicate_keys.json": (b'[{"output": "x", "output": "y"}, {"output": "z"}]', True, [1]),
    "not_finite.json": (b'[{"output": "x", "metadata": {"a": NaN}}, {"output": "z"}]', True, [1]),
    "too_large.json": (b'[{"output": "x", "metadata": {"a": 1e400}}, {"output": "z"}]', True, [1]),
    "surrogate.json": (b'[{"output": "\\ud800"}, {"output": "z"}]', True, [1]),
    "nul_key.json": (b'[{"output": "x", "\\u0000": 1}, {"output": "z"}]', True, [1]),
    "deep_row.jsonl": (
        b'{"output": "x", "metadata": ' + b'{"a":' * 40 + b"1" + b"}" * 40 + b'}\n{"output": "z"}',
        True,
        [1],
    ),
    "mixed.jsonl": (
        b'{"output": "one"}\nnot json\n[1]\n{"prompt": "no output"}\n\n{"output": "two"}\n'
        b'{"output": 5}\n{"output": null}\n',
        True,
        [2, 3, 4, 7, 8],
    ),
    "long_integer.jsonl": (
        b'{"output": "x", "id": ' + b"9" * 400 + b'}\n{"output": "z"}\n',
        True,
        [1],
    ),
    "separators.jsonl": ('{"output": "a\u2028b\u0085c"}\n'.encode(), True, []),
    "metadata_nan.csv": (b'metadata,output\n"{""a"": NaN}",x\n,z\n', True, [2]),
    "metadata_deep.csv": (b"metadata,output\n" + b"[" * 5000 + b",x\n,z\n", True, [2]),
    "metadata_number.csv": (b"metadata,output\n5,x\n,z\n", True, [2]),
    "tags_nul.csv": (b"tags,output\na\x00b,x\n,z\n", True, [2]),
    "script.exe": (b"MZ", False, []),
    "no_ending": (GOOD, False, []),
    "archive.tar.gz": (gzip.compress(b"x"), False, []),
}
SHARED: dict[str, bytes] = (
    {path.name: path.read_bytes() for path in sorted(SHARED_FILES.iterdir())}
    if SHARED_FILES.is_dir()
    else {}
)
# the shared ones of which something can be read
READABLE = {
    "csv_header_only.csv",
    "csv_huge_field_200k.csv",
    "csv_nul_bytes.csv",
    "csv_ragged_rows.csv",
    "json_duplicate_keys.json",
    "json_nan_infinity.json",
    "jsonl_mixed_good_bad.jsonl",
    "not_gzip.csv.gz",  # plain CSV; what counts is what is in it
}


def test_the_files_are_there() -> None:
    warnings.warn(f"hostile files: {len(OWN)} own, {len(SHARED)} shared", stacklevel=1)
    assert OWN


@pytest.fixture
def owner() -> Any:
    person = factories.make_member(factories.make_workspace(), "owner")
    factories.make_policy(person)
    return person


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def nothing_elsewhere() -> Iterator[None]:
    """Fails a test that leaves a file anywhere but in the upload folder."""
    watched = [Path(settings.DATA_DIR), Path("/tmp/parapet-was-here").parent, ROOT / "apps"]
    uploads = Path(settings.UPLOAD_DIR)

    def seen() -> set[Path]:
        found = _files(watched[0]) | _files(watched[2])
        found |= {path for path in watched[1].iterdir() if "was-here" in path.name}
        return {p for p in found if uploads not in p.parents and "__pycache__" not in p.parts}

    before = seen()
    yield
    new = {path for path in seen() - before if "broker" not in path.parts}
    assert not new


def output_of(name: str) -> str:
    """The column of the model's output: the shared files call it text."""
    return "text" if name in SHARED else "output"


def by_page(owner: Any, name: str, data: bytes) -> Import | str:
    """Upload and map as a person does; the started import, or why there is none."""
    client = factories.page_client(owner)
    answer = client.post("/policies/doses/import/", {"file": SimpleUploadedFile(name, data)})
    assert answer.status_code < 500, answer.content[:500]
    if answer.status_code != 302:
        assert answer.status_code in (400, 413)
        return answer.content.decode()
    job = Import.objects.latest("id")
    page = client.get(answer["Location"])
    assert page.status_code < 500
    fields = {"source": "files", "consent": "train"}
    columns = importing.preview(job)[0]
    fields |= {f"map-{field}": field for field in USUAL if field in columns}
    fields.setdefault("map-output", output_of(name))
    answer = client.post(answer["Location"], fields)
    assert answer.status_code == 302, answer.content[:2000]
    return job


def by_api(owner: Any, name: str, data: bytes) -> Import | str:
    client = factories.page_client(owner)
    mapping = {field: field for field in USUAL}
    if name.removesuffix(".gz").endswith(".csv"):
        header = data[:200].split(b"\n")[0] if not name.endswith(".gz") else b"id,output"
        mapping = {f: f for f in mapping if f.encode() in header} or {"output": "output"}
    fields = {
        "policy": "doses",
        "source": "files",
        "mapping": json.dumps({**mapping, "output": output_of(name)}),
        "file": SimpleUploadedFile(name, data),
    }
    answer = client.post("/api/v1/imports", fields)
    assert answer.status_code < 500, answer.content[:500]
    if answer.status_code != 202:
        assert answer.status_code in (400, 413), answer.content
        assert answer.json()["detail"]
        return str(answer.json()["detail"])
    return Import.objects.get(pk=answer.json()["id"])


WAYS = {"page": by_page, "api": by_api}


def run(job: Import) -> Import:
    start = time.perf_counter()
    importing.run_import(str(job.pk))
    assert time.perf_counter() - start <= SLOWEST
    job.refresh_from_db()
    return job


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", OWN)
def test_an_own_file_ends_as_stated(
    owner: Any, nothing_elsewhere: None, name: str, way: str
) -> None:
    data, readable, rejected = OWN[name]
    started = WAYS[way](owner, name, data)
    if isinstance(started, str):
        assert not readable, started
        assert not Example.objects.exists()
        return
    job = run(started)
    assert job.status == ("succeeded" if readable else "failed"), job.reason
    assert list(job.rejected_rows.order_by("row").values_list("row", flat=True)) == rejected
    assert all(row.reason for row in job.rejected_rows.all())
    if readable:
        assert Example.objects.count() == job.new == job.total_rows - len(rejected)
    else:
        assert len(job.reason) > 15
        assert not Example.objects.exists()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SHARED)
def test_a_shared_file_ends_plainly(
    owner: Any, nothing_elsewhere: None, name: str, way: str
) -> None:
    started = WAYS[way](owner, name, SHARED[name])
    if isinstance(started, str):
        assert name not in READABLE, started
        assert not Example.objects.exists()
        return
    job = run(started)
    assert job.status in ("succeeded", "failed")
    assert (job.status == "succeeded") == (name in READABLE), job.reason
    if job.status == "failed":
        assert len(job.reason) > 15
        assert not Example.objects.exists()
    else:
        assert Example.objects.count() == job.new


@pytest.mark.django_db(transaction=True)
def test_the_uploaded_file_is_gone_when_the_import_is_over(owner: Any) -> None:
    job = by_api(owner, "good.csv", GOOD)
    assert isinstance(job, Import)
    run(job)
    assert not importing.file_of(job).exists()


def test_a_refused_upload_leaves_no_file(owner: Any) -> None:
    before = _files(Path(settings.UPLOAD_DIR))
    by_api(owner, "empty.csv", b"")
    by_api(owner, "script.exe", b"MZ")
    assert _files(Path(settings.UPLOAD_DIR)) == before


@pytest.mark.parametrize(
    "name", ["../../x.csv", "/etc/passwd.csv", "..\\..\\x.csv", "a/../../b.csv", ".csv", "x" * 400]
)
def test_a_file_name_is_never_a_path(owner: Any, nothing_elsewhere: None, name: str) -> None:
    file = SimpleUploadedFile("x", GOOD)
    file._name = name if name.endswith(".csv") else f"{name}.csv"
    client = factories.page_client(owner)
    fields = {"policy": "doses", "source": "files", "file": file}
    assert client.post("/api/v1/imports", fields).status_code == 202
    kept = Import.objects.get().file_name
    assert "/" not in kept
    assert len(kept) <= 255


def test_more_than_the_packed_cap_is_refused_while_it_is_read(
    owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAXIMUM_PACKED", 1000)
    before = _files(Path(settings.UPLOAD_DIR))
    assert "at most" in str(by_api(owner, "long.csv", GOOD * 100))
    assert _files(Path(settings.UPLOAD_DIR)) == before


# --- memory ---------------------------------------------------------------------------------

BOMBS = {
    "zeros": zlib.compress(b"id,output\n1," + bytes(32 * 2**20), wbits=31),
    "one_line": gzip.compress(b'{"output": "' + b"x" * (32 * 2**20) + b'"}\n'),
    "many_lines": gzip.compress(b'{"output": "x"}\n' * (2 * 2**20)),
    "one_element": gzip.compress(b'[{"output": "' + b"y" * (32 * 2**20) + b'"}]'),
    "quoted": gzip.compress(b'id,output\n1,"' + b"z\n" * (16 * 2**20)),
    "open_brackets": gzip.compress(b"[" * (32 * 2**20)),
}
ENDINGS = {"zeros": "csv", "quoted": "csv", "one_element": "json", "open_brackets": "json"}
MEASURE = """
import resource, sys
from pathlib import Path
from apps.corpus import reading
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
try:
    count = reading.count_rows(Path(sys.argv[1]), sys.argv[2])
    for _ in reading.rows(Path(sys.argv[1]), sys.argv[2]): pass
    end = f"{count} rows"
except reading.Unreadable as error:
    end = str(error)
print(peak() - before, end)
"""


def grown(path: Path, ending: str) -> tuple[int, str]:
    """KiB that reading a file adds to the peak of a fresh process, and how it ended."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path), ending],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    kib, _, end = done.stdout.strip().partition(" ")
    return int(kib), end


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_of_32_mb_takes_at_most_150_mb(tmp_path: Path, name: str) -> None:
    assert sys.platform == "linux"
    assert resource.getpagesize()
    path = tmp_path / "bomb.gz"
    path.write_bytes(BOMBS[name])
    kib, end = grown(path, ENDINGS.get(name, "jsonl"))
    assert kib <= 150 * 1024, (kib, end)
    assert end


@pytest.mark.parametrize("name", [name for name in SHARED if "bomb" in name])
def test_a_shared_bomb_takes_at_most_150_mb(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(SHARED[name])
    kib, end = grown(path, "csv")
    assert kib <= 150 * 1024, (kib, end)
    assert end
