"""What the baselines' trainers share: the loss of the answers' tokens, exactly accumulated, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, TrainerCallback

from ..data.collators import tokenize_instructions
from ..data.instructions import instruction_dataset
from ..evaluation.usage import answer_losses, answer_reach
from ..modeling_llink import LlinkProcessor
from .answer_config import AnswerConfig
from .base import Evaluated, LlinkTrainer
from .losses import NonFiniteLossError


class AnswerTrainer(LlinkTrainer):
    """Trains what a model leaves unfrozen on the answers of instruction rows.

    Prompts are rendered by the processor exactly as in inference. Losses are sums over the answers' tokens divided by
    those of the whole accumulated batch, on all processes: accumulation equals the big batch. Evaluation reports
    `eval_loss`, in nats a token over the whole set.

    Args:
        model: Called with `input_ids` and `attention_mask` (B, S) and whatever `collate` adds; returns `logits`.
        args: Of the class `config_class`.
        processing_class: Of the class `processor_class`; saved with every checkpoint.
        train_dataset: Instruction rows, as `read_instructions` returns them.
        eval_dataset: The same, or a dict of them.
        callbacks, optimizers: As in `Trainer`.

    Raises:
        TypeError: If `args` or `processing_class` is of another class.
        InstructionError: If rows are unusable, or a prompt is too long.
    """

    config_class: type[AnswerConfig] = AnswerConfig
    processor_class: type[LlinkProcessor] = LlinkProcessor
    # The loss is normalised over the whole accumulated batch.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: PreTrainedModel,
        args: AnswerConfig,
        processing_class: LlinkProcessor,
        train_dataset: Dataset | None = None,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LRScheduler | None] = (None, None),
    ) -> None:
        for name, value, wanted in (
            ("args", args, self.config_class),
            ("processing_class", processing_class, self.processor_class),
        ):
            if not isinstance(value, wanted):
                raise TypeError(f"{name} is a {type(value).__name__}; {type(self).__name__} needs a {wanted.__name__}.")
        self.processor = processing_class
        max_length = args.max_length
        if isinstance(eval_dataset, dict):
            eval_dataset = {name: self.tokenize(rows, max_length) for name, rows in eval_dataset.items()}
        elif eval_dataset is not None:
            eval_dataset = self.tokenize(eval_dataset, max_length)
        super().__init__(
            model=model,
            args=args,
            data_collator=self.collate,
            train_dataset=None if train_dataset is None else self.tokenize(train_dataset, max_length),
            eval_dataset=eval_dataset,
            callbacks=callbacks,
            optimizers=optimizers,
        )

    # ------------------------------------------------------------------ data

    def tokenize(self, dataset: Dataset, max_length: int) -> list[dict[str, Any]]:
        """Instruction rows → examples of `id`, `input_ids`, `labels`.

        Raises:
            InstructionError: If rows are unusable, or a prompt is too long.
        """
        dataset = instruction_dataset(dataset)
        examples, _ = tokenize_instructions(self.processor, dataset, max_length)
        return [{"id": row["id"], **example} for row, example in zip(dataset, examples, strict=True)]

    def collate(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Examples → `input_ids`, `attention_mask`, `labels` (B, S), padded on the right, and their `ids`."""
        rows = [torch.tensor(example["input_ids"]) for example in examples]
        labels = [torch.tensor(example["labels"]) for example in examples]
        return {
            "input_ids": pad_sequence(rows, batch_first=True, padding_value=self.processor.pad_token_id),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in rows], batch_first=True),
            "labels": pad_sequence(labels, batch_first=True, padding_value=-100),
            "ids": [example["id"] for example in examples],
        }

    def get_eval_dataloader(self, eval_dataset: str | Dataset | None = None) -> DataLoader:
        """As `Trainer.get_eval_dataloader`; takes instruction rows too."""
        if isinstance(eval_dataset, Dataset):
            eval_dataset = self.tokenize(eval_dataset, self.args.max_length)
        return super().get_eval_dataloader(eval_dataset)

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, Tensor | int | None]:
        """Collects the micro-batches of one step and gives each of them the number of answer tokens of the whole."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches:
            return batches, items
        tokens = sum((batch["labels"][:, 1:] != -100).sum() for batch in batches).to(device)
        if self.args.world_size > 1:
            tokens = self.accelerator.gather(tokens).sum()
        return [{**batch, "step_tokens": tokens} for batch in batches], items

    # ------------------------------------------------------------------ loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """This micro-batch's share of the step's loss: prompt (B, S) → logits (B, S, V) → scalar."""
        output, losses, tokens = self._answer_losses(model, inputs)
        loss = losses.sum() / inputs.get("step_tokens", tokens.sum())
        if not torch.isfinite(loss):
            finite = torch.isfinite(losses).tolist()
            guilty = [name for name, fine in zip(inputs["ids"], finite, strict=True) if not fine]
            raise NonFiniteLossError(self.state.global_step, guilty or inputs["ids"], loss.item())
        # DistributedDataParallel averages the processes' gradients; the loss is already divided by the whole step.
        loss = loss * (self.args.world_size if model.training else 1)
        return (loss, output) if return_outputs else loss

    @staticmethod
    def _answer_losses(model: nn.Module, inputs: Mapping[str, Any]) -> tuple[Any, Tensor, Tensor]:
        own = {name: value for name, value in inputs.items() if name not in ("labels", "ids", "step_tokens")}
        output = model(**own, use_cache=False, logits_to_keep=answer_reach(inputs["labels"]))
        return output, *answer_losses(output.logits, inputs["labels"])  # (B,), (B,)

    # ------------------------------------------------------------------ evaluation and checkpoints

    def evaluated(self, model: nn.Module, batches: Iterator[dict[str, Any]], dataset: Any) -> Evaluated:
        """The answers' loss over a whole set, in nats a token."""
        sums, counts = [], []
        for batch in batches:
            _, losses, tokens = self._answer_losses(model, batch)
            losses, tokens = self.accelerator.gather_for_metrics((losses, tokens))
            sums.append(losses.cpu().double())
            counts.append(tokens.cpu())
        losses, tokens = torch.cat(sums), torch.cat(counts)
        return losses, tokens, {"loss": (losses.sum() / tokens.sum()).item()}

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        # The library is not given the processor: it would write its end and padding ids into the model's configuration.
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            self.processor.save_pretrained(output_dir or self.args.output_dir)
