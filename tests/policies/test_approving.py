"""Where a policy wants a second person, nobody puts their own words into force."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from apps.accounts.actor import Actor
from apps.accounts.models import Role
from apps.guardrails import configuring
from apps.policies import services
from apps.policies.models import Policy
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)
WANTED: dict[str, Any] = {"settings": {"second_approver": True}}
WORDS = {"checks": [{"key": "words", "kind": "keywords", "settings": {"words": ["a spoon"]}}]}


@dataclass
class Asked:
    """A policy that wants a second person, who may be one of two owners or the admin."""

    admin: Actor
    author: Actor
    other: Actor
    slug: str

    def write(self, actor: Actor, definition: str = "Another definition.") -> None:
        body = {**factories.SPECIFICATION, "definition": definition}
        answer = factories.api(actor).put(self.drafts("draft"), body, **{"If-Match": "*"})
        assert answer.status_code == 200

    def write_guardrail(self, actor: Actor) -> None:
        answer = factories.api(actor).put(self.drafts("guardrail"), WORDS, **{"If-Match": "*"})
        assert answer.status_code == 200

    def publish(self, actor: Actor, what: str = "") -> Any:
        api = factories.api(actor)
        return api.post(self.drafts(f"{what}publish"), {}, **{"If-Match": "*"})

    def drafts(self, what: str) -> str:
        return f"policies/{self.slug}/{what}"

    def page(self, actor: Actor, what: str) -> str:
        answer = factories.page_client(actor).get(f"/policies/{self.slug}/{what}")
        return answer.content.decode()


@pytest.fixture
def asked() -> Asked:
    admin = factories.make_member(factories.make_workspace())
    author, other = (factories.make_member(admin.workspace, Role.OWNER) for _ in range(2))
    policy = factories.make_policy(author)
    services.set_role(admin, policy=policy, membership=other.person, role=Role.OWNER)
    answer = factories.api(admin).patch(f"policies/{policy.slug}", WANTED)
    assert answer.json()["settings"]["second_approver"] is True
    return Asked(admin, author, other, policy.slug)


def versions(asked: Asked) -> list[Any]:
    return list(Policy.objects.get(slug=asked.slug).versions.order_by("number"))


def test_whoever_wrote_a_draft_does_not_publish_it(asked: Asked) -> None:
    asked.write(asked.author)
    answer = asked.publish(asked.author)
    assert (answer.status_code, answer.json()["code"]) == (409, "second_approver")
    assert len(versions(asked)) == 1


def test_who_could_publish_it_is_named(asked: Asked) -> None:
    asked.write(asked.author)
    told = asked.publish(asked.author).json()["detail"]
    addresses = sorted([asked.admin.user.email, asked.other.user.email])
    assert told.endswith(f": {addresses[0]} or {addresses[1]}.")


def test_another_owner_publishes_it_and_the_version_names_both(asked: Asked) -> None:
    asked.write(asked.author)
    answer = asked.publish(asked.other)
    assert answer.status_code == 201
    said = answer.json()
    assert said["written_by"] == [asked.author.user.email]
    assert said["published_by"].startswith(asked.other.user.email)


def test_whoever_wrote_a_word_of_it_is_an_author_as_well(asked: Asked) -> None:
    asked.write(asked.author)
    asked.write(asked.other, "Another definition, put better.")
    assert asked.publish(asked.other).status_code == 409
    assert asked.publish(asked.author).status_code == 409
    assert asked.publish(asked.admin).status_code == 201
    assert versions(asked)[-1].written_by == sorted(
        [asked.author.user.email, asked.other.user.email]
    )


def test_an_admin_does_not_publish_what_they_wrote(asked: Asked) -> None:
    asked.write(asked.admin)
    assert asked.publish(asked.admin).status_code == 409


def test_saving_what_is_there_already_makes_no_author(asked: Asked) -> None:
    asked.write(asked.author)
    asked.write(asked.other)
    assert asked.publish(asked.other).status_code == 201


def test_the_next_draft_has_its_own_authors(asked: Asked) -> None:
    asked.write(asked.author)
    asked.publish(asked.other)
    asked.write(asked.other, "A third definition.")
    assert asked.publish(asked.author).status_code == 201


def test_the_guardrail_needs_a_second_person_as_well(asked: Asked) -> None:
    asked.write_guardrail(asked.author)
    assert asked.publish(asked.author, "guardrail/").json()["code"] == "second_approver"
    answer = asked.publish(asked.other, "guardrail/")
    assert answer.status_code == 201
    assert answer.json()["written_by"] == [asked.author.user.email]


def test_a_draft_that_is_the_same_again_has_no_authors(asked: Asked) -> None:
    asked.write(asked.author)
    asked.write(asked.author, factories.SPECIFICATION["definition"])
    asked.write(asked.other)
    assert asked.publish(asked.author).status_code == 201


@pytest.mark.parametrize("what", ["", "guardrail/"])
def test_a_second_person_says_what_they_looked_at(asked: Asked, what: str) -> None:
    asked.write(asked.author)
    asked.write_guardrail(asked.author)
    unseen = factories.api(asked.other).post(asked.drafts(f"{what}publish"), {})
    assert unseen.status_code == 428


def test_numbers_that_were_fitted_have_no_author(asked: Asked) -> None:
    asked.write_guardrail(asked.author)
    policy = Policy.objects.get(slug=asked.slug)
    content, revision = configuring.draft_of(policy)
    fitted = {**content, "gate": {**content["gate"], "slope": 2.0, "offset": 0.5}}
    configuring.save_guardrail_draft(
        asked.other, policy=policy, content=fitted, revision=revision, fitted=True
    )
    assert asked.publish(asked.other, "guardrail/").status_code == 201


def test_where_nobody_else_may_it_says_what_to_do() -> None:
    admin = factories.make_member(factories.make_workspace())
    policy = factories.make_policy(admin)
    factories.api(admin).patch(f"policies/{policy.slug}", WANTED)
    asked = Asked(admin, admin, admin, policy.slug)
    asked.write(admin)
    assert "make another person an owner" in asked.publish(admin).json()["detail"]


def test_an_annotator_is_not_said_to_be_able_to_publish(asked: Asked) -> None:
    asked.other.person.role = Role.ANNOTATOR
    asked.other.person.save()
    asked.write(asked.author)
    assert asked.other.user.email not in asked.publish(asked.author).json()["detail"]


@pytest.mark.parametrize("what", ["publish/", "guardrail/publish/"])
def test_the_page_turns_the_button_off_for_an_author(asked: Asked, what: str) -> None:
    asked.write(asked.author)
    asked.write_guardrail(asked.author)
    assert "somebody else has to publish it" in asked.page(asked.author, what)
    assert "disabled>" in asked.page(asked.author, what)
    assert "somebody else has to publish it" not in asked.page(asked.other, what)
    author = asked.author.person.user.email
    assert f"Written by {author}." in asked.page(asked.other, what)
    assert "disabled>" not in asked.page(asked.other, what)


def test_the_list_says_what_waits_for_a_second_person(asked: Asked) -> None:
    asked.write_guardrail(asked.author)
    for actor, waits in ((asked.author, False), (asked.other, True), (asked.admin, True)):
        page = factories.page_client(actor).get("/policies/").content.decode()
        assert ("the guardrail waits for a second person" in page) is waits, actor.label
        assert "rules wait for a second person" not in page


def test_an_owner_does_not_do_away_with_it(asked: Asked) -> None:
    off = {"settings": {"second_approver": False}}
    assert factories.api(asked.author).patch(f"policies/{asked.slug}", off).status_code == 403
    form = {"initial-second_approver": "True"}
    factories.page_client(asked.author).post(f"/policies/{asked.slug}/settings/", form)
    assert Policy.objects.get(slug=asked.slug).second_approver


def test_an_admin_does_away_with_it_on_the_page(asked: Asked) -> None:
    settings = factories.page_client(asked.admin).get(f"/policies/{asked.slug}/settings/")
    fields = {one.html_name: one.value() for one in settings.context["form"]}
    form = {name: "" if value is None else value for name, value in fields.items()}
    del form["second_approver"]  # a box without its tick is not sent
    form["initial-second_approver"] = "True"
    saved = factories.page_client(asked.admin).post(f"/policies/{asked.slug}/settings/", form)
    assert saved.status_code == 302
    asked.write(asked.author)
    assert asked.publish(asked.author).status_code == 201


def test_who_writes_alone_publishes_where_nobody_else_is_wanted(asked: Asked) -> None:
    off = {"settings": {"second_approver": False}}
    assert factories.api(asked.admin).patch(f"policies/{asked.slug}", off).status_code == 200
    asked.write(asked.author)
    assert asked.publish(asked.author).json()["written_by"] == [asked.author.user.email]
