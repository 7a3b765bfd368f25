"""`llink lexicon`: a dictionary from the encoder's tokens to the decoder's words, between the stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..building import config_with_slots, renew_slots
from ..modeling_llink import LlinkForCausalLM
from ..trainers.checks import check_training
from ..trainers.lexicon_config import LexiconConfig
from ..trainers.lexicon_trainer import LexiconTrainer
from .loading import BaseLoading
from .model_options import config_fields, set_fields
from .parsing import parse_arguments, preset_of
from .training import PairData, train_and_save


@dataclass(kw_only=True)
class LexiconModel(BaseLoading):
    """The model that gets a dictionary."""

    model: str = field(metadata={"help": "Folder or repository of a Stage A model."})


OPTIONS = (
    LexiconModel,
    config_fields("slot_layers", "slot_expander_hidden_size", "tokens_per_slot", "min_slots", "max_slots", "literals"),
    PairData,
    LexiconConfig,
)
PRESETS = True
EXAMPLE = """
llink lexicon --model out/a --pairs train.en train.km --eval-pairs dev.en dev.km --output-dir out/words
"""


def run(argv: Sequence[str]) -> None:
    """Teaches the slots which words of the decoder they stand for."""
    source, fields, data, args = parse_arguments("lexicon", argv, OPTIONS, preset_of(argv).lexicon)
    train, held_out = data.read()
    check_training(args, LexiconTrainer, held_out)
    model = LlinkForCausalLM.from_pretrained(source.model, **source.loading())
    slots = {"slot_expander": "tokens", **set_fields(fields)}
    config = config_with_slots(model.config, **slots)  # which counts shares of layers
    if any(getattr(model.config, name) != getattr(config, name) for name in slots):
        renew_slots(model, **slots)  # else a dictionary goes on learning
    trainer = LexiconTrainer(model=model, args=args, train_dataset=train, eval_dataset=held_out)
    train_and_save(trainer, "eval_recall", data)
