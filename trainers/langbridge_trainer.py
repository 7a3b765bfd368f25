"""The LangBridge-style bridge, a third comparison (arXiv 2401.10695)."""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from torch import Tensor

from ..baselines.langbridge import LangBridgeProcessor
from ..modeling_llink.lora import lora_parameters
from .answers import AnswerTensors, AnswerTrainer
from .langbridge_config import LangBridgeConfig


class LangBridgeTrainer(AnswerTrainer):
    """Trains the linear map and the end-of-source embedding, and LoRA where the model has it; the bases stay frozen.

    ```python
    model = LangBridgeForCausalLM.from_llink("out/a")
    LangBridgeTrainer(model, LangBridgeConfig("out/lb"), model.processor, train_dataset=rows).train()
    ```

    Evaluation reports `eval_loss`, in nats a token of the answers over the whole set. `self.model` is the bridge with
    both bases; there is no llink model.

    Args:
        model: A [`LangBridgeForCausalLM`].
        args: A [`LangBridgeConfig`].
        processing_class: The model's own [`LangBridgeProcessor`]; saved with every checkpoint.
        train_dataset, eval_dataset, callbacks, optimizers: As in [`FinetuneTrainer`].

    Raises:
        LlinkConfigError, DataError: As [`FinetuneTrainer`].
    """

    config_class = LangBridgeConfig
    processor_class = LangBridgeProcessor
    _tag_names = ("llink", "langbridge")

    def make_tensors(self, dataset: Dataset) -> AnswerTensors:
        """The rows as tokens, with the passages' encoder tokens `foreign_input_ids` and their mask (B, T, L)."""
        processor = self.processor
        return AnswerTensors(
            processor,
            dataset,
            self.args.max_length,
            more=lambda row: {"foreign": [p for pieces in processor.read_passages(row["foreign"]) for p in pieces]},
            gather=lambda examples: processor.pad_passages([example["foreign"] for example in examples]),
        )

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The linear map (its matrix, then its bias and the end-of-source embedding), LoRA."""
        args, model = self.args, self.model
        groups = [
            {"name": "bridge", "params": [model.bridge.weight], "weight_decay": args.weight_decay},
            {"name": "bridge_vectors", "params": [model.bridge.bias, model.end_of_source], "weight_decay": 0.0},
        ]
        groups = [{**group, "lr": args.learning_rate} for group in groups]
        if model.config.lora:
            lora = {"name": "lora", "params": lora_parameters(model.decoder), "weight_decay": args.weight_decay}
            groups.append({**lora, "lr": args.lora_learning_rate})
        return groups

    def save_weights(self, folder: str, state_dict: dict[str, Tensor] | None = None) -> None:
        """Writes the bridge and LoRA, with the processor."""
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)

    def load_weights(self, folder: str) -> None:
        """Loads a checkpoint's bridge and LoRA.

        Raises:
            LlinkCheckpointError: If they are missing, damaged or do not fit.
        """
        self.model.load_weights(folder)
