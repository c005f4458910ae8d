"""Templates that no other test happens to show still have to be right."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.template.loader import get_template

ROOT = Path(__file__).resolve().parent.parent.parent / "templates"
NAMES = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.html"))


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_read(name: str) -> None:
    get_template(name)
