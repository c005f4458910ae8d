"""What people must not miss stands on the pages before it hurts."""

from __future__ import annotations

from apps.runtime import canaries, switches
from apps.runtime.models import Canary, Incident
from tests import factories
from tests.runtime.conftest import WORDS, Space

NO_MODEL = "there is no model yet"
STOPPED = "The kill switch is on"
CLASSIFIER = {"key": "classifier", "kind": "classifier"}


def page(space: Space, place: str) -> str:
    answer = factories.page_client(space.admin).get(place)
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_vote_without_a_model_is_said_where_a_policy_is_set_to_enforce(space: Space) -> None:
    settings = f"/policies/{space.policy.slug}/settings/"
    assert NO_MODEL not in page(space, settings)
    space.guard(WORDS, CLASSIFIER)
    assert NO_MODEL in page(space, settings)
    space.guard(WORDS, {**CLASSIFIER, "advisory": True})
    assert NO_MODEL not in page(space, settings)


def test_the_kill_switch_is_said_on_the_pages_of_the_policies_it_stops(space: Space) -> None:
    places = ["/", f"/policies/{space.policy.slug}/"]
    assert not any(STOPPED in page(space, place) for place in places)
    switches.turn_kill_switch(space.admin, on=True, reason="a trial")
    assert all(STOPPED in page(space, place) for place in places)


def test_a_policy_says_what_it_does_with_traffic(space: Space) -> None:
    space.set(mode="enforce", rollout=10)
    assert "enforce 10 %" in page(space, f"/policies/{space.policy.slug}/")


def test_a_removed_canary_closes_what_it_opened(space: Space) -> None:
    canary = canaries.add_canary(space.admin, stage="output", text="a text", expected="block")
    canaries.send_all()
    assert Incident.objects.get().status == "open"
    canaries.remove_canary(space.admin, canary=canary)
    incident = Incident.objects.get()
    assert (incident.status, incident.fixed_by) == ("dismissed", "the canary was removed")
    assert not Canary.objects.exists()
