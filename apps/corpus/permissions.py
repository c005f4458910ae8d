"""Owners bring data into their policies; whoever has a role there may read the texts."""

from __future__ import annotations

from uuid import UUID

from apps.accounts.actor import Actor
from apps.accounts.permissions import permission
from apps.base.found import the_one
from apps.corpus.models import Import, PolicyExample
from apps.policies.permissions import has_role, is_owner, load_policy, owns_some_role

permission("examples.list", scope="read", rule=has_role)
permission("examples.search", scope="read", rule=is_owner)
permission("examples.view", scope="read", rule=lambda actor, found: is_owner(actor, found.policy))
permission("sources.list", scope="read", rule=owns_some_role)
permission("imports.list", scope="read", rule=owns_some_role)
permission("imports.of_policy", scope="read", rule=is_owner)
permission("imports.send", scope="ingest", rule=owns_some_role)
permission("imports.create", scope="ingest", rule=is_owner)
permission("imports.view", scope="read", rule=lambda actor, job: is_owner(actor, job.policy))
permission("imports.change", scope="ingest", rule=lambda actor, job: is_owner(actor, job.policy))


def load_import(actor: Actor, import_id: UUID) -> Import:
    """An import into a policy the actor can see."""
    job = the_one(
        Import.objects.visible_to(actor)
        .select_related("policy", "source", "workspace")
        .filter(pk=import_id)
    )
    job.policy = load_policy(actor, job.policy.slug)
    return job


def load_policy_example(actor: Actor, slug: str, example: UUID) -> PolicyExample:
    """An example as one of the actor's policies has it."""
    policy = load_policy(actor, slug)
    found = the_one(
        PolicyExample.objects.select_related("example", "source", "import_job").filter(
            policy=policy, example=example
        )
    )
    found.policy = policy
    return found
