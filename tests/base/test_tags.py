"""Filters and tags that put what the code knows into people's words."""

from __future__ import annotations

import pytest

from apps.base.templatetags.parapet import place


@pytest.mark.parametrize(
    ("pointer", "words"),
    [
        ("/rules/1/key", "rule 2, key"),
        ("/checks/4/settings/fewest", "check 5, fewest"),
        ("/rules/0/examples/2/text", "rule 1, example 3, text"),
        ("/gate/least", "gate, least"),
        ("/patterns_of/9", "patterns of 10"),
        ("/3", "number 4"),
        ("/", ""),
        ("", ""),
        ("/?", ""),
    ],
)
def test_a_pointer_in_words(pointer: str, words: str) -> None:
    assert place(pointer) == words
