"""`llink langbridge`: the LangBridge-style bridge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from transformers import set_seed

from ..baselines.langbridge import LangBridgeForCausalLM
from ..trainers.checks import check_training
from ..trainers.langbridge_config import LangBridgeConfig
from ..trainers.langbridge_trainer import LangBridgeTrainer
from .finetune import BaselineData
from .parsing import parse_arguments, preset_of
from .training import train_and_save


@dataclass(kw_only=True)
class LangBridgeData(BaselineData):
    """The llink model that the baseline is compared with, and the rows of its Stage B."""

    lora: bool = field(default=False, metadata={"help": "Train LoRA too, as Stage B does; LangBridge itself does not."})


OPTIONS = (LangBridgeData, LangBridgeConfig)
PRESETS = True
EXAMPLE = "llink langbridge --model out/a --instructions train.jsonl --output-dir out/langbridge"


def run(argv: Sequence[str]) -> None:
    """Trains a linear map from encoder tokens to soft tokens."""
    rate = preset_of(argv).inject.get("learning_rate")
    defaults = {} if rate is None else {"lora_learning_rate": rate}
    data, args = parse_arguments("langbridge", argv, OPTIONS, defaults)
    rows, held_out = data.read()
    check_training(args, LangBridgeTrainer, held_out)
    set_seed(args.seed)
    model = LangBridgeForCausalLM.from_llink(data.model, data.lora, **data.loading())
    trainer = LangBridgeTrainer(model, args, model.processor, train_dataset=rows, eval_dataset=held_out)
    train_and_save(trainer, "eval_loss", data)
