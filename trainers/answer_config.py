"""Arguments that the trainers of the baselines share."""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers import TrainingArguments

from ..configuration_llink import LlinkConfigError
from .arguments import LlinkTrainingArguments


def check_answer_options(args: TrainingArguments) -> None:
    """Refuses what cannot apply to a loss of the answers' tokens, taken over rows with columns of their own.

    Raises:
        LlinkConfigError: If `remove_unused_columns` or `label_smoothing_factor` is set.
    """
    if args.remove_unused_columns:
        raise LlinkConfigError("remove_unused_columns must stay False: the trainer reads the rows' columns.")
    if args.label_smoothing_factor:
        raise LlinkConfigError(
            f"label_smoothing_factor={args.label_smoothing_factor} does not apply: the loss is that of the "
            "answers' own tokens, summed over the accumulated batch. Leave it out."
        )


@dataclass
class AnswerConfig(LlinkTrainingArguments):
    r"""
    Arguments of the baselines' trainers: as Stage B's, so that a comparison is of equal data, steps and schedule.

    All arguments of [`~transformers.TrainingArguments`] work; these have other defaults:

    - `weight_decay`: 0.01, not 0.
    - `warmup_steps`: 0.15 of the run, not 0.
    - `per_device_train_batch_size`, `gradient_accumulation_steps`: 16 and 8, not 8 and 1.
    - `train_sampling_strategy`: group_by_length, not random: half of a random batch of sentences is padding.
    - `remove_unused_columns`: False, not True: the trainer itself reads the columns of the rows.
    - `ddp_find_unused_parameters`: False: every trained parameter is used in every step.
    """

    weight_decay: float = field(default=0.01, metadata={"help": "Weight decay on matrices (as Stage B: 0.01)."})
    warmup_steps: float = field(
        default=0.15, metadata={"help": "Linear warm-up, in steps or, below 1, as a share of the run (as Stage B)."}
    )
    per_device_train_batch_size: int = field(
        default=16, metadata={"help": "Examples a device and backward pass (as Stage B: 16)."}
    )
    gradient_accumulation_steps: int = field(
        default=8, metadata={"help": "Backward passes a step; equal to one big batch (as Stage B: 8)."}
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
        default=768, metadata={"help": "Tokens of prompt and answer; longer answers are cut (as Stage B: 768)."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_length < 1:
            raise LlinkConfigError(f"max_length={self.max_length} must be above 0.")
        check_answer_options(self)
