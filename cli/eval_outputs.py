"""`llink eval outputs`: every system's answers, once, for all evaluations that read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..data.instructions import read_instructions
from ..evaluation.outputs import check_resumable, generate_outputs, source_of
from ..evaluation.record import write_record
from ..evaluation.report import table
from ..evaluation.systems import baseline_kinds, load_systems, system_names
from .loading import ModelLoading
from .parsing import check_positive, parse_arguments

COLUMNS = ("n", "prompt_tokens", "seconds", "seconds_per_answer")


@dataclass(kw_only=True)
class OutputsArguments(ModelLoading):
    """Greedy answers of the base decoder, of llink and of the baselines to the same rows."""

    model: str = field(metadata={"help": "Folder or repository of an llink model."})
    instructions: str = field(metadata={"help": "JSONL file of held-out instruction rows."})
    output_dir: str = field(metadata={"help": "Answers go to its folder outputs, the record beside it; resumes there."})
    baselines: list[str] = field(
        default_factory=list, metadata={"help": "Folders that llink finetune and llink langbridge wrote."}
    )
    systems: list[str] | None = field(
        default=None, metadata={"help": "Of base, llink, finetune, langbridge, those that answer; all when not given."}
    )
    limit: int | None = field(default=None, metadata={"help": "Rows from the beginning; all when not given."})
    batch_size: int = field(default=16, metadata={"help": "Rows in one generation."})
    max_new_tokens: int = field(default=128, metadata={"help": "Length of an answer at most."})

    def __post_init__(self) -> None:
        check_positive(self, "limit", "batch_size", "max_new_tokens")


OPTIONS = (OutputsArguments,)
EXAMPLE = """
llink eval outputs --model out/b --baselines out/finetune --instructions test.jsonl \\
  --output-dir out/eval
"""


def run(argv: Sequence[str]) -> None:
    """Writes each system's answers; rows that are already there are kept."""
    (args,) = parse_arguments("eval outputs", argv, OPTIONS)
    rows = list(read_instructions(args.instructions))[: args.limit]
    models = {"base": args.model, "llink": args.model, **baseline_kinds(args.baselines)}
    folder = Path(args.output_dir) / "outputs"
    settings = {"dtype": args.loading()["dtype"], "max_new_tokens": args.max_new_tokens}
    sources = {
        name: {**settings, "model": source_of(models[name])} for name in system_names(args.baselines, args.systems)
    }
    for name, source in sources.items():  # before any model loads
        check_resumable(folder / f"{name}.jsonl", rows, source)
    results = {
        name: generate_outputs(
            system,
            rows,
            folder / f"{name}.jsonl",
            sources[name],
            batch_size=args.batch_size,
            max_new_tokens=args.max_new_tokens,
            show_progress=True,
        )
        for name, system in load_systems(args.model, args.baselines, only=args.systems, **args.loading()).items()
    }
    print(table(["system", *COLUMNS], [[name, *(r[c] for c in COLUMNS)] for name, r in results.items()]))
    write_record(args.output_dir, "outputs", results, args)
