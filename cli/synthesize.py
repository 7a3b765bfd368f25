"""`llink synthesize`: Stage B examples from parallel pairs, by a language model or by rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..configuration_llink import LlinkConfigError
from ..data.instructions import read_instructions
from ..data.synthesis.config import SynthesisConfig, SynthesisServer
from ..data.synthesis.filters import REASONS
from ..data.synthesis.pipeline import Synthesis
from ..data.synthesis.prompts import write_prompts
from ..evaluation.audit import drawn, write_sheet
from ..evaluation.report import table
from .parsing import check_positive, parse_arguments, parse_early


@dataclass
class ShownArguments:
    """What is shown instead, or besides."""

    dry_run: bool = field(default=False, metadata={"help": "Ask and write nothing; say what it would take."})
    examples: bool = field(default=False, metadata={"help": "Print examples of what each filter dropped."})
    audit: int | None = field(
        default=None,
        metadata={
            "help": "Then write a sheet of so many rows of the first split into OUTPUT_DIR-audit, on which people say "
            "whether they are good; see llink audit."
        },
    )
    write_prompts: str | None = field(
        default=None, metadata={"help": "Only copy llink's prompts into this folder, to be read and changed."}
    )

    def __post_init__(self) -> None:
        check_positive(self, "audit")


OPTIONS = (SynthesisConfig, SynthesisServer, ShownArguments)
EXAMPLE = "llink synthesize --pairs data held_out --rule-made --output-dir instructions-by-rule"


def run(argv: Sequence[str]) -> int:
    """Makes examples; returns the exit code."""
    early, others = parse_early("synthesize", argv, ShownArguments)
    if early.write_prompts is not None:  # nothing else is needed then
        if others:
            raise LlinkConfigError(f"--write-prompts takes one folder, and no other flag; got {' '.join(others)}.")
        print(*write_prompts(early.write_prompts), sep="\n")
        return 0
    config, server, args = parse_arguments("synthesize", argv, OPTIONS)
    synthesis = Synthesis(config, server)
    if args.dry_run:
        print(table(["dry run", "value"], list(synthesis.estimate().items())))
        print(
            "As if no example were dropped. A prompt token is taken to be 4 UTF-8 bytes; repeated attempts and the "
            "chat template are not counted."
        )
        return 0
    manifest = synthesis.run(show_progress=True)
    _show(manifest, config, args.examples)
    if args.audit is not None:
        first = Path(config.output_dir) / f"{manifest['splits'][0]['name']}.jsonl"
        _, page = write_sheet(drawn(list(read_instructions(first)), args.audit), Path(f"{config.output_dir}-audit"))
        print(f"To be filled in in a browser: {page}")
    return 0


def _show(manifest: dict[str, Any], config: SynthesisConfig, examples: bool) -> None:
    steps = [[step["name"], step["rows_in"], step["dropped"], step["what"]] for step in manifest["steps"]]
    print(table(["pairs", "in", "dropped", "what"], steps))
    columns = ("split", "task", "bucket", "wanted", "pairs", "judged", "kept")
    print(table([*columns[:-2], "looked at", "kept"], [[row[name] for name in columns] for row in manifest["tasks"]]))
    dropped: Counter[str] = Counter()
    for row in manifest["tasks"]:
        dropped.update(row["dropped"])
    if dropped:
        rows = [[name, dropped[name], text] for name, text in REASONS.items() if dropped[name]]
        print(table(["dropped because", "examples", "what"], rows))
    if examples:
        for row in manifest["tasks"]:
            for reason, found in row["examples"].items():
                print(*(f"{row['task']}, {reason}: {example}" for example in found), sep="\n")
    if manifest["spent"]:
        print(table(["all runs in this folder", "value"], list(manifest["spent"].items())))
    short = [row for row in manifest["tasks"] if row["kept"] < row["wanted"]]
    if not manifest["complete"]:
        print("The token budget is spent: with a larger --token-budget the same command goes on.")
    elif short:
        named = ", ".join(f"{row['split']} {row['task']} {row['kept']} of {row['wanted']}" for row in short)
        print(f"No more pairs for {named}: bring more pairs, or --examples-per-pair.")
    if manifest["complete"] and not any(row["kept"] for row in manifest["tasks"]):
        raise LlinkConfigError(
            f"No example is left in {config.output_dir}: all were dropped, for the reasons above (--examples shows "
            "some). Does the target side (English) of --pairs come first?"
        )
    files = [f"{config.output_dir}/{split['name']}.jsonl" for split in manifest["splits"]]
    print(f"\nWritten: {', '.join(files)}. Train on it: llink inject --instructions {files[0]} …")
