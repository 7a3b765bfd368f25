"""Preference of one system over another from a judge's verdicts (paper table 2), as an `evaluate` metric."""

import datasets
import evaluate

from llink.evaluation import CITATION
from llink.evaluation.judge import tally

_DESCRIPTION = """\
Blinded pairwise comparison: every example is judged in both orders. A system wins where both verdicts name its answer;
verdicts that differ are a tie, counted as inconsistent. Preference is wins / (wins + losses), with a 95 % Wilson
interval.
"""
_KWARGS = """\
Args:
    predictions: N verdicts with the first system's answer shown as A: "A", "B", "tie", "unparsed", or "identical" where
        both answers were the same text and nothing was asked.
    references: N verdicts on the same examples with the second system's answer shown as A.

Returns:
    wins, losses, ties (of them inconsistent and identical), unparsed, n, preference, agreement, picks_a, intervals.
"""


class Preference(evaluate.Metric):
    """Tallies verdicts; see [`llink.evaluation.judge.tally`]."""

    def _info(self) -> evaluate.MetricInfo:
        features = {name: datasets.Value("string") for name in ("predictions", "references")}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=CITATION,
            inputs_description=_KWARGS,
            features=datasets.Features(features),
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict:
        return tally(list(zip(predictions, references, strict=True)))
