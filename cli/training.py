"""What the commands that train have in common: where the data comes from, and what follows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedModel, TrainingArguments

from ..data.instructions import read_instructions
from ..data.pairs import read_pairs
from ..data.target import language_tag
from ..evaluation.report import plot_history, table
from ..trainers.base import LlinkTrainer
from ..trainers.checkpoints import last_checkpoint
from ..trainers.plan import plan
from ..trainers.progress import quieten
from .parsing import check_two_files


@dataclass(kw_only=True)
class Shown:
    """What is printed while training."""

    verbose: bool = field(
        default=False, metadata={"help": "Print the Trainer's own logs in place of one line of progress."}
    )


@dataclass(kw_only=True)
class PairData(Shown):
    """The pairs of Stage A, or of a dictionary."""

    pairs: list[str] = field(
        metadata={"help": "Two line-aligned UTF-8 files of the training pairs: target (English), then foreign."}
    )
    eval_pairs: list[str] | None = field(
        default=None,
        metadata={"help": "Two line-aligned UTF-8 files of held-out pairs: target (English), then foreign."},
    )
    language: str = field(default="und", metadata={"help": "Foreign side: a BCP-47 tag, such as km, or a name."})

    def __post_init__(self) -> None:
        self.language = language_tag(self.language)
        check_two_files("pairs", self.pairs)
        check_two_files("eval-pairs", self.eval_pairs)

    def read(self) -> tuple[Dataset, Dataset | None]:
        """The training pairs, and the held-out ones if given; the trainer leaves out what they share."""
        held_out = read_pairs(*self.eval_pairs, language=self.language) if self.eval_pairs else None
        return read_pairs(*self.pairs, language=self.language), held_out

    def source_language(self) -> dict[str, str]:
        """The field of a new model's configuration, if a language was given."""
        return {} if self.language == "und" else {"source_language": self.language}

    @property
    def files(self) -> tuple[str, ...]:
        """The names of all files, for the record."""
        return (*self.pairs, *(self.eval_pairs or ()))


@dataclass(kw_only=True)
class InstructionData(Shown):
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


def print_plan(model: PreTrainedModel, rows: Dataset, args: TrainingArguments, held_out: Dataset | None) -> None:
    """One line on what the run will take; several processes do not stop for it."""
    if args.world_size == 1 and not args.disable_tqdm:
        print(f"{plan(model, rows, args, held_out).short}.", flush=True)


def train_and_save(trainer: LlinkTrainer, metric: str, data: PairData | InstructionData) -> None:
    """Trains, resuming where a broken run stopped if asked to, evaluates, and saves model, metrics and plot."""
    args = trainer.args
    if trainer.hub is not None:
        trainer.hub.data_files = data.files
    if not data.verbose:
        quieten(trainer, metric)
    resume: str | bool | None = args.resume_from_checkpoint
    if resume in ("True", "true", "last") and (resume := last_checkpoint(args.output_dir)) is None:
        print(f"{args.output_dir} holds no checkpoint yet: training begins.", flush=True)
    trainer.train(resume_from_checkpoint=resume)
    trainer.save_model()
    trainer.save_state()
    if trainer.eval_dataset is not None:
        metrics = trainer.evaluate()
        trainer.save_metrics("eval", metrics)
        if trainer.is_world_process_zero():
            shown = {name: value for name, value in metrics.items() if not name.endswith(("_runtime", "_per_second"))}
            print("\n" + table(["measure", "value"], list(shown.items())))
    if trainer.is_world_process_zero():
        print(f"Written: {args.output_dir}")
        plot_history(trainer.state.log_history, Path(args.output_dir) / "training.png", metric)
