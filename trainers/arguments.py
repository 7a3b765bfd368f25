"""What the arguments of all trainers have in common."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from typing import Any

import torch
from transformers import Trainer, TrainingArguments, get_scheduler

from ..configuration_llink import LlinkConfigError

logger = logging.getLogger(__name__)

#: Steps of a run whose length is not known yet.
_SOME_STEPS = 1_000

#: Options that would be ignored, or fail late, where only a small part is trained and the decoder's layers are not run.
_NOT_FOR_PARTS = (
    *("fsdp", "deepspeed", "label_smoothing_factor", "neftune_noise_alpha", "use_liger_kernel"),
    *("activation_checkpointing", "gradient_checkpointing"),  # the first is new
)


class LlinkTrainingArguments(TrainingArguments):
    """[`~transformers.TrainingArguments`] of which each process uses one GPU.

    With several GPUs in one process transformers wraps the model in `torch.nn.DataParallel`, which splits every tensor
    by its first dimension: losses over passages, slots and positions would be wrong without a sign of it.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not torch.accelerator.is_available():  # there is nothing to pin memory for, and torch says so every time
            self.dataloader_pin_memory = False

    @property
    def n_gpu(self) -> int:
        """GPUs of this process: 1 at most."""
        found = super().n_gpu
        if found > 1:
            logger.warning("Training on the first of %d GPUs. Start it with `torchrun` to use them all.", found)
        return min(found, 1)

    def check_for_part(self) -> None:
        """Refuses what does not apply where one small part is trained.

        Raises:
            LlinkConfigError: If such an argument is set; it is named.
        """
        for name in _NOT_FOR_PARTS:
            if getattr(self, name, None):
                raise LlinkConfigError(
                    f"{name}={getattr(self, name)!r} does not apply where only a small part is trained: the decoder's "
                    "layers are not run. Leave it out; several processes work through torchrun."
                )


def check_arguments(args: Any, wanted: type, trainer: type) -> None:
    """Refuses arguments of another class.

    Raises:
        LlinkConfigError: If they are of one.
    """
    if not isinstance(args, wanted):
        article = "an" if wanted.__name__[0] in "AEIO" else "a"
        name = type(args).__name__
        raise LlinkConfigError(f"args is a {name}; {trainer.__name__} needs {article} {wanted.__name__}.")


def check_best_metric(args: TrainingArguments, metrics: Collection[str]) -> None:
    """Refuses a metric of the best model that no evaluation gives.

    Args:
        args: Of the trainer.
        metrics: Names of what an evaluation gives; of none, nothing is refused.

    Raises:
        LlinkConfigError: If it is none of them.
    """
    best = args.metric_for_best_model
    if metrics and best is not None and best.removeprefix("eval_") not in metrics:
        raise LlinkConfigError(f"metric_for_best_model={best!r} is not one of {', '.join(metrics)}.")


def check_optimizer(args: TrainingArguments) -> None:
    """Looks for the optimiser, and builds the schedule for a parameter that nobody trains: both would fail late.

    Raises:
        LlinkConfigError: If the optimiser's package is not installed, or the schedule's arguments do not fit it.
    """
    name = getattr(args.optim, "value", args.optim)
    try:
        Trainer.get_optimizer_cls_and_kwargs(args, torch.nn.Linear(1, 1))
    except (ImportError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise LlinkConfigError(
            f"optim={name!r} cannot be used here: {reason}. Install what it needs, or choose another, such as "
            "adamw_torch."
        ) from error
    steps = args.max_steps if args.max_steps > 0 else _SOME_STEPS
    parameter = torch.nn.Parameter(torch.zeros(1))
    try:
        get_scheduler(
            args.lr_scheduler_type,
            torch.optim.SGD([parameter], lr=1.0 if args.learning_rate is None else args.learning_rate),
            num_warmup_steps=args.get_warmup_steps(steps),
            num_training_steps=steps,
            scheduler_specific_kwargs=args.lr_scheduler_kwargs,
        )
    except (TypeError, ValueError, ArithmeticError) as error:
        name = getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)
        raise LlinkConfigError(
            f"lr_scheduler_kwargs={args.lr_scheduler_kwargs!r} do not fit lr_scheduler_type={name!r}: "
            f"{str(error).rstrip('.')}."
        ) from error


def split_groups(
    name: str, parameters: Iterable[torch.nn.Parameter], rate: float, decay: float
) -> list[dict[str, Any]]:
    """Two groups of the optimiser, of those that there are: matrices, and what is never decayed (biases, norms)."""
    parameters = list(parameters)
    matrices, vectors = [p for p in parameters if p.dim() > 1], [p for p in parameters if p.dim() <= 1]
    groups = [
        {"name": f"{name}s", "params": matrices, "lr": rate, "weight_decay": decay},
        {"name": f"{name}_vectors", "params": vectors, "lr": rate, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
