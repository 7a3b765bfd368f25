"""What the trainers before Stage B share: one part of a model is trained, and the whole of it is saved."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel, TrainingArguments
from transformers.trainer_utils import TrainOutput

from .hub import HubMixin


class PartTrainer(HubMixin):
    """Trains one part of a llink model in place.

    `self.model` is the part; the whole model is `self.llink_model`, and it is what is saved, in checkpoints too.

    Args:
        model: A [`LlinkForCausalLM`].
        part: The module of it that is trained.
        args, options: As in `Trainer`.

    Raises:
        ValueError: If FSDP or DeepSpeed are set up.
    """

    #: How far a model is once the part is trained, as its configuration names it.
    stage: str

    def __init__(self, model: PreTrainedModel, part: nn.Module, args: TrainingArguments, **options: Any) -> None:
        self.llink_model = model
        part.requires_grad_(True)
        super().__init__(model=part, args=args, **options)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise ValueError(
                f"FSDP and DeepSpeed do not apply to {type(self).__name__}, which trains a small part: launch with "
                "torchrun."
            )
        fixed = (getattr(m, "hf_device_map", None) or getattr(m, "is_quantized", False) for m in model.modules())
        if not any(fixed):  # a quantised or dispatched base stays where it was loaded
            model.to(self.args.device)

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """As `Trainer.train`; leaves the part in evaluation mode.

        Raises:
            NonFiniteLossError: If the loss becomes NaN or infinite.
            ValueError: If there are no training data, or the model could not be saved.
        """
        if self.train_dataset is None:
            raise ValueError("Training needs a train_dataset.")
        self._check_savable()
        self.llink_model.config.stage = self.stage
        return super().train(*args, **kwargs)

    def _check_savable(self) -> None:
        """Finds out before training, not at its first checkpoint, that a light checkpoint cannot name its bases."""
        config = self.llink_model.config
        names = config.encoder_name_or_path, config.decoder_name_or_path
        if self.args.save_strategy != "no" and not config.self_contained and None in names:
            raise ValueError(
                f"The bases are named {names}: a light checkpoint could not find them again. Build the model from "
                "names or folders, set model.config.self_contained=True, or save_strategy='no'."
            )

    def load_weights(self, folder: str) -> None:
        """Loads a checkpoint's bridge.

        Raises:
            LlinkCheckpointError: If it is missing, damaged or does not fit.
        """
        self.llink_model.load_bridge(folder)
