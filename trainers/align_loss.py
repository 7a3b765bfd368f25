r"""The loss of Stage A, and what it is made of: pure functions of tensors (paper 4.1).

L = ½ [NCE(p→h) + NCE(h→p)] + λ_dir · L_dir + λ_norm · L_norm

B is the batch (over all processes), d the decoder's width, Q the queue's fill. `p` are projected foreign vectors
p_F = g(z_F), `h` teacher vectors h_E. Half-precision inputs are widened to float32.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import TrainingArguments

from ..arguments_llink import checked_methods

HARD_NEGATIVE_MINING = ("step", "query", "none")
DIRECTION_REDUCTIONS = ("squared_norm", "mse")

_QUEUE_BLOCK = 4096


@checked_methods
class AlignLoss(nn.Module):
    r"""L = ½ [NCE(p→h) + NCE(h→p)] + λ_dir · ‖p̂ − ĥ‖² + λ_norm · (log ‖p‖ − log ‖h‖)² (paper 4.1).

    Inputs, as [`AlignTrainer`] gives them to any loss, by name:

    | input | shape | what it is |
    |---|---|---|
    | `projected` | (B, d) | p_F of the whole batch, over all processes; the gradient flows into it |
    | `targets` | (B, d) | h_E of the same pairs, conditioned |
    | `groups` | (B,) | group ids: rows of one group share a sentence, and are never negatives of each other |
    | `temperature` | float | τ of this step |
    | `queue_vectors` | (Q, d) or None | L2-normalised teacher vectors of earlier steps; None in evaluation |
    | `queue_groups` | (Q,) or None | their group ids |

    It returns a dict of scalars: `loss`, what is descended, and beside it whatever is to stand in the logs. A loss of
    your own is any callable that does the same:

    ```python
    def mse(projected, targets, **_):
        return {"loss": (projected - targets).square().mean()}


    AlignTrainer(model, AlignConfig("out/a"), train_dataset=pairs, loss=mse)
    ```

    Related: [`slot_info_nce`] is Stage B's contrast; [`bag_of_words_loss`] is what a lexicon learns from.

    Args:
        hard_negatives, hard_negative_mining, direction_weight, direction_reduction, norm_weight: As the arguments of
            [`AlignConfig`] of the same names.
    """

    def __init__(
        self,
        hard_negatives: int = 256,
        hard_negative_mining: str = "step",
        direction_weight: float = 0.05,
        direction_reduction: str = "squared_norm",
        norm_weight: float = 0.02,
    ) -> None:
        super().__init__()
        self.hard_negatives, self.hard_negative_mining = hard_negatives, hard_negative_mining
        self.direction_weight, self.direction_reduction = direction_weight, direction_reduction
        self.norm_weight = norm_weight

    @classmethod
    def of(cls, args: TrainingArguments) -> AlignLoss:
        """The loss that an [`AlignConfig`] describes."""
        names = ("hard_negatives", "hard_negative_mining", "direction_weight", "direction_reduction", "norm_weight")
        return cls(**{name: getattr(args, name) for name in names})

    def forward(
        self,
        projected: Tensor,
        targets: Tensor,
        groups: Tensor,
        temperature: float,
        queue_vectors: Tensor | None = None,
        queue_groups: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The loss, and its terms `nce`, `direction` and `log_norm`, those whose weight is not 0."""
        mined = (queue_vectors, queue_groups, self.hard_negatives, self.hard_negative_mining)
        terms = {"nce": symmetric_info_nce(projected, targets, temperature, groups, *mined)}
        loss = terms["nce"]
        if self.direction_weight:
            terms["direction"] = direction_loss(projected, targets, self.direction_reduction)
            loss = loss + self.direction_weight * terms["direction"]
        if self.norm_weight:
            terms["log_norm"] = log_norm_loss(projected, targets)
            loss = loss + self.norm_weight * terms["log_norm"]
        return {"loss": loss, **terms}


class HardNegatives(NamedTuple):
    """Negatives chosen from the queue.

    Attributes:
        vectors: (M, d), one set for the whole batch, or (B, M, d), one set for each query.
        mask: (B, M), True where a vector is no negative of that query and must not count.
        indices: (M,) or (B, M), their positions in the queue.
    """

    vectors: Tensor
    mask: Tensor
    indices: Tensor


def info_nce(
    queries: Tensor, keys: Tensor, temperature: float, ids: Tensor | None = None, negatives: HardNegatives | None = None
) -> Tensor:
    r"""InfoNCE with cosine logits (paper 4.1; van den Oord et al. 2018).

    −1/B Σ_i log [ exp(s_ii) / (Σ_{j: j = i or id_j ≠ id_i} exp(s_ij) + Σ_m exp(s_im)) ],  s_ij = cos(q_i, k_j) / τ

    Args:
        queries: (B, d).
        keys: (B, d); row i is the positive of query i, the other rows are its negatives.
        temperature: τ > 0.
        ids: (B,) group ids. A key of the query's own group is a false negative and is masked. Without ids every row is
            its own group.
        negatives: Further negatives from the queue.

    Returns:
        Scalar, in nats.

    Raises:
        ValueError: If the temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature={temperature} must be positive (the released code anneals 0.17 to 0.08).")
    queries, keys = _unit(queries), _unit(keys)
    logits = queries @ keys.T  # (B, B)
    if ids is not None:
        same = ids.unsqueeze(1) == ids.unsqueeze(0)
        own = torch.eye(len(ids), dtype=torch.bool, device=ids.device)
        logits = logits.masked_fill(same & ~own, -torch.inf)
    if negatives is not None and negatives.mask.shape[1]:
        vectors = negatives.vectors.to(queries.dtype)
        pattern = "bd,md->bm" if vectors.dim() == 2 else "bd,bmd->bm"
        extra = torch.einsum(pattern, queries, vectors)  # (B, M)
        logits = torch.cat([logits, extra.masked_fill(negatives.mask, -torch.inf)], dim=1)  # (B, B + M)
    return F.cross_entropy(logits / temperature, torch.arange(len(logits), device=logits.device))


def symmetric_info_nce(
    p: Tensor,
    h: Tensor,
    temperature: float,
    ids: Tensor | None = None,
    queue_vectors: Tensor | None = None,
    queue_ids: Tensor | None = None,
    hard_negatives: int = 256,
    hard_negative_mining: str = "step",
) -> Tensor:
    """½ [NCE(p→h) + NCE(h→p)] with hard negatives from a queue of teacher vectors (paper 4.1; He et al. 2020).

    The queue holds teacher vectors, so it adds negatives to p→h only; h→p has the batch's.

    Args:
        p: (B, d) projected foreign vectors.
        h: (B, d) teacher vectors, row i the positive of row i.
        temperature: τ > 0.
        ids: (B,) group ids; members of one group are never each other's negatives, in the batch or in the queue.
        queue_vectors: (Q, d) L2-normalised teacher vectors of earlier steps.
        queue_ids: (Q,) their group ids.
        hard_negatives: M, how many of the queue enter the denominator (paper 4.1: 256).
        hard_negative_mining: See [`select_hard_negatives`].

    Returns:
        Scalar, in nats.

    Raises:
        ValueError: If the temperature or the mining is invalid, or if a queue comes without ids of its own or of the
            batch.
    """
    negatives = None
    if queue_vectors is not None and len(queue_vectors) and hard_negatives:
        if ids is None or queue_ids is None:
            raise ValueError("A queue needs ids and queue_ids: without them it would hold positives as negatives.")
        negatives = select_hard_negatives(p, ids, queue_vectors, queue_ids, hard_negatives, hard_negative_mining)
    return 0.5 * (info_nce(p, h, temperature, ids, negatives) + info_nce(h, p, temperature, ids))


@torch.no_grad()
def select_hard_negatives(
    queries: Tensor, ids: Tensor, queue_vectors: Tensor, queue_ids: Tensor, count: int, mining: str = "step"
) -> HardNegatives:
    """Chooses the hardest negatives of a batch from the queue (paper 4.1: "per step, the 256 hardest by cosine").

    Args:
        queries: (B, d).
        ids: (B,) their group ids.
        queue_vectors: (Q, d) L2-normalised.
        queue_ids: (Q,) group ids of the queue.
        count: M, fewer if the queue does not hold as many.
        mining: `step`: one set for the batch, by the similarity averaged over the queries to which a vector is a
            negative (as the released code). `query`: each query's own hardest. `none`: no mining, the whole queue.

    Returns:
        The negatives; a vector of a query's own group is masked for that query, and never chosen by it.

    Raises:
        ValueError: If `mining` is not one of the three.
    """
    if mining not in HARD_NEGATIVE_MINING:
        raise ValueError(f"hard_negative_mining={mining!r} is not one of {', '.join(HARD_NEGATIVE_MINING)}.")
    unit = _unit(queries)
    if mining == "query":
        similarity = torch.cat([unit @ block.to(unit.dtype).T for block in queue_vectors.split(_QUEUE_BLOCK)], dim=1)
        similarity.masked_fill_(ids.unsqueeze(1) == queue_ids.unsqueeze(0), -torch.inf)  # (B, Q)
        values, indices = similarity.topk(min(count, len(queue_ids)), dim=1)  # (B, M)
        return HardNegatives(queue_vectors[indices], torch.isneginf(values), indices)
    if mining == "none":
        indices = torch.arange(len(queue_ids), device=queue_ids.device)
    else:
        scores = _mean_similarity(unit, ids, queue_vectors, queue_ids)  # (Q,)
        usable = int((~torch.isneginf(scores)).sum())
        indices = scores.topk(min(count, usable)).indices  # (M,)
    return HardNegatives(queue_vectors[indices], ids.unsqueeze(1) == queue_ids[indices].unsqueeze(0), indices)


def direction_loss(p: Tensor, h: Tensor, reduction: str = "squared_norm") -> Tensor:
    """L_dir = ‖p̂ − ĥ‖², with p̂ and ĥ of unit norm (paper 4.1).

    Args:
        p: (B, d).
        h: (B, d).
        reduction: `squared_norm`, the squared norm averaged over the batch (the paper); `mse`, also averaged over the
            d dimensions (the released code, so d times smaller).

    Returns:
        Scalar.

    Raises:
        ValueError: If `reduction` is neither.
    """
    if reduction not in DIRECTION_REDUCTIONS:
        raise ValueError(f"direction_reduction={reduction!r} is not one of {', '.join(DIRECTION_REDUCTIONS)}.")
    squared = (_unit(p) - _unit(h)).square()
    return squared.mean() if reduction == "mse" else squared.sum(dim=1).mean()


def log_norm_loss(p: Tensor, h: Tensor) -> Tensor:
    """L_norm = (log ‖p‖ − log ‖h‖)², averaged over the batch (paper 4.1).

    Args:
        p: (B, d).
        h: (B, d).

    Returns:
        Scalar; infinite if a vector is zero.
    """
    return (_wide(p).norm(dim=1).log() - _wide(h).norm(dim=1).log()).square().mean()


def _mean_similarity(unit: Tensor, ids: Tensor, queue_vectors: Tensor, queue_ids: Tensor) -> Tensor:
    """Cosine of each queue vector averaged over the queries of other groups; −inf where there are none. (Q,)

    Averaging before multiplying costs one matrix-vector product, B times less than all B·Q cosines.
    """
    groups, inverse = ids.unique(return_inverse=True)
    totals = torch.zeros(len(groups), unit.shape[1], dtype=unit.dtype, device=unit.device).index_add_(0, inverse, unit)
    counts = torch.bincount(inverse, minlength=len(groups))
    everybody = unit.sum(dim=0)
    scores = torch.cat([block.to(unit.dtype) @ everybody for block in queue_vectors.split(_QUEUE_BLOCK)])  # (Q,)
    voters = torch.full_like(scores, len(ids))
    slot = torch.searchsorted(groups, queue_ids).clamp(max=len(groups) - 1)
    masked = (groups[slot] == queue_ids).nonzero().flatten()
    for rows in masked.split(_QUEUE_BLOCK):
        own = slot[rows]
        scores[rows] -= (queue_vectors[rows].to(unit.dtype) * totals[own]).sum(dim=1)
        voters[rows] -= counts[own]
    return torch.where(voters > 0, scores / voters.clamp(min=1), -torch.inf)


def _wide(vectors: Tensor) -> Tensor:
    return vectors.float() if vectors.dtype in (torch.float16, torch.bfloat16) else vectors


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(_wide(vectors), dim=-1)
