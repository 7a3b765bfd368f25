"""Arguments of the direct fine-tune."""

from __future__ import annotations

from dataclasses import dataclass, field

from .answer_config import AnswerConfig


@dataclass
class FinetuneConfig(AnswerConfig):
    r"""
    Arguments of [`FinetuneTrainer`]: as [`AnswerConfig`], and

    - `learning_rate`: 1e-3, not 5e-5: what LoRA has in Stage B.
    """

    learning_rate: float = field(default=1e-3, metadata={"help": "Peak learning rate of LoRA (as Stage B: 1e-3)."})
