"""Gathers what was measured in several folders into one record of the evidence: a row a folder.

    python benchmarks/evidence/gather.py km-slots WORK 1=seeds/plain-0 2=shares/2 4=shares/4

Of each folder are read `usage.json`, `outputs.json`, and of llink's answers `llink/translation.json` and
`llink/numeric.json`; numbers are those without names.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from llink.evaluation.record import write_record

RESULTS = Path(__file__).parent / "results"


def gathered(folder: Path) -> dict[str, Any]:
    """The figures of one folder, with their intervals."""

    def read(name: str) -> dict[str, Any]:
        return json.loads((folder / name).read_text("utf-8"))["results"]

    usage, translation = read("usage.json"), read("llink/translation.json")["llink"]
    numbers = read("llink/numeric.json")["without_names"]["llink"]
    rows = ((usage, "loss"), (usage, "shuffled_gap"), (usage, "zeroed_gap"), (translation, "chrf"))
    found: dict[str, Any] = {name: row[name] for row, name in rows}
    found["intervals"] = {name: row["intervals"][name] for row, name in rows if name in row["intervals"]}
    found |= {"numbers_f1": numbers["f1"], "numbers": numbers["n"]}
    found["intervals"]["numbers_f1"] = numbers["intervals"]["f1"]
    return found | {"prompt_tokens": read("outputs.json")["llink"]["prompt_tokens"], "n": usage["n"]}


def main() -> None:
    """Reads, gathers, writes."""
    name, work, *rows = sys.argv[1:]
    folders = dict(row.split("=", 1) for row in rows)
    results = {row: gathered(Path(work) / folder) for row, folder in folders.items()}
    print(write_record(RESULTS, name, results, folders))


if __name__ == "__main__":
    main()
