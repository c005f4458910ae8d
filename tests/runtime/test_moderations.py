"""OpenAI's moderation endpoint, by its shape; the client itself is tried in test_serving."""

from __future__ import annotations

from typing import Any

import pytest

from apps.policies.permissions import load_policy
from apps.policies.taxonomies import translate
from apps.runtime import bundles
from apps.runtime.moderations import NAMES
from tests import factories
from tests.runtime.conftest import WORDS, Space, written

BAD, GOOD = "Take two tablets.", "Ask a pharmacist."


def moderate(space: Space, given: Any, **body: Any) -> Any:
    key = factories.make_token(space.admin, "check")
    return factories.page_client(None).post(
        "/v1/moderations",
        {"input": given, **body},
        content_type="application/json",
        headers={"Authorization": f"Bearer {key}"},
    )


@pytest.fixture
def mapped(space: Space) -> Space:
    body = {"categories": ["llama_guard/S11"]}
    assert space.api.patch(f"policies/{space.policy.slug}", body).status_code == 200
    bundles.forget()
    return space


def test_a_text_is_flagged_in_every_category_its_policy_stands_for(mapped: Space) -> None:
    (result,) = moderate(mapped, BAD).json()["results"]
    assert result["flagged"]
    flagged = {name for name, value in result["categories"].items() if value}
    assert flagged == {"self-harm", mapped.policy.slug}
    assert result["category_scores"]["self-harm"] == 1.0


def test_all_thirteen_names_are_there(mapped: Space) -> None:
    (result,) = moderate(mapped, GOOD).json()["results"]
    assert set(result["categories"]) == {*NAMES, mapped.policy.slug}
    assert (result["flagged"], result["category_scores"]["hate"]) == (False, 0.0)


def test_a_list_is_judged_one_by_one_and_parts_of_a_message_as_one(mapped: Space) -> None:
    listed = moderate(mapped, [GOOD, BAD]).json()["results"]
    assert [one["flagged"] for one in listed] == [False, True]
    parts = [{"type": "text", "text": "Take two"}, {"type": "text", "text": "tablets."}]
    assert [one["flagged"] for one in moderate(mapped, parts).json()["results"]] == [True]


def test_a_policy_in_shadow_scores_and_flags_nothing(mapped: Space) -> None:
    mapped.set(mode="shadow")
    (result,) = moderate(mapped, BAD).json()["results"]
    assert (result["flagged"], result["category_scores"]["self-harm"]) == (False, 1.0)


@pytest.mark.parametrize(
    ("given", "status"),
    [(5, 400), ([], 400), ([{"type": "image_url", "image_url": {}}], 400), ("", 400)],
)
def test_what_cannot_be_judged_is_refused_in_openais_shape(
    mapped: Space, given: Any, status: int
) -> None:
    answer = moderate(mapped, given)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_an_unknown_model_is_not_found(mapped: Space) -> None:
    answer = moderate(mapped, GOOD, model="gpt-4")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_a_set_asks_only_the_policies_of_its_stage(mapped: Space) -> None:
    (result,) = moderate(mapped, BAD, model="parapet-input").json()["results"]
    assert not result["flagged"]


@pytest.mark.parametrize(
    ("category", "taxonomy", "codes"),
    [
        ("openai/hate", "openai", {"hate"}),
        ("llama_guard/S10", "openai", {"hate"}),
        ("llama_guard/S10", "aegis2", {"S8"}),
        ("openai/self-harm", "llama_guard", {"S11"}),
        ("llama_guard/S13", "openai", set()),
    ],
)
def test_categories_are_translated(category: str, taxonomy: str, codes: set[str]) -> None:
    from apps.policies.taxonomies import _FORWARD

    assert translate([category], taxonomy, _FORWARD) == codes


def test_each_category_is_translated_by_itself() -> None:
    mappings = {"mine/threats": ("llama_guard/S1",), "llama_guard/S1": ("openai/violence",)}
    both = translate(["openai/hate", "mine/threats"], "openai", mappings)
    assert both == {"hate", "violence"}


def test_a_workspace_can_say_otherwise(mapped: Space) -> None:
    body = {"source": "llama_guard/S11", "targets": ["openai/harassment"]}
    assert mapped.api.put("taxonomies/mappings", body).status_code == 200
    bundles.forget()
    (result,) = moderate(mapped, BAD).json()["results"]
    assert result["categories"]["harassment"]
    assert not result["categories"]["self-harm"]


def test_an_own_taxonomy_can_be_added_and_stood_for(mapped: Space) -> None:
    own = {"slug": "house", "name": "House", "categories": [{"code": "doses", "name": "Doses"}]}
    assert mapped.api.post("taxonomies", own).status_code == 201
    body = {"source": "house/doses", "targets": ["openai/illicit"]}
    assert mapped.api.put("taxonomies/mappings", body).status_code == 200
    stands = {"categories": ["house/doses"]}
    assert mapped.api.patch(f"policies/{mapped.policy.slug}", stands).status_code == 200
    bundles.forget()
    (result,) = moderate(mapped, BAD).json()["results"]
    assert result["categories"]["illicit"]


def test_a_policy_whose_block_is_lifted_flags_nothing(mapped: Space) -> None:
    top = factories.make_policy(mapped.admin, "top")
    allowing = Space(mapped.admin, load_policy(mapped.admin, top.slug))
    never = {**WORDS, "key": "never", "settings": {"words": ["never"]}}
    allowing.guard({**WORDS, "rule": "general-facts"}, never)
    allowing.set(mode="enforce", level="platform")
    fine = {"key": "fine", "kind": "keywords", "rule": "general-facts"}
    mapped.guard(WORDS, {**fine, "settings": {"words": ["tablets"]}})
    (result,) = moderate(mapped, BAD).json()["results"]
    assert (result["flagged"], result["categories"][mapped.policy.slug]) == (False, False)


def test_a_result_says_where_it_is_on_record_and_what_was_not_judged(mapped: Space) -> None:
    mapped.guard(WORDS, {"key": "classifier", "kind": "classifier"})
    results = moderate(mapped, [BAD, f"{BAD} {GOOD}"]).json()["results"]
    assert [one["degraded_by"] for one in results] == [["no_model"], ["no_model"]]
    assert results[1]["category_scores"][mapped.policy.slug] == 1.0
    known = {str(row.pk) for row in written()}
    assert {one["decision_id"] for one in results} == known


def test_what_is_not_finished_names_who_failed(mapped: Space) -> None:
    mapped.guard({"key": "classifier", "kind": "classifier"})
    answer = moderate(mapped, GOOD)
    assert answer.status_code == 503
    assert "doses failed (no_model)" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["a", " "], "There is no text to judge in input 1 (the first is 0)."),
        ("", "There is no text to judge."),
        ("\u200b", "There is no text to judge."),
    ],
)
def test_a_blank_input_is_named(mapped: Space, given: Any, message: str) -> None:
    error = moderate(mapped, given).json()["error"]
    assert (error["message"], error["param"]) == (message, "input")


def test_a_blank_part_of_a_message_is_none(mapped: Space) -> None:
    parts = [{"type": "text", "text": text} for text in (BAD, "")]
    (result,) = moderate(mapped, parts).json()["results"]
    assert result["flagged"]
