"""What the baselines' trainers share: rows as tokens, and the loss of the answers' tokens, exactly accumulated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, TrainerCallback

from ..arguments_llink import checked_methods
from ..configuration_llink import LlinkConfigError
from ..data.collators import tokenize_instructions
from ..data.instructions import instruction_dataset
from ..evaluation.usage import answer_losses, answer_reach
from ..modeling_llink import LlinkProcessor
from .arguments import LlinkTrainingArguments, check_arguments
from .base import Evaluated, LlinkTrainer, Optimizers, named_sets
from .checks import rows_read


class AnswerTensors(torch.utils.data.Dataset):
    """Instruction rows as tokens; `collate` gathers a batch.

    Prompts are rendered by the processor exactly as in inference.

    Args:
        processor: Of the model that is trained.
        rows: Instruction rows, as `read_instructions` returns them.
        max_length: Tokens of prompt and answer; longer answers are cut.
        more: Further columns of the examples, one value a row; `collate` leaves them to `gather`.
        gather: Makes what `collate` adds of a batch's examples.

    Raises:
        DataError: If rows are unusable, or a prompt is too long.
    """

    def __init__(
        self,
        processor: LlinkProcessor,
        rows: Dataset,
        max_length: int,
        more: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda row: {},
        gather: Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]] = lambda examples: {},
    ) -> None:
        rows = instruction_dataset(rows)
        tokens, _ = tokenize_instructions(processor, rows, max_length)
        self.examples: list[dict[str, Any]] = [
            {"id": row["id"], **example, **more(row)} for row, example in zip(rows, tokens, strict=True)
        ]
        #: Tokens of each row.
        self.lengths = [len(example["input_ids"]) for example in self.examples]
        self._pad, self._gather = processor.pad_token_id, gather

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.examples[row]

    def collate(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Examples → `input_ids`, `attention_mask`, `labels` (B, S), padded on the right, and their `ids`."""
        rows = [torch.tensor(example["input_ids"]) for example in examples]
        labels = [torch.tensor(example["labels"]) for example in examples]
        return {
            "input_ids": pad_sequence(rows, batch_first=True, padding_value=self._pad),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in rows], batch_first=True),
            "labels": pad_sequence(labels, batch_first=True, padding_value=-100),
            "ids": [example["id"] for example in examples],
            **self._gather(examples),
        }


@checked_methods
class AnswerTrainer(LlinkTrainer):
    """What trains a baseline on the answers of instruction rows; a subclass says what is trained and how it is saved.

    Losses are sums over the answers' tokens, divided by those of the whole accumulated batch, on all processes:
    accumulation equals the big batch. Evaluation reports `eval_loss`, in nats a token over the whole set.

    Args:
        model: What is trained; there is no llink model.
        args: Of the class `config_class`.
        processing_class: Of the class `processor_class`; saved with every checkpoint.
        train_dataset: Instruction rows, as [`instruction_dataset`] takes them; of a stream as many as `max_steps` need.
        eval_dataset: The same, but for streams, or a dict of them.
        callbacks, optimizers: As in `Trainer`.

    Raises:
        LlinkConfigError: If `args` or `processing_class` is of another class.
        DataError: If rows are unusable, or a prompt is too long.
    """

    # The loss is normalised over the whole accumulated batch.
    loss_is_scaled_for_ga = True
    config_class: type[LlinkTrainingArguments]
    processor_class: type[LlinkProcessor]

    def __init__(
        self,
        model: PreTrainedModel,
        args: LlinkTrainingArguments,
        processing_class: LlinkProcessor,
        train_dataset: Dataset | None = None,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: Optimizers = (None, None),
    ) -> None:
        check_arguments(args, self.config_class, type(self))
        if not isinstance(processing_class, self.processor_class):
            raise LlinkConfigError(
                f"processing_class is a {type(processing_class).__name__}; {type(self).__name__} needs a "
                f"{self.processor_class.__name__}."
            )
        train_dataset = rows_read(train_dataset, args)
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

    def of_whole_step(self, batches: list[dict[str, Any]], device: torch.device) -> dict[str, Any]:
        """`step_tokens`: how many tokens the answers of the step have."""
        tokens = sum((batch["labels"][:, 1:] != -100).sum() for batch in batches).to(device)
        return {"step_tokens": self.over_processes(tokens)}

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """This micro-batch's share of the step's loss: prompt (B, S) → logits (B, S, V) → scalar.

        Raises:
            TrainingError: If it is NaN or infinite.
        """
        output, losses, tokens = _answered(model, inputs)
        loss = losses.sum() / inputs.get("step_tokens", tokens.sum())
        self.check_finite(loss, torch.isfinite(losses), inputs["ids"])
        # DistributedDataParallel averages the processes' gradients; the loss is already divided by the whole step.
        loss = loss * (self.args.world_size if model.training else 1)
        return (loss, output) if return_outputs else loss

    def evaluated(self, model: nn.Module, batches: Iterator[dict[str, Any]], dataset: Any) -> Evaluated:
        """The answers' losses (N,) and tokens (N,), and `loss`, in nats a token over the whole set."""
        columns = []
        for batch in batches:
            _, losses, tokens = _answered(model, batch)
            losses, tokens = self.accelerator.gather_for_metrics((losses, tokens))
            columns.append((losses.cpu().double(), tokens.cpu()))
        losses, tokens = (torch.cat(column) for column in zip(*columns, strict=True))
        return losses, tokens, {"loss": (losses.sum() / tokens.sum()).item()}


def _answered(model: nn.Module, inputs: Mapping[str, Any]) -> tuple[Any, Tensor, Tensor]:
    own = {name: value for name, value in inputs.items() if name not in ("labels", "ids", "step_tokens")}
    output = model(**own, use_cache=False, logits_to_keep=answer_reach(inputs["labels"]))
    return output, *answer_losses(output.logits, inputs["labels"])  # (B,), (B,)
