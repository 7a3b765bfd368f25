"""The direct fine-tune, the paper's main baseline."""

from __future__ import annotations

from typing import Any

from ..baselines.direct import RawTextProcessor, load_adapter
from ..modeling_llink.lora import lora_parameters
from .answer_trainer import AnswerTrainer
from .finetune_config import FinetuneConfig


class FinetuneTrainer(AnswerTrainer):
    """Trains LoRA on the same rows and prompts as Stage B, the foreign text tokenised as it is.

    ```python
    decoder, processor = new_direct("out/a")
    FinetuneTrainer(decoder, FinetuneConfig("out/ft"), processor, train_dataset=rows).train()
    ```

    It saves a PEFT adapter with the processor: `AutoPeftModelForCausalLM` reads it, and so does `load_direct`.

    Args:
        model: A decoder with a LoRA adapter, as `new_direct` makes it; the base stays bit-identical.
        args: A [`FinetuneConfig`].
        processing_class: A [`RawTextProcessor`].
        train_dataset, eval_dataset, callbacks, optimizers: As in [`AnswerTrainer`].

    Raises:
        TypeError, InstructionError: As [`AnswerTrainer`].
    """

    config_class = FinetuneConfig
    processor_class = RawTextProcessor
    _tag_names = ("llink", "direct-finetune")

    def parameter_groups(self) -> list[dict[str, Any]]:
        """LoRA."""
        args = self.args
        return [
            {
                "name": "lora",
                "params": lora_parameters(self.model),
                "lr": args.learning_rate,
                "weight_decay": args.weight_decay,
            }
        ]

    def load_weights(self, folder: str) -> None:
        """Loads a checkpoint's adapter.

        Raises:
            LlinkCheckpointError: If it is missing, damaged or does not fit.
        """
        load_adapter(self.model, folder)
