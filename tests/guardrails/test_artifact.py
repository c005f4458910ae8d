"""Model files: the same bytes for the same model, and no other bytes are believed."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from apps.guardrails.learning import artifact, calibration, features
from apps.guardrails.learning.artifact import (
    ALL_PIECES,
    BELOW_ALL,
    ArtifactRefused,
    Model,
)

RANDOM = np.random.default_rng(0)
MODEL = Model(
    idf=RANDOM.uniform(1, 9, features.COLUMNS).astype(np.float32),
    weights=RANDOM.normal(size=features.COLUMNS).astype(np.float32),
    intercept=-0.1,
    slope=1.7,
    offset=-0.3,
    threshold=0.42,
    length_exponent=0.6,
    length_pieces=71.0,
    length_reach=2.25,
    length_top=-0.75,
)
GOOD = artifact.to_bytes(MODEL)
METADATA = json.loads(np.load(io.BytesIO(GOOD))["metadata"].tobytes())


def test_round_trip() -> None:
    model = artifact.from_bytes(GOOD, sha256=artifact.digest(GOOD))
    assert np.array_equal(model.idf, MODEL.idf)
    assert np.array_equal(model.weights, MODEL.weights)
    numbers = (
        "intercept",
        "slope",
        "offset",
        "threshold",
        "length_exponent",
        "length_pieces",
        "length_reach",
        "length_top",
        "extractor_version",
    )
    assert all(getattr(model, name) == getattr(MODEL, name) for name in numbers)
    assert artifact.to_bytes(model) == GOOD, "the same model, the same bytes"
    assert len(artifact.digest(GOOD)) == 64


@pytest.mark.parametrize(
    ("format", "older", "exponent"),
    [
        ("parapet model 1", {}, 1),
        ("parapet model 2", {"length_exponent": 0.6}, 0.6),
        ("parapet model 3", {"length_exponent": 0.6, "length_level": -2.5}, 0.6),
    ],
)
def test_long_texts_pay_in_full_to_a_model_of_an_older_format(
    format: str, older: dict[str, float], exponent: float
) -> None:
    known = {name: value for name, value in METADATA.items() if not name.startswith("length")}
    metadata = json.dumps({**known, **older, "format": format})
    data = npz(metadata=np.frombuffer(metadata.encode(), np.uint8))
    model = artifact.from_bytes(data, sha256=artifact.digest(data))
    assert (model.length_exponent, model.length_pieces) == (exponent, ALL_PIECES)
    assert (model.length_reach, model.length_top) == (0, BELOW_ALL)
    assert model.threshold == MODEL.threshold


def test_numpy_can_read_it_without_pickle() -> None:
    with np.load(io.BytesIO(GOOD), allow_pickle=False) as file:
        assert sorted(file.files) == ["idf", "metadata", "weights"]


def test_scores() -> None:
    texts = ["Hello world", "", "xyz"]
    counts = features.extract(texts)
    scores = artifact.score(MODEL, counts)
    raw = features.dot(counts, features.weigh(counts, MODEL.idf), MODEL.weights) - 0.1
    assert np.array_equal(scores, calibration.apply_sigmoid(raw, 1.7, -0.3))
    assert scores[1] == pytest.approx(1 / (1 + np.exp(1.7 * 0.1 + 0.3)))
    alone = [artifact.score(MODEL, features.extract([text]))[0] for text in texts]
    assert scores.tolist() == alone


def npz(compression: int = zipfile.ZIP_STORED, /, **changes: Any) -> bytes:
    """The good file with other members: arrays, bytes as they are, or None for none."""
    metadata = np.frombuffer(json.dumps(METADATA).encode(), np.uint8)
    members = {"idf": MODEL.idf, "weights": MODEL.weights, "metadata": metadata, **changes}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, value in members.items():
            if isinstance(value, bytes):
                archive.writestr(f"{name}.npy", value)
            elif value is not None:
                plain = io.BytesIO()
                np.save(plain, value)
                archive.writestr(f"{name}.npy", plain.getvalue())
    return buffer.getvalue()


def described(**changes: Any) -> bytes:
    text = json.dumps({**METADATA, **changes})
    return npz(metadata=np.frombuffer(text.encode(), np.uint8))


def with_value(array: np.ndarray, value: float) -> np.ndarray:
    changed = array.copy()
    changed[77] = value
    return changed


def header(text: str, body: bytes = b"") -> bytes:
    padded = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + body


def objects() -> np.ndarray:
    return np.array([{"a": 1}], dtype=object)


def doubled() -> bytes:
    buffer = io.BytesIO(GOOD)
    with zipfile.ZipFile(buffer, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("idf.npy", b"")
    return buffer.getvalue()


def lying() -> bytes:
    """Says that a member is 4 GB."""
    at = GOOD.rindex(b"PK\x01\x02")
    return GOOD[: at + 24] + b"\xfe\xff\xff\xff" + GOOD[at + 28 :]


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "damaged"),
    "pickle": (lambda: pickle.dumps({"weights": [1.0]}), "damaged"),
    "joblib-like": (lambda: b"\x80\x05\x95" + pickle.dumps(MODEL.weights)[3:], "damaged"),
    "text": (lambda: b"PK" + b"hello" * 100, "damaged"),
    "truncated": (lambda: GOOD[:-200], "damaged"),
    "damaged member": (lambda: GOOD[:5000] + b"\xff\xff\xff" + GOOD[5003:], "damaged"),
    "bare array": (lambda: GOOD[: 2**19], "damaged"),
    "extra array": (lambda: npz(more=np.zeros(3)), "expected arrays"),
    "missing array": (lambda: npz(weights=None), "expected arrays"),
    "doubled array": (doubled, "expected arrays"),
    "path": (lambda: npz(**{"idf": None, "../idf": MODEL.idf}), "expected arrays"),
    "zip bomb": (
        lambda: npz(zipfile.ZIP_DEFLATED, idf=bytes(artifact.MAXIMUM_BYTES + 1)),
        "unpacks to more",
    ),
    "lying size": (lying, "unpacks to more"),
    "compressed": (lambda: npz(zipfile.ZIP_DEFLATED), "compressed"),
    "object array": (lambda: npz(weights=pickled()), "type object"),
    "pickle inside": (lambda: npz(weights=pickle.dumps([1])), "cannot be read"),
    "wrong type": (lambda: npz(weights=MODEL.weights.astype(np.float64)), "type float64"),
    "big-endian": (lambda: npz(weights=MODEL.weights.astype(">f4")), "type >f4"),
    "wrong shape": (lambda: npz(weights=MODEL.weights[:-1]), "shape"),
    "two dimensions": (lambda: npz(idf=MODEL.idf.reshape(2, -1)), "shape"),
    "no dimension": (lambda: npz(metadata=np.uint8(3)), "shape"),
    "huge shape": (
        lambda: npz(idf=header(f"{{'descr':'<f4','fortran_order':False,'shape':({10**15},)}}")),
        "shape",
    ),
    "short body": (
        lambda: npz(idf=header("{'descr':'<f4','fortran_order':False,'shape':(131072,)}", b"12")),
        "shape",
    ),
    "nested header": (lambda: npz(idf=header("(" * 110)), "cannot be read"),
    "code in header": (lambda: npz(idf=header("__import__('os').abort()")), "cannot be read"),
    "NaN weight": (lambda: npz(weights=with_value(MODEL.weights, np.nan)), "finite"),
    "infinite IDF": (lambda: npz(idf=with_value(MODEL.idf, np.inf)), "finite"),
    "future extractor": (lambda: described(extractor_version=2), "extractor version 2"),
    "extractor version True": (lambda: described(extractor_version=True), "extractor version"),
    "other format": (lambda: described(format="parapet model 5"), "another format"),
    "extra metadata": (lambda: described(more=1), "expected names"),
    "NaN slope": (lambda: described(slope=float("nan")), "finite"),
    "text slope": (lambda: described(slope="1"), "not a number"),
    "threshold of 0": (lambda: described(threshold=0.0), "threshold"),
    "threshold above 1": (lambda: described(threshold=1.5), "threshold"),
    "exponent of another sign": (lambda: described(length_exponent=-0.1), "length exponent"),
    "no pieces": (lambda: described(length_pieces=0.0), "number of pieces"),
    "a reach below 0": (lambda: described(length_reach=-1.0), "reach"),
    "no exponent": (lambda: described(length_exponent=None), "not a number"),
    "metadata no object": (lambda: npz(metadata=np.frombuffer(b"[]", np.uint8)), "expected names"),
    "metadata no JSON": (lambda: npz(metadata=np.frombuffer(b"\xff{", np.uint8)), "not JSON"),
    "metadata too long": (lambda: npz(metadata=np.zeros(5000, np.uint8)), "shape"),
}


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, objects(), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize("name", BAD)
def test_refused(name: str) -> None:
    make, reason = BAD[name]
    data = make()
    with pytest.raises(ArtifactRefused, match=reason):
        artifact.from_bytes(data, sha256=artifact.digest(data))


def test_wrong_hash_is_refused_unopened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZipFile", None)
    for sha256 in (artifact.digest(GOOD + b"\0"), "", "é"):
        with pytest.raises(ArtifactRefused, match="SHA-256"):
            artifact.from_bytes(GOOD, sha256=sha256)


def test_too_large_is_refused_unhashed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifact, "MAXIMUM_BYTES", len(GOOD) - 1)
    with pytest.raises(ArtifactRefused, match="larger"):
        artifact.from_bytes(GOOD, sha256=artifact.digest(GOOD))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"slope": float("nan")}, "JSON compliant"),
        ({"threshold": 0.0}, "threshold"),
        ({"extractor_version": 9}, "extractor version"),
        ({"weights": MODEL.weights[:5]}, "shape"),
        ({"idf": MODEL.idf.astype(np.float64)}, "type float64"),
    ],
)
def test_a_model_that_could_not_be_read_is_not_written(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        artifact.to_bytes(replace(MODEL, **change))
