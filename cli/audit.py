"""`llink audit`: are the instruction rows good? A sheet for people, and what they say on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..configuration_llink import LlinkConfigError
from ..data.instructions import read_instructions
from ..evaluation.audit import QUESTIONS, audited, drawn, read_sheet, write_sheet
from ..evaluation.record import write_record
from ..evaluation.report import table, with_interval
from .parsing import check_positive, parse_arguments


@dataclass
class AuditArguments:
    """Of a file of instruction rows, a sheet on which people answer; of filled-in sheets, what they say."""

    files: list[str] = field(
        metadata={"help": "One JSONL file of instruction rows; or filled-in sheets (.csv), one a person."}
    )
    output_dir: str | None = field(
        default=None, metadata={"help": "Where the sheet goes, as audit.csv and as the page audit.html; or the record."}
    )
    limit: int = field(default=100, metadata={"help": "Rows of a sheet, drawn evenly over the tasks."})
    seed: int = field(default=0, metadata={"help": "Of the draw."})

    def __post_init__(self) -> None:
        check_positive(self, "limit")
        endings = {Path(name).suffix.lower() for name in self.files}
        if endings not in ({".csv"}, {".jsonl"}) or (endings == {".jsonl"} and len(self.files) > 1):
            raise LlinkConfigError(
                f"{' '.join(self.files)}: give one file of instruction rows (.jsonl), or filled-in sheets (.csv)."
            )
        if endings == {".jsonl"} and self.output_dir is None:
            raise LlinkConfigError("Give --output-dir, the folder that the sheet goes to.")


OPTIONS = (AuditArguments,)
POSITIONALS = ("files",)
EXAMPLE = """
llink audit instructions/train.jsonl --output-dir out/audit
llink audit ann.csv bob.csv
"""


def run(argv: Sequence[str]) -> None:
    """Writes a sheet, or reads sheets: `llink audit FILE…`."""
    (args,) = parse_arguments("audit", argv, OPTIONS, positionals=POSITIONALS)
    files = [Path(name) for name in args.files]
    if files[0].suffix.lower() == ".jsonl":
        rows = drawn(list(read_instructions(files[0])), args.limit, args.seed)
        sheet, page = write_sheet(rows, Path(args.output_dir))
        print(
            f"{len(rows)} rows. Fill in {page} in a browser, or {sheet} in a spreadsheet; then: llink audit SHEET.csv …"
        )
        return
    told_apart = len({path.stem for path in files}) == len(files)
    sheets = {path.stem if told_apart else str(path): read_sheet(path) for path in files}
    found = audited(sheets)
    for question, text in QUESTIONS.items():
        rows = [
            [name, task, with_interval(share, "yes"), share["n"]]
            for name, shares in found["shares"].items()
            for task, share in shares[question].items()
        ]
        print(f"{text}\n{table(['sheet', 'task', 'yes', 'n'], rows)}\n")
    pairs = [
        [names, question, *(("–" if row[c] is None else row[c]) for c in ("same", "kappa")), row["n"]]
        for names, both in found["agreement"].items()
        for question, row in both.items()
    ]
    if pairs:
        print(table(["sheets", "question", "answered the same", "Cohen's kappa", "n"], pairs))
    write_record(args.output_dir, "audit", found, args)
