"""What a run will take, before it starts: a few batches are timed, and nothing of the model is changed."""

from __future__ import annotations

import copy
import math
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, TrainingArguments

from ..arguments_llink import checked
from ..configuration_llink import LlinkConfigError
from ..data.pairs import overlapping_rows, sentences
from ..data.shapes import pair_dataset, row_messages
from ..modeling_llink.checkpoint import bridge_keys
from ..modeling_llink.passages import check_passage
from .align_config import AlignConfig
from .align_trainer import AlignTrainer
from .base import LlinkTrainer
from .checks import rows_read
from .inject_config import InjectConfig
from .inject_trainer import InjectTrainer
from .lexicon_config import LexiconConfig
from .lexicon_trainer import LexiconTrainer

_TRAINERS: dict[type, type[LlinkTrainer]] = {
    AlignConfig: AlignTrainer,
    LexiconConfig: LexiconTrainer,
    InjectConfig: InjectTrainer,
}
#: Rows that are timed, and those that are tokenised.
TIMED, READ = 16, 500


@dataclass(frozen=True)
class Plan:
    """What a run will take; figures are estimates from the rows that were tried.

    Attributes:
        stage: `align`, `lexicon` or `inject`.
        rows: What is trained on, without what is dropped.
        dropped: Rows that share a sentence with a held-out one.
        cut: Rows of which a passage or an answer is longer than what is read of it.
        tokens: Encoder tokens of all passages; in Stage B the decoder's of all prompts and answers too.
        steps: Optimiser steps.
        reading: Seconds of the frozen bases, once; less where the cache has them.
        training: Seconds of all steps.
        memory: Bytes at the most, as far as they were seen.
        disk: Bytes of features and checkpoints.
    """

    stage: str
    rows: int
    dropped: int
    cut: int
    tokens: int
    steps: int
    reading: float
    training: float
    memory: int
    disk: int
    device: str = field(default="cpu")

    @property
    def short(self) -> str:
        """In one line."""
        lost = ",".join(f"{count} {what}" for count, what in ((self.dropped, "dropped"), (self.cut, "cut")) if count)
        return (
            f"{self.stage}: {self.rows} rows{lost and f' ({lost})'}, {self.steps} steps, about "
            f"{_duration(self.reading + self.training)} on {self.device}, {_bytes(self.memory)} of memory, "
            f"{_bytes(self.disk)} on disk"
        )

    def __str__(self) -> str:
        shown = {
            "stage": self.stage,
            "rows": self.rows,
            "dropped": f"{self.dropped} share a sentence with a held-out row",
            "cut": f"{self.cut} are longer than what is read",
            "tokens": self.tokens,
            "frozen bases": _duration(self.reading),
            "training": f"{self.steps} steps, {_duration(self.training)}",
            "memory": _bytes(self.memory),
            "disk": _bytes(self.disk),
            "device": self.device,
        }
        return "\n".join(f"{name:<13} {value}" for name, value in shown.items())


@checked
def plan(model: PreTrainedModel, data: Any, args: Any, held_out: Any = None) -> Plan:
    """Tries a few batches of a run, and says what all of it will take.

    ```python
    print(llink.plan(model, pairs, AlignConfig("out/a")))
    ```

    Args:
        model: A [`LlinkForCausalLM`]; its weights, flags and random numbers are left as they were.
        data: What the stage's trainer takes.
        args: An [`AlignConfig`], [`LexiconConfig`] or [`InjectConfig`], which says the stage.
        held_out: As the trainer's `eval_dataset`, one set.

    Raises:
        LlinkConfigError: If `args` is of another class.
        DataError: If the data is unusable.
    """
    kind = next((known for known in _TRAINERS if isinstance(args, known)), None)
    if kind is None:
        raise LlinkConfigError(
            f"args is a {type(args).__name__}; a plan needs one of {', '.join(k.__name__ for k in _TRAINERS)}."
        )
    of_rows = kind is InjectConfig
    rows = rows_read(data, args) if of_rows else pair_dataset(data, name="train_dataset")
    shared = [] if of_rows or held_out is None else overlapping_rows(rows, pair_dataset(held_out, name="held_out"))
    left = len(rows) - len(shared)
    sample = _spread(rows, READ)
    lengths, cut = _read(model, sample, of_rows, getattr(args, "max_length", 0))
    tried = _spread(rows, TIMED)
    with _as_it_was(model), tempfile.TemporaryDirectory(prefix="llink-plan-") as scratch:
        reading, step_row = _timed(_TRAINERS[kind], model, _for_trying(args, scratch, len(tried)), tried)
    per_step = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    drop_last = args.dataloader_drop_last
    an_epoch = max(1, left // per_step if drop_last else math.ceil(left / per_step))
    steps = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * an_epoch)
    weights = sum(tensor.numel() for tensor in _bridge(model)) * 4
    kept = 1 + 3 * _checkpoints(args, steps, an_epoch)  # each with the optimiser's two moments
    widths = model.config.encoder_config.hidden_size + model.config.hidden_size
    cuda = args.device.type == "cuda"
    peak = torch.cuda.max_memory_allocated(args.device) if cuda else _resident()
    return Plan(
        stage=_TRAINERS[kind].stage or kind.__name__,
        rows=left,
        dropped=len(shared),
        cut=round(cut * len(rows) / len(sample)),
        tokens=round(sum(lengths) / len(lengths) * left),
        steps=steps,
        reading=reading * left,
        training=step_row * steps * per_step,
        memory=peak + (0 if cuda else 4 * left * widths),
        disk=weights * kept + 4 * left * widths,
        device=str(args.device),
    )


def _read(model: PreTrainedModel, rows: Dataset, of_rows: bool, most: int) -> tuple[list[int], int]:
    """Tokens of each row, and how many rows are longer than what is read of them."""
    processor, lengths, cut = model.processor, [], 0
    for number, row in enumerate(rows if of_rows else [{"foreign": [t]} for t in sentences(rows, "foreign")]):
        readings = [processor.read(check_passage(text, number)) for text in row["foreign"]]
        length = sum(len(piece.ids) for reading in readings for piece in reading.pieces)
        told = 0
        if of_rows:
            told = len(processor.render(row_messages(row, row["foreign"]))[0])
            told += len(processor.tokenizer(row["completion"], add_special_tokens=False)["input_ids"])
        lengths.append(length + told)
        cut += any(reading.cut for reading in readings) or (of_rows and told > most)
    return lengths, cut


def _for_trying(args: TrainingArguments, scratch: str, rows: int) -> TrainingArguments:
    tried = copy.copy(args)
    tried.output_dir, tried.report_to, tried.save_strategy, tried.eval_strategy = scratch, [], "no", "no"
    tried.disable_tqdm, tried.push_to_hub, tried.dataloader_drop_last = True, False, False
    tried.per_device_train_batch_size = min(args.per_device_train_batch_size, max(2, rows // 2))
    tried.gradient_accumulation_steps, tried.train_sampling_strategy = 1, "random"
    return tried


def _timed(
    trainer_class: type[LlinkTrainer], model: PreTrainedModel, args: TrainingArguments, rows: Dataset
) -> tuple[float, float]:
    """Seconds a row of the frozen bases, and of a step."""
    trainer = trainer_class(model=model, args=args, train_dataset=rows)
    started = time.perf_counter()
    loader = trainer.get_train_dataloader()
    read = time.perf_counter()
    trainer.model.train()
    seen = 0
    for number, batch in enumerate(loader):
        if not number:  # the first warms up
            _descend(trainer, batch)
            begun = time.perf_counter()
        trainer.state.global_step = number
        _descend(trainer, batch)
        seen += len(batch["rows"])
    _wait()
    return (read - started) / len(rows), (time.perf_counter() - begun) / seen


def _descend(trainer: LlinkTrainer, batch: dict[str, Any]) -> None:
    inputs = {**trainer._prepare_inputs(batch), **trainer.of_whole_step([batch], trainer.args.device)}
    with trainer.compute_loss_context_manager():
        loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()


def _wait() -> None:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def _bridge(model: PreTrainedModel) -> list[torch.Tensor]:
    """What a stage may change."""
    state = model.state_dict(keep_vars=True)
    return [state[key] for key in bridge_keys(model)]


@contextmanager
def _as_it_was(model: PreTrainedModel) -> Iterator[None]:
    """Leaves weights, flags, mode and random numbers as they were."""
    kept = [(tensor, tensor.detach().clone()) for tensor in _bridge(model)]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    place = next(model.projector.parameters()).device
    with torch.random.fork_rng():
        try:
            yield
        finally:
            model.projector.to(place)
            with torch.no_grad():
                for tensor, value in kept:
                    tensor.copy_(value)
            for parameter, flag in flags:
                parameter.requires_grad_(flag).grad = None
            for module, mode in modes:
                module.training = mode


def _checkpoints(args: TrainingArguments, steps: int, an_epoch: int) -> int:
    """How many are left at the end."""
    every = {"epoch": an_epoch, "steps": args.save_steps if args.save_steps >= 1 else args.save_steps * steps}
    saved = math.ceil(steps / max(1, every[args.save_strategy])) if args.save_strategy in every else 0
    return min(saved, args.save_total_limit or saved)


def _spread(rows: Dataset, count: int) -> Dataset:
    step = max(1, len(rows) // count)
    return rows.select(list(range(0, len(rows), step))[:count])


def _resident() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )


def _bytes(count: float) -> str:
    units: Sequence[str] = ("kB", "MB", "GB", "TB")
    power = max(0, min(len(units) - 1, int(math.log(max(count, 1), 1000)) - 1))
    return f"{count / 1000 ** (power + 1):.1f} {units[power]}"
