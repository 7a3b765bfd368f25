"""`evaluate.load(module_path("numeric"))`: are numbers, units, dates, names and addresses kept exactly?"""

import datasets
import evaluate

from llink.evaluation import CITATION
from llink.evaluation.numeric import ALL, numeric_metrics

_DESCRIPTION = """
Numbers, ordinals, quantities with units, percentages, prices, years, dates, times, identifiers, URLs, e-mail addresses
and names of English outputs, matched exactly and one to one with those of their references. The same amount in another
unit is not exact.
"""
_INPUTS = """
Args:
    predictions: N English texts.
    references: N English texts.
    resamples: Draws of the 95 % bootstrap intervals; 0, the default, leaves them out.
    seed: Of the draws.
Returns:
    precision, recall, f1 (None where there is nothing to divide by), exact (the share of references with entities that
    lost none and gained none), n (entities of the references), n_examples, and kinds: the same by kind; with
    `resamples` also intervals.
Examples:
    >>> numeric = evaluate.load(module_path("numeric"))
    >>> numeric.compute(predictions=["It yields 1.5 kW."], references=["It yields 30 MW."])["recall"]
    0.0
"""


class Numeric(evaluate.Metric):
    """Exactness as an `evaluate` metric."""

    def _info(self) -> evaluate.MetricInfo:
        texts = {name: datasets.Value("string") for name in ("predictions", "references")}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(texts),
        )

    def _compute(self, predictions: list[str], references: list[str], resamples: int = 0, seed: int = 0) -> dict:
        found = numeric_metrics(predictions, references, resamples, seed)
        every = found["kinds"].pop(ALL)
        intervals = {"intervals": {**every["intervals"], **found["intervals"]}} if resamples else {}
        return {
            **{name: every[name] for name in ("precision", "recall", "f1", "n")},
            "exact": found["exact"],
            "n_examples": found["n"],
            "kinds": found["kinds"],
            **intervals,
        }
