"""Arguments of Stage B."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from ..configuration_llink import LlinkConfigError
from .answer_config import check_answer_options
from .base import LlinkTrainingArguments
from .inject_loss import USAGE_REDUCTIONS

USAGE_VARIANTS = ("zeroed", "shuffled")


@dataclass
class InjectConfig(LlinkTrainingArguments):
    r"""
    Arguments of [`InjectTrainer`]: slot injection with usage enforcement (paper 4.2).

    The defaults are what measured best; `llink.preset("paper")` and `preset("released-code")` hold theirs. All
    arguments of [`~transformers.TrainingArguments`] work; these have other defaults, from the released code where
    nothing was measured:

    - `learning_rate`: 1e-3, not 5e-5; it is LoRA's.
    - `weight_decay`: 0.01, not 0.
    - `warmup_steps`: 0.15 of the run, not 0.
    - `per_device_train_batch_size`, `gradient_accumulation_steps`: 16 and 8, not 8 and 1.
    - `remove_unused_columns`: False, not True: the trainer itself reads the columns of the rows.
    - `ddp_find_unused_parameters`: False: every trained parameter is used in every step.
    """

    learning_rate: float = field(
        default=1e-3, metadata={"help": "Peak learning rate of LoRA (released code: 1e-4, the paper gives none)."}
    )
    slot_learning_rate: float = field(
        default=2e-3, metadata={"help": "Peak learning rate of adapter and expander (released code: 3e-5)."}
    )
    lexicon_learning_rate: float = field(
        default=1e-4,
        metadata={"help": "Peak learning rate of a lexicon, which has learned its words already."},
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
    max_length: int = field(
        default=768, metadata={"help": "Tokens of prompt and answer; longer answers are cut (released code: 768)."}
    )
    usage_weight: float = field(
        default=0.05, metadata={"help": "Weight of the usage contrast max(0, L_SFT - L_zero) (paper 4.2: 0.05)."}
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
    cosine_weight: float = field(
        default=0.05,
        metadata={
            "help": "Weight of the unit-vector matching of slot mean and teacher (paper 4.2 gives no weight; 0.05)."
        },
    )
    nce_weight: float = field(
        default=0.1, metadata={"help": "Weight of InfoNCE between slot mean and teacher (paper 4.2: 0.01)."}
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
        rates = ("slot_learning_rate", "lexicon_learning_rate")
        for name in ("usage_weight", "usage_margin", "cosine_weight", "nce_weight", *rates):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise LlinkConfigError(f"{name}={getattr(self, name)} must be 0, to switch it off, or more.")
        for name in ("usage_every", "max_length", "nce_temperature", "feature_batch_size", "scale_learning_rate"):
            if not getattr(self, name) > 0:
                raise LlinkConfigError(f"{name}={getattr(self, name)} must be above 0.")
        check_answer_options(self)
