"""`llink report`: one page of what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..configuration_llink import LlinkConfigError
from ..evaluation.page import read_records, write_page
from .parsing import parse_arguments


@dataclass
class ReportArguments:
    """Gathers the records and plots of runs into index.html (self-contained), report.md and report.json."""

    runs: list[str] = field(metadata={"help": "Folders that `llink eval … --output-dir` or `llink ablate` wrote."})
    output_dir: str | None = field(default=None, metadata={"help": "Where the page goes; RUN/report of the first run."})
    title: str | None = field(default=None, metadata={"help": "Of the page; the runs' names when not given."})


OPTIONS = (ReportArguments,)
POSITIONALS = ("runs",)
EXAMPLE = "llink report out/eval"


def run(argv: Sequence[str]) -> None:
    """Gathers runs into one page; the runs may be given without `--runs`."""
    (args,) = parse_arguments("report", argv, OPTIONS, positionals=POSITIONALS)
    folders = [Path(run) for run in args.runs]
    names = [str(folder) for folder in folders] if len({f.name for f in folders}) < len(folders) else []
    names = names or [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        raise LlinkConfigError(f"The same run is given twice: {', '.join(args.runs)}.")
    target = Path(args.output_dir) if args.output_dir else folders[0] / "report"
    write_page(
        dict(zip(names, map(read_records, folders), strict=True)), target, args.title or f"llink: {', '.join(names)}"
    )
    print(target / "index.html")
