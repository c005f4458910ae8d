"""A policy whose model is live and has been counted."""

from __future__ import annotations

from typing import Any

import pytest

from apps.policies.permissions import load_policy
from tests import factories


@pytest.fixture
def live(db: None) -> Any:
    """(owner, policy) with a live model and about 60 audit labels."""
    actor = factories.make_member(factories.make_workspace())
    policy = factories.make_policy(actor, audit_fraction=0.4, audit_share=0.5)
    factories.import_rows(actor, policy, factories.rows(300))
    factories.give_labels(actor, policy, 120)
    factories.train(actor, policy)
    return actor, load_policy(actor, policy.slug)
