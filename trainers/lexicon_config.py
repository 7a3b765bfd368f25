"""Arguments of the dictionary's training."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..configuration_llink import LlinkConfigError
from .arguments import LlinkTrainingArguments


@dataclass
class LexiconConfig(LlinkTrainingArguments):
    r"""
    Arguments of [`LexiconTrainer`]: which words of the decoder the encoder's tokens stand for.

    The layers that are read and the inner width belong to the model and live in its [`LlinkConfig`]. All arguments of
    [`~transformers.TrainingArguments`] work; these have other defaults:

    - `learning_rate`: 2e-3, not 5e-5.
    - `warmup_steps`: 0.03 of the run, not 0.
    - `num_train_epochs`: 4, not 3.
    - `per_device_train_batch_size`, `per_device_eval_batch_size`: 96, not 8.
    - `remove_unused_columns`: False, not True: the trainer itself reads the columns of the pairs.
    - `ddp_find_unused_parameters`: False: the dictionary uses all its parameters.
    """

    learning_rate: float = field(default=2e-3, metadata={"help": "Peak learning rate of AdamW."})
    warmup_steps: float = field(
        default=0.03, metadata={"help": "Warm-up, in steps or, below 1, as a share of the run."}
    )
    num_train_epochs: float = field(default=4.0, metadata={"help": "Passes over the pairs."})
    per_device_train_batch_size: int = field(default=96, metadata={"help": "Pairs a device and backward pass."})
    per_device_eval_batch_size: int = field(default=96, metadata={"help": "Pairs scored at once."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "Must stay False: the trainer reads columns."})
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "Every trained parameter is used in every step."}
    )
    english_share: float = field(
        default=0.45,
        metadata={"help": "Share of the steps, the first ones, that learn from the English sides alone; 1 for all."},
    )
    vocabulary_size: int = field(
        default=8192, metadata={"help": "The references' most frequent tokens, among which a token's word is sought."}
    )
    feature_cache_dir: str | None = field(
        default=None, metadata={"help": "Folder of the cache of encoder states; inside output_dir when not given."}
    )
    feature_batch_size: int = field(default=32, metadata={"help": "Texts in one forward pass of the encoder."})

    def __post_init__(self) -> None:
        self.check_for_part()
        super().__post_init__()
        if self.train_sampling_strategy not in ("random", "sequential"):
            raise LlinkConfigError(
                f"train_sampling_strategy={self.train_sampling_strategy!r} is not one of random, sequential."
            )
        if not 0 <= self.english_share <= 1:
            raise LlinkConfigError(f"english_share={self.english_share} is no share between 0 and 1.")
        for name in ("vocabulary_size", "feature_batch_size"):
            if not getattr(self, name) > 0:
                raise LlinkConfigError(f"{name}={getattr(self, name)} must be above 0.")
