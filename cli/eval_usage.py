"""`llink eval usage` (paper 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..data.collators import instruction_tensors, passage_bank, shuffled_passages, tokenize_instructions
from ..data.instructions import read_instructions
from ..evaluation.bootstrap import check_resampling
from ..evaluation.plot_usage import plot_usage
from ..evaluation.record import write_record
from ..evaluation.report import table
from ..evaluation.usage_rows import evaluate_usage
from ..modeling_llink import LlinkForCausalLM
from .loading import ModelLoading
from .parsing import check_positive, parse_arguments


@dataclass(kw_only=True)
class UsageArguments(ModelLoading):
    """Does the decoder read its slots (paper 4.2)."""

    model: str = field(metadata={"help": "Folder or repository of an llink model."})
    instructions: str = field(metadata={"help": "JSONL file of held-out instruction rows."})
    limit: int | None = field(default=None, metadata={"help": "Rows from the beginning; all when not given."})
    per_slot: bool = field(default=False, metadata={"help": "Also zero each slot alone: K more forward passes."})
    gaussian: bool = field(default=True, metadata={"help": "Also noise of the slots' norms: one more forward pass."})
    resamples: int = field(default=1000, metadata={"help": "Draws of the 95 %% bootstrap intervals."})
    seed: int = field(default=0, metadata={"help": "Seed of the noise and of the intervals."})
    max_length: int = field(default=768, metadata={"help": "Tokens of prompt and answer; longer answers are cut."})
    batch_size: int = field(default=16, metadata={"help": "Rows in one forward pass."})
    output_dir: str | None = field(default=None, metadata={"help": "Also write the record and plots into this folder."})

    def __post_init__(self) -> None:
        check_positive(self, "limit", "batch_size", "max_length")
        check_resampling(self.resamples)


OPTIONS = (UsageArguments,)
EXAMPLE = "llink eval usage --model out/b --instructions test.jsonl --per-slot --output-dir out/eval"


def run(argv: Sequence[str]) -> None:
    """Losses with slots, and with zeros, another example's slots, noise, or one slot less in their place."""
    (args,) = parse_arguments("eval usage", argv, OPTIONS)
    rows = read_instructions(args.instructions)
    rows = rows.select(range(min(args.limit or len(rows), len(rows))))
    shuffled_passages(rows)  # before the model loads
    model = LlinkForCausalLM.from_pretrained(args.model, **args.loading())
    examples, _ = tokenize_instructions(model.processor, rows, args.max_length)
    features = partial(model.get_foreign_features, batch_size=args.batch_size)
    encode = partial(passage_bank, model, features=features)
    tensors = instruction_tensors(rows, examples, model.processor, encode)
    results = evaluate_usage(
        model, tensors, args.batch_size, args.gaussian, args.per_slot, args.resamples, args.seed, show_progress=True
    )
    print("\n\n".join(usage_tables(results)))
    write_record(args.output_dir, "usage", results, args)
    if args.output_dir is not None:
        plot_usage(results, Path(args.output_dir) / "usage.png")


def usage_tables(results: dict[str, Any]) -> list[str]:
    """The report as Markdown: all rows, then by task, then by slot."""
    gaps = list(results["intervals"])
    intervals = {gap: _ends(results["intervals"][gap]) for gap in gaps}
    numbers = [(name, value) for name, value in results.items() if isinstance(value, (int, float))]
    tables = [table(["usage", "value", "95 %"], [(name, value, intervals.get(name, "")) for name, value in numbers])]
    if results["tasks"]:
        columns = ["n", "loss", *(cell for gap in gaps for cell in (gap, "95 %")), "slots_help"]
        lines = []
        for task, found in results["tasks"].items():
            cells = [cell for gap in gaps for cell in (found[gap], _ends(found["intervals"][gap]))]
            lines.append([task, found["n"], found["loss"], *cells, found["slots_help"]])
        tables.append(table(["task", *columns], lines))
    if "per_slot" in results:
        lines = [(k, s["gap"], _ends(s["interval"]), s["share"]) for k, s in enumerate(results["per_slot"])]
        tables.append(table(["slot zeroed alone", "gap", "95 %", "share it helps"], lines))
    return tables


def _ends(interval: Sequence[float]) -> str:
    return f"{interval[0]:.3f} … {interval[1]:.3f}"
