"""`llink align` and `llink inject`: the two stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import set_seed
from transformers.trainer_utils import get_last_checkpoint

from ..data.instructions import read_instructions
from ..data.pairs import exclude_overlap, read_pairs
from ..evaluation.report import plot_history
from ..modeling_llink import LlinkForCausalLM
from ..trainers.align_config import AlignConfig
from ..trainers.align_trainer import AlignTrainer
from ..trainers.base import LlinkTrainer
from ..trainers.checks import check_training
from ..trainers.inject_config import InjectConfig
from ..trainers.inject_trainer import InjectTrainer
from .loading import BaseLoading
from .parsing import CommandError, check_two_files, pair_field, parse_arguments, preset_of, preset_slots


@dataclass(kw_only=True)
class ModelArguments(BaseLoading):
    """The bases and the bridge of a new model. Unset options come from the preset and [`LlinkConfig`]."""

    encoder: str = field(metadata={"help": "Frozen multilingual encoder: repository or folder."})
    decoder: str = field(metadata={"help": "Frozen instruction-tuned decoder: repository or folder."})
    encoder_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of the encoder."})
    decoder_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of the decoder."})
    num_slots: int | None = field(default=None, metadata={"help": "K, slots of one passage (paper 4.2: 8)."})
    pooling: str | None = field(default=None, metadata={"help": "mean (paper 4.1), cls or max."})
    encoder_layer: float | None = field(
        default=None, metadata={"help": "Pooled hidden state; -1 is the last, 0.5 the one half-way up."}
    )
    projector_hidden_size: int | None = field(default=None, metadata={"help": "Projector width; 4 x the encoder's."})
    teacher_template: str | None = field(default=None, metadata={"help": "Teacher prompt, holding {text} once."})
    teacher_state: str | None = field(default=None, metadata={"help": "placeholder (paper 4.1) or mean."})
    teacher_layer: float | None = field(
        default=None, metadata={"help": "Teaching hidden state, given likewise; -1 is the final one (the paper)."}
    )
    teacher_conditioning: str | None = field(default=None, metadata={"help": "none (the paper), center or whiten."})
    teacher_components: int | None = field(default=None, metadata={"help": "Components that whiten keeps."})
    slot_expander: str | None = field(
        default=None, metadata={"help": "mlp, low_rank, queries, resampler, segments or lexicon."}
    )
    slot_adapter: str | None = field(default=None, metadata={"help": "gated or none."})
    slot_residual: bool | None = field(
        default=None, metadata={"help": "Keep the slots' mean near the projection; no matter with words."}
    )
    lora_rank: int | None = field(default=None, metadata={"help": "LoRA rank (paper 4.2: 16)."})
    lora_dropout: float | None = field(default=None, metadata={"help": "Of LoRA (released code: 0.05)."})
    max_foreign_chars: int | None = field(default=None, metadata={"help": "Cut of a passage (paper 5.1: 256)."})

    def config_fields(self) -> dict[str, Any]:
        """What was set, as fields of [`LlinkConfig`]."""
        own = {"encoder", "decoder", "encoder_revision", "decoder_revision", *BaseLoading.__dataclass_fields__}
        return {k: v for k, v in vars(self).items() if k not in own and v is not None}


@dataclass
class AlignData:
    """The pairs of Stage A, or of a lexicon."""

    pairs: list[str] = pair_field(True, "Line-aligned UTF-8 files of the training pairs.")
    eval_pairs: list[str] = pair_field(False, "Line-aligned UTF-8 files of held-out pairs.")
    language: str = field(default="und", metadata={"help": "BCP-47 tag of the foreign side, such as km."})

    def __post_init__(self) -> None:
        check_two_files("pairs", self.pairs)
        check_two_files("eval-pairs", self.eval_pairs)

    def read(self) -> tuple[Dataset, Dataset | None]:
        """The training pairs, without those that share a sentence with the held-out ones, and these if given."""
        train = read_pairs(*self.pairs, language=self.language)
        if not self.eval_pairs:
            return train, None
        held_out = read_pairs(*self.eval_pairs, language=self.language)
        return exclude_overlap(train, held_out)[0], held_out

    @property
    def files(self) -> tuple[str, ...]:
        """The names of all files, for the record."""
        return (*self.pairs, *(self.eval_pairs or ()))


@dataclass(kw_only=True)
class InstructionData:
    """The rows of Stage B, or of a baseline beside it."""

    instructions: str = field(metadata={"help": "JSONL file of instruction rows."})
    eval_instructions: str | None = field(default=None, metadata={"help": "JSONL file of held-out rows."})

    def read(self) -> tuple[Dataset, Dataset | None]:
        """The training rows, and the held-out ones if given."""
        held_out = self.eval_instructions
        return read_instructions(self.instructions), read_instructions(held_out) if held_out else None

    @property
    def files(self) -> tuple[str, ...]:
        """The names of all files, for the record."""
        return tuple(name for name in (self.instructions, self.eval_instructions) if name)


@dataclass(kw_only=True)
class InjectData(InstructionData, BaseLoading):
    """Stage B's model and rows."""

    model: str = field(metadata={"help": "Folder or repository of a Stage A model."})
    slot_expander: str | None = field(default=None, metadata={"help": "Other slots than Stage A's: see llink align."})
    slot_adapter: str | None = field(default=None, metadata={"help": "As slot_expander."})
    slot_residual: bool | None = field(default=None, metadata={"help": "As slot_expander."})

    def slot_fields(self) -> dict[str, Any]:
        """What was set of the slots."""
        return {k: v for k, v in vars(self).items() if k.startswith("slot_") and v is not None}


def align(argv: Sequence[str]) -> None:
    """Stage A: trains the projector on parallel text."""
    chosen = preset_of(argv)
    model_args, data, args = parse_arguments("align", argv, (ModelArguments, AlignData, AlignConfig), chosen["align"])
    train, held_out = data.read()
    check_training(args, AlignTrainer, held_out)
    set_seed(args.seed)
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(
        model_args.encoder,
        model_args.decoder,
        encoder_revision=model_args.encoder_revision,
        decoder_revision=model_args.decoder_revision,
        **model_args.loading(),
        **{**chosen["model"], **model_args.config_fields()},
    )
    trainer = AlignTrainer(model=model, args=args, train_dataset=train, eval_dataset=held_out)
    trainer.data_files = data.files
    train_and_save(trainer, "eval_r@1")


def inject(argv: Sequence[str]) -> None:
    """Stage B: teaches the decoder to read the slots."""
    data, args = parse_arguments("inject", argv, (InjectData, InjectConfig), preset_of(argv)["inject"])
    rows, held_out = data.read()
    check_training(args, InjectTrainer, held_out)
    set_seed(args.seed)
    model = LlinkForCausalLM.from_pretrained(data.model, **data.loading())
    slots = {**preset_slots(argv), **data.slot_fields()}
    if slots.get("slot_expander", model.config.slot_expander) == "lexicon":
        slots.pop("slot_residual", None)  # it says nothing about slots made of words
    if any(getattr(model.config, name) != value for name, value in slots.items()):
        model.renew_slots(**slots)
    trainer = InjectTrainer(model=model, args=args, train_dataset=rows, eval_dataset=held_out)
    trainer.data_files = data.files
    train_and_save(trainer, "eval_zeroed_gap")


def train_and_save(trainer: LlinkTrainer, metric: str) -> None:
    """Trains, resuming where a broken run stopped if asked to, evaluates, and saves model, metrics and plot."""
    args = trainer.args
    resume: str | bool | None = args.resume_from_checkpoint
    if resume in ("True", "true", "last"):
        resume = get_last_checkpoint(args.output_dir)
        if resume is None:
            raise CommandError(f"--resume_from_checkpoint: {args.output_dir} holds no checkpoint.")
    trainer.train(resume_from_checkpoint=resume)
    trainer.save_model()
    trainer.save_state()
    if trainer.eval_dataset is not None:
        metrics = trainer.evaluate()
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)
    if trainer.is_world_process_zero():
        plot_history(trainer.state.log_history, Path(args.output_dir) / "training.png", metric)
