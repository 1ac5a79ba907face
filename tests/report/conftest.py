from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import pytest
from scipy.special import expit

from zigong.evaluation import metrics
from zigong.evaluation.bootstrap import Interval, clustered_bootstrap
from zigong.evaluation.calibration import calibrated, fit_calibration
from zigong.recipe import Card, Evaluation, Gate
from zigong.release.gate import Evidence, decide
from zigong.release.scaling import card_scores
from zigong.report.run_report import (
    CheckpointRow,
    DataQuality,
    HeldOut,
    InfluenceSection,
    ModelRow,
    QuarantineRow,
    Reproduce,
    RunReport,
    SelectionGroup,
    Share,
    SliceRow,
    Slices,
    SplitResult,
    SplitRow,
    StepRow,
    TableRow,
    VerdictRow,
)
from zigong.report.study_section import StudyRow
from zigong.runs.handover import GateCheck, GateDecision

SIZE = 3000
SLICES = Slices(
    other_model="lightgbm",
    rows=(
        SliceRow(
            name="person=new",
            share=0.32,
            own=Interval(value=0.71, low=0.66, high=0.75),
            other=Interval(value=0.70, low=0.65, high=0.74),
        ),
        SliceRow(name="history=6 to 11 months", share=0.01, own=None, other=None),
    ),
)
NOISE = {"zigong": 0.9, "lightgbm": 1.0, "lightgbm_no_profile": 1.3, "logistic": 1.35, "last_status": 2.4}


def _answers() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(4)
    risk = rng.normal(size=SIZE)
    labels = (rng.random(SIZE) < expit(1.3 * risk - 3.3)).astype(int)
    scores = {name: expit(risk + noise * rng.normal(size=SIZE) - 3) for name, noise in NOISE.items()}
    scores["last_status"] = np.digitize(scores["last_status"], [0.1, 0.4]) / 10 + 0.02
    return labels, rng.integers(2300, size=SIZE), scores | {"majority": np.full(SIZE, labels.mean())}


def _result(labels: np.ndarray, persons: np.ndarray, scores: dict[str, np.ndarray]) -> SplitResult:
    cuts = {name: metrics.best_mcc_threshold(labels, p) for name, p in scores.items()}
    found = clustered_bootstrap(
        labels, scores, persons, replicates=100, confidence=0.95, seed=1, reference="zigong", thresholds=cuts
    )
    rows = tuple(
        ModelRow(
            model=name,
            auc=found.auc[name],
            ks=found.ks[name],
            mcc=found.mcc[name],
            difference=found.auc_differences.get(name),
            brier=metrics.brier(labels, scores[name]),
            log_loss=metrics.log_loss(labels, scores[name]),
        )
        for name in scores
    )
    return SplitResult(split="oot", samples=len(labels), bad=int(labels.sum()), rows=rows)


@pytest.fixture(scope="session")
def full_report() -> RunReport:
    labels, persons, scores = _answers()
    p = calibrated(fit_calibration(scores["zigong"], labels), scores["zigong"])
    gate_scores = {
        "challenger": scores["zigong"],
        "last_status": scores["last_status"],
        "champion": scores["lightgbm_no_profile"],
    }
    decision = decide(
        labels=labels,
        clusters=persons,
        scores=gate_scores,
        threshold=0.15,
        evidence=Evidence(select_scores=p, bad_rate=float(labels.mean()), missed=0.0, change_from_base=0.2),
        gate=Gate(max_auc_loss=0.02, max_psi=None, beat_constant=False, max_calibration_slope=None),
        evaluation=Evaluation(bootstrap=100),
        seed=1,
    )
    checks = tuple(GateCheck(name=item.name, passed=item.passed, sentence=item.sentence) for item in decision.checks)
    pool = np.random.default_rng(2)
    pool_labels = (pool.random(9000) < 0.06).astype(int)
    report = bare_report()
    return replace(
        report,
        verdict=decision.decision,
        question="will the client fall 30 or more days past due within 6 months?",
        facts={
            "dataset": "d41f0c6e7a51",
            "model": "zg-7be1904c22aa",
            "base": "tiny Mistral, 4 layers, 0.9M parameters",
            "data as of": "2020-02-01",
        },
        tables=(
            TableRow(
                table="behavior_events",
                rows_in=1_048_610,
                published=1_048_575,
                quarantined=12,
                dropped={"duplicate of a newer version": 23},
                version="4",
                verdict="passed",
            ),
            TableRow(table="user_sequences", rows_in=152_991, published=152_991, version="2", verdict="passed"),
            TableRow(
                table="dataset_members",
                rows_in=152_991,
                published=42_310,
                dropped={"indeterminate": 10_917, "over the cap": 99_764},
                version="2",
                verdict="passed",
            ),
        ),
        quality=DataQuality(
            verdicts=(
                VerdictRow(table="behavior_events", verdict="passed", held=21, warned=1, blocked=0, not_evaluated=1),
            ),
            warnings=("behavior_events: events_are_fresh: expected at most 62, observed 70",),
            quarantine=(
                QuarantineRow(table="behavior_events", rule="days_past_due_not_negative", rows=9),
                QuarantineRow(table="behavior_events", rule="event_type_is_a_word", rows=3),
            ),
            data_docs="../data_docs/index.html",
        ),
        splits=(
            SplitRow(
                split="train",
                first=date(2017, 1, 1),
                last=date(2018, 7, 1),
                samples=30_000,
                bad=1_553,
                persons=3_310,
                indeterminate=9_197,
            ),
            SplitRow(
                split="target", first=date(2019, 1, 1), last=date(2019, 1, 1), samples=4_611, bad=230, persons=3_480
            ),
            SplitRow(
                split="select", first=date(2019, 1, 1), last=date(2019, 1, 1), samples=4_598, bad=235, persons=3_502
            ),
            SplitRow(split="oot", first=date(2019, 7, 1), last=date(2019, 7, 1), samples=SIZE, bad=int(labels.sum())),
        ),
        results=(_result(labels, persons, scores),),
        held_out=HeldOut(
            split="oot",
            labels=labels,
            scores=scores,
            p_calibrated=p,
            card_scores=card_scores(p, Card()),
        ),
        influence=InfluenceSection(
            labels=pool_labels,
            scores=1e-4 * (pool.normal(size=9000) + 1.5 * (pool_labels - 0.06)),
            groups=(
                SelectionGroup(name="pool", samples=9000, persons=1004, bad_rate=0.06, mean_score=2e-6, mean_loss=0.21),
                SelectionGroup(
                    name="selected by influence",
                    samples=1350,
                    persons=611,
                    bad_rate=0.06,
                    mean_score=1.4e-4,
                    mean_loss=0.33,
                ),
                SelectionGroup(
                    name="random half", samples=4500, persons=1003, bad_rate=0.06, mean_score=1.7e-6, mean_loss=0.21
                ),
            ),
            warnings=("signs flip between checkpoint 2 and checkpoint 5: -0.31",),
            checkpoints=(CheckpointRow(number=1, classes=-0.98, halves=0.71),),
            agreements=(("checkpoint 1", "loss of the agent", 0.42),),
            other_settings=(Share(name="no decay, every checkpoint, gamma 0.9", value=0.87),),
            selected=(Share(name="bad", value=0.15), Share(name="prompts: longest fifth", value=0.31)),
            settings={"decay": "checkpoint", "gamma": "0.9", "pairs": "later"},
        ),
        selection_study=tuple(
            StudyRow(
                rule=rule,
                flipped=0.0,
                budget="epochs",
                share=share,
                auc=Interval(value=0.7 + lead, low=0.68, high=0.73),
                lead=Interval(value=lead, low=lead - 0.01, high=lead + 0.01),
                chosen=rule == "highest scores",
            )
            for share in (0.1, 0.5)
            for rule, lead in (("at random", 0.0), ("highest scores", -0.023))
        ),
        decision=GateDecision(decision=decision.decision, reasons=decision.reasons, checks=checks),
        slices=SLICES,
        reproduce=Reproduce(
            command="zigong run recipes/credit_record.yaml --set lakehouse.root=/data/lake",
            seed=20,
            digest="9f0b" * 16,
            versions={"zigong": "0.1.0", "torch": "2.15.0", "pyspark": "4.2.0", "lightgbm": "4.7.0"},
            pins={"user_sequences": "2", "performance_labels": "1", "dataset_members": "2"},
        ),
    )


def bare_report() -> RunReport:
    steps = {
        "ingest_events": 41.2,
        "build_labels": 18.0,
        "build_sequences": 35.9,
        "train_agent": 402.0,
        "release_model": 4.1,
    }
    return RunReport(
        recipe="credit_record",
        run_id="20260301-081502-9f0b",
        verdict="completed",
        started_at=datetime(2026, 3, 1, 8, 15, tzinfo=UTC),
        finished_at=datetime(2026, 3, 1, 9, 27, 31, tzinfo=UTC),
        steps=tuple(StepRow(name=name, status="succeeded", seconds=seconds) for name, seconds in steps.items()),
    )


@pytest.fixture(name="bare_report")
def _bare_report() -> RunReport:
    return bare_report()


@pytest.fixture
def held_out(full_report: RunReport) -> HeldOut:
    assert full_report.held_out is not None
    return full_report.held_out
