"""A served model as bytes: plain arrays and JSON, named by their hash (safety.md 3.8).

The file is what `numpy.savez` would write, with fixed dates and without compression, so that the
same model is the same bytes. Reading trusts nothing: hash first, sizes before opening, no pickle,
and the exact names, types and shapes. NumPy alone: the web process reads these.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import math
import struct
import tokenize
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from apps.guardrails.learning import calibration, features

MAXIMUM_BYTES = 200 * 2**20
"""Cap on a model's file, and on what it says it unpacks to."""

_FORMAT = "parapet model 4"
_NUMBERS = (
    "intercept",
    "slope",
    "offset",
    "threshold",
    "length_exponent",
    "length_pieces",
    "length_reach",
    "length_top",
)
_METADATA_KEYS = {"format", "extractor_version", *_NUMBERS}
ALL_PIECES = 1e9
"""More pieces than any text has."""
BELOW_ALL = -1e9
"""Log odds that nothing lies below."""
# what older formats had not: long texts pay in full, by all their pieces
_IN_FULL = {"length_pieces": ALL_PIECES, "length_reach": 0.0, "length_top": BELOW_ALL}
_OLDER: dict[str, dict[str, Any]] = {
    "parapet model 1": {"length_exponent": 1.0, **_IN_FULL},
    "parapet model 2": _IN_FULL,
    "parapet model 3": _IN_FULL,
}
_OBSOLETE = "length_level"
_MEMBERS = ("idf.npy", "weights.npy", "metadata.npy")
_MAXIMUM_METADATA = 4096
_OLDEST_DATE = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
# NumPy parses headers as Python literals, and as tokens if that fails.
_HEADER_ERRORS = (
    ValueError,
    TypeError,
    SyntaxError,
    tokenize.TokenError,
    RecursionError,
    MemoryError,
    EOFError,
    OSError,
)


@dataclass(frozen=True, eq=False)
class Model:
    """All that is needed to judge counts.

    idf, weights: float32 (COLUMNS).
    intercept: of the raw score.
    slope, offset: of the calibration; the slope is positive for a model that may be served.
    threshold: in (0, 1]; a text is flagged when c >= threshold, and 1 flags nothing.
    length_exponent: in [0, 1]; the odds of a long text's n pieces are divided by n to this power.
    length_pieces: at least 2; no text's n is held to be more than so many for each 10,000 code
        points. ALL_PIECES: all count.
    length_reach: at least 0; by how many of its own spreads the pieces of a good text of 10,000
        code points together lie above their median.
    length_top: the log odds that the highest of good single texts have. What a good text with such
        pieces would not lie above it is not held against a text. BELOW_ALL: all pay in full.
    extractor_version: features.EXTRACTOR_VERSION when it was trained.
    """

    idf: NDArray[np.float32]
    weights: NDArray[np.float32]
    intercept: float
    slope: float
    offset: float
    threshold: float
    length_exponent: float = 1.0
    length_pieces: float = ALL_PIECES
    length_reach: float = 0.0
    length_top: float = BELOW_ALL
    extractor_version: int = features.EXTRACTOR_VERSION


class ArtifactRefused(ValueError):
    """These bytes are not a model that this release may serve; the message says why."""


def score(model: Model, counts: features.Counts) -> NDArray[np.float64]:
    """c of each row, strictly between 0 and 1; (rows). The same whatever other rows there are."""
    data = features.weigh(counts, model.idf)
    raw = features.dot(counts, data, model.weights) + model.intercept
    return calibration.apply_sigmoid(raw, model.slope, model.offset)


def digest(data: bytes) -> str:
    """SHA-256, 64 hexadecimal digits: the name of a model."""
    return hashlib.sha256(data).hexdigest()


def to_bytes(model: Model) -> bytes:
    """The model's file; the same model gives the same bytes. Raises ValueError if unservable."""
    metadata = {
        "format": _FORMAT,
        "extractor_version": model.extractor_version,
        **{name: float(getattr(model, name)) for name in _NUMBERS},
    }
    text = json.dumps(metadata, sort_keys=True, separators=(",", ":"), allow_nan=False)
    arrays: tuple[NDArray[Any], ...] = (
        model.idf,
        model.weights,
        np.frombuffer(text.encode(), np.uint8),
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in zip(_MEMBERS, arrays, strict=True):
            member = zipfile.ZipInfo(name, _OLDEST_DATE)
            member.create_system = _UNIX
            archive.writestr(member, _npy(array))
    data = buffer.getvalue()
    from_bytes(data, sha256=digest(data))
    return data


def _npy(array: NDArray[Any]) -> bytes:
    """One array in the .npy format, version 1.0, little-endian."""
    buffer = io.BytesIO()
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    npy.write_array(buffer, plain, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def from_bytes(data: bytes, *, sha256: str) -> Model:
    """The model in the file.

    Args:
        sha256: the hash that the database has for it, hexadecimal.

    Raises ArtifactRefused on any mismatch; bytes that are not the recorded ones are hashed and
    not looked at.
    """
    if len(data) > MAXIMUM_BYTES:
        raise ArtifactRefused("The model's file is larger than 200 MB.")
    if not hmac.compare_digest(digest(data).encode(), sha256.encode()):
        raise ArtifactRefused("The model's file is not the one that was recorded (SHA-256).")
    members = _members(data)
    metadata = _metadata(_array(members["metadata.npy"], np.dtype(np.uint8), None))
    single = np.dtype("<f4")
    return Model(
        idf=_array(members["idf.npy"], single, features.COLUMNS),
        weights=_array(members["weights.npy"], single, features.COLUMNS),
        **metadata,
    )


def _members(data: bytes) -> dict[str, bytes]:
    """The archive's members, after their names, kinds and sizes."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            if sorted(info.filename for info in infos) != sorted(_MEMBERS):
                raise ArtifactRefused("The model's file does not hold the expected arrays.")
            if sum(info.file_size for info in infos) > MAXIMUM_BYTES:
                raise ArtifactRefused("The model's file unpacks to more than 200 MB.")
            if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
                raise ArtifactRefused("The model's file is compressed, which Parapet never does.")
            return {info.filename: archive.read(info) for info in infos}
    except ArtifactRefused:
        raise
    except (zipfile.BadZipFile, struct.error, EOFError, OSError, ValueError, RuntimeError) as error:
        raise ArtifactRefused("The model's file is damaged, or no model.") from error


def _array(data: bytes, dtype: np.dtype[Any], length: int | None) -> NDArray[Any]:
    """A one-dimensional array of this type and length, all finite.

    The header is compared before the array is read: NumPy allocates what a header asks for.
    """
    try:
        stream = io.BytesIO(data)
        if npy.read_magic(stream) != (1, 0):
            raise ArtifactRefused("An array of the model is of an unexpected format version.")
        shape, _, found = npy.read_array_header_1_0(stream)
        if found != dtype or found.hasobject:
            raise ArtifactRefused(f"An array of the model is of type {found}, not {dtype}.")
        if length is None:
            length = min(shape[0] if len(shape) == 1 else -1, _MAXIMUM_METADATA)
        if shape != (length,) or len(data) - stream.tell() != length * dtype.itemsize:
            raise ArtifactRefused(f"An array of the model is of shape {shape}.")
        array: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    except ArtifactRefused:
        raise
    except _HEADER_ERRORS as error:
        raise ArtifactRefused("An array of the model cannot be read.") from error
    if not np.isfinite(array).all():
        raise ArtifactRefused("An array of the model has values that are not finite.")
    return array


def _metadata(array: NDArray[np.uint8]) -> dict[str, Any]:
    """The numbers of the model, checked, by the names of Model's fields."""
    try:
        metadata = json.loads(array.tobytes())
    except (ValueError, RecursionError) as error:
        raise ArtifactRefused("The model's metadata is not JSON.") from error
    if isinstance(metadata, dict) and str(metadata.get("format")) in _OLDER:
        metadata = {**_OLDER[metadata["format"]], **metadata, "format": _FORMAT}
        metadata.pop(_OBSOLETE, None)
    if not isinstance(metadata, dict) or metadata.keys() != _METADATA_KEYS:
        raise ArtifactRefused("The model's metadata has not the expected names.")
    if metadata.pop("format") != _FORMAT:
        raise ArtifactRefused("The model is of another format.")
    version = metadata["extractor_version"]
    if version != features.EXTRACTOR_VERSION or type(version) is not int:
        raise ArtifactRefused(
            f"The model was trained with extractor version {version}; "
            f"this release has {features.EXTRACTOR_VERSION}."
        )
    if not all(type(metadata[name]) is float for name in _NUMBERS):
        raise ArtifactRefused("A number of the model is not a number.")
    if not all(math.isfinite(metadata[name]) for name in _NUMBERS):
        raise ArtifactRefused("A number of the model is not finite.")
    if not 0 < metadata["threshold"] <= 1:
        raise ArtifactRefused("The model's threshold is not between 0 and 1.")
    if not 0 <= metadata["length_exponent"] <= 1:
        raise ArtifactRefused("The model's length exponent is not between 0 and 1.")
    if metadata["length_pieces"] < 2:
        raise ArtifactRefused("The model's number of pieces is not 2 or more.")
    if metadata["length_reach"] < 0:
        raise ArtifactRefused("The model's reach of long texts is below 0.")
    return metadata
