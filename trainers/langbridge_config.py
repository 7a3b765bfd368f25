"""Arguments of the LangBridge-style bridge."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ..configuration_llink import LlinkConfigError
from .answer_config import AnswerConfig


@dataclass
class LangBridgeConfig(AnswerConfig):
    r"""
    Arguments of [`LangBridgeTrainer`]: as [`AnswerConfig`], and

    - `learning_rate`: 6e-4, not 5e-5: the linear map's in LangBridge's published scripts.
    - `weight_decay`: 0, not 0.01, from the same scripts.
    """

    learning_rate: float = field(
        default=6e-4, metadata={"help": "Peak learning rate of the linear map (LangBridge's scripts: 6e-4)."}
    )
    weight_decay: float = field(default=0.0, metadata={"help": "Weight decay on matrices (LangBridge's scripts: 0)."})
    lora_learning_rate: float = field(
        default=1e-3, metadata={"help": "Peak learning rate of LoRA, where it is trained too (as Stage B: 1e-3)."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.lora_learning_rate) and self.lora_learning_rate > 0):
            raise LlinkConfigError(f"lora_learning_rate={self.lora_learning_rate} must be above 0.")
