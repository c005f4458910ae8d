"""Hashes that fix what is the same text, which texts are near twins, and who lies on which side.

No Django. All are keyed or content hashes; none depends on the machine or the Python process.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Iterable

_FOLDED_AWAY = re.compile(r"[\W\d_]+")


def content_hash(prompt: str, output: str, context: str) -> bytes:
    """SHA-256 over prompt, output and context, each with its length in front."""
    return hashlib.sha256(framed([prompt, output, context])).digest()


def framed(texts: Iterable[str]) -> bytes:
    """The texts one after the other, each with its length in front: no two lists look alike."""
    parts: list[bytes] = []
    for text in texts:
        data = text.encode()
        parts += (len(data).to_bytes(8, "little"), data)
    return b"".join(parts)


def near_twin_key(output: str) -> str:
    """The output with case, white space, digits and punctuation folded away.

    A text of nothing else (numbers, signs) is its own key, so that "42" and "17" stay apart.
    """
    folded = _FOLDED_AWAY.sub("", unicodedata.normalize("NFKC", output).casefold())
    return folded or output


def group_hash(key: bytes, policy: str, group: str, output: str) -> bytes:
    """16 bytes that name a group of a policy: the given `group`, else the output's near-twin key.

    The policy goes in by its slug, which never changes, so that the same key splits the same texts
    the same way on every installation.
    """
    name = f"given\0{group}" if group else f"twins\0{near_twin_key(output)}"
    return hmac.digest(key, f"{policy}\0{name}".encode(), "sha256")[:16]


def permanent_numbers(key: bytes, group: bytes, content: bytes) -> tuple[float, float, float]:
    """Three independent numbers in [0, 1): the group's side, the group's order, the item's own."""
    of_group = hmac.digest(key, b"group" + group, "sha256")
    of_item = hmac.digest(key, b"item" + group + content, "sha256")
    return _unit(of_group[:8]), _unit(of_group[8:16]), _unit(of_item[:8])


def _unit(data: bytes) -> float:
    return (int.from_bytes(data, "little") >> 11) / 2**53
