"""Answers in free text against the likelier choice of the same prompts."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from zigong.evaluation.generation import parsed_choice


def free_text_figures(answers: pa.Table, choices: Sequence[str]) -> dict[str, float]:
    """Figures of the answers in free text for metrics.json, parsed as CALM parses them; empty if there are none.

    Args:
        answers: columns generated (null where the prompt was not answered in free text) and p_bad.
        choices: possible answers, the bad one first.

    Returns:
        ``evaluation.generated``, their number; ``evaluation.generated_misses``, the number of texts that contain no
        choice; ``evaluation.generated_agreement``, the share of texts with the choice that has the larger likelihood.
    """
    found = answers.filter(pc.is_valid(answers["generated"]))
    if not len(found):
        return {}
    parsed = [parsed_choice(text, choices) for text in found["generated"].to_pylist()]
    likelier = [0 if p_bad >= 0.5 else 1 for p_bad in found["p_bad"].to_pylist()]
    return {
        "evaluation.generated": float(len(parsed)),
        "evaluation.generated_misses": float(parsed.count(None)),
        "evaluation.generated_agreement": sum(a == b for a, b in zip(parsed, likelier, strict=True)) / len(parsed),
    }
