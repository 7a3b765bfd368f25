"""Arguments of Stage A."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Literal

from ..configuration_llink import LlinkConfigError
from .align_loss import DIRECTION_REDUCTIONS, HARD_NEGATIVE_MINING
from .arguments import LlinkTrainingArguments

#: 1e-3 → 1e-5 in the released code; as a ratio it fits any learning rate.
_MIN_LR_RATE = 0.01
_MIN_LR_SCHEDULE = "cosine_with_min_lr"


@dataclass
class AlignConfig(LlinkTrainingArguments):
    r"""
    Arguments of [`AlignTrainer`]: contrastive alignment of the projector with the teacher (paper 4.1).

    Options of the teacher itself (template, state, layer, conditioning of its space) belong to the model and live in
    its [`LlinkConfig`]. The defaults are what measured best; `llink.preset("paper")` and `preset("released-code")` hold
    theirs. All arguments of [`~transformers.TrainingArguments`] work; these have other defaults, from the released code
    where nothing was measured:

    - `learning_rate`: 2e-3, not 5e-5.
    - `lr_scheduler_type`: `cosine_with_min_lr`, not `linear`, down to a hundredth of the learning rate.
    - `warmup_steps`: 0.15 of the run (3,000 of 20,000 steps), not 0.
    - `adam_beta2`: 0.98, not 0.999.
    - `weight_decay`: 0.05, not 0.
    - `num_train_epochs`: 26 (20,000 steps of 128 of 100,000 pairs), not 3.
    - `per_device_train_batch_size`, `per_device_eval_batch_size`: 128, not 8. The released code accumulates 8 batches
      of 16; here accumulation is folded into the batch, so that 8 × 16 has the negatives of 128.
    - `dataloader_drop_last`: True, not False: every step has the same number of negatives.
    - `remove_unused_columns`: False, not True: the trainer itself reads the columns of the pairs.
    - `ddp_find_unused_parameters`: False: the projector uses all its parameters.

    The gradient is clipped at `max_grad_norm` = 1.0, as in the released code and in `TrainingArguments`.
    """

    learning_rate: float = field(
        default=2e-3, metadata={"help": "Peak learning rate of AdamW (released code: 1e-3, the paper gives none)."}
    )
    lr_scheduler_type: str = field(
        default=_MIN_LR_SCHEDULE, metadata={"help": "Learning rate schedule (released code: cosine, 1e-3 to 1e-5)."}
    )
    lr_scheduler_kwargs: dict | str | None = field(
        default=None,
        metadata={
            "help": "Arguments of the schedule, as JSON. When not given, cosine_with_min_lr ends at 0.01 of "
            "learning_rate (released code: 1e-3 to 1e-5)."
        },
    )
    warmup_steps: float = field(
        default=0.15,
        metadata={"help": "Linear warm-up, in steps or, below 1, as a share of the run (released code: 3,000/20,000)."},
    )
    adam_beta2: float = field(default=0.98, metadata={"help": "β₂ of AdamW (released code: 0.98)."})
    weight_decay: float = field(
        default=0.05, metadata={"help": "Weight decay, not on biases and norms (released code: 0.05)."}
    )
    num_train_epochs: float = field(
        default=26.0, metadata={"help": "Passes over the pairs (released code: 20,000 steps of 128 of 100,000 pairs)."}
    )
    per_device_train_batch_size: int = field(
        default=128,
        metadata={"help": "Pairs a device and step; times gradient_accumulation_steps (released code: 16 × 8)."},
    )
    per_device_eval_batch_size: int = field(
        default=128, metadata={"help": "Pairs whose in-batch eval_loss is computed at once. Retrieval sees all pairs."}
    )
    dataloader_drop_last: bool = field(
        default=True, metadata={"help": "Leave out an epoch's last, smaller batch: it has fewer negatives."}
    )
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Has no effect: the trainer reads the columns of the pairs itself."}
    )
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "Not needed: the projector uses all its parameters in every step."}
    )

    temperature_start: float = field(
        default=0.05,
        metadata={
            "help": "τ of InfoNCE at the first step; it is annealed linearly over the run. Not in the paper; the "
            "released code anneals 0.17 to 0.08. With a whitened teacher 0.05 throughout measured best."
        },
    )
    temperature_end: float = field(
        default=0.05, metadata={"help": "τ of InfoNCE at the last step, and of eval_loss (released code: 0.08)."}
    )
    queue_size: int = field(
        default=32_768,
        metadata={"help": "Teacher vectors in the fp16 FIFO queue of negatives; 0 for no queue (paper 4.1: 32,768)."},
    )
    hard_negatives: int = field(
        default=256, metadata={"help": "Hardest of the queue that enter the denominator (paper 4.1: 256)."}
    )
    hard_negative_mining: Literal["step", "query", "none"] = field(
        default="step",
        metadata={
            "help": "step: one set a step, by the similarity averaged over the batch (paper 4.1 and released code); "
            "query: the hardest of each query; none: no mining, the whole queue is in the denominator."
        },
    )
    direction_weight: float = field(
        default=0.05, metadata={"help": "λ_dir, weight of ‖p̂ − ĥ‖² (paper 4.1: 0.05); 0 leaves the term out."}
    )
    direction_reduction: Literal["squared_norm", "mse"] = field(
        default="squared_norm",
        metadata={"help": "squared_norm: summed over dimensions (paper 4.1); mse: averaged over them (released code)."},
    )
    norm_weight: float = field(
        default=0.02, metadata={"help": "λ_norm, weight of (log ‖p‖ − log ‖h‖)² (paper 4.1: 0.02); 0 leaves it out."}
    )
    refit_teacher_space: bool = field(
        default=False,
        metadata={
            "help": "Fit the conditioning of the teacher's space on this run's training pairs even if the model "
            "already holds statistics of an earlier run. They are always fitted if it holds none."
        },
    )
    feature_cache_dir: str | None = field(
        default=None,
        metadata={"help": "Folder of the cached frozen features; <output_dir>/_feature_cache when not given."},
    )
    feature_batch_size: int = field(
        default=32, metadata={"help": "Texts in one forward of a frozen base while features are computed."}
    )

    def __post_init__(self) -> None:
        self._validate_choices()
        self._validate_numbers()
        self.check_for_part()
        if self.lr_scheduler_kwargs is None and self.lr_scheduler_type == _MIN_LR_SCHEDULE:
            self.lr_scheduler_kwargs = {"min_lr_rate": _MIN_LR_RATE}
        super().__post_init__()
        if not self.accelerator_config.even_batches:
            raise LlinkConfigError(
                "accelerator_config.even_batches=False would give the processes batches of different sizes, which "
                "cannot be gathered. Leave it True."
            )

    def with_accumulation_folded(self) -> AlignConfig:
        """A copy whose batch is as large as the accumulated one, and which accumulates nothing.

        The contrastive loss is no sum over rows: of small batches it would see fewer negatives (see `AlignTrainer`).
        """
        folded = copy.copy(self)
        folded.per_device_train_batch_size = self.per_device_train_batch_size * self.gradient_accumulation_steps
        folded.gradient_accumulation_steps = 1
        return folded

    def _validate_choices(self) -> None:
        for name, valid in (
            ("hard_negative_mining", HARD_NEGATIVE_MINING),
            ("direction_reduction", DIRECTION_REDUCTIONS),
            ("train_sampling_strategy", ("random", "sequential")),
        ):
            if getattr(self, name) not in valid:
                raise LlinkConfigError(f"{name}={getattr(self, name)!r} is not one of {', '.join(valid)}.")

    def _validate_numbers(self) -> None:
        for name in ("temperature_start", "temperature_end"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise LlinkConfigError(f"{name}={value} must be positive (the released code uses 0.17 and 0.08).")
        for name in ("direction_weight", "norm_weight"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise LlinkConfigError(f"{name}={value} must be 0 (term left out) or more.")
        for name, least in (
            ("queue_size", 0),
            ("hard_negatives", 1),
            ("feature_batch_size", 1),
            ("per_device_train_batch_size", 1),
            ("gradient_accumulation_steps", 1),
        ):
            if getattr(self, name) < least:
                raise LlinkConfigError(f"{name}={getattr(self, name)} must be {least} or more.")
