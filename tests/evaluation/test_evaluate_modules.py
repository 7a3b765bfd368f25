"""Metrics as `evaluate` modules: loaded from their folder, equal to the functions."""

import evaluate
import pytest
import torch

from llink.data.errors import DataError
from llink.evaluation import CITATION, module_path
from llink.evaluation.retrieval import bootstrap_interval, retrieval_metrics, retrieval_ranks
from llink.evaluation.usage import gap_intervals


@pytest.fixture(scope="module")
def retrieval(tmp_path_factory):
    return evaluate.load(module_path("retrieval"), cache_dir=str(tmp_path_factory.mktemp("evaluate")))


def test_retrieval_is_the_function(retrieval):
    generator = torch.Generator().manual_seed(0)
    candidates = torch.randn(40, 6, generator=generator)
    queries = candidates + torch.randn(40, 6, generator=generator)
    expected = retrieval_metrics(queries, candidates)
    assert 0 < expected["r@1"] < 1, "vacuous unless some are found"
    assert retrieval.compute(predictions=queries, references=candidates) == expected
    found = retrieval.compute(predictions=queries.tolist(), references=candidates.numpy(), ks=[1, 3], resamples=50)
    assert found["r@3"] == retrieval_metrics(queries, candidates, ks=(3,))["r@3"]
    ranks = retrieval_ranks(queries, candidates)
    assert found["intervals"] == bootstrap_interval(ranks, (1, 3), 50)
    seeded = retrieval.compute(predictions=queries, references=candidates, ks=[1, 3], resamples=50, seed=1)
    assert seeded["intervals"] == bootstrap_interval(ranks, (1, 3), 50, seed=1) != found["intervals"]


def test_retrieval_in_batches(retrieval):
    vectors = torch.eye(12)
    for start in range(0, 12, 4):
        retrieval.add_batch(predictions=vectors[start : start + 4], references=vectors[start : start + 4])
    assert retrieval.compute()["r@1"] == 1.0


def test_retrieval_refuses_what_the_function_refuses(retrieval):
    with pytest.raises(DataError, match="Recall at 10 over 3 pairs"):
        retrieval.compute(predictions=torch.eye(3), references=torch.eye(3))
    with pytest.raises(DataError, match="NaN"):
        retrieval.compute(predictions=[[float("nan")]], references=[[1.0]], ks=[1])


def test_the_example_of_its_documentation(retrieval):
    answer = retrieval.compute(predictions=[[1.0, 0.0], [1.0, 1.0]], references=[[2.0, 0.1], [0.0, 3.0]], ks=[1])
    assert answer["r@1"] == 0.5


def test_usage_draws_by_its_seed(tmp_path):
    usage = evaluate.load(module_path("usage"), cache_dir=str(tmp_path))
    losses = [[1.0, 3.0, 2.0], [2.0, 3.0, 4.0], [1.5, 2.0, 2.5], [3.0, 7.0, 3.5]]
    tokens = [1, 2, 3, 4]
    columns = dict(zip(("slots", "zeroed", "shuffled"), zip(*losses, strict=True), strict=True))
    found = [usage.compute(**columns, tokens=tokens, resamples=50, seed=seed)["intervals"] for seed in (0, 1)]
    expected = [gap_intervals(losses, tokens, tuple(columns), 50, seed=seed) for seed in (0, 1)]
    assert found == expected
    assert found[0] != found[1], "vacuous unless the seed matters"


@pytest.mark.parametrize("kind", ["numeric", "preference", "retrieval", "translation", "usage"])
def test_every_module_cites_the_paper(kind, tmp_path):
    assert CITATION in evaluate.load(module_path(kind), cache_dir=str(tmp_path)).citation


def test_a_module_that_is_not_there():
    with pytest.raises(ValueError, match="retrieval"):
        module_path("perplexity")
