"""The words of the influence section: warnings that say one thing, groups, kinds and settings by plain names."""

from __future__ import annotations

from pathlib import Path

from zigong.report.influence_section import merged, other_settings, selected_shares, unused_mix
from zigong.report.run_report import Share
from zigong.report.study_section import selection_study
from zigong.runs.handover import FinalModel, TrainingMix


def test_one_warning_of_several_checkpoints_is_shown_once() -> None:
    tail = ": the population mean is their imbalance, rank within each class"
    found = merged(
        [
            f"the class means oppose each other at period_00 (-0.92){tail}",
            "signs flip between period_00 and period_01: -0.31",
            f"the class means oppose each other at period_01 (-0.99){tail}",
            "halves of the target disagree at period_02: +0.10",
            "halves of the target disagree at period_03: +0.12",
        ]
    )
    assert found == (
        f"the class means oppose each other at checkpoint 1 (-0.92), 2 (-0.99){tail}",
        "signs flip between checkpoint 1 and checkpoint 2: -0.31",
        "halves of the target disagree at checkpoint 3 (+0.10), 4 (+0.12)",
    )


def test_a_mix_that_random_samples_replaced_is_not_described_as_the_one_that_was_trained_on() -> None:
    mix = TrainingMix(mix_id="mix", random_mix_id="random")

    def trained_on(name: str) -> FinalModel:
        return FinalModel(
            model_id="zigong", folder=Path(), adapter_digest="0" * 64, trained_on=name, mix_against_random="It is worse"
        )

    assert unused_mix(mix, None) == unused_mix(mix, trained_on("mix")) == ()
    (warning,) = unused_mix(mix, trained_on("random"))
    assert warning == "The final model was not trained on this mix. It is worse."


def test_settings_and_kinds_have_plain_names() -> None:
    own = {"decay": "checkpoint", "checkpoints": "all", "gamma": "0.9", "scored": "460", "top_overlap": "1.0"}
    other = {**own, "decay": "sample", "checkpoints": "own", "gamma": "0.95", "top_overlap": "0.25"}
    never = {**own, "decay": "none", "top_overlap": ""}
    assert other_settings([own, other, never]) == (
        Share(
            name="age of the sample, own checkpoint, gamma 0.95",
            value=0.25,
            note="of 460 scored samples",
        ),
    )
    assert other_settings([]) == ()
    rows = [
        {"by": by, "value": value, "samples": "1200", "mean_score": "0.0123", "chosen": "0.5"}
        for by, value in (("task", "t"), ("label", "1"), ("observation_date", "2023-03-01"), ("length", "4"))
    ]
    assert [share.name for share in selected_shares(rows)] == ["bad", "2023-03-01", "prompts: longest fifth"]
    assert selected_shares(rows)[0].note == "of 1,200, mean score 0.012"


def test_the_selection_study_s_rows_of_the_final_split_are_read() -> None:
    figures = {
        f"{name}{end}": value for name, value in (("auc", "0.7"), ("lead", "-0.1")) for end in ("", "_low", "_high")
    }
    named = {"flipped": "0.1", "budget": "steps", "share": "0.05", "rule": "high", "chosen": "True"}
    rows = [{**named, **figures, "split": split} for split in ("select", "oot")]
    (row,) = selection_study(rows, "oot")
    assert (row.rule, row.flipped, row.budget, row.share, row.chosen) == ("highest scores", 0.1, "steps", 0.05, True)
    assert (row.auc.value, row.lead.low) == (0.7, -0.1)
    assert selection_study([], "oot") == ()
