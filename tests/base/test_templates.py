"""Templates that no other test happens to show still have to be right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.template.loader import get_template

ROOT = Path(__file__).resolve().parent.parent.parent / "templates"
UNESCAPED = re.compile(
    r"\|\s*safe(seq)?\b|autoescape\s+off|mark_safe|SafeString|SafeData|html_safe"
)
NAMES = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.html"))


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_read(name: str) -> None:
    get_template(name)


def test_everything_that_is_shown_is_escaped() -> None:
    """Without exception, so that nobody has to judge which texts could be hostile."""
    sources = [*ROOT.rglob("*.html"), *ROOT.parent.glob("apps/**/*.py")]
    assert len(sources) > len(NAMES)
    assert [path.name for path in sources if UNESCAPED.search(path.read_text())] == []
