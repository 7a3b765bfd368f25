"""The losses of Stage A: values by hand, masking, mining, gradients."""

import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llink.trainers.align_loss import (
    HardNegatives,
    direction_loss,
    info_nce,
    log_norm_loss,
    select_hard_negatives,
    symmetric_info_nce,
)
from llink.trainers.errors import TrainingError


def vectors(count: int, dim: int = 6, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def unit(count: int, dim: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.nn.functional.normalize(vectors(count, dim, seed), dim=1)


def naive_nce(q, k, tau, ids, queue=None, queue_ids=None, chosen=None):
    """InfoNCE term by term; `chosen[i]` lists the queue's negatives of query i."""
    cosine = torch.nn.functional.cosine_similarity
    losses = []
    for i in range(len(q)):
        positive = math.exp(cosine(q[i], k[i], dim=0).item() / tau)
        others = [j for j in range(len(k)) if j != i and ids[j] != ids[i]]
        total = positive + sum(math.exp(cosine(q[i], k[j], dim=0).item() / tau) for j in others)
        if queue is not None:
            kept = [m for m in chosen[i] if queue_ids[m] != ids[i]]
            total += sum(math.exp(cosine(q[i], queue[m], dim=0).item() / tau) for m in kept)
        losses.append(-math.log(positive / total))
    return sum(losses) / len(losses)


ids_of = st.lists(st.integers(0, 4), min_size=1, max_size=8)


@given(ids_of, st.floats(0.05, 1.0))
def test_info_nce_equals_the_formula(ids, tau):
    q, k = vectors(len(ids), seed=1), vectors(len(ids), seed=2)
    assert info_nce(q, k, tau, torch.tensor(ids)).item() == pytest.approx(naive_nce(q, k, tau, ids))


def test_without_ids_every_row_is_its_own_group():
    q, k = vectors(5, seed=1), vectors(5, seed=2)
    assert info_nce(q, k, 0.1).item() == pytest.approx(info_nce(q, k, 0.1, torch.arange(5)).item())
    assert info_nce(q, k, 0.1).item() == pytest.approx(naive_nce(q, k, 0.1, range(5)))


@settings(max_examples=60)
@given(
    ids_of,
    st.lists(st.integers(0, 6), min_size=1, max_size=20),
    st.integers(1, 25),
    st.sampled_from(["step", "query", "none"]),
)
def test_symmetric_loss_with_a_queue_equals_the_formula(ids, queue_ids, count, mining):
    p, h, queue = vectors(len(ids), seed=1), vectors(len(ids), seed=2), unit(len(queue_ids), seed=3)
    cosines = torch.nn.functional.normalize(p, dim=1) @ queue.T
    allowed = torch.tensor(ids)[:, None] != torch.tensor(queue_ids)[None]
    if mining == "none":
        chosen = [range(len(queue_ids))] * len(ids)
    elif mining == "query":
        ranked = cosines.masked_fill(~allowed, -math.inf).argsort(dim=1, descending=True)[:, :count]
        chosen = ranked.tolist()
    else:
        mean = torch.where(allowed, cosines, 0).sum(0) / allowed.sum(0).clamp(min=1)
        order = mean.masked_fill(~allowed.any(0), -math.inf).argsort(descending=True)
        chosen = [[m for m in order[:count].tolist() if allowed[:, m].any()]] * len(ids)
    expected = 0.5 * (naive_nce(p, h, 0.2, ids, queue, queue_ids, chosen) + naive_nce(h, p, 0.2, ids))
    got = symmetric_info_nce(p, h, 0.2, torch.tensor(ids), queue, torch.tensor(queue_ids), count, mining)
    assert got.item() == pytest.approx(expected, abs=1e-9)


@settings(max_examples=60)
@given(
    ids_of, st.lists(st.integers(0, 6), min_size=1, max_size=20), st.integers(1, 25), st.sampled_from(["step", "query"])
)
def test_masked_items_are_never_negatives(ids, queue_ids, count, mining):
    ids, queue_ids = torch.tensor(ids), torch.tensor(queue_ids)
    queue = unit(len(queue_ids), seed=4)
    negatives = select_hard_negatives(vectors(len(ids), seed=5), ids, queue, queue_ids, count, mining)
    chosen = queue_ids[negatives.indices].expand(len(ids), -1)  # (B, M)
    assert torch.equal(negatives.mask, chosen == ids[:, None])
    if mining == "step":  # no place is wasted on a vector that is nobody's negative
        assert (~negatives.mask).any(dim=0).all()


@pytest.mark.parametrize("mining", ["step", "query", "none"])
def test_the_positive_in_the_queue_changes_nothing(mining):
    p, h, ids = vectors(4, seed=1), vectors(4, seed=2), torch.arange(4)
    far, far_ids = unit(6, seed=3), torch.arange(10, 16)
    own = torch.nn.functional.normalize(h, dim=1)
    clean = symmetric_info_nce(p, h, 0.1, ids, far, far_ids, 6, mining)
    # Each query finds its own positive among the others' positives, which are in the batch as well.
    for row in range(4):
        mixed = torch.cat([far, own[row : row + 1]])
        mixed_ids = torch.cat([far_ids, ids[row : row + 1]])
        cosines = torch.nn.functional.normalize(p, dim=1) @ mixed.T
        dirty = info_nce(
            p[row : row + 1],
            h[row : row + 1],
            0.1,
            ids[row : row + 1],
            select_hard_negatives(p[row : row + 1], ids[row : row + 1], mixed, mixed_ids, 7, mining),
        )
        expected = -torch.log_softmax(
            torch.cat([(torch.cosine_similarity(p[row], h[row], dim=0) / 0.1).view(1), cosines[row, :6] / 0.1]), 0
        )[0]
        assert dirty.item() == pytest.approx(expected.item())
    assert torch.isfinite(clean)


def test_a_queue_of_positives_only_is_no_queue():
    p, h, ids = vectors(3, seed=1), vectors(3, seed=2), torch.tensor([5, 5, 5])
    queue, queue_ids = unit(8, seed=3), torch.full((8,), 5)
    for mining in ("step", "query", "none"):
        assert symmetric_info_nce(p, h, 0.1, ids, queue, queue_ids, 4, mining).item() == pytest.approx(0.0)


def test_half_precision_queue_and_inputs_are_widened():
    p, h = vectors(4, seed=1).half(), vectors(4, seed=2).half()
    loss = symmetric_info_nce(p, h, 0.05, torch.arange(4), unit(9, seed=3).half(), torch.arange(10, 19), 5)
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert direction_loss(p, h).dtype == log_norm_loss(p, h).dtype == torch.float32


@pytest.mark.parametrize("mining", ["step", "query", "none"])
def test_gradients(mining):
    p, h = vectors(4, seed=1).requires_grad_(), vectors(4, seed=2)
    queue, ids, queue_ids = unit(9, seed=3), torch.tensor([0, 1, 2, 2]), torch.tensor([0, 0, 1, 5, 6, 7, 8, 9, 2])

    def loss(p):
        nce = symmetric_info_nce(p, h, 0.5, ids, queue, queue_ids, 3, mining)
        return nce + direction_loss(p, h) + log_norm_loss(p, h)

    assert torch.autograd.gradcheck(loss, p)


def test_the_loss_falls_as_pairs_align():
    h = vectors(16, seed=2)
    losses = [
        symmetric_info_nce(h + noise * vectors(16, seed=3), h, 0.1, torch.arange(16)).item() for noise in (2, 0.5, 0)
    ]
    assert losses[0] > losses[1] > losses[2]


def test_direction_and_norm_by_hand():
    p, h = torch.tensor([[3.0, 0.0], [0.0, 2.0]]), torch.tensor([[0.0, 1.0], [0.0, 5.0]])
    assert direction_loss(p, h).item() == pytest.approx((2 + 0) / 2)
    assert direction_loss(p, h, "mse").item() == pytest.approx((2 + 0) / 4)
    assert log_norm_loss(p, h).item() == pytest.approx((math.log(3) ** 2 + math.log(2 / 5) ** 2) / 2)
    assert direction_loss(p, 7 * p).item() == pytest.approx(0)


def test_bad_arguments():
    p = vectors(2)
    with pytest.raises(ValueError, match="temperature=0"):
        info_nce(p, p, 0.0)
    with pytest.raises(ValueError, match="direction_reduction='sum'"):
        direction_loss(p, p, "sum")
    with pytest.raises(ValueError, match="hard_negative_mining='best'"):
        symmetric_info_nce(p, p, 0.1, torch.arange(2), unit(3), torch.arange(3), 2, "best")
    with pytest.raises(ValueError, match="needs ids"):
        symmetric_info_nce(p, p, 0.1, None, unit(3), torch.arange(3))


def test_empty_selection_is_no_negative():
    p, h = vectors(2, seed=1), vectors(2, seed=2)
    nothing = HardNegatives(p[:0], torch.zeros(2, 0, dtype=torch.bool), torch.arange(0))
    assert info_nce(p, h, 0.1, None, nothing).item() == info_nce(p, h, 0.1).item()


def test_non_finite_error_names_step_and_examples():
    error = TrainingError.of_loss(math.nan, 17, [f"km:{i}" for i in range(30)])
    assert "global step 17" in str(error)
    assert "'km:0'" in str(error)
    assert "20 more" in str(error)
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.step, copy.example_ids, str(copy)) == (17, error.example_ids, str(error))
