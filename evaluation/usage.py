"""Does the decoder read its slots? Losses with slots, and with something else in their place (paper 4.2).

Variants: `slots`, the rows' own; `zeroed`, the reserved rows restored; `shuffled`, another example's slots; `gaussian`,
noise of the same norms; `without_0` … `without_{K-1}`, one slot of each passage zeroed alone. A gap is a variant's loss
less the loss with slots, in nats a token.

This file also travels with a Space's page: of llink it imports only `bootstrap.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.errors import DataError
from .bootstrap import check_resampling, percentile_ends, resampled_sums

#: What the Trainer's evaluation runs.
VARIANTS = ("slots", "zeroed", "shuffled")
#: How the share of examples is called whose loss is lower with their own slots than with a variant.
SHARES = {"zeroed": "slots_help", "shuffled": "own_slots_help", "gaussian": "real_slots_help"}
_WITHOUT = "without_"


# ------------------------------------------------------------------ pure functions of losses


def answer_reach(labels: Tensor) -> Tensor | int:
    """The last L positions, which tell of the answers: a model's `logits_to_keep`.

    Logits are a large part of a small decoder's work, and those of the prompt would be thrown away. On a processor not
    their number, which makes some decoders very slow there: see `llink.modeling_llink.bases.last_positions`.

    Args:
        labels: (B, S), -100 where no loss is taken; not shifted.

    Returns:
        (L,) from the one before the first answer token of any row to the last; their number on other devices.
    """
    columns = (labels != -100).any(dim=0).nonzero()  # (C, 1)
    length = labels.shape[1]
    first = max(int(columns[0]) - 1, 0) if len(columns) else length - 1
    return torch.arange(first, length) if labels.device.type == "cpu" else length - first


def answer_losses(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The answers' summed loss and length, a row.

    Args:
        logits: (B, L, V), of the last L ≤ S positions.
        labels: (B, S), -100 where no loss is taken; not shifted.

    Returns:
        (B,) summed cross-entropy in nats, and (B,) number of answer tokens.
    """
    targets = labels[:, -logits.shape[1] :][:, 1:]  # (B, L-1)
    answer = targets != -100  # (B, L-1)
    # Only the answers' M rows of logits are widened: a prompt's would cost most of the memory.
    losses = F.cross_entropy(logits[:, :-1][answer].float(), targets[answer], reduction="none")  # (M,)
    sums = losses.new_zeros(len(labels)).index_add(0, answer.nonzero()[:, 0], losses)  # (B,)
    return sums, answer.sum(dim=1)


def usage_metrics(
    losses: np.ndarray | Tensor, tokens: np.ndarray | Tensor, variants: Sequence[str] = VARIANTS
) -> dict[str, float]:
    """Usage gaps over a set of examples.

    Args:
        losses: (N, V) summed loss of each answer in nats, a column a variant; `slots` is the first.
        tokens: (N,) answer tokens.
        variants: The columns' names.

    Returns:
        `loss`; `<variant>_loss` and `<variant>_gap` of the others, in nats a token (gaps above zero: the slots help);
        `slots_help`, `own_slots_help` and `real_slots_help`: the shares of examples with a lower loss than zeroed,
        shuffled and gaussian.

    Raises:
        DataError: If there are no answer tokens, shapes differ, or a loss is NaN or infinite.
    """
    losses, tokens = _checked(losses, tokens, variants)
    means = losses.sum(axis=0) / tokens.sum()
    others = list(enumerate(variants))[1:]
    return {
        "loss": float(means[0]),
        **{f"{name}_loss": float(means[column]) for column, name in others},
        **{f"{name}_gap": float(means[column] - means[0]) for column, name in others},
        **{SHARES[name]: _share(losses, column) for column, name in others if name in SHARES},
    }


def usage_by_task(
    losses: np.ndarray | Tensor,
    tokens: np.ndarray | Tensor,
    tasks: Sequence[str],
    variants: Sequence[str] = VARIANTS,
) -> dict[str, dict[str, float]]:
    """[`usage_metrics`] of each task, with `n`; empty unless there are at least two. Rows without a task are left out.

    Args:
        losses, tokens, variants: As [`usage_metrics`].
        tasks: (N) task names.
    """
    losses, tokens = _checked(losses, tokens, variants)
    return {
        task: {**usage_metrics(losses[rows], tokens[rows], variants), "n": int(rows.sum())}
        for task, rows in _task_rows(tasks).items()
    }


def gap_intervals(
    losses: np.ndarray | Tensor,
    tokens: np.ndarray | Tensor,
    variants: Sequence[str] = VARIANTS,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of the gaps by resampling the examples with replacement.

    Args:
        losses, tokens, variants: As [`usage_metrics`].
        resamples: Draws of N examples.
        confidence: Mass between the two ends.
        seed: Of the draws.

    Returns:
        (low, high) of each `<variant>_gap`, in nats a token.

    Raises:
        DataError: As [`usage_metrics`].
        DataError: If `resamples` or `confidence` is out of range.
    """
    check_resampling(resamples, confidence)
    losses, tokens = _checked(losses, tokens, variants)
    rises = losses[:, 1:] - losses[:, :1]  # (N, V-1)
    sums = resampled_sums(np.column_stack([rises, tokens]), resamples, seed)  # (R, V)
    ends = percentile_ends(sums[:, :-1] / sums[:, -1:].clip(min=1), confidence)  # (2, V-1)
    return {f"{name}_gap": (float(low), float(high)) for name, low, high in zip(variants[1:], *ends, strict=True)}


def usage_report(
    losses: np.ndarray | Tensor,
    tokens: np.ndarray | Tensor,
    tasks: Sequence[str],
    variants: Sequence[str],
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Everything that `llink eval usage` reports, as plain numbers.

    Returns:
        [`usage_metrics`] of all examples, `n`, `intervals` (95 % of each gap), `tasks` (the same of each task), and
        with `without_k` variants `per_slot`: `gap`, `interval` and `share` of examples that slot k helps, for each k.
    """
    losses, tokens = _checked(losses, tokens, variants)
    whole = [column for column, name in enumerate(variants) if not name.startswith(_WITHOUT)]
    names = [variants[column] for column in whole]
    intervals = gap_intervals(losses, tokens, variants, resamples, seed=seed)
    report = {
        **usage_metrics(losses[:, whole], tokens, names),
        "n": len(tokens),
        "intervals": {f"{name}_gap": list(intervals[f"{name}_gap"]) for name in names[1:]},
        "tasks": usage_by_task(losses[:, whole], tokens, tasks, names),
    }
    for task, rows in _task_rows(tasks).items():
        found = gap_intervals(losses[rows][:, whole], tokens[rows], names, resamples, seed=seed)
        report["tasks"][task]["intervals"] = {name: list(ends) for name, ends in found.items()}
    gaps = usage_metrics(losses, tokens, variants)
    per_slot = [
        {"gap": gaps[f"{name}_gap"], "interval": list(intervals[f"{name}_gap"]), "share": _share(losses, column)}
        for column, name in enumerate(variants)
        if column not in whole
    ]
    return {**report, "per_slot": per_slot} if per_slot else report


def _share(losses: np.ndarray, column: int) -> float:
    return float((losses[:, column] > losses[:, 0]).mean())


def _task_rows(tasks: Sequence[str]) -> dict[str, np.ndarray]:
    """Which rows (N,) each task holds; empty unless there are at least two tasks."""
    named = np.asarray(tasks, dtype=str)
    tasks = sorted({task for task in named.tolist() if task})
    return {task: named == task for task in tasks} if len(tasks) > 1 else {}


def _checked(losses: Any, tokens: Any, variants: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    losses, tokens = np.asarray(losses, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
    if losses.ndim != 2 or losses.shape[1] != len(variants) or len(losses) != len(tokens) or tokens.sum() == 0:
        raise DataError(
            f"Usage needs one row of {len(variants)} losses ({', '.join(variants)}) and a token count for each of at "
            f"least one example; got shapes {losses.shape} and {tokens.shape}."
        )
    if not np.isfinite(losses).all():
        raise DataError(f"The losses of {int((~np.isfinite(losses)).any(axis=1).sum())} examples are NaN or infinite.")
    return losses, tokens


# ------------------------------------------------------------------ running a model


def usage_variants(num_slots: int | None, gaussian: bool = True, per_slot: bool = False) -> tuple[str, ...]:
    """The names of the variants of an evaluation: `VARIANTS`, then the optional ones.

    Args:
        num_slots: K; None where passages differ in it.
        gaussian: Whether noise of the slots' norms is among them: one more forward pass a batch.
        per_slot: Whether each slot is zeroed alone: K more.

    Raises:
        DataError: If single slots are asked for, and passages differ in their number.
    """
    if per_slot and num_slots is None:
        raise DataError("Single slots cannot be compared: passages differ in their number. Leave per_slot out.")
    extra = ("gaussian",) if gaussian else ()
    return (*VARIANTS, *extra, *(f"{_WITHOUT}{k}" for k in range(num_slots or 0) if per_slot))


def gaussian_slots(slots: Tensor, mask: Tensor, rows: Tensor, seed: int = 0) -> Tensor:
    """Gaussian directions with the norms of the slots: a decoder that reads only their size cannot tell them apart.

    Args:
        slots: (B, T, K, d).
        mask: (B, T, K) true at slots.
        rows: (B,) row numbers; with `seed` they determine the noise, whatever the batch.
        seed: Of the noise.

    Returns:
        (B, T, K, d).
    """
    noise = torch.zeros(slots.shape)
    for place, (row, passages) in enumerate(zip(rows.tolist(), mask.sum(dim=2).tolist(), strict=True)):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + row)
        # Drawn a passage's slots at a time, so that padding to other widths T and K leaves the real ones' noise alone.
        for number, count in enumerate(passages):
            noise[place, number, :count] = torch.randn(count, slots.shape[3], generator=generator)
    return F.normalize(noise.to(slots), dim=-1) * slots.norm(dim=-1, keepdim=True)


@torch.no_grad()
def usage_losses(
    model: torch.nn.Module, batch: dict[str, Tensor], variants: Sequence[str] = VARIANTS, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Runs the variants on one collated batch.

    Args:
        model: Called with the batch's `foreign` or `foreign_slots` (B, T, K, d); returns `logits`, `foreign_slots`
            and `foreign_mask` (B, T, K).
        batch: What `InstructionTensors.collate` returns.
        variants: Names, `slots` first; see [`usage_variants`].
        seed: Of the Gaussian slots.

    Returns:
        (B, V) summed losses in the order of `variants`, and (B,) answer tokens.

    Raises:
        DataError: If a variant is unknown.
    """
    prompt = {name: batch[name] for name in ("input_ids", "attention_mask")}
    own, (losses, tokens) = answered(model, prompt, batch["labels"], batch["foreign"])
    columns = [losses]
    for variant in variants[1:]:
        given = _replacement(variant, own["foreign_slots"], own["foreign_mask"], batch, seed)
        columns.append(answered(model, prompt, batch["labels"], given)[1][0])
    return torch.stack(columns, dim=1), tokens


def answered(
    model: torch.nn.Module, prompt: dict[str, Tensor], labels: Tensor, foreign: dict[str, Tensor]
) -> tuple[Any, tuple[Tensor, Tensor]]:
    """The output, and the answers' summed losses (B,) and lengths (B,).

    Args:
        model: As in [`usage_losses`].
        prompt: `input_ids`, `attention_mask` (B, S).
        labels: (B, S).
        foreign: The passages as the model takes them; where these have another number of slots than the prompt's,
            also the `input_ids`, `attention_mask` and `labels` that go with them.
    """
    given = {**prompt, "labels": labels, **foreign}
    labels = given.pop("labels")
    output = model(**given, use_cache=False, logits_to_keep=answer_reach(labels))
    return output, answer_losses(output.logits, labels)


def _replacement(variant: str, slots: Tensor, mask: Tensor, batch: dict[str, Any], seed: int) -> dict[str, Tensor]:
    """What the model is given in place of a batch's own slots (B, T, K, d), real where the mask (B, T, K) says so."""
    if variant == "shuffled":
        return batch["shuffled"]
    if variant == "zeroed":
        return {"foreign_slots": torch.zeros_like(slots), "foreign_mask": mask}
    if variant == "gaussian":
        return {"foreign_slots": gaussian_slots(slots, mask, batch["rows"], seed), "foreign_mask": mask}
    number = variant.removeprefix(_WITHOUT)
    if variant == number or not number.isdecimal() or int(number) >= slots.shape[2]:
        known = ", ".join(usage_variants(0))
        raise DataError(f"There is no variant {variant!r} of {slots.shape[2]} slots: use {known} or {_WITHOUT}k.")
    without = slots.clone()
    without[:, :, int(number)] = 0
    return {"foreign_slots": without, "foreign_mask": mask}


@torch.no_grad()
def collect_usage(
    model: torch.nn.Module,
    batches: Iterable[dict[str, Tensor]],
    variants: Sequence[str] = VARIANTS,
    seed: int = 0,
    gather: Callable[[Any], Any] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """[`usage_losses`] of a whole set; the model is put into evaluation mode meanwhile.

    Args:
        model: A [`LlinkForCausalLM`], possibly wrapped.
        batches: Collated batches on the model's device.
        variants, seed: As [`usage_losses`].
        gather: Joins each batch's tensors over the processes, where there are several.

    Returns:
        (N, V) losses, (N,) answer tokens, (N,) row numbers, on the CPU.

    Raises:
        DataError: If there are no batches.
    """
    was_training = model.training
    model.eval()
    found = []
    try:
        for batch in batches:
            measured = (*usage_losses(model, batch, variants, seed), batch["rows"])
            found.append([tensor.cpu() for tensor in (measured if gather is None else gather(measured))])
    finally:
        model.train(was_training)
    if not found:
        raise DataError("There are no rows to measure usage on.")
    losses, tokens, rows = (torch.cat(column) for column in zip(*found, strict=True))
    return losses, tokens, rows
