"""Arguments of Stage B."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Literal

from ..configuration_llink import LlinkConfigError
from .answer_config import check_answer_options
from .arguments import LlinkTrainingArguments
from .inject_loss import USAGE_REDUCTIONS

USAGE_VARIANTS = ("zeroed", "shuffled")
#: What measured best for a kind of slots, where it is not set. Slots of tokens are read without being asked for.
BEST = {
    "mlp": {
        "learning_rate": 1e-3,
        "slot_learning_rate": 2e-3,
        "usage_weight": 0.05,
        "cosine_weight": 0.05,
        "nce_weight": 0.1,
    },
    "tokens": {
        "learning_rate": 3e-3,
        "slot_learning_rate": 1e-3,
        "usage_weight": 0.0,
        "cosine_weight": 0.0,
        "nce_weight": 0.0,
    },
}


@dataclass
class InjectConfig(LlinkTrainingArguments):
    r"""
    Arguments of [`InjectTrainer`]: slot injection with usage enforcement (paper 4.2).

    The defaults are what measured best, where None the best of the model's kind of slots ([`for_slots`]);
    `llink.preset("paper")` and `preset("released-code")` hold theirs. All arguments of
    [`~transformers.TrainingArguments`] work; these have other defaults, from the released code where nothing was
    measured:

    - `learning_rate`: 3e-3 for `tokens`, 1e-3 for `mlp`, not 5e-5; it is LoRA's.
    - `weight_decay`: 0.01, not 0.
    - `warmup_steps`: 0.15 of the run, not 0.
    - `per_device_train_batch_size`, `gradient_accumulation_steps`: 16 and 8, not 8 and 1.
    - `train_sampling_strategy`: group_by_length, not random: half of a random batch of sentences is padding.
    - `remove_unused_columns`: False, not True: the trainer itself reads the columns of the rows.
    - `ddp_find_unused_parameters`: False: every trained parameter is used in every step.
    """

    learning_rate: float | None = field(  # type: ignore[assignment]  # None until the slots are known
        default=None,
        metadata={
            "help": "Peak learning rate of LoRA: for tokens 3e-3, for mlp 1e-3 when not given (released code: 1e-4; "
            "paper: none)."
        },
    )
    slot_learning_rate: float | None = field(
        default=None,
        metadata={
            "help": "Peak learning rate of what makes the slots: for tokens 1e-3, for mlp 2e-3 when not given "
            "(released code: 3e-5)."
        },
    )
    scale_learning_rate: float = field(
        default=5e-4, metadata={"help": "Peak learning rate of the slots' scale (released code: 5e-4)."}
    )
    weight_decay: float = field(
        default=0.01, metadata={"help": "Weight decay, not on biases, norms, gate and scale (released code: 0.01)."}
    )
    warmup_steps: float = field(
        default=0.15, metadata={"help": "Linear warm-up, in steps or, below 1, as a share of the run (released code)."}
    )
    per_device_train_batch_size: int = field(
        default=16, metadata={"help": "Examples a device and backward pass (released code: 16)."}
    )
    gradient_accumulation_steps: int = field(
        default=8, metadata={"help": "Backward passes a step; equal to one big batch (released code: 8)."}
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "Must stay False: the trainer reads columns."})
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "Every trained parameter is used in every step."}
    )
    train_sampling_strategy: str = field(
        default="group_by_length",
        metadata={"help": "How rows are drawn: group_by_length (batches of like length), random or sequential."},
    )
    max_length: int = field(
        default=768, metadata={"help": "Tokens of prompt and answer; longer answers are cut (released code: 768)."}
    )
    usage_weight: float | None = field(
        default=None,
        metadata={
            "help": "Weight of the usage contrast max(0, L_SFT - L_zero): for tokens 0, for mlp 0.05 when not given "
            "(paper 4.2: 0.05)."
        },
    )
    usage_every: int = field(
        default=3, metadata={"help": "The usage contrast is taken every so many steps (paper 4.2: every third)."}
    )
    usage_margin: float = field(
        default=1.0,
        metadata={
            "help": "Margin in nats a token inside the contrast's hinge (paper 4.2: none: 0 as soon as slots help)."
        },
    )
    usage_reduction: Literal["row", "step"] = field(
        default="row",
        metadata={
            "help": "row: a hinge for each row, averaged; step: one for the mean losses of the whole optimiser step, "
            "over all its micro-batches and processes (paper 4.2)."
        },
    )
    usage_variant: Literal["zeroed", "shuffled"] = field(
        default="zeroed",
        metadata={"help": "What the slots are contrasted with: `zeroed` (paper 4.2) or `shuffled`, another example's."},
    )
    cosine_weight: float | None = field(
        default=None,
        metadata={
            "help": "Weight of the unit-vector matching of slot mean and teacher: for tokens 0, for mlp 0.05 when not "
            "given (paper 4.2 gives no weight)."
        },
    )
    nce_weight: float | None = field(
        default=None,
        metadata={
            "help": "Weight of InfoNCE between slot mean and teacher: for tokens 0, for mlp 0.1 when not given (paper "
            "4.2: 0.01)."
        },
    )
    nce_temperature: float = field(
        default=0.07, metadata={"help": "Temperature of that InfoNCE (released code: 0.07)."}
    )
    feature_cache_dir: str | None = field(
        default=None, metadata={"help": "Folder of the cache of frozen features; inside output_dir when not given."}
    )
    feature_batch_size: int = field(default=32, metadata={"help": "Texts in one forward pass of a frozen base."})

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, valid in (("usage_variant", USAGE_VARIANTS), ("usage_reduction", USAGE_REDUCTIONS)):
            if getattr(self, name) not in valid:
                raise LlinkConfigError(f"{name}={getattr(self, name)!r} is not one of {', '.join(valid)}.")
        for name in ("usage_weight", "usage_margin", "cosine_weight", "nce_weight", "slot_learning_rate"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise LlinkConfigError(f"{name}={value} must be 0, to switch it off, or more.")
        for name in ("usage_every", "max_length", "nce_temperature", "feature_batch_size", "scale_learning_rate"):
            if not getattr(self, name) > 0:
                raise LlinkConfigError(f"{name}={getattr(self, name)} must be above 0.")
        check_answer_options(self)

    def for_slots(self, kind: str) -> InjectConfig:
        """A copy in which what is not set is the best for a kind of slots."""
        chosen = copy.copy(self)
        for name, value in BEST[kind].items():
            if getattr(self, name) is None:
                setattr(chosen, name, value)
        return chosen
