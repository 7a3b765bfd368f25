"""`evaluate.load(module_path("retrieval"))`: cross-lingual retrieval by cosine (paper table 1)."""

import datasets
import evaluate
import torch

from llink.evaluation import CITATION
from llink.evaluation.retrieval import KS, bootstrap_interval, check_ks, rank_metrics, retrieval_ranks

_DESCRIPTION = """
Retrieval of candidate i by query i, by cosine, over all candidates. Candidates that are as close as the right one count
against the queries, so that a collapsed space scores worst and not by chance.
"""
_INPUTS = """
Args:
    predictions: (N) query vectors, lists of d floats.
    references: (N) candidate vectors; number i is the right answer to query i.
    ks: The k of recall at k; 1, 5 and 10 when not given.
    resamples: Draws of the 95 % bootstrap intervals; 0, the default, leaves them out.
    seed: Of the draws.
Returns:
    r@k for every k, mrr, mean_rank, median_rank, n; with `resamples` also intervals, (low, high) of each but n.
Examples:
    >>> retrieval = evaluate.load(module_path("retrieval"))
    >>> retrieval.compute(predictions=[[1.0, 0.0], [1.0, 1.0]], references=[[2.0, 0.1], [0.0, 3.0]], ks=[1])["r@1"]
    0.5
"""


class Retrieval(evaluate.Metric):
    """Retrieval as an `evaluate` metric."""

    def _info(self) -> evaluate.MetricInfo:
        vectors = datasets.Sequence(datasets.Value("float32"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": vectors, "references": vectors}),
        )

    def _compute(self, predictions, references, ks=KS, resamples=0, seed=0):
        check_ks(ks, len(predictions))
        ranks = retrieval_ranks(torch.tensor(predictions), torch.tensor(references))
        result = rank_metrics(ranks, ks)
        if resamples:
            result["intervals"] = bootstrap_interval(ranks, ks, resamples, seed=seed)
        return result
