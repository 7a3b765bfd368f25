"""`llink inject`: Stage B."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..building import renew_slots
from ..modeling_llink import LlinkForCausalLM
from ..trainers.checks import check_training
from ..trainers.inject_config import InjectConfig
from ..trainers.inject_trainer import InjectTrainer
from ..trainers.presets import Preset
from .loading import BaseLoading
from .model_options import config_fields, set_fields
from .parsing import parse_arguments, preset_of
from .training import InstructionData, print_plan, train_and_save

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class InjectData(InstructionData, BaseLoading):
    """Stage B's model and rows."""

    model: str = field(metadata={"help": "Folder or repository of a Stage A model."})


OPTIONS = (InjectData, config_fields("slot_"), InjectConfig)
PRESETS = True
EXAMPLE = """
llink inject --model out/a --instructions train.jsonl --eval-instructions dev.jsonl --output-dir out/b
"""


def prepared(argv: Sequence[str], command: str = "inject") -> tuple[Any, InjectData, InjectConfig, Any, Any]:
    """What the command line says: the model, the data and the arguments, checked and read."""
    chosen = preset_of(argv)
    data, fields, args = parse_arguments(command, argv, OPTIONS, chosen.inject)
    rows, held_out = data.read()
    check_training(args, InjectTrainer, held_out)
    model = LlinkForCausalLM.from_pretrained(data.model, **data.loading())
    slots = {**_slots_of(chosen, model), **set_fields(fields)}
    if slots.get("slot_expander", model.config.slot_expander) == "tokens":
        slots.pop("slot_residual", None)  # it says nothing about slots made of tokens
    if any(getattr(model.config, name) != value for name, value in slots.items()):
        renew_slots(model, **slots)
    return model, data, args, rows, held_out


def run(argv: Sequence[str]) -> None:
    """Teaches the decoder to read the slots."""
    model, data, args, rows, held_out = prepared(argv)
    print_plan(model, rows, args, held_out)
    trainer = InjectTrainer(model=model, args=args, train_dataset=rows, eval_dataset=held_out)
    train_and_save(trainer, "eval_shuffled_gap", data)


def _slots_of(chosen: Preset, model: LlinkForCausalLM) -> dict[str, Any]:
    """A preset's slots; what else it says of the model was decided by Stage A, and is warned of where it differs."""
    other = [
        name
        for name, value in chosen.model.items()
        if not name.startswith("slot_") and getattr(model.config, name) not in (value, None)
    ]
    differing = [name for name in other if not _same_layer(model, name, chosen.model[name])]
    if differing:
        logger.warning(
            "--preset %s also sets %s, which Stage A decided otherwise for this model: it stays as it was built.",
            *(chosen.name, ", ".join(differing)),
        )
    return {name: value for name, value in chosen.model.items() if name.startswith("slot_")}


def _same_layer(model: LlinkForCausalLM, name: str, value: Any) -> bool:
    """Whether a layer that is counted from the end is the one that the model counts from the beginning."""
    layers = model.config.get_text_config().num_hidden_layers
    return name == "teacher_layer" and value < 0 and getattr(model.config, name) == layers + 1 + value
