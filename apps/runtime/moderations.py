"""POST /v1/moderations, as OpenAI's clients speak it (base_url=".../v1", api_key="gk_...").

Categories are OpenAI's thirteen names, filled by the policies that stand for them (the highest
score wins), and one entry a policy by its slug.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.base.invisible import says_nothing
from apps.base.problems import FieldError, Problem
from apps.base.schema import sent
from apps.policies.taxonomies import BUILT_IN, translate
from apps.runtime.checking import STAGE, Budget, Checked, check_with
from apps.runtime.endpoint import CheckEndpoint
from apps.runtime.judgement import stands
from apps.runtime.judging import Bundle
from apps.runtime.serializers import why_not_finished

NAMES = tuple(category.code for category in BUILT_IN["openai"].categories)
_STAGES = {
    "parapet": {"input", "output"},
    "parapet-input": {"input"},
    "parapet-output": {"output"},
}
MOST_INPUTS = 256


class ModerationIn(serializers.Serializer):
    input = serializers.JSONField(
        help_text="A text, a list of texts, or a list of {type: text, text}."
    )
    model = serializers.CharField(
        required=False,
        default="parapet",
        help_text=f"One of: {', '.join(_STAGES)}; names of OpenAI's models mean parapet.",
    )


class ModerationResultShape(serializers.Serializer):
    flagged = serializers.BooleanField()
    decision_id = serializers.UUIDField()
    degraded_by = serializers.ListField(child=serializers.CharField())
    categories = serializers.DictField(child=serializers.BooleanField())
    category_scores = serializers.DictField(child=serializers.FloatField())
    category_applied_input_types = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField())
    )


class ModerationShape(serializers.Serializer):
    id = serializers.CharField()
    model = serializers.CharField()
    results = ModerationResultShape(many=True)


class Moderations(CheckEndpoint):
    """Judge texts as OpenAI's moderation endpoint does; only enforced policies flag."""

    @extend_schema(
        request=ModerationIn,
        responses=ModerationShape,
        examples=[sent("Two texts", input=["I will find you.", "Have a good day."])],
    )
    def post(self, request: Request) -> Response:
        data = request.data if isinstance(request.data, Mapping) else {}
        model = data.get("model") or "parapet"
        stages = _stages(model)
        texts = _texts(data.get("input"))
        self.spend(len(texts) - 1)
        checked, budget = [], Budget()
        for text in texts:
            budget.spend()
            checked.append(
                check_with(
                    self.actor,
                    stage=STAGE,
                    content={"text": text},
                    narrow=lambda bundle: _moderating(bundle, stages),
                )
            )
        for one in checked:
            if not one.judgement.finished:
                raise Problem(why_not_finished(one), code="not_finished", status=503)
        answer = {
            "id": f"modr-{checked[0].decision.pk.hex}",
            "model": model,
            "results": [_result(one) for one in checked],
        }
        return Response(answer)

    def handle_exception(self, exc: Exception) -> Response:
        """Every problem in OpenAI's shape."""
        answer = super().handle_exception(exc)
        if answer.status_code >= 400:
            answer.data = openai_error(answer.data)
            answer.content_type = "application/json"
        return answer


def openai_error(document: Mapping[str, Any]) -> dict[str, Any]:
    """A problem document as OpenAI's clients read errors."""
    status = document.get("status", 500)
    kind = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    fallback = "server_error" if status >= 500 else "invalid_request_error"
    pointers = [error["pointer"].strip("/") for error in document.get("errors", [])]
    return {
        "error": {
            "message": document.get("detail", ""),
            "type": kind.get(status, fallback),
            "param": pointers[0] if pointers else None,
            "code": document.get("code"),
        }
    }


def _stages(model: Any) -> set[str]:
    if isinstance(model, str):
        if model in _STAGES:
            return _STAGES[model]
        if model.startswith(("omni-moderation", "text-moderation")):
            return _STAGES["parapet"]
    raise Problem(
        f"There is no such model here; models are: {', '.join(_STAGES)}.",
        code="model_not_found",
        status=404,
    )


def _texts(given: Any) -> list[str]:
    rows = [given] if isinstance(given, str) else given
    if not isinstance(rows, list) or not 1 <= len(rows) <= MOST_INPUTS:
        raise Problem(
            f"`input` is a text, or a list of 1 to {MOST_INPUTS} texts.", code="invalid_input"
        )
    texts = []
    for row in rows:
        if isinstance(row, Mapping):
            if row.get("type") != "text":
                raise Problem("Only texts can be judged here, no images.", code="invalid_input")
            row = row.get("text")
        if not isinstance(row, str):
            raise Problem("Each input is a text, or {type: text, text}.", code="invalid_input")
        texts.append(row)
    # several parts of one message are one input, as OpenAI has it; several texts are several
    if all(isinstance(row, Mapping) for row in rows):
        texts = ["\n".join(texts)]
    for place, text in enumerate(texts):
        if says_nothing(text):
            where = f" in input {place} (the first is 0)" if len(texts) > 1 else ""
            errors = [FieldError("/input", "Send some text.")]
            raise Problem(f"There is no text to judge{where}.", errors=errors)
    return texts


def _moderating(bundle: Bundle, stages: set[str]) -> Bundle:
    """The policies of these stages, all asked at once."""
    guards = [replace(g, stages=(STAGE,)) for g in bundle.guards if stages & set(g.stages)]
    return replace(bundle, guards=tuple(guards))


def _result(checked: Checked) -> dict[str, Any]:
    scores = dict.fromkeys(NAMES, 0.0)
    flags = dict.fromkeys(NAMES, False)
    acting = {reason["policy"] for reason in checked.judgement.reasons if stands(reason)}
    known = _known_scores(checked)
    for guard in checked.bundle.guards:
        names = translate(guard.categories, "openai", checked.bundle.mappings) & set(NAMES)
        for name in (guard.policy, *names):
            scores[name] = max(scores.get(name, 0.0), known.get(guard.policy, 0.0))
            flags[name] = flags.get(name, False) or guard.policy in acting
    return {
        "flagged": any(flags.values()),
        # beside what OpenAI answers: where it is on record, and whether all of it was judged
        "decision_id": str(checked.decision.pk),
        "degraded_by": list(checked.judgement.degraded),
        "categories": flags,
        "category_scores": scores,
        "category_applied_input_types": {name: ["text"] for name in flags},
    }


def _known_scores(checked: Checked) -> dict[str, float]:
    """Each policy's score, in any mode; where a check failed, the highest that is known of it."""
    scores: dict[str, float] = {}
    for entry in checked.judgement.receipt:
        if entry.score is not None and not entry.advisory:
            scores[entry.policy] = max(scores.get(entry.policy, 0.0), entry.score)
    return scores | dict(checked.judgement.scores)
