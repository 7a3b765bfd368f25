"""What the baselines' trainers share: rows as tokens, and the loss of the answers' tokens, exactly accumulated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ..data.collators import tokenize_instructions
from ..data.instructions import instruction_dataset
from ..evaluation.usage import answer_losses, answer_reach
from ..modeling_llink import LlinkProcessor
from .base import Evaluated, LlinkTrainer, check_arguments


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


def check_baseline(args: Any, config_class: type, processor: Any, processor_class: type, trainer: type) -> None:
    """Refuses arguments or a processor of another class.

    Raises:
        TypeError: If either is.
    """
    check_arguments(args, config_class, trainer)
    if not isinstance(processor, processor_class):
        raise TypeError(
            f"processing_class is a {type(processor).__name__}; {trainer.__name__} needs a {processor_class.__name__}."
        )


def answer_tokens(batches: Sequence[Mapping[str, Any]], device: torch.device) -> Tensor:
    """How many tokens the answers of some batches have."""
    return sum((batch["labels"][:, 1:] != -100).sum() for batch in batches).to(device)


def answer_loss(trainer: LlinkTrainer, model: nn.Module, inputs: dict[str, Any]) -> tuple[Tensor, Any]:
    """A micro-batch's share of the step's loss, and the model's output: prompt (B, S) → logits (B, S, V) → scalar.

    The sum over the answers' tokens, divided by those of the whole accumulated batch, on all processes (`step_tokens`):
    accumulation equals the big batch.

    Raises:
        TrainingError: If it is NaN or infinite.
    """
    output, losses, tokens = _answered(model, inputs)
    loss = losses.sum() / inputs.get("step_tokens", tokens.sum())
    trainer.check_finite(loss, torch.isfinite(losses), inputs["ids"])
    # DistributedDataParallel averages the processes' gradients; the loss is already divided by the whole step.
    return loss * (trainer.args.world_size if model.training else 1), output


def answers_evaluated(trainer: LlinkTrainer, model: nn.Module, batches: Iterator[dict[str, Any]]) -> Evaluated:
    """The answers' losses (N,) and tokens (N,), and `loss`, in nats a token over the whole set."""
    columns = []
    for batch in batches:
        _, losses, tokens = _answered(model, batch)
        losses, tokens = trainer.accelerator.gather_for_metrics((losses, tokens))
        columns.append((losses.cpu().double(), tokens.cpu()))
    losses, tokens = (torch.cat(column) for column in zip(*columns, strict=True))
    return losses, tokens, {"loss": (losses.sum() / tokens.sum()).item()}


def _answered(model: nn.Module, inputs: Mapping[str, Any]) -> tuple[Any, Tensor, Tensor]:
    own = {name: value for name, value in inputs.items() if name not in ("labels", "ids", "step_tokens")}
    output = model(**own, use_cache=False, logits_to_keep=answer_reach(inputs["labels"]))
    return output, *answer_losses(output.logits, inputs["labels"])  # (B,), (B,)
