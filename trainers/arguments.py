"""Training arguments that all trainers share."""

from __future__ import annotations

from transformers import TrainingArguments
from transformers.utils import logging

logger = logging.get_logger(__name__)

#: Options that would be ignored, or fail late, where only a small part is trained and the decoder's layers are not run.
UNSUPPORTED = (
    *("fsdp", "deepspeed", "label_smoothing_factor", "neftune_noise_alpha", "use_liger_kernel"),
    *("activation_checkpointing", "gradient_checkpointing"),  # the first is new
)


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


def unsupported(args: TrainingArguments) -> str | None:
    """What is wrong with a part's training arguments; nothing if they all apply."""
    for name in UNSUPPORTED:
        if getattr(args, name, None):
            return (
                f"{name}={getattr(args, name)!r} does not apply where only a small part is trained: the decoder's "
                "layers are not run. Leave it out; several processes work through torchrun."
            )
    return None
