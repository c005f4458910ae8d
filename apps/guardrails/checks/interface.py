"""What every kind of check is: its settings described as fields, and how it looks at a text.

A kind is one file. It declares its fields (which make its form, its API and the first validation)
and a `build` that turns valid settings into a function from a subject to what was found. No
Django, and no state: a built check may be called from several threads at once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from apps.base.gate import check_text, parse_json
from apps.base.problems import FieldError, Problem
from apps.guardrails.checks.normalising import Form, folded, plain

Span = tuple[int, int]

MOST_LINES = 1_000
LONGEST_LINE = 1_000
LONGEST_JSON = 50_000
_MOST_SPANS = 200


class Usage(NamedTuple):
    """What asking other machines came to.

    Args:
        remembered: answers that needed no call.
        milliseconds: that all calls took together.
    """

    calls: int = 0
    remembered: int = 0
    milliseconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def plus(self, other: Usage) -> Usage:
        if other is UNUSED:
            return self
        return Usage(
            self.calls + other.calls,
            self.remembered + other.remembered,
            self.milliseconds + other.milliseconds,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )


UNUSED = Usage()


class Found(NamedTuple):
    """What a check says of a text.

    Args:
        score: in [0, 1]; what it means against the check's threshold is the check's own.
        spans: (start, end) in code points of the text as received, in order, not overlapping.
        reason: a short sentence for people. Never words of the judged text.
        failed: why it could not say ("" when it could); the score is then meaningless.
        partly: what failed of it although it found something.
        usage: of a remote check.
    """

    score: float
    spans: tuple[Span, ...] = ()
    reason: str = ""
    failed: str = ""
    partly: str = ""
    usage: Usage = UNUSED


NOTHING = Found(0.0)


class Call(NamedTuple):
    """A call of a tool; arguments that are a text could not be read as JSON."""

    tool: str
    arguments: Any

    @classmethod
    def read(cls, tool: str, arguments: Any) -> Call:
        """Arguments as they are, or as JSON inside a string, as OpenAI has them.

        A string that is no strict JSON stays one: its tool may read it otherwise than we would.
        """
        if not isinstance(arguments, str):
            return cls(tool, arguments)
        try:
            return cls(tool, parse_json(arguments.encode()) if arguments.strip() else {})
        except (Problem, UnicodeError):
            return cls(tool, arguments)


PASSAGE = "passage"
_WRITTEN_BY = {"output": "assistant", "retrieval": PASSAGE}


@dataclass(frozen=True, eq=False)
class Subject:
    """One text that is judged, and what is known about it.

    Args:
        role: of a message, e.g. user; PASSAGE of what was retrieved; "" where nobody says.
        source: of a retrieved passage, e.g. its address; "" elsewhere.
        calls: of tools: a tool call alone, whose `text` begins with it, or those of a message.
        beside: how many code points of `text` are said beside calls; they stand before them.
        scores: the classifier's, by the policy's slug, worked out for all policies together.
    """

    text: str
    role: str = ""
    source: str = ""
    calls: tuple[Call, ...] = ()
    beside: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def facts(self) -> dict[str, Any]:
        """What is known beside the text, JSON-able; `Subject.known` makes the same of it again."""
        told = {
            "role": self.role,
            "source": self.source,
            "calls": [[*call] for call in self.calls],
            "beside": self.beside,
        }
        return {name: value for name, value in told.items() if value}

    @classmethod
    def known(cls, text: str, facts: Mapping[str, Any]) -> Subject:
        """A text with its facts."""
        calls = tuple(Call(*call) for call in facts.get("calls", ()))
        return cls(text, **{**facts, "calls": calls})

    def at(self, stage: str) -> Subject:
        """The same with who wrote it, where nobody says and its stage tells."""
        role = _WRITTEN_BY.get(stage, "")
        return replace(self, role=role) if role and not (self.role or self.calls) else self

    @cached_property
    def encoded(self) -> bytes:
        return self.text.encode()

    @cached_property
    def plain(self) -> Form | None:
        """Compatibility forms and invisible characters resolved; None when that changes nothing."""
        return plain(self.text)

    @cached_property
    def folded(self) -> Form | None:
        """The same with case folded; None when only ASCII case would differ."""
        return folded(self.text)


Evaluate = Callable[[Subject], Found]


@dataclass(frozen=True)
class Field:
    """A setting of a kind.

    Args:
        kind: text, lines (a list of texts), number, whole (a whole number), yes_no, choice,
            choices (several), json.
        default: what it is when not given; a field whose default is None must be given.
    """

    name: str
    kind: str
    label: str
    help: str = ""
    default: Any = None
    choices: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True)
class Kind:
    """A kind of check.

    Args:
        about: one sentence for the editor.
        build: from valid settings to the function that looks; raises Problem (see `wrong`).
        threshold: the score from which it counts as found, unless its settings say otherwise.
        remote: it asks another machine, so it runs beside the others and has its own deadline.
        needs_call: it looks at calls of tools, and at nothing else.
        patterns: the regular expressions within settings that are right.
    """

    name: str
    title: str
    about: str
    fields: tuple[Field, ...]
    build: Callable[[Mapping[str, Any]], Evaluate]
    threshold: float = 0.5
    remote: bool = False
    needs_call: bool = False
    patterns: Callable[[Mapping[str, Any]], Sequence[str]] = lambda settings: ()


def wrong(name: str, message: str) -> Problem:
    """The refusal of one setting, to be raised by a kind's `build`."""
    return Problem("A setting is wrong.", errors=[FieldError(f"/{name}", message)])


def found(spans: Sequence[Span], reason: str, *, score: float = 1.0) -> Found:
    """What was found at these places; nothing when there are none."""
    return Found(score, merged(spans), reason) if spans else NOTHING


def merged(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Spans in order, those that touch or overlap as one.

    Of very many the last one reaches to the end of all: what is cut out must not be too little.
    """
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    if len(joined) > _MOST_SPANS:
        joined[_MOST_SPANS - 1 :] = [(joined[_MOST_SPANS - 1][0], joined[-1][1])]
    return tuple(joined)


def validate(kind: Kind, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with their defaults, each of its field's kind and range.

    Raises:
        Problem: with a pointer to every wrong setting.
    """
    errors = []
    known = {one.name for one in kind.fields}
    for name in sorted(set(settings) - known):
        listed = ", ".join(sorted(known)) or "none"
        errors.append(FieldError(f"/{name[:60]}", f"Unknown; known are: {listed}."))
    values: dict[str, Any] = {}
    for one in kind.fields:
        value = settings.get(one.name, one.default)
        message = "Give a value." if value is None else _problem_of(one, value)
        if message:
            errors.append(FieldError(f"/{one.name}", message))
        elif one.kind == "choices":  # a set, in one order
            value = [choice for choice in one.choices if choice in value]
        values[one.name] = value
    if errors:
        raise Problem("Some settings are wrong.", errors=errors)
    return values


def _problem_of(one: Field, value: Any) -> str:
    """What is wrong with a value of this field; "" when nothing is."""
    if one.kind == "yes_no":
        return "" if isinstance(value, bool) else "Say true or false."
    if one.kind in ("number", "whole"):
        return _problem_of_number(one, value)
    if one.kind == "choice":
        return "" if value in one.choices else f"Choose one of: {', '.join(one.choices)}."
    if one.kind == "choices":
        chosen = value if isinstance(value, list) else [None]
        right = all(item in one.choices for item in chosen)
        return "" if right else f"Choose from: {', '.join(one.choices)}."
    if one.kind == "lines":
        return _problem_of_lines(value)
    if one.kind == "json":
        long = len(json.dumps(value)) > LONGEST_JSON
        return f"At most {LONGEST_JSON:,} characters." if long else ""
    return _problem_of_text(value)


def _problem_of_number(one: Field, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(
        value, int if one.kind == "whole" else int | float
    ):
        return "Give a whole number." if one.kind == "whole" else "Give a number."
    if not one.low <= value <= one.high:
        return f"Between {one.low:,} and {one.high:,}."
    return ""


def _problem_of_lines(value: Any) -> str:
    if not isinstance(value, list):
        return "Give a list of texts."
    if len(value) > MOST_LINES:
        return f"At most {MOST_LINES:,} lines."
    return next((message for item in value if (message := _problem_of_text(item))), "")


def _problem_of_text(value: Any) -> str:
    if not isinstance(value, str):
        return "Give a text."
    if len(value) > LONGEST_LINE:
        return f"At most {LONGEST_LINE:,} characters a line."
    try:
        check_text(value)
    except Problem as problem:
        return problem.detail
    return ""
