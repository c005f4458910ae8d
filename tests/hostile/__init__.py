"""Hostile texts: the project's own, and those of the shared folder where it is there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OWN = Path(__file__).parent / "texts.jsonl"
ROOT = Path(__file__).resolve().parent.parent.parent
SHARED = ROOT / ".." / "shared" / "hostile" / "hostile_texts.jsonl"
SHARED_PATTERNS = ROOT / ".." / "shared" / "hostile" / "redos_regexes.jsonl"
SHARED_FILES = ROOT / ".." / "shared" / "hostile" / "import_files"


@dataclass(frozen=True)
class Hostile:
    """One text, and what is intended to happen to it."""

    id: str
    text: str
    expect: str

    @property
    def must_be_refused(self) -> bool:
        """Nothing may keep it: NUL and lone surrogates cannot be stored as they came."""
        return "\x00" in self.text or any("\ud800" <= c <= "\udfff" for c in self.text)

    @property
    def is_markup(self) -> bool:
        """Shown unescaped, its literal text would stand in the page."""
        return "<" in self.text or '"' in self.text or "'" in self.text


def texts() -> list[Hostile]:
    """Every hostile text there is."""
    return [*_read(OWN), *(_read(SHARED) if SHARED.exists() else [])]


def attacks() -> list[dict[str, Any]]:
    """Patterns that hang others, each with its attack; none where the shared folder is not."""
    if not SHARED_PATTERNS.exists():
        return []
    return [json.loads(line) for line in SHARED_PATTERNS.read_text().splitlines()]


def counts() -> str:
    """How many texts came from where, for the test output."""
    shared = len(_read(SHARED)) if SHARED.exists() else 0
    return f"{len(_read(OWN))} of tests/hostile/texts.jsonl, {shared} of ../shared/hostile"


def _read(path: Path) -> list[Hostile]:
    return [_hostile(json.loads(line)) for line in path.read_text().splitlines()]


def _hostile(row: dict[str, Any]) -> Hostile:
    text = row["text"] if "text" in row else "".join(unit * n for unit, n in row["repeat"])
    return Hostile(row["id"], text, row["expect"])
