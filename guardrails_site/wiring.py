"""The one place where a lower app is handed a function of a higher one.

The imports that look unused declare permissions and tasks.
"""

from __future__ import annotations

from functools import partial

from django.db import transaction

from apps.accounts import permissions as accounts_permissions  # noqa: F401
from apps.corpus import importing
from apps.corpus import permissions as corpus_permissions  # noqa: F401
from apps.corpus import tasks as corpus_tasks  # noqa: F401
from apps.corpus.models import Side
from apps.evidence import cases
from apps.evidence import permissions as evidence_permissions  # noqa: F401
from apps.evidence import services as evidence
from apps.evidence import tasks as evidence_tasks  # noqa: F401
from apps.guardrails import configuring
from apps.guardrails import permissions as guardrails_permissions  # noqa: F401
from apps.guardrails import services as guardrails
from apps.guardrails.counts import count_documents
from apps.labeling import labels
from apps.labeling import permissions as labeling_permissions  # noqa: F401
from apps.labeling.queue import open_slots
from apps.policies import permissions as policies_permissions  # noqa: F401
from apps.policies import services as policies
from apps.policies.models import Policy, PolicyVersion
from apps.runtime import incidents
from apps.runtime import permissions as runtime_permissions  # noqa: F401
from apps.runtime import tasks as runtime_tasks  # noqa: F401
from apps.training import permissions as training_permissions  # noqa: F401
from apps.training import runs
from apps.training import tasks as training_tasks
from guardrails_site import celery

# a retrain reads the texts of the train labels after the last such ten itself
COUNTED_TOGETHER = 10


def refresh_figures(event: labels.LabelEvent) -> None:
    """An audit label moves the figures of the live model; train labels are counted in tens."""
    if event.side == Side.AUDIT or event.since_frozen % COUNTED_TOGETHER == 0:
        evidence.request_refresh(event.policy.pk)


def tell_rules(policy: Policy, version: PolicyVersion) -> None:
    """Other rules: labels become those of an older version, and incidents may be fixed."""
    transaction.on_commit(partial(evidence.request_refresh, policy.pk))
    guardrails.tell_change(policy, f"policy version {version.number}")


def connect() -> None:
    """Called once, when Django is ready."""
    celery.app.set_default()
    importing.on_arrival[:] = [open_slots, count_documents]
    labels.on_label[:] = [refresh_figures, runs.after_label, incidents.after_label]
    policies.before_holding[:] = [cases.judge_ahead]
    policies.before_publish[:] = [configuring.hold_rules, cases.hold_version]
    policies.after_publish[:] = [tell_rules]
    configuring.before_publish[:] = [cases.hold_configuration]
    configuring.before_exception[:] = [cases.hold_exception]
    guardrails.on_live[:] = [training_tasks.rank_anew]
    guardrails.on_change[:] = [incidents.after_change]
