"""The loss of Stage B, and what it is made of: pure functions of tensors (paper 4.2).

The functions return one value a row, so that rows can be averaged over an accumulated batch exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import TrainingArguments

from ..arguments_llink import checked_methods

USAGE_REDUCTIONS = ("row", "step")


@dataclass(frozen=True)
class StepTotals:
    """What a micro-batch must know of the optimiser step that it belongs to, over all processes.

    Attributes:
        index: The global step.
        tokens: Scalar, answer tokens of the step.
        rows: Scalar, rows of the step.
        candidates: (M, d) teachers of all its rows that have one.
        candidate_ids: (M,) their reference ids.
        gap: Scalar without gradient, L_SFT − L_zero of the step in nats a token; None where the loss does not ask.
    """

    index: int
    tokens: Tensor
    rows: Tensor
    candidates: Tensor
    candidate_ids: Tensor
    gap: Tensor | None = None


@checked_methods
class InjectLoss(nn.Module):
    r"""L = L_SFT + λ_use · max(0, L_SFT − L_zero + m) + λ_cos · ‖ŝ − ĥ‖² + λ_nce · NCE(s → h) (paper 4.2).

    Inputs, as [`InjectTrainer`] gives them to any loss, by name; the micro-batch's B rows, of which R have a reference:

    | input | shape | what it is |
    |---|---|---|
    | `losses` | (B,) | each answer's loss in nats, summed over its tokens, with the row's own slots |
    | `tokens` | (B,) | answer tokens of each row |
    | `without` | (B,) or None | the same losses without the row's slots, where [`contrasts`] asks for them |
    | `slot_means` | (R, d) | the mean of a row's slots |
    | `teachers` | (R, d) | its teacher, in the Stage A target space |
    | `references` | (R,) | ids of the references: equal ones are the same sentence |
    | `step` | [`StepTotals`] | sizes and teachers of the whole optimiser step |

    It returns a dict of scalars, `loss` and what is to stand in the logs, each this micro-batch's *share* of the step:
    summed over the step's micro-batches and processes they are those of one big batch. A loss of your own is any
    callable that does the same; with `contrasts(step)` and `reduction` as here it may ask for `without` and `step.gap`.

    Args:
        usage_weight, usage_every, usage_margin, usage_reduction, cosine_weight, nce_weight, nce_temperature: As the
            arguments of [`InjectConfig`] of the same names.
    """

    def __init__(
        self,
        usage_weight: float = 0.05,
        usage_every: int = 3,
        usage_margin: float = 1.0,
        usage_reduction: str = "row",
        cosine_weight: float = 0.05,
        nce_weight: float = 0.1,
        nce_temperature: float = 0.07,
    ) -> None:
        super().__init__()
        self.usage_weight, self.usage_every = usage_weight, usage_every
        self.margin, self.reduction = usage_margin, usage_reduction
        self.cosine_weight, self.nce_weight, self.nce_temperature = cosine_weight, nce_weight, nce_temperature

    @classmethod
    def of(cls, args: TrainingArguments) -> InjectLoss:
        """The loss that an [`InjectConfig`] describes."""
        usage = ("usage_weight", "usage_every", "usage_margin", "usage_reduction")
        names = (*usage, "cosine_weight", "nce_weight", "nce_temperature")
        return cls(**{name: getattr(args, name) for name in names})

    def contrasts(self, step: int) -> bool:
        """Whether the answers' losses without slots are needed at a step."""
        return bool(self.usage_weight) and step % self.usage_every == 0

    def forward(
        self,
        losses: Tensor,
        tokens: Tensor,
        without: Tensor | None,
        slot_means: Tensor,
        teachers: Tensor,
        references: Tensor,
        step: StepTotals,
    ) -> dict[str, Tensor]:
        """The loss, and its terms `sft`, `usage`, `cosine` and `nce`, those that there are."""
        terms = {"sft": losses.sum() / step.tokens}
        loss = terms["sft"]
        if without is not None:
            terms["usage"] = self._usage(losses, tokens, without, step)
            loss = loss + self.usage_weight * terms["usage"]
        if (self.cosine_weight or self.nce_weight) and len(references):
            terms["cosine"] = slot_cosine(slot_means, teachers).sum() / step.rows
            others = (step.candidates, references, step.candidate_ids, self.nce_temperature)
            terms["nce"] = slot_info_nce(slot_means, teachers, *others).sum() / step.rows
            loss = loss + self.cosine_weight * terms["cosine"] + self.nce_weight * terms["nce"]
        return {"loss": loss, **terms}

    def _usage(self, losses: Tensor, tokens: Tensor, without: Tensor, step: StepTotals) -> Tensor:
        if self.reduction == "row":
            per_token = tokens.clamp(min=1)
            return usage_contrast(losses / per_token, without / per_token, self.margin).sum() / step.rows
        # max(0, x) has the gradient of x where x > 0: whether the whole step's is decides for each of its shares.
        share = ((losses - without).sum() + self.margin * tokens.sum()) / step.tokens
        return share * (step.gap + self.margin > 0)


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
