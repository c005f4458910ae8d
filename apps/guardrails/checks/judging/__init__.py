"""A judge: a model on another machine that is asked whether a text breaks guidelines."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Collection, Mapping
from typing import Any

from apps.guardrails.checks.interface import Evaluate, Field, Found, Kind, Subject, Usage, wrong
from apps.guardrails.checks.judging.addresses import (
    URLS,
    address_allowed,
    judge_urls,
    keys_of,
    private_allowed,
)
from apps.guardrails.checks.judging.asking import Answers, Failure, Line, Meter
from apps.guardrails.checks.judging.families import FAMILIES, NO_VERDICT, Asked, Family

KEY = "PARAPET_JUDGE_KEY_"
_KEY_NAME = re.compile(r"[A-Z0-9_]{1,60}")


def build(settings: Mapping[str, Any]) -> Evaluate:
    url, model, name = (settings[field].strip() for field in ("url", "model", "family"))
    allowed = judge_urls()
    if why_not := address_allowed(url, allowed):
        raise wrong("url", why_not)
    if not model:
        raise wrong("model", "Give the name of the model.")
    family = FAMILIES[name]
    guidelines = _guidelines(settings["guidelines"], family)
    seconds, threshold = settings["timeout_ms"] / 1000, settings["threshold"]
    key = _api_key(settings["api_key_name"].strip(), keys_of(url, allowed))
    line = Line(url, private=private_allowed(url, allowed), api_key=key)
    request = {"model": model, "max_tokens": family.tokens, **family.extra}
    rounds = [(one,) for one in guidelines] if family.one_at_a_time else [guidelines]
    answers = Answers()

    def evaluate(subject: Subject) -> Found:
        asked = (url, model, name, *guidelines, subject.role, subject.text)
        held = answers.get(at := answers.key(asked))
        if held is not None:
            return held._replace(usage=Usage(remembered=1))
        said = judged(subject)
        if not (said.failed or said.partly):
            answers.put(at, said)
        return said

    def judged(subject: Subject) -> Found:
        """What the judge says, if there is a free place to ask from."""
        until = time.monotonic() + seconds
        if not line.slots.acquire(blocking=False):
            return Found(0.0, failed="judge_busy")
        try:
            return highest(subject, until)
        finally:
            line.slots.release()

    def highest(subject: Subject, until: float) -> Found:
        """The highest score of all rounds. One that fails spoils it, unless another has found."""
        best, failed, meter = Found(0.0), "", Meter()
        for some in rounds:
            asked = Asked(subject, some, secrets.token_hex(8))
            try:
                answer = line.ask(
                    family.messages(asked),
                    request=request,
                    first=family.first_token,
                    until=until,
                    meter=meter,
                )
                said = family.read(asked, answer.text, answer.first)
            except Failure as failure:
                said = Found(0.0, failed=failure.code)
            if said.failed:
                failed = failed or said.failed
            elif said.score > best.score:
                best = said
            if said.failed not in ("", NO_VERDICT.failed):
                break
        if failed and best.score < threshold:
            return Found(0.0, failed=failed, usage=meter.usage)
        return best._replace(partly=failed, usage=meter.usage)

    return evaluate


def _guidelines(lines: list[str], family: Family) -> tuple[str, ...]:
    given = tuple(line.strip() for line in lines if line.strip())
    if len(given) > family.most:
        raise wrong("guidelines", f"At most {family.most} guidelines for this family.")
    if not (given or family.own):
        raise wrong("guidelines", "Give the rules to judge by; this family has none of its own.")
    return given or family.own


def _api_key(name: str, here: Collection[str]) -> str:
    """The key of that name in the environment; a key itself is never a setting.

    Args:
        here: the names of those that the operator lets go to this address.
    """
    if not name:
        return ""
    name = name.removeprefix(KEY)
    if name not in here:
        raise wrong(
            "api_key_name",
            f"Whoever runs this host has to list it with this address: {URLS}='URL key=NAME'.",
        )
    key = os.environ.get(KEY + name, "").strip() if _KEY_NAME.fullmatch(name) else ""
    if not key or not key.isascii() or not key.isprintable():
        raise wrong("api_key_name", f"The host's environment has no usable {KEY}<NAME> for this.")
    return key


KIND = Kind(
    name="judge",
    title="Remote judge",
    about="Asks a model on another machine, by an OpenAI-compatible API, whether a text breaks "
    "guidelines. The text leaves this host.",
    fields=(
        Field(
            "url",
            "text",
            "Address",
            "Of the API, up to /v1. Whoever runs this host lists those that may be asked.",
        ),
        Field("model", "text", "Model", "Its name, as its server knows it."),
        Field(
            "family",
            "choice",
            "Family",
            "What the model was trained on. Parapet writes its whole prompt, so let its server add "
            "none of its own. policy: any model that can answer in JSON.",
            choices=tuple(FAMILIES),
        ),
        Field(
            "guidelines",
            "lines",
            "Guidelines",
            "Categories or rules to judge by, one a line. None: the family's own.",
            default=[],
        ),
        Field("threshold", "number", "Threshold", "From this score on.", 0.5, low=0, high=1),
        Field(
            "timeout_ms",
            "whole",
            "Time limit in milliseconds",
            "For all that one text takes; after it the check has failed.",
            2_000,
            low=50,
            high=10_000,
        ),
        Field(
            "api_key_name",
            "text",
            "Name of the key",
            f"NAME of {KEY}NAME in the environment of the host. Empty: none is sent.",
            "",
        ),
    ),
    build=build,
    remote=True,
)
