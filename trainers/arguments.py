"""Training arguments that all trainers share."""

from __future__ import annotations

from transformers import TrainingArguments
from transformers.utils import logging

logger = logging.get_logger(__name__)


class LlinkTrainingArguments(TrainingArguments):
    """[`~transformers.TrainingArguments`] of which each process uses one GPU.

    With several GPUs in one process the library wraps the model in `torch.nn.DataParallel`, which splits every tensor
    by its first dimension: losses over passages, slots and positions would be wrong without a sign of it.
    """

    @property
    def n_gpu(self) -> int:
        """GPUs of this process: 1 at most."""
        found = super().n_gpu
        if found > 1:
            logger.warning_once(f"Training on the first of {found} GPUs. Start it with `torchrun` to use them all.")
        return min(found, 1)
