"""Data of a workspace that nobody reads from the database alone."""

from __future__ import annotations

import base64
import hmac
import json
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet
from django.conf import settings
from rest_framework.utils.encoders import JSONEncoder

from apps.accounts.models import Workspace


def seal(workspace: Workspace, purpose: str, data: Any) -> bytes:
    """JSON-able data as AES, with a key made of the host's, the workspace's and the purpose."""
    written = json.dumps(data, cls=JSONEncoder)  # as answers are, so that they come back as such
    return _cipher(bytes(workspace.split_key), purpose).encrypt(written.encode())


def unseal(workspace: Workspace, purpose: str, sealed: bytes) -> Any:
    """What `seal` was given."""
    return json.loads(_cipher(bytes(workspace.split_key), purpose).decrypt(sealed))


@lru_cache(maxsize=256)
def _cipher(key: bytes, purpose: str) -> Fernet:
    made = hmac.digest(settings.ARTIFACT_KEY.encode(), purpose.encode() + key, "sha256")
    return Fernet(base64.urlsafe_b64encode(made))
