"""`llink finetune`: the direct fine-tune."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from transformers import set_seed

from ..baselines.direct import new_direct
from ..trainers.checks import check_training
from ..trainers.finetune_config import FinetuneConfig
from ..trainers.finetune_trainer import FinetuneTrainer
from .loading import BaseLoading
from .parsing import parse_arguments, preset_of
from .training import InstructionData, train_and_save


@dataclass(kw_only=True)
class BaselineData(InstructionData, BaseLoading):
    """The llink model that the baseline is compared with, and the rows of its Stage B."""

    model: str = field(
        metadata={"help": "Folder or repository of an llink model: gives the bases, their revisions, LoRA's settings."}
    )


OPTIONS = (BaselineData, FinetuneConfig)
PRESETS = True
EXAMPLE = "llink finetune --model out/a --instructions train.jsonl --output-dir out/finetune"


def run(argv: Sequence[str]) -> None:
    """Trains LoRA on the foreign text tokenised as it is."""
    rate = {name: value for name, value in preset_of(argv).inject.items() if name == "learning_rate"}
    data, args = parse_arguments("finetune", argv, OPTIONS, rate)
    rows, held_out = data.read()
    check_training(args, FinetuneTrainer, held_out)
    set_seed(args.seed)
    decoder, processor = new_direct(data.model, **data.loading())
    trainer = FinetuneTrainer(decoder, args, processor, train_dataset=rows, eval_dataset=held_out)
    train_and_save(trainer, "eval_loss", data)
