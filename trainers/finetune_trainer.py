"""The direct fine-tune, the paper's main baseline."""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from torch import Tensor

from ..baselines.direct import RawTextProcessor, load_adapter, save_adapter
from ..modeling_llink.lora import lora_parameters
from .answers import AnswerTensors, AnswerTrainer
from .finetune_config import FinetuneConfig


class FinetuneTrainer(AnswerTrainer):
    """Trains LoRA on the same rows and prompts as Stage B, the foreign text tokenised as it is.

    ```python
    decoder, processor = new_direct("out/a")
    FinetuneTrainer(decoder, FinetuneConfig("out/ft"), processor, train_dataset=rows).train()
    ```

    It saves a PEFT adapter with the processor: `AutoPeftModelForCausalLM` reads it, and so does `load_direct`.
    Evaluation reports `eval_loss`, in nats a token of the answers over the whole set. `self.model` is the decoder;
    there is no llink model.

    Args:
        model: A decoder with a LoRA adapter, as `new_direct` makes it; the base stays bit-identical.
        args: A [`FinetuneConfig`].
        processing_class: A [`RawTextProcessor`]; saved with every checkpoint.
        train_dataset: Instruction rows, as `read_instructions` returns them.
        eval_dataset: The same, or a dict of them.
        callbacks, optimizers: As in `Trainer`.

    Raises:
        LlinkConfigError: If `args` or `processing_class` is of another class.
        DataError: If rows are unusable, or a prompt is too long.
    """

    config_class = FinetuneConfig
    processor_class = RawTextProcessor
    _tag_names = ("llink", "direct-finetune")

    def make_tensors(self, dataset: Dataset) -> AnswerTensors:
        """The rows as tokens."""
        return AnswerTensors(self.processor, dataset, self.args.max_length)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """LoRA."""
        args, lora = self.args, lora_parameters(self.model)
        return [{"name": "lora", "params": lora, "lr": args.learning_rate, "weight_decay": args.weight_decay}]

    def save_weights(self, folder: str, state_dict: dict[str, Tensor] | None = None) -> None:
        """Writes the adapter, with the processor."""
        save_adapter(self.model, folder)
        self.processor.save_pretrained(folder)

    def load_weights(self, folder: str) -> None:
        """Loads a checkpoint's adapter.

        Raises:
            LlinkCheckpointError: If it is missing, damaged or does not fit.
        """
        load_adapter(self.model, folder)
