"""Retrieval metrics and translation scores."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llink.data.errors import DataError
from llink.evaluation import retrieval
from llink.evaluation.retrieval import bootstrap_interval, rank_metrics, rank_report, retrieval_metrics, retrieval_ranks
from llink.evaluation.translation import bleu, chrf, translation_metrics

# Small whole numbers give many exact ties; an offset keeps them from the zero vector.
rows = st.lists(st.tuples(*[st.integers(-2, 2)] * 3).filter(any), min_size=1, max_size=12)


@settings(max_examples=60)
@given(rows, st.integers(1, 5), st.randoms())
def test_ranks_equal_a_naive_count(vectors, chunk_size, random):
    shuffled = random.sample(vectors, len(vectors))
    queries, candidates = torch.tensor(vectors).float(), torch.tensor(shuffled).float()
    cosines = torch.nn.functional.cosine_similarity(queries.double()[:, None], candidates.double()[None], dim=-1)
    naive = [
        1 + sum(cosines[i, j].item() >= cosines[i, i].item() - 1e-6 for j in range(len(vectors)) if j != i)
        for i in range(len(vectors))
    ]
    assert retrieval_ranks(queries, candidates, chunk_size).tolist() == naive


def test_metrics_by_hand():
    metrics = rank_metrics(torch.tensor([1, 2, 4, 10]), ks=(1, 3))
    assert metrics == {
        "r@1": 0.25,
        "r@3": 0.5,
        "mrr": (1 + 0.5 + 0.25 + 0.1) / 4,
        "mean_rank": 4.25,
        "median_rank": 3.0,
        "n": 4,
    }


def test_perfect_and_collapsed_spaces():
    vectors = torch.randn(40, 16, generator=torch.Generator().manual_seed(0))
    perfect = retrieval_metrics(vectors, 3 * vectors)  # cosine: scale is nothing
    assert (perfect["r@1"], perfect["mean_rank"]) == (1.0, 1.0)
    collapsed = retrieval_metrics(vectors, torch.ones(40, 16))
    assert (collapsed["r@10"], collapsed["mean_rank"]) == (0.0, 40.0)


def test_copies_of_the_answer_are_ties_however_the_product_is_blocked():
    generator = torch.Generator().manual_seed(1)
    candidates = torch.randn(300, 257, generator=generator)
    candidates[200:] = candidates[:100]
    queries = candidates + 0.01 * torch.randn(300, 257, generator=generator)
    for chunk_size in (7, 64, 1024):
        ranks = retrieval_ranks(queries, candidates, chunk_size)
        assert ranks[:100].tolist() == [2] * 100
        assert ranks[100:200].tolist() == [1] * 100


def test_candidate_blocks(monkeypatch):
    vectors = torch.randn(50, 8, generator=torch.Generator().manual_seed(2))
    other = torch.randn(50, 8, generator=torch.Generator().manual_seed(3))
    whole = retrieval_ranks(vectors, other)
    monkeypatch.setattr("llink.evaluation.retrieval._CANDIDATE_CHUNK", 7)
    assert torch.equal(retrieval_ranks(vectors, other, chunk_size=11), whole)


@pytest.mark.parametrize(
    ("queries", "candidates", "message"),
    [
        (torch.ones(3, 2), torch.ones(4, 2), r"\(3, 2\).*\(4, 2\)"),
        (torch.ones(3), torch.ones(3), "must be"),
        (torch.ones(0, 2), torch.ones(0, 2), "must be"),
        (torch.tensor([[1.0], [float("nan")]]), torch.ones(2, 1), "1 queries are NaN or infinite, the first is row 1"),
        (torch.ones(2, 1), torch.tensor([[float("inf")], [1.0]]), "1 candidates"),
    ],
)
def test_bad_vectors(queries, candidates, message):
    with pytest.raises(DataError, match=message):
        retrieval_ranks(queries, candidates)


def test_bad_arguments():
    vectors = torch.eye(5)
    with pytest.raises(DataError, match="Recall at 10 over 5 pairs"):
        retrieval_metrics(vectors, vectors)
    with pytest.raises(DataError, match="positive"):
        retrieval_metrics(vectors, vectors, ks=(0, 1))
    with pytest.raises(DataError, match="chunk_size=0"):
        retrieval_ranks(vectors, vectors, chunk_size=0)
    with pytest.raises(DataError, match="confidence=1"):
        bootstrap_interval(torch.arange(1, 20), confidence=1)


def test_bootstrap_covers_the_estimate_and_is_deterministic():
    ranks = torch.randint(1, 50, (400,), generator=torch.Generator().manual_seed(4))
    intervals = bootstrap_interval(ranks, resamples=200)
    metrics = rank_metrics(ranks)
    assert set(intervals) == set(metrics) - {"n"}
    for name, (low, high) in intervals.items():
        assert low <= metrics[name] <= high
    assert intervals == bootstrap_interval(ranks, resamples=200)
    low, high = intervals["r@10"]  # normal approximation of a binomial's 95 % interval
    expected = 2 * 1.96 * (metrics["r@10"] * (1 - metrics["r@10"]) / 400) ** 0.5
    assert high - low == pytest.approx(expected, rel=0.25)
    assert bootstrap_interval(torch.ones(20, dtype=torch.int64), resamples=5)["mrr"] == (1.0, 1.0)


def test_bootstrap_draws_ranks_with_replacement():
    """Against intervals of plain resampling: another generator, so equal but for the noise of 1,500 draws."""
    ranks = torch.randint(1, 400, (151,), generator=torch.Generator().manual_seed(5)) ** 2 // 400 + 1
    generator = torch.Generator().manual_seed(6)
    samples = ranks[torch.randint(len(ranks), (1500, len(ranks)), generator=generator)]
    plain = [rank_metrics(sample) for sample in samples]
    for name, ends in bootstrap_interval(ranks, resamples=1500).items():
        values = torch.tensor([metrics[name] for metrics in plain], dtype=torch.float64)
        low, high = values.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
        assert ends == pytest.approx((low, high), abs=0.2 * (high - low)), name


def test_bootstrap_in_chunks(monkeypatch):
    ranks = torch.arange(1, 30)
    whole = bootstrap_interval(ranks, resamples=50)
    monkeypatch.setattr("llink.evaluation.bootstrap._CELLS", 100)
    assert bootstrap_interval(ranks, resamples=50) == whole


def test_a_report_is_plain_json():
    ranks = torch.arange(1, 30)
    report = rank_report(ranks)
    assert json.loads(json.dumps(report)) == report
    assert report["intervals"].keys() == rank_metrics(ranks).keys() - {"n"}
    assert report["intervals"]["mrr"][0] < report["mrr"] < report["intervals"]["mrr"][1]


def test_ranking_holds_no_second_copy_of_its_vectors(monkeypatch):
    """The largest normalised piece is one block, not all vectors."""
    seen = []
    unit = retrieval._unit
    monkeypatch.setattr(retrieval, "_unit", lambda vectors: seen.append(len(vectors)) or unit(vectors))
    monkeypatch.setattr(retrieval, "_CANDIDATE_CHUNK", 64)
    retrieval_ranks(torch.randn(500, 4), torch.randn(500, 4), chunk_size=32)
    assert max(seen) == 64


def test_chrf_and_bleu():
    references = ["The cat sat on the mat.", "He went home early today."]
    assert chrf(references, references) == pytest.approx(100)
    assert bleu(references, references) == pytest.approx(100)
    assert chrf(["zzz", ""], references) < 5
    near = ["The cat sat on a mat.", "He went home today."]
    assert chrf(near, references) != chrf(near, references, word_order=0)
    expected = {"chrf": chrf(near, references), "bleu": bleu(near, references), "n": 2}
    assert translation_metrics(near, references, resamples=0) == expected
    found = translation_metrics(near + ["x"] * 20, references + ["He came."] * 20)
    for name, (low, high) in found.pop("intervals").items():
        assert 0 <= low < found[name] < high <= 100, name
    assert translation_metrics(["x"], ["y"])["intervals"] == {"chrf": [0, 0], "bleu": [0, 0]}


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        (["a"], ["a", "b"], "1 hypotheses for 2"),
        ([], [], "no hypotheses"),
        (["a", None], ["a", "b"], r"hypotheses\[1\] is a NoneType"),
        (["a"], "a", "references is one string"),
    ],
)
def test_bad_translations(hypotheses, references, message):
    for metric in (chrf, bleu):
        with pytest.raises(DataError, match=message):
            metric(hypotheses, references)
