"""`llink align`: Stage A."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..modeling_llink import LlinkForCausalLM
from ..trainers.align_config import AlignConfig
from ..trainers.align_trainer import AlignTrainer
from ..trainers.checks import check_training
from .loading import BaseLoading
from .model_options import config_fields, set_fields
from .parsing import parse_arguments, preset_of
from .training import PairData, print_plan, train_and_save


@dataclass(kw_only=True)
class AlignBases(BaseLoading):
    """The bases of a new model."""

    encoder: str = field(metadata={"help": "Frozen multilingual encoder: repository or folder."})
    decoder: str = field(metadata={"help": "Frozen instruction-tuned decoder: repository or folder."})
    encoder_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of the encoder."})
    decoder_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of the decoder."})


OPTIONS = (AlignBases, config_fields(), PairData, AlignConfig)
PRESETS = True
EXAMPLE = """
llink align --encoder FacebookAI/xlm-roberta-base --decoder meta-llama/Llama-3.2-1B-Instruct \\
  --pairs train.en train.km --eval-pairs dev.en dev.km --language km --output-dir out/a
"""


def prepared(argv: Sequence[str], command: str = "align") -> tuple[Any, PairData, AlignConfig, Any, Any]:
    """What the command line says: the model, the data and the arguments, checked and read."""
    chosen = preset_of(argv)
    bases, fields, data, args = parse_arguments(command, argv, OPTIONS, chosen.align)
    train, held_out = data.read()
    check_training(args, AlignTrainer, held_out)
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(
        bases.encoder,
        bases.decoder,
        encoder_revision=bases.encoder_revision,
        decoder_revision=bases.decoder_revision,
        **bases.loading(),
        **{**chosen.model, **data.source_language(), **set_fields(fields)},
    )
    return model, data, args, train, held_out


def run(argv: Sequence[str]) -> None:
    """Trains the projector on parallel text."""
    model, data, args, train, held_out = prepared(argv)
    print_plan(model, train, args, held_out)
    trainer = AlignTrainer(model=model, args=args, train_dataset=train, eval_dataset=held_out)
    train_and_save(trainer, "eval_r@1", data)
