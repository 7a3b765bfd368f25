"""Arguments of the lexicon's training."""

from __future__ import annotations

from dataclasses import dataclass, field

from .base import LlinkTrainingArguments


@dataclass
class LexiconConfig(LlinkTrainingArguments):
    r"""
    Arguments of [`LexiconTrainer`]: which words of the decoder stand for what.

    The vocabulary's size, the number of slots and the inner width belong to the model and live in its [`LlinkConfig`].
    All arguments of [`~transformers.TrainingArguments`] work; these have other defaults:

    - `learning_rate`: 2e-3, not 5e-5.
    - `lr_scheduler_type`: `cosine`, not `linear`.
    - `warmup_steps`: 0.1 of the run, not 0.
    - `weight_decay`: 0.05, not 0.
    - `num_train_epochs`: 6, not 3.
    - `per_device_train_batch_size`, `per_device_eval_batch_size`: 128, not 8.
    - `remove_unused_columns`: False, not True: the trainer itself reads the columns of the pairs.
    - `ddp_find_unused_parameters`: False: the lexicon uses all its parameters.
    """

    learning_rate: float = field(default=2e-3, metadata={"help": "Peak learning rate of AdamW."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Learning rate schedule."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Warm-up, in steps or, below 1, as a share of the run."})
    weight_decay: float = field(default=0.05, metadata={"help": "Weight decay, not on biases, norms and the prior."})
    num_train_epochs: float = field(default=6.0, metadata={"help": "Passes over the pairs."})
    per_device_train_batch_size: int = field(default=128, metadata={"help": "Pairs a device and backward pass."})
    per_device_eval_batch_size: int = field(default=128, metadata={"help": "Pairs scored at once."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "Must stay False: the trainer reads columns."})
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "Every trained parameter is used in every step."}
    )

    def __post_init__(self) -> None:
        self.check_for_part()
        super().__post_init__()
