"""manage.py demo [--reset]: the demo workspace, made by the same functions people use."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts.actor import Actor, task_actor
from apps.accounts.erase import erase_workspace
from apps.accounts.models import Membership, Role, Workspace
from apps.accounts.people import add_member, create_workspace, new_password
from apps.base.jobs import ACTIVE
from apps.base.problems import Problem
from apps.corpus import importing
from apps.corpus.models import Import
from apps.labeling.labels import counts, submit_label
from apps.labeling.models import Lease
from apps.labeling.queue import next_item
from apps.policies import services as policies
from apps.policies.models import Policy
from apps.policies.permissions import load_policy
from apps.training.models import TrainingRun
from apps.training.pipeline import run_training
from apps.training.runs import request_run

DATA = Path(__file__).resolve().parents[2] / "demo"
SLUG = "demo"
PEOPLE = (
    ("annotator@demo.example", Role.ANNOTATOR, "Ada Annotator"),
    ("owner@demo.example", Role.OWNER, "Olu Owner"),
    ("admin@demo.example", Role.ADMIN, "Ines Admin"),
)
LONGEST_WAIT = 120.0
FIRST_LABELS, MORE_LABELS = 110, 130


class Command(BaseCommand):
    help = "Make the demo workspace and print its three one-time logins."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--reset", action="store_true", help="erase it first, with all its data"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        workspace = Workspace.objects.filter(slug=SLUG).first()
        if workspace is not None:
            if not options["reset"]:
                raise CommandError("There is a demo workspace; --reset erases it and starts anew.")
            erase_workspace(workspace)
        workspace = create_workspace(slug=SLUG, name="Demo")
        logins = _people(workspace)
        annotator, owner = _actor(workspace, PEOPLE[0][0]), _actor(workspace, PEOPLE[1][0])
        policy = _policy(owner)
        _answers(owner, policy)
        labels = _label(annotator, load_policy(annotator, policy.slug))
        for count in (FIRST_LABELS, MORE_LABELS):
            list(islice(labels, count))
            _retrain(owner, policy)
        self.stdout.write("\nThe demo workspace is ready. Sign in as one of (shown only now):")
        for email, role, password in logins:
            self.stdout.write(f"  {role:<10} {email:<24} {password}")
        self.stdout.write("")


def _retrain(owner: Actor, policy: Policy) -> None:
    """Do the run that the labels triggered, or one that the owner asks for, until all are learnt.

    Where the site runs, its worker may have taken a run already, and that of fewer labels: then
    wait for its end, and for one of the rest.
    """
    until = time.monotonic() + LONGEST_WAIT
    active = TrainingRun.objects.filter(policy=policy, status__in=ACTIVE)
    while (run := active.first()) or counts(policy).since_frozen:
        if time.monotonic() > until:
            raise CommandError("The training of the demo does not end; look at its run.")
        try:
            run = run or request_run(owner, policy=policy)
        except Problem as problem:
            if problem.code != "run_exists":  # one that the site started at this moment
                raise
            continue
        run_training(str(run.pk))
        if active.filter(pk=run.pk).exists():
            time.sleep(0.2)


def _people(workspace: Workspace) -> list[tuple[str, str, str]]:
    actor = task_actor(workspace, "demo")
    return [(email, role, _login(actor, email, role, name)) for email, role, name in PEOPLE]


def _login(actor: Actor, email: str, role: str, name: str) -> str:
    """Add a person with a fresh password, whoever had this address in an earlier demo."""
    password = new_password()
    add_member(actor, email=email, role=role, name=name, password=password)
    return password


def _actor(workspace: Workspace, email: str) -> Actor:
    membership = Membership.objects.select_related("user").get(
        workspace=workspace, user__email=email
    )
    return Actor(workspace, membership)


def _policy(owner: Actor) -> Policy:
    text = json.loads((DATA / "policy.json").read_text())
    slug, name = text.pop("slug"), text.pop("name")
    policy = policies.create_policy(
        owner,
        slug=slug,
        name=name,
        specification=text,
        targets={"false_positive_rate": 0.1},
        settings={"audit_fraction": 0.35, "audit_share": 0.35},
    )
    policies.publish_version(owner, policy=policy)
    annotator = Membership.objects.get(workspace=owner.workspace, role=Role.ANNOTATOR)
    policies.set_role(owner, policy=policy, membership=annotator, role=Role.ANNOTATOR)
    return load_policy(owner, slug)


def _answers(owner: Actor, policy: Policy) -> None:
    source = importing.get_source(
        owner, name="demo answers", licence="Apache-2.0, written for Parapet", may_train=True
    )
    with (DATA / "answers.jsonl").open("rb") as file:
        job = importing.upload(owner, policy=policy, file_name="answers.jsonl", chunks=file)
    names = ("id", "prompt", "output", "model", "language")
    job = importing.start_import(
        owner, job=job, mapping={name: name for name in names}, source=source
    )
    importing.run_import(str(job.pk))
    # where the site runs, its worker may have begun it first
    until = time.monotonic() + LONGEST_WAIT
    while Import.objects.filter(pk=job.pk, status__in=ACTIVE).exists():
        if time.monotonic() > until:
            raise CommandError("The import of the demo does not end; look at its job.")
        time.sleep(0.2)


def _label(annotator: Actor, policy: Policy) -> Iterator[None]:
    """Give one written label after another, through the queue like everybody."""
    rows = map(json.loads, (DATA / "answers.jsonl").read_text().splitlines())
    answers = {row["id"]: row for row in rows}
    while item := next_item(annotator, policy=policy):
        answer = answers[item.external_id]
        lease = Lease.objects.select_related("policy").get(pk=item.lease)
        lease.policy = policy
        submit_label(
            annotator,
            lease=lease,
            verdict=answer["verdict"],
            rules=answer["rules"],
            rationale=answer["rationale"],
        )
        yield
