"""What the tests of all kinds share: building a check, and looking at a text with it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import strategies as st

from apps.base.problems import Problem
from apps.guardrails.checks import KINDS
from apps.guardrails.checks.interface import Evaluate, Found, Subject, validate

LARGEST = 64 * 1024

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
"""Any Unicode that the gate lets in, and NUL."""


def built(kind: str, **settings: Any) -> Evaluate:
    one = KINDS[kind]
    return one.build(validate(one, settings))


def refused(kind: str, **settings: Any) -> str:
    """The setting that is refused, as a pointer."""
    with pytest.raises(Problem) as caught:
        built(kind, **settings)
    assert caught.value.errors[0].message
    return caught.value.errors[0].pointer


def marked(evaluate: Evaluate, text: str) -> list[str]:
    """The parts of a text that are found."""
    return [text[start:end] for start, end in evaluate(Subject(text)).spans]


def filled(text: str) -> str:
    """The largest text that repeats it."""
    return shortened(text * (LARGEST // len(text.encode()) + 1))


def shortened(text: str) -> str:
    """So much of it as the API takes at once."""
    return text.encode()[:LARGEST].decode(errors="ignore")


def seconds(evaluate: Evaluate, text: str) -> float:
    """Of this thread's own time, the shortest of three looks: others only ever make it longer."""
    taken = []
    for _ in range(3):
        started = time.thread_time()
        evaluate(Subject(text))
        taken.append(time.thread_time() - started)
    return min(taken)


def assert_well_formed(found: Found, text: str) -> None:
    """Spans lie inside the text, in order, and do not overlap."""
    assert 0 <= found.score <= 1
    before = 0
    for start, end in found.spans:
        assert before <= start <= end <= len(text)
        before = end
