"""From frozen labels to a live model: the whole way, top to bottom.

Every step either finished before (its result is found again) or is done now, so a run that is
killed anywhere and started again ends the same. Only workers import this module: it brings
scikit-learn.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import scipy
import sklearn
from django.db import transaction
from django.utils import timezone
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from apps.accounts.actor import task_actor
from apps.accounts.audit import record
from apps.base import jobs
from apps.base.jobs import Status
from apps.corpus.models import Side
from apps.evidence import cases
from apps.evidence.promoting import candidate
from apps.evidence.services import evaluate
from apps.guardrails import artifacts
from apps.guardrails.counts import beginnings, document_counts, example_counts
from apps.guardrails.learning import calibration, classifier, features, long_texts, threshold
from apps.guardrails.learning.artifact import Model
from apps.guardrails.learning.panel import LONG
from apps.guardrails.models import ModelVersion
from apps.guardrails.services import (
    BY_HAND,
    fit_refusal,
    live_model,
    make_live,
    set_threshold,
    tell_change,
)
from apps.labeling.datasets import Answer, answers, dataset_hash, freeze, keep_dataset
from apps.labeling.labels import counts
from apps.labeling.models import DECISIVE, DatasetVersion, Stream, Verdict
from apps.policies.models import Policy
from apps.policies.services import hold_policy
from apps.training.models import TrainingRun
from apps.training.runs import look_at_trigger

RECIPE = {**classifier.RECIPE, **long_texts.RECIPE, **threshold.RECIPE}
LIBRARIES = {
    "numpy": np.__version__,
    "scipy": scipy.__version__,
    "scikit-learn": sklearn.__version__,
    "machine": platform.machine(),
}
RANDOM = (Stream.AUDIT, Stream.EXPLORATION)


@dataclass(frozen=True)
class Frozen:
    """What is learnt from: answers, and the document counts behind the IDF."""

    dataset: DatasetVersion
    rows: list[Answer]
    violates: NDArray[np.bool_]
    frequency: NDArray[np.int32]
    documents: int


def run_training(run_id: str) -> None:
    """Do a training run, or what is left of it. Safe to call twice, and twice at once."""
    run = jobs.run(TrainingRun, run_id, _train, _end)
    if run is not None:
        look_at_trigger(run.policy, counts(run.policy).since_frozen)


def _train(run: TrainingRun) -> None:
    policy = run.policy
    run.step = ""  # one that starts again says each step again
    _say(run, 0.02, "freezing the dataset")
    frozen = _freeze(run)
    version = _same_model(run, frozen)
    if version is None:
        version = _fit(run, frozen)
    else:
        _say(run, 0.9, f"nothing changed since model {version.number}")
        if not artifacts.is_whole(version):
            _make_again(run, frozen, version)
    _say(run, 0.92, "judging the must-pass cases")
    # with all the time they need, so that slow remote checks answer from memory at the end
    cases.run_cases(
        policy, model=version, seconds=math.inf, between=lambda: jobs.heartbeat(run, step=run.step)
    )
    _say(run, 0.95, "comparing with the audit labels")
    _succeed(run, frozen.dataset, version)


def _make_again(run: TrainingRun, frozen: Frozen, version: ModelVersion) -> None:
    """The same bytes once more, where their file is damaged or another installation signed it."""
    again = _fit(run, frozen)
    if again.sha256 != version.sha256:
        raise jobs.Failed(
            f"The damaged model {version.number} did not come out as it was. Label one more text "
            "of the learning stream and retrain, for a model of its own."
        )
    if again.signature != version.signature:
        with transaction.atomic():
            version.signature = again.signature
            version.save(update_fields=["signature"])
            actor = task_actor(run.policy.workspace, "train")
            record(actor, "model.sign", version, number=version.number, sha256=version.sha256)


def _fit(run: TrainingRun, frozen: Frozen) -> ModelVersion:
    """A new model version, not saved yet; its artifact is written."""
    policy = run.policy
    _say(run, 0.1, f"reading the counts of {len(frozen.rows):,} labelled texts")
    texts = example_counts([row.example for row in frozen.rows])

    _say(run, 0.2, "fitting on all labels, and on folds to score each text unseen")
    learned = _learn(run, frozen, texts)
    random = _random_rows(frozen)
    slope, offset = calibration.fit_sigmoid(learned.scores[random], frozen.violates[random])
    probabilities = calibration.apply_sigmoid(learned.scores, slope, offset)
    choice = threshold.choose(
        probabilities[random],
        frozen.violates[random],
        _targets(policy),
        np.unique([row.group_hash for row in frozen.rows], return_inverse=True)[1][random],
    )
    _say(run, 0.85, "looking at held-out texts as parts of long ones")
    length = _long_texts(run, frozen, learned, random, slope=slope, offset=offset)
    model = Model(
        idf=learned.idf,
        weights=learned.linear.weights,
        intercept=learned.linear.intercept,
        slope=slope,
        offset=offset,
        threshold=choice.threshold,
        length_exponent=length.exponent,
        length_pieces=length.pieces,
        length_reach=length.reach,
        length_top=length.top,
        extractor_version=features.EXTRACTOR_VERSION,
    )
    _say(run, 0.9, "writing the model")
    sha256, signature, size = artifacts.keep(model)
    chosen = {
        "threshold": choice.threshold,
        "threshold_rule": choice.rule,
        "threshold_note": choice.note,
        "threshold_provisional": choice.provisional,
    }
    return ModelVersion(
        policy=policy,
        dataset=frozen.dataset,
        policy_version=policy.current_version,
        config_hash=config_hash(policy),
        seed=run.seed,
        recipe=RECIPE,
        libraries=LIBRARIES,
        **chosen,
        report={
            **_report(frozen, probabilities, random, slope, offset),
            "length_exponent": length.exponent,
            "length_pieces": length.pieces,
            "length_reach": length.reach,
            "length_top": length.top,
            "refusal": _refusal(learned.linear.converged, slope),
            # what a threshold chosen by hand gives way to
            "choice": chosen,
        },
        sha256=sha256,
        signature=signature,
        size=size,
    )


def _learn(run: TrainingRun, frozen: Frozen, texts: features.Counts) -> classifier.Learned:
    try:
        return classifier.learn(
            texts,
            frozen.violates,
            [row.group_hash for row in frozen.rows],
            frozen.frequency,
            frozen.documents,
            seed=run.seed,
            folds=classifier.folds_for(len(frozen.rows)),
            progress=lambda done, of: _say(
                run, 0.2 + 0.6 * done / of, f"fit {done} of {of}" if done else run.step
            ),
        )
    except classifier.TooFewGroups:
        raise jobs.Failed(
            "All violating or all complying labels come from one group of near twins; "
            "label texts that differ more."
        ) from None


def _long_texts(
    run: TrainingRun,
    frozen: Frozen,
    learned: classifier.Learned,
    random: NDArray[np.bool_],
    *,
    slope: float,
    offset: float,
) -> long_texts.Length:
    def read(rows: NDArray[np.intp]) -> list[str]:
        return beginnings([frozen.rows[row].example for row in rows], LONG)

    return long_texts.learn(
        learned.folds, random & ~frozen.violates, read, slope=slope, offset=offset, seed=run.seed
    )


def _freeze(run: TrainingRun) -> Frozen:
    """Freeze the train-side labels there are now; a restarted run freezes anew."""
    policy = run.policy
    watermark = freeze(policy)
    rows = [
        row
        for row in answers(policy, side=Side.TRAIN, watermark=watermark)
        if row.verdict in DECISIVE
    ]
    violates = np.array([row.verdict == Verdict.VIOLATES for row in rows], bool)
    positives, negatives = int(violates.sum()), int((~violates).sum())
    least = classifier.MINIMUM_PER_SIDE
    if positives < least or negatives < least:
        raise jobs.Failed(
            f"Too few labels: {positives} violating and {negatives} complying on the train side; "
            f"at least {least} of each are needed. Label {max(least - positives, 0)} more "
            f"violating and {max(least - negatives, 0)} more complying ones."
        )
    frequency, documents = document_counts(policy)
    dataset = keep_dataset(
        policy,
        content_hash=dataset_hash(
            rows,
            documents=documents,
            frequency=hashlib.sha256(frequency.tobytes()).hexdigest(),
            config=config_hash(policy),
            seed=run.seed,
        ),
        watermark=watermark,
        violates=positives,
        complies=negatives,
    )
    return Frozen(dataset, rows, violates, frequency, documents)


def config_hash(policy: Policy) -> str:
    """SHA-256 over recipe, extractor, library versions and targets."""
    config = {
        "recipe": RECIPE,
        "extractor": features.EXTRACTOR_VERSION,
        "libraries": LIBRARIES,
        "targets": asdict(_targets(policy)),
    }
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def _same_model(run: TrainingRun, frozen: Frozen) -> ModelVersion | None:
    return ModelVersion.objects.filter(
        policy=run.policy,
        dataset=frozen.dataset,
        config_hash=config_hash(run.policy),
        seed=run.seed,
    ).first()


def _targets(policy: Policy) -> threshold.Targets:
    return threshold.Targets(
        false_positive_rate=policy.target_false_positive_rate,
        recall=policy.target_recall,
        cost_ratio=policy.target_cost_ratio,
    )


def _random_rows(frozen: Frozen) -> NDArray[np.bool_]:
    """Which rows calibrate: the randomly drawn ones, or all where those lack a side."""
    random = np.array([row.stream in RANDOM for row in frozen.rows], bool)
    violates = frozen.violates[random]
    least = classifier.MINIMUM_PER_SIDE
    if violates.sum() < least or (~violates).sum() < least:
        return np.ones(len(frozen.rows), bool)
    return random


def _report(
    frozen: Frozen,
    probabilities: NDArray[np.float64],
    random: NDArray[np.bool_],
    slope: float,
    offset: float,
) -> dict[str, Any]:
    violates = frozen.violates[random]
    return {
        "labels": len(frozen.rows),
        "random_labels": int(random.sum()),
        "calibration_provisional": int((~violates).sum()) < threshold.ENOUGH_NEGATIVES,
        "slope": slope,
        "offset": offset,
        "average_precision": float(average_precision_score(violates, probabilities[random])),
        "calibration_error": calibration.expected_calibration_error(
            probabilities[random], violates
        ),
    }


def _refusal(converged: bool, slope: float) -> str:
    """Why a model may not go live; "" when it may."""
    if not converged:
        return "the fit did not converge"
    if slope <= 0:
        return "scores do not rise with violations (the calibration slope is not positive)"
    return ""


def _succeed(run: TrainingRun, dataset: DatasetVersion, version: ModelVersion) -> None:
    """Number the model, make it live, evaluate it and end the run, all or nothing."""
    policy = run.policy
    actor = task_actor(policy.workspace, "train")
    with transaction.atomic():
        hold_policy(policy)
        choice = _choice_again(version)
        unchanged = version.status == ModelVersion.Status.LIVE and not choice
        refusal = "" if unchanged else _held_back(policy, version, choice)
        if version._state.adding:
            last = ModelVersion.objects.filter(policy=policy).order_by("-number").first()
            version.number = last.number + 1 if last else 1
            version.status = ModelVersion.Status.REJECTED
            version.save(force_insert=True)
            record(actor, "model.create", version, number=version.number, sha256=version.sha256)
            _log(run, f"model {version.number}, {version.size:,} bytes; {version.threshold_note}")
        if choice and not refusal:
            set_threshold(actor, version, choice)
            _log(run, f"its threshold {version.threshold_note}")
        if refusal:
            _log(run, f"model {version.number} does not go live: {refusal}")
        elif version.status != ModelVersion.Status.LIVE:
            before = live_model(policy)
            make_live(actor, version)
            _log(run, f"model {version.number} is live")
            if before and before.threshold_rule == BY_HAND:
                _log(
                    run,
                    f"it takes the place of model {before.number}, whose threshold "
                    f"{before.threshold:.4g} {before.threshold_note}",
                )
        elif choice:
            tell_change(policy, f"model {version.number} at threshold {version.threshold:.4g}")
        evaluation = evaluate(policy, version)
        _log(run, f"{evaluation.counted:,} audit labels counted")
        reason = f"The old model stays: {refusal}." if refusal else ""
        if unchanged and (failing := cases.refusal(cases.run_cases(policy))):
            reason = f"It stays in service, although {failing}."
            _log(run, f"model {version.number} stays in service, although {failing}")
        jobs.finish(
            run,
            Status.SUCCEEDED,
            reason=reason,
            step="done",
            dataset=dataset,
            model_version=version,
            log=run.log,
        )
        record(actor, "run.succeeded", run, model=version.number, reason=reason)


def _choice_again(version: ModelVersion) -> dict[str, Any]:
    """What the targets chose for a model whose threshold a person has moved since; else nothing."""
    moved = version.threshold_rule == BY_HAND
    return dict(version.report.get("choice", {})) if moved else {}


def _held_back(policy: Policy, version: ModelVersion, choice: dict[str, Any]) -> str:
    """Why the model does not go live, or not at the threshold that the targets chose."""
    tried = candidate(version, choice.get("threshold"))
    return fit_refusal(version) or cases.refusal(cases.run_cases(policy, model=tried))


def _end(run: TrainingRun, status: Status, reason: str) -> None:
    with transaction.atomic():
        _log(run, reason)
        jobs.finish(run, status, reason=reason, log=run.log)
        record(task_actor(run.policy.workspace, "train"), f"run.{status}", run, reason=reason)


def _say(run: TrainingRun, progress: float, text: str) -> None:
    """Report a step, which also renews the lease and notices a cancel."""
    if text != run.step:
        _log(run, text)
        TrainingRun.objects.filter(pk=run.pk, fence=run.fence).update(log=run.log)
    jobs.heartbeat(run, progress=progress, step=text)


def _log(run: TrainingRun, text: str) -> None:
    run.log = [*run.log, {"at": timezone.now().isoformat(timespec="milliseconds"), "text": text}]
