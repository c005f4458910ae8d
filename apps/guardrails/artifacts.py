"""Model artifacts on disk: named by their hash, signed, refused when they do not match."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from django.conf import settings
from numpy.typing import NDArray

from apps.guardrails.learning import artifact, features
from apps.guardrails.models import ModelVersion


def keep(model: artifact.Model) -> tuple[str, str, int]:
    """Write the artifact (temporary file, fsync, rename); returns its hash, signature and size.

    A damaged file of that name is replaced, so that a retrain mends it.
    """
    data = artifact.to_bytes(model)
    sha256 = artifact.digest(data)
    path = path_of(sha256)
    if not _lies_there(sha256):
        draft = path.with_suffix(f".{os.getpid()}.draft")
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    return sha256, sign(sha256), len(data)


def load(version: ModelVersion) -> artifact.Model:
    """The arrays of a model version, verified; kept in memory for the next call.

    Raises:
        artifact.ArtifactRefused: the file is missing or is not what was trained.
    """
    return _load(version.sha256, version.signature)


def is_whole(version: ModelVersion) -> bool:
    """Whether it can be loaded, whatever is kept in memory: as it was trained, and signed here."""
    return _is_ours(version.sha256, version.signature) and _lies_there(version.sha256)


def _is_ours(sha256: str, signature: str) -> bool:
    return hmac.compare_digest(signature, sign(sha256))


def _lies_there(sha256: str) -> bool:
    try:
        return artifact.digest(path_of(sha256).read_bytes()) == sha256
    except OSError:
        return False


@lru_cache(maxsize=64)
def _load(sha256: str, signature: str) -> artifact.Model:
    if not _is_ours(sha256, signature):
        raise artifact.ArtifactRefused("The model's signature is not from this installation.")
    try:
        data = path_of(sha256).read_bytes()
    except OSError:
        raise artifact.ArtifactRefused("The model's file is missing.") from None
    return artifact.from_bytes(data, sha256=sha256)


def score_texts(version: ModelVersion, texts: Sequence[str]) -> NDArray[np.float64]:
    """The calibrated probability c in (0, 1) that each text violates the policy."""
    return artifact.score(load(version), features.extract(list(texts)))


def sign(sha256: str) -> str:
    return hmac.new(settings.ARTIFACT_KEY.encode(), sha256.encode(), hashlib.sha256).hexdigest()


def path_of(sha256: str) -> Path:
    return Path(settings.ARTIFACT_DIR) / f"{sha256}.npz"
