"""What transformers' trainer would refuse only after models are loaded or steps are trained."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from datasets import Dataset
from transformers import TrainingArguments
from transformers.integrations import get_available_reporting_integrations
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from ..configuration_llink import LlinkConfigError
from ..data.instructions import instruction_dataset
from .arguments import check_best_metric, check_optimizer
from .base import LlinkTrainer


def check_training(args: TrainingArguments, trainer: type[LlinkTrainer], held_out: Dataset | None) -> None:
    """Refuses arguments that do not fit the data, the machine or each other.

    Args:
        args: Of the trainer.
        trainer: Its class.
        held_out: What it is to evaluate on.

    Raises:
        LlinkConfigError: If there is nothing to evaluate, a reporter or an optimiser is unknown or not
            installed, the schedule's arguments do not fit it, or the metric of the best model is none.
    """
    _check_evaluation(args, [] if held_out is None else trainer.metric_names(held_out))
    _check_reporters(args.report_to)
    check_optimizer(args)


def rows_read(rows: Any, args: TrainingArguments, name: str = "train_dataset") -> Dataset | None:
    """Instruction rows as they come, in their normal form; of a stream those that a training run reads.

    Raises:
        DataError: If a row is unusable; names it.
        LlinkConfigError: If a stream is to be trained on without `max_steps`, or to be evaluated on.
    """
    if rows is None or hasattr(rows, "__len__"):
        return None if rows is None else instruction_dataset(rows)
    if name != "train_dataset" or args.max_steps < 1:
        remedy = "set max_steps" if name == "train_dataset" else "give list(stream.take(N))"
        raise LlinkConfigError(f"{name} is a stream, of which nobody knows how many rows are to be read: {remedy}.")
    batches = args.max_steps * args.gradient_accumulation_steps * args.world_size
    return instruction_dataset(rows, batches * args.train_batch_size)


def _check_evaluation(args: TrainingArguments, metrics: Collection[str]) -> None:
    if not metrics:
        for name, unused in (("eval_strategy", "no"), ("eval_on_start", False)):
            value = getattr(args, name)
            if value != unused:
                raise LlinkConfigError(
                    f"{name}={getattr(value, 'value', value)} has nothing to evaluate: give held-out data, or leave "
                    "it out."
                )
    check_best_metric(args, metrics)


def _check_reporters(names: Collection[str]) -> None:
    if unknown := [name for name in names if name not in INTEGRATION_TO_CALLBACK]:
        known = ", ".join(["none", "all", *INTEGRATION_TO_CALLBACK])
        raise LlinkConfigError(f"report_to={unknown[0]!r} is not one of {known}.")
    installed = [*get_available_reporting_integrations(), "flyte"]  # transformers does not look for flyte
    if missing := [name for name in names if name not in installed]:
        raise LlinkConfigError(
            f"report_to={missing[0]!r} is not installed here: install it, or choose another; none keeps only the log."
        )
