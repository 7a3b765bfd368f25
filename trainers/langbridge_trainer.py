"""The LangBridge-style bridge, a third comparison (arXiv 2401.10695)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset

from ..baselines.langbridge import LangBridgeProcessor
from ..data.instructions import instruction_dataset
from ..modeling_llink.lora import lora_parameters
from .answer_trainer import AnswerTrainer
from .langbridge_config import LangBridgeConfig


class LangBridgeTrainer(AnswerTrainer):
    """Trains the linear map and the end-of-source embedding, and LoRA where the model has it; the bases stay frozen.

    ```python
    model = LangBridgeForCausalLM.from_llink("out/a")
    LangBridgeTrainer(model, LangBridgeConfig("out/lb"), model.processor, train_dataset=rows).train()
    ```

    Args:
        model: A [`LangBridgeForCausalLM`].
        args: A [`LangBridgeConfig`].
        processing_class: The model's own [`LangBridgeProcessor`].
        train_dataset, eval_dataset, callbacks, optimizers: As in [`AnswerTrainer`].

    Raises:
        TypeError, InstructionError: As [`AnswerTrainer`].
    """

    config_class = LangBridgeConfig
    processor_class = LangBridgeProcessor
    _tag_names = ("llink", "langbridge")

    def tokenize(self, dataset: Dataset, max_length: int) -> list[dict[str, Any]]:
        """Instruction rows → examples of `id`, `input_ids`, `labels`, and `foreign`, the passages' encoder tokens."""
        dataset = instruction_dataset(dataset)
        examples = super().tokenize(dataset, max_length)
        passages = [self.processor.tokenize_passages(row["foreign"]) for row in dataset]
        return [{**example, "foreign": tokens} for example, tokens in zip(examples, passages, strict=True)]

    def collate(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """As [`AnswerTrainer.collate`], with `foreign_input_ids` and `foreign_attention_mask` (B, T, L)."""
        passages = self.processor.pad_passages([example["foreign"] for example in examples])
        return {**super().collate(examples), **passages}

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

    def load_weights(self, folder: str) -> None:
        """Loads a checkpoint's bridge and LoRA.

        Raises:
            LlinkCheckpointError: If they are missing, damaged or do not fit.
        """
        self.model.load_weights(folder)
