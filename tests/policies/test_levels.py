"""Who may raise a policy above others: its allowed rules lift the blocks of those below."""

from __future__ import annotations

import pytest

from apps.accounts.models import Role
from apps.policies.models import Policy
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)
UP = {"settings": {"level": "platform"}}


@pytest.fixture
def owned():
    """(an admin, an owner, the owner's policy)."""
    admin = factories.make_member(factories.make_workspace())
    owner = factories.make_member(admin.workspace, Role.OWNER)
    return admin, owner, factories.make_policy(owner)


def level(policy: Policy) -> str:
    return Policy.objects.get(pk=policy.pk).level


def test_an_owner_does_not_raise_a_policy_by_api(owned) -> None:
    _, owner, policy = owned
    answer = factories.api(owner).patch(f"policies/{policy.slug}", UP)
    assert (answer.status_code, level(policy)) == (403, "application")


def test_an_owner_does_not_make_a_policy_above_others(owned) -> None:
    _, owner, _ = owned
    answer = factories.api(owner).post("policies", {"slug": "high", "name": "High", **UP})
    assert answer.status_code == 403
    assert not Policy.objects.filter(slug="high").exists()


def test_an_owner_does_not_raise_a_policy_on_its_page(owned) -> None:
    _, owner, policy = owned
    path = f"/policies/{policy.slug}/settings/"
    form = {"level": "platform", "initial-level": "application"}
    page = factories.page_client(owner)
    assert 'name="level"' in page.get(path).content.decode()
    page.post(path, form)
    assert level(policy) == "application"


def test_an_owner_may_say_the_level_that_it_has(owned) -> None:
    _, owner, policy = owned
    same = {"settings": {"level": "application", "mode": "enforce"}}
    assert factories.api(owner).patch(f"policies/{policy.slug}", same).status_code == 200


def test_an_owner_does_not_lower_what_an_admin_raised(owned) -> None:
    admin, owner, policy = owned
    assert factories.api(admin).patch(f"policies/{policy.slug}", UP).status_code == 200
    down = {"settings": {"level": "application"}}
    answer = factories.api(owner).patch(f"policies/{policy.slug}", down)
    assert (answer.status_code, level(policy)) == (403, "platform")
