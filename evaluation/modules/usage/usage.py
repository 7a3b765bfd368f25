"""`evaluate.load(module_path("usage"))`: how far answers depend on the slots (paper 4.2)."""

import datasets
import evaluate

from llink.evaluation import CITATION
from llink.evaluation.usage import gap_intervals, usage_metrics

_DESCRIPTION = """
Usage gaps: by how much the loss of the answers rises, in nats a token, when a model's slots are zeroed, taken from
another example, or replaced by noise of the same norms. Above zero, the slots help.
"""
_INPUTS = """
Args:
    slots: (N) summed loss of each answer, in nats, with the example's own slots.
    zeroed: (N) the same with zeroed slots.
    shuffled: (N) the same with another example's slots.
    tokens: (N) tokens of each answer.
    gaussian: (N), optional: the same with noise.
    resamples: Draws of the 95 % bootstrap intervals; 0, the default, leaves them out.
    seed: Of the draws.
Returns:
    loss, zeroed_loss, shuffled_loss, zeroed_gap, shuffled_gap in nats a token; slots_help and own_slots_help, shares of
    examples; with `gaussian` also gaussian_loss, gaussian_gap, real_slots_help; with `resamples` also intervals.
Examples:
    >>> usage = evaluate.load(module_path("usage"))
    >>> usage.compute(slots=[1.0, 2.0], zeroed=[3.0, 3.0], shuffled=[2.0, 4.0], tokens=[1, 2])["zeroed_gap"]
    1.0
"""


class Usage(evaluate.Metric):
    """Usage gaps as an `evaluate` metric."""

    def _info(self) -> evaluate.MetricInfo:
        losses = {name: datasets.Value("float64") for name in ("slots", "zeroed", "shuffled")}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({**losses, "tokens": datasets.Value("int64")}),
        )

    def _compute(self, slots, zeroed, shuffled, tokens, gaussian=None, resamples=0, seed=0):
        columns = {"slots": slots, "zeroed": zeroed, "shuffled": shuffled}
        if gaussian is not None:
            columns["gaussian"] = gaussian
        losses = list(zip(*columns.values(), strict=True))
        result = usage_metrics(losses, tokens, tuple(columns))
        if resamples:
            result["intervals"] = gap_intervals(losses, tokens, tuple(columns), resamples, seed=seed)
        return result
