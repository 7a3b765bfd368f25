"""The usage report of a model on instruction rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from ..data.collators import InstructionTensors
from .usage import collect_usage, usage_report, usage_variants


def evaluate_usage(
    model: torch.nn.Module,
    tensors: InstructionTensors,
    batch_size: int = 16,
    gaussian: bool = True,
    per_slot: bool = False,
    resamples: int = 1000,
    seed: int = 0,
    show_progress: bool = False,
) -> dict[str, Any]:
    """The usage report of a model on instruction rows; see [`usage_report`].

    Args:
        model: A [`LlinkForCausalLM`].
        tensors: Rows with their passages, from `instruction_tensors`.
        batch_size: Rows in one forward pass.
        gaussian, per_slot: As [`usage_variants`].
        resamples: Of the intervals.
        seed: Of the Gaussian slots and the intervals.
        show_progress: Whether to show a bar.

    Raises:
        DataError: If a loss is NaN or infinite.
    """
    variants = usage_variants(model.config.num_slots, gaussian, per_slot)
    loader = DataLoader(tensors, batch_size=batch_size, collate_fn=tensors.collate)

    def batches() -> Iterator[dict[str, Any]]:
        for batch in tqdm(loader, desc="Usage", disable=not show_progress):
            yield send_to_device(batch, model.device)

    losses, tokens, rows = collect_usage(model, batches(), variants, seed)
    tasks = [tensors.tasks[row] for row in rows.tolist()]
    return usage_report(losses, tokens, tasks, variants, resamples, seed)
