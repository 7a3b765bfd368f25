"""The LangBridge-style bridge, a third comparison (arXiv 2401.10695)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import TrainerCallback

from ..baselines.langbridge import LangBridgeForCausalLM, LangBridgeProcessor
from ..modeling_llink.lora import lora_parameters
from .answers import AnswerTensors, answer_loss, answer_tokens, answers_evaluated, check_baseline
from .base import Evaluated, LlinkTrainer, Optimizers, named_sets
from .langbridge_config import LangBridgeConfig


class LangBridgeTrainer(LlinkTrainer):
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
        TypeError, DataError: As [`FinetuneTrainer`].
    """

    # The loss is normalised over the whole accumulated batch.
    loss_is_scaled_for_ga = True
    _tag_names = ("llink", "langbridge")

    def __init__(
        self,
        model: LangBridgeForCausalLM,
        args: LangBridgeConfig,
        processing_class: LangBridgeProcessor,
        train_dataset: Dataset | None = None,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: Optimizers = (None, None),
    ) -> None:
        check_baseline(args, LangBridgeConfig, processing_class, LangBridgeProcessor, type(self))
        self.processor = processing_class  # transformers would write its end and padding ids into the model's own
        super().__init__(
            model,
            args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            callbacks=callbacks,
            optimizers=optimizers,
        )
        for dataset in named_sets(eval_dataset).values():  # unusable rows show now
            self.tensors_of(dataset)
        if train_dataset is not None:
            self.tensors_of(train_dataset)

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

    def of_whole_step(self, batches: list[dict[str, Any]], device: torch.device) -> dict[str, Any]:
        """`step_tokens`: how many tokens the answers of the step have."""
        return {"step_tokens": self.over_processes(answer_tokens(batches, device))}

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """See [`answer_loss`]."""
        loss, output = answer_loss(self, model, inputs)
        return (loss, output) if return_outputs else loss

    def evaluated(self, model: nn.Module, batches: Iterator[dict[str, Any]], dataset: Any) -> Evaluated:
        """See [`answers_evaluated`]."""
        return answers_evaluated(self, model, batches)

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
