"""Does the decoder read its slots? Losses with slots, zeroed, and with another example's slots (paper 4.2)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

VARIANTS = ("slots", "zeroed", "shuffled")


class UsageError(ValueError):
    """Losses that no usage gap can be computed from."""


def answer_losses(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The answers' summed loss and length, a row.

    Args:
        logits: (B, S, V).
        labels: (B, S), -100 where no loss is taken; not shifted.

    Returns:
        (B,) summed cross-entropy in nats, and (B,) number of answer tokens.
    """
    targets = labels[:, 1:]  # (B, S-1)
    answer = targets != -100  # (B, S-1)
    # Only the answers' M rows of logits are widened: a prompt's would cost most of the memory.
    losses = F.cross_entropy(logits[:, :-1][answer].float(), targets[answer], reduction="none")  # (M,)
    sums = losses.new_zeros(len(labels)).index_add(0, answer.nonzero()[:, 0], losses)  # (B,)
    return sums, answer.sum(dim=1)


def usage_metrics(losses: np.ndarray | Tensor, tokens: np.ndarray | Tensor) -> dict[str, float]:
    """Usage gaps over a set of examples.

    Args:
        losses: (N, 3) summed loss of each answer in nats: with its slots, with zeroed slots, with another example's.
        tokens: (N,) answer tokens.

    Returns:
        `loss`, `zeroed_loss`, `shuffled_loss`, `zeroed_gap`, `shuffled_gap` in nats a token (gaps above zero: the slots
        help), `slots_help` and `own_slots_help`: the shares of examples with a lower loss than zeroed and shuffled.

    Raises:
        UsageError: If there are no answer tokens, shapes differ, or a loss is NaN or infinite.
    """
    losses, tokens = np.asarray(losses, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
    if losses.ndim != 2 or losses.shape[1] != len(VARIANTS) or len(losses) != len(tokens) or tokens.sum() == 0:
        raise UsageError(
            f"Usage needs one row of {len(VARIANTS)} losses ({', '.join(VARIANTS)}) and a token count for each of at "
            f"least one example; got shapes {losses.shape} and {tokens.shape}."
        )
    if not np.isfinite(losses).all():
        raise UsageError(f"The losses of {int((~np.isfinite(losses)).any(axis=1).sum())} examples are NaN or infinite.")
    slots, zeroed, shuffled = losses.sum(axis=0) / tokens.sum()
    return {
        "loss": float(slots),
        "zeroed_loss": float(zeroed),
        "shuffled_loss": float(shuffled),
        "zeroed_gap": float(zeroed - slots),
        "shuffled_gap": float(shuffled - slots),
        "slots_help": float((losses[:, 1] > losses[:, 0]).mean()),
        "own_slots_help": float((losses[:, 2] > losses[:, 0]).mean()),
    }


@torch.no_grad()
def usage_losses(model: torch.nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Runs the three variants on one collated batch.

    Args:
        model: Called with `foreign_features` (B, T, d) or `foreign_slots` (B, T, K, d); returns `logits` and
            `foreign_slots`.
        batch: What `InstructionTensors.collate` returns.

    Returns:
        (B, 3) summed losses in the order of `VARIANTS`, and (B,) answer tokens.
    """
    prompt = {name: batch[name] for name in ("input_ids", "attention_mask", "foreign_mask")}
    own = model(**prompt, foreign_features=batch["foreign_features"])
    zeroed = model(**prompt, foreign_slots=torch.zeros_like(own["foreign_slots"]))
    shuffled = model(**prompt, foreign_features=batch["shuffled_features"])
    losses = [answer_losses(output.logits, batch["labels"]) for output in (own, zeroed, shuffled)]
    return torch.stack([loss for loss, _ in losses], dim=1), losses[0][1]
