"""`llink lexicon`: slots made of words, between the stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from transformers import set_seed

from ..modeling_llink import LlinkForCausalLM
from ..trainers.checks import check_training
from ..trainers.lexicon_config import LexiconConfig
from ..trainers.lexicon_trainer import LexiconTrainer
from .loading import BaseLoading
from .parsing import parse_arguments, preset_of
from .training import AlignData, train_and_save


@dataclass(kw_only=True)
class LexiconModel(BaseLoading):
    """The model that gets a lexicon."""

    model: str = field(metadata={"help": "Folder or repository of a Stage A model."})
    slot_vocabulary_size: int | None = field(
        default=None, metadata={"help": "Tokens that slots are mixed from, the most frequent of the pairs; 8192."}
    )


def lexicon(argv: Sequence[str]) -> None:
    """Teaches the slots which words of the decoder stand for what."""
    defaults = preset_of(argv).get("lexicon", {})
    source, data, args = parse_arguments("lexicon", argv, (LexiconModel, AlignData, LexiconConfig), defaults)
    train, held_out = data.read()
    check_training(args, LexiconTrainer, held_out)
    set_seed(args.seed)
    model = LlinkForCausalLM.from_pretrained(source.model, **source.loading())
    wanted = {} if source.slot_vocabulary_size is None else {"slot_vocabulary_size": source.slot_vocabulary_size}
    slots = {"slot_expander": "lexicon", **wanted}
    config = model.config.with_slots(**slots)  # which bounds the vocabulary's size by the decoder's
    if any(getattr(model.config, name) != getattr(config, name) for name in slots):
        model.renew_slots(**slots)  # else a lexicon that has words goes on with them
    trainer = LexiconTrainer(model=model, args=args, train_dataset=train, eval_dataset=held_out)
    trainer.data_files = data.files
    train_and_save(trainer, "eval_recall")
