"""One text into a policy's corpus, from where it was seen in the wild."""

from __future__ import annotations

from django.db import transaction

from apps.accounts.actor import Actor
from apps.base.gate import check_text
from apps.corpus.hashing import content_hash, group_hash, permanent_numbers
from apps.corpus.importing import get_source, welcome
from apps.corpus.models import CorpusCounter, Example, PolicyExample, Side
from apps.policies.models import Policy


@transaction.atomic
def add_example(actor: Actor, policy: Policy, *, source: str, output: str) -> PolicyExample:
    """The text as an example of the policy; the one that exists when the text came before.

    It is put on the train side, for nobody drew it at random; only where near twins of it are
    audit texts it has to be one as well.

    Args:
        source: the name of where it comes from, made if it is new, with consent to train.
    """
    check_text(output)
    key = bytes(policy.workspace.split_key)
    content = content_hash("", output, "")
    counter, _ = CorpusCounter.objects.select_for_update().get_or_create(policy=policy)
    known = PolicyExample.objects.filter(policy=policy, example__content_hash=content).first()
    if known is not None:
        return known
    origin = get_source(actor, name=source)
    example, _ = Example.objects.get_or_create(
        workspace=policy.workspace,
        content_hash=content,
        defaults={"prompt": "", "output": output, "context": "", "tags": [], "metadata": {}},
    )
    group = group_hash(key, policy.slug, "", output)
    twin = PolicyExample.objects.filter(policy=policy, group_hash=group).first()
    _, group_u, u = permanent_numbers(key, group, content)
    made = PolicyExample.objects.create(
        policy=policy,
        example=example,
        source=origin,
        side=twin.side if twin else Side.TRAIN,
        group_hash=group,
        group_u=group_u,
        u=u,
        batch=counter.batches + 1,
    )
    welcome(policy, origin, counter, [(made.pk, made.side, output, "", "")])
    return made
