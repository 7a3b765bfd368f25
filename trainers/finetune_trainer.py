"""The direct fine-tune, the paper's main baseline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainerCallback

from ..baselines.direct import RawTextProcessor, load_adapter, save_adapter
from ..modeling_llink.lora import lora_parameters
from .answers import AnswerTensors, answer_loss, answer_tokens, answers_evaluated, check_baseline
from .base import Evaluated, LlinkTrainer, Optimizers, named_sets
from .finetune_config import FinetuneConfig


class FinetuneTrainer(LlinkTrainer):
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
        TypeError: If `args` or `processing_class` is of another class.
        DataError: If rows are unusable, or a prompt is too long.
    """

    # The loss is normalised over the whole accumulated batch.
    loss_is_scaled_for_ga = True
    _tag_names = ("llink", "direct-finetune")

    def __init__(
        self,
        model: PreTrainedModel,
        args: FinetuneConfig,
        processing_class: RawTextProcessor,
        train_dataset: Dataset | None = None,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: Optimizers = (None, None),
    ) -> None:
        check_baseline(args, FinetuneConfig, processing_class, RawTextProcessor, type(self))
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
        """The rows as tokens."""
        return AnswerTensors(self.processor, dataset, self.args.max_length)

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
