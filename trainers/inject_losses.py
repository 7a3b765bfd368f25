r"""The losses of Stage B, as pure functions of tensors (paper 4.2).

L = L_SFT + λ_use · max(0, L_SFT − L_zero) + λ_cos · ‖ŝ − ĥ‖² + λ_nce · NCE(s → h)

Each returns one value a row, so that rows can be averaged over an accumulated batch exactly.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def usage_contrast(with_slots: Tensor, without: Tensor, margin: float = 0.0) -> Tensor:
    """max(0, L_SFT − L_zero + margin): what it costs when the slots do not help (paper 4.2).

    Args:
        with_slots: (B,) loss of each example with its slots, in nats a token.
        without: (B,) the same with the reserved rows restored (zero), or with another example's slots.
        margin: Nats a token by which the slots must help.

    Returns:
        (B,), zero where the slots help by more than the margin.
    """
    return (with_slots - without + margin).clamp(min=0)


def slot_cosine(slot_mean: Tensor, teachers: Tensor) -> Tensor:
    """‖ŝ − ĥ‖² = 2 (1 − cos(s, h)): unit-vector matching of slot mean and teacher (paper 4.2).

    Args:
        slot_mean: (B, d) mean of a row's slots.
        teachers: (B, d) its teacher, in the Stage A target space.

    Returns:
        (B,).
    """
    return (F.normalize(slot_mean.float(), dim=-1) - F.normalize(teachers.float(), dim=-1)).square().sum(dim=-1)


def slot_info_nce(
    slot_mean: Tensor, own: Tensor, candidates: Tensor, own_ids: Tensor, candidate_ids: Tensor, temperature: float
) -> Tensor:
    """InfoNCE of slot means against all teachers of the accumulated batch (paper 4.2).

    Teachers are constants, so the candidates may span several micro-batches: accumulation equals the big batch.

    Args:
        slot_mean: (B, d).
        own: (B, d) the rows' own teachers.
        candidates: (M, d) teachers of the whole accumulated batch.
        own_ids: (B,) reference ids; candidates with a row's own id are no negatives of it.
        candidate_ids: (M,).
        temperature: τ.

    Returns:
        (B,).
    """
    query = F.normalize(slot_mean.float(), dim=-1)  # (B, d)
    positive = (query * F.normalize(own.float(), dim=-1)).sum(dim=-1, keepdim=True)  # (B, 1)
    others = query @ F.normalize(candidates.float(), dim=-1).T  # (B, M)
    others = others.masked_fill(own_ids.unsqueeze(1) == candidate_ids, float("-inf"))
    logits = torch.cat([positive, others], dim=1) / temperature  # (B, 1 + M)
    return logits.logsumexp(dim=1) - logits[:, 0]
