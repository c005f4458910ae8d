"""Changing what guards a policy: its draft, its versions, and exceptions to its rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from apps.accounts.actor import Actor
from apps.accounts.audit import record
from apps.base.gate import check_text
from apps.base.problems import FieldError, Problem
from apps.guardrails.assembling import configuration_of, rules_by_key
from apps.guardrails.checks.matching import PatternRefused
from apps.guardrails.configuration import (
    DEFAULT,
    MOST_PATTERNS,
    Configuration,
    number_of_patterns,
    parse,
    stored,
)
from apps.guardrails.exemptions import LONGEST_PHRASE, phrase_of, text_hash
from apps.guardrails.models import GuardrailDraft, GuardrailVersion, RuleException
from apps.guardrails.services import tell_change
from apps.policies.approving import approved, note_author
from apps.policies.models import Policy, PolicyDraft, PolicyVersion, Rule
from apps.policies.services import hold_policy, hold_seen

LONGEST_EXCEPTION = timedelta(days=90)
MOST_EXCEPTIONS = 100


def current_guardrail(policy: Policy) -> GuardrailVersion | None:
    """The newest version; None while the classifier alone guards the policy."""
    return policy.guardrails.order_by("-number").first()


def saved_draft(policy: Policy) -> GuardrailDraft | None:
    """What somebody saved as the policy's next guardrail; None where nobody ever did."""
    return GuardrailDraft.objects.filter(policy=policy).first()


def draft_of(policy: Policy) -> tuple[dict[str, Any], int]:
    """The content of the draft and its revision; (what guards now, 0) without one."""
    draft = saved_draft(policy)
    if draft is not None:
        return draft.content, draft.revision
    return content_of(current_guardrail(policy)), 0


def content_of(version: GuardrailVersion | None) -> dict[str, Any]:
    """What a version fixes; a policy without one is guarded by its classifier alone."""
    return version.content if version else DEFAULT.as_dict()


def is_drafted(policy: Policy, current: GuardrailVersion | None) -> bool:
    """Whether the draft is another guardrail than the one that guards."""
    draft = saved_draft(policy)
    return draft is not None and draft.content != content_of(current)


def awaiting(actor: Actor, policies: Sequence[Policy]) -> dict[str, set[UUID]]:
    """Which policies' rules and guardrails have a draft of others that waits for the actor."""
    asked = [policy.pk for policy in policies if policy.second_approver]
    found: dict[str, set[UUID]] = {"rules": set(), "guardrail": set()}
    for name, kind in (("rules", PolicyDraft), ("guardrail", GuardrailDraft)) if asked else ():
        drafts = kind.objects.filter(policy__in=asked, authors__isnull=False)
        found[name] |= set(drafts.exclude(authors=actor.person).values_list("policy", flat=True))
    return found


def rules_of(policy: Policy, version: GuardrailVersion | None = None) -> dict[str, str]:
    """The polarity of each rule of the published policy version, by key.

    With a guardrail version, also of rules that the policy has dropped since: its checks go on,
    as disallowing ones.
    """
    named = version.content["checks"] if version else []
    rules = {check["rule"]: "disallowed" for check in named if check["rule"]}
    if policy.current_version is not None:
        rules |= {rule.key: rule.polarity for rule in policy.current_version.rules.all()}
    return rules


def keep_calibration(policy: Policy, content: dict[str, Any]) -> None:
    """Carry the draft's calibration into what a form says, while its checks are the same.

    The form does not show it; fitted on other checks or weights it would say nothing.
    """
    draft = stored(draft_of(policy)[0])
    try:
        given = parse(content, rules=rules_of(policy))
    except Problem:
        return  # whoever saves it is told
    if given.gate.kind == draft.gate.kind and given.checks == draft.checks:
        content["gate"] |= {"slope": draft.gate.slope, "offset": draft.gate.offset}


def hears_classifier(version: GuardrailVersion | None) -> bool:
    """Whether the classifier's threshold can decide: it has a vote, and votes are counted."""
    content = configuration_of(version)
    return content.asks_classifier and content.gate.kind != "weighted"


# Called with a candidate before it guards; one that may not raises Problem. wiring.py fills it.
before_publish: list[Callable[[Policy, Configuration], None]] = []
# Called with an exception before it is in force; one that may not be raises Problem.
before_exception: list[Callable[[Policy, RuleException], None]] = []


@transaction.atomic
def save_guardrail_draft(
    actor: Actor,
    *,
    policy: Policy,
    content: Mapping[str, Any],
    revision: int | None,
    fitted: bool = False,
) -> int:
    """Replace the draft, which has to be right in itself; returns its new revision.

    Args:
        fitted: only numbers that were fitted to labels differ, which nobody wrote.

    Raises:
        Problem: 400 with every wrong field; 412 when somebody else saved since `revision`.
    """
    parsed = parse(content, rules=rules_of(policy)).as_dict()
    draft, _ = GuardrailDraft.objects.select_for_update().get_or_create(
        policy=policy, defaults={"content": draft_of(policy)[0], "revision": 0}
    )
    hold_seen(revision, draft.revision, "Somebody else changed this guardrail since you opened it.")
    if draft.revision and parsed == draft.content:
        return draft.revision
    draft.content = parsed
    draft.revision += 1
    draft.edited_by = actor.membership
    draft.save()
    if not fitted:
        differs = parsed != content_of(current_guardrail(policy))
        note_author(actor, draft, differs=differs)
    record(actor, "guardrail.save_draft", policy, revision=draft.revision)
    return draft.revision


def publish_guardrail(
    actor: Actor, *, policy: Policy, note: str = "", revision: int | None = None
) -> GuardrailVersion:
    """Freeze the draft as the next version, which guards from then on.

    Args:
        revision: of the draft that is meant; another one is not published (412).

    Raises:
        Problem: 409 when it is what guards already, when it fails a must-pass case, when it was
            changed while its cases were judged, or when the policy wants a second person and the
            actor wrote some of it; 400 when it is not right (any more), or the
            workspace would have too many patterns.
    """
    hold_seen(revision, draft_of(policy)[1])
    content = _publishable(policy)
    # judged before anything is held, so that slow remote checks answer from memory below
    _ask_before(policy, content)
    with transaction.atomic():
        hold_policy(policy)
        draft = GuardrailDraft.objects.select_for_update().get(policy=policy)
        hold_seen(revision, draft_of(policy)[1])
        if _publishable(policy) != content:
            raise Problem(
                "Somebody changed the draft meanwhile; look at it and publish again.",
                code="changed",
                status=409,
            )
        _ask_before(policy, content)
        written_by = approved(actor, policy=policy, draft=draft)
        last = current_guardrail(policy)
        version = GuardrailVersion.objects.create(
            policy=policy,
            number=last.number + 1 if last else 1,
            content=content,
            note=note[:500],
            written_by=written_by,
            published_by=actor.label,
        )
        draft.authors.clear()
        record(actor, "guardrail.publish", policy, version=version.number, note=version.note)
        tell_change(policy, f"guardrail {version.number}")
    return version


def _ask_before(policy: Policy, content: Mapping[str, Any]) -> None:
    for look in before_publish:
        look(policy, stored(content))


def _publishable(policy: Policy) -> dict[str, Any]:
    """The content of the draft, which is right, and other than what guards."""
    content = parse(draft_of(policy)[0], rules=rules_of(policy)).as_dict()
    last = current_guardrail(policy)
    if content == content_of(last):
        raise Problem("The draft is what guards already.", code="unchanged", status=409)
    polarity = rules_of(policy)
    if not any(
        not check["advisory"] and polarity.get(check["rule"]) != "allowed"
        for check in content["checks"]
    ):
        raise Problem(
            "No check of this guardrail could ever make it fire; add one that has a vote.",
            code="incomplete",
        )
    _check_patterns(policy, content)
    return content


def make_exception(
    actor: Actor,
    *,
    policy: Policy,
    rule: str,
    phrase: str = "",
    text: str = "",
    reason: str,
    days: int,
) -> RuleException:
    """Let a phrase (or one whole text) through for one rule, for so many days."""
    errors = []
    if rule and rule not in rules_of(policy, current_guardrail(policy)):
        errors.append(FieldError("/rule", "The policy has no such rule."))
    if bool(phrase.strip()) == bool(text.strip()):
        errors.append(FieldError("/phrase", "Give a phrase, or else a whole text."))
    if len(phrase) > LONGEST_PHRASE:
        errors.append(FieldError("/phrase", f"A phrase has at most {LONGEST_PHRASE:,} characters."))
    if not reason.strip() or len(reason) > 500:
        errors.append(FieldError("/reason", "Say why, in at most 500 characters."))
    if not 1 <= days <= LONGEST_EXCEPTION.days:
        errors.append(FieldError("/days", f"1 to {LONGEST_EXCEPTION.days} days."))
    if errors:
        raise Problem("The exception was not made.", errors=errors)
    for given in (phrase, text, reason):
        check_text(given)
    if phrase.strip():
        _check_phrase(phrase)
    exception = RuleException(
        policy=policy,
        rule=rule,
        phrase=phrase if phrase.strip() else "",
        text_hash=text_hash(bytes(policy.workspace.split_key), text) if text.strip() else None,
        reason=reason,
        made_by=actor.label,
        expires_at=timezone.now() + timedelta(days=days),
    )
    _hold_room(policy)
    # judged before anything is held, so that slow remote checks answer from memory below
    _ask_before_exception(policy, exception)
    with transaction.atomic():
        hold_policy(policy)
        _hold_room(policy)
        _ask_before_exception(policy, exception)
        exception.save(force_insert=True)
        facts = {"exception": str(exception.pk), "rule": rule, "reason": reason}
        record(actor, "exception.make", policy, **facts)
    return exception


def _hold_room(policy: Policy) -> None:
    """Refuse one exception more than a policy may have."""
    if len(exceptions_in_force(policy)) >= MOST_EXCEPTIONS:
        raise Problem(
            f"A policy has at most {MOST_EXCEPTIONS} exceptions; end some, or mend the rule.",
            code="too_many",
            status=409,
        )


def _ask_before_exception(policy: Policy, exception: RuleException) -> None:
    for look in before_exception:
        look(policy, exception)


@transaction.atomic
def end_exception(actor: Actor, *, exception: RuleException) -> None:
    """End it before its day; a second time changes nothing."""
    standing = RuleException.objects.filter(pk=exception.pk, ended_at=None)
    if standing.update(ended_at=timezone.now()):
        record(actor, "exception.end", exception.policy, exception=str(exception.pk))


def exceptions_in_force(policy: Policy) -> Sequence[RuleException]:
    """Those that let something through now, oldest first."""
    return list(
        policy.exceptions.filter(ended_at=None, expires_at__gt=timezone.now()).order_by("pk")
    )


def hold_rules(policy: Policy, version: PolicyVersion) -> None:
    """Refuse a policy version that turns what guards now into something else."""
    if errors := turned_checks(policy, rules_by_key(version)):
        raise Problem(
            "Checks of the guardrail would come to mean something else: first publish one without "
            "them, or with them for other rules.",
            code="guardrail_differs",
            status=409,
            errors=errors,
        )


def turned_checks(policy: Policy, rules: Mapping[str, Rule]) -> list[FieldError]:
    """Checks that would come to mean something else under other rules of the policy.

    A check of a rule that is gone would speak for the whole policy, and one whose rule turns from
    disallowed to allowed, or back, would say the opposite.
    """
    guardrail = current_guardrail(policy)
    if guardrail is None or policy.current_version is None:
        return []
    before = rules_of(policy, guardrail)
    after = {rule.key: rule.polarity for rule in rules.values()}
    return [
        FieldError(
            "/rules",
            f"Check {check['key']} speaks for rule {check['rule']}, which this version "
            + (f"turns to {after[check['rule']]}." if check["rule"] in after else "drops."),
        )
        for check in guardrail.content["checks"]
        if check["rule"] and after.get(check["rule"]) != before[check["rule"]]
    ]


def _check_phrase(phrase: str) -> None:
    try:
        phrase_of(phrase)
    except PatternRefused:
        raise Problem(
            "The exception was not made.",
            errors=[
                FieldError("/phrase", "This phrase is too long, or nothing of it can be seen.")
            ],
        ) from None


def _check_patterns(policy: Policy, content: Mapping[str, Any]) -> None:
    others = (
        GuardrailVersion.objects.filter(policy__workspace=policy.workspace)
        .exclude(policy=policy)
        .order_by("policy", "-number")
        .distinct("policy")
    )
    count = _patterns(content) + sum(_patterns(row.content) for row in others)
    if count > MOST_PATTERNS:
        raise Problem(
            f"The workspace's guardrails would have {count} regular expressions; at most "
            f"{MOST_PATTERNS} are served.",
            code="too_many_patterns",
            errors=[FieldError("/checks", "Take some out, or join them.")],
        )


def _patterns(content: Mapping[str, Any]) -> int:
    """How many a version brings; none where it is no longer right, for then it is not served."""
    try:
        return sum(number_of_patterns(check) for check in content["checks"])
    except (Problem, ValueError, KeyError):
        return 0
