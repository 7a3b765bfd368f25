"""What the arguments of all trainers have in common."""

from __future__ import annotations

import logging
from typing import Any

from transformers import TrainingArguments

from ..configuration_llink import LlinkConfigError

logger = logging.getLogger(__name__)

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
        TypeError: If they are of one.
    """
    if not isinstance(args, wanted):
        article = "an" if wanted.__name__[0] in "AEIO" else "a"
        raise TypeError(f"args is a {type(args).__name__}; {trainer.__name__} needs {article} {wanted.__name__}.")
