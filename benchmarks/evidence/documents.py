"""Questions about whole documents, answered by llink, by llink on the beginning alone, and by the base decoder.

An answer is right where it is the literal that was asked for, whatever its case and the signs around it. Writes
`documents.json`: for each system the share of right answers by the third of the document that the answer stands in, and
what picking one of the document's literals at random would give.

    python benchmarks/evidence/documents.py --model inject --questions test.jsonl --output-dir evaluation
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from llink import LlinkForCausalLM
from llink.evaluation.bootstrap import percentile_ends, resampled_sums
from llink.evaluation.outputs import generate_outputs, read_outputs
from llink.evaluation.record import write_record
from llink.evaluation.systems import LlinkSystem, RawTextSystem, System

THIRDS = ("first", "middle", "last")


def normal(text: str) -> str:
    """Without the signs around it, in lower case."""
    return " ".join(text.lower().split()).strip(" \"'.,:;!?()[]<>")


def right_by_third(rows: list[dict[str, Any]], answers: list[str]) -> dict[str, Any]:
    """The share of right answers of each third and of all, with intervals, and how many questions each has."""
    right = [float(normal(answer) == normal(row["completion"])) for row, answer in zip(rows, answers, strict=True)]
    found: dict[str, Any] = {"intervals": {}}
    for place, name in enumerate((*THIRDS, "all")):
        values = np.array([r for r, row in zip(right, rows, strict=True) if name == "all" or row["third"] == place])
        draws = resampled_sums(values, 1000, seed=0) / len(values)
        found |= {name: float(values.mean()), f"n_{name}": len(values)}
        found["intervals"][name] = percentile_ends(draws).tolist()
    return found


def main() -> None:
    """Answers, counts, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--questions", required=True)
    parser.add_argument("--limit", type=int, default=None, help="questions from the beginning")
    parser.add_argument("--raw", type=int, default=30, help="questions of the base decoder, whose prompts are long")
    parser.add_argument("--output-dir", type=Path, required=True)
    args = parser.parse_args()
    rows = [json.loads(line) for line in Path(args.questions).read_text("utf-8").splitlines()][: args.limit]
    model = LlinkForCausalLM.from_pretrained(args.model, dtype="float32")
    chance = [1 / row["literals"] for row in rows]
    by_third = {
        name: [c for c, r in zip(chance, rows, strict=True) if r["third"] == p] for p, name in enumerate(THIRDS)
    }
    results: dict[str, Any] = {
        "one of its literals at random": {
            "all": mean(chance),
            "n_all": len(rows),
            **{name: mean(found) for name, found in by_third.items()},
        }
    }

    def measure(name: str, system: System, asked: list[dict[str, Any]]) -> None:
        path = args.output_dir / "outputs" / f"{name}.jsonl"
        made = generate_outputs(
            system, asked, path, {"system": name}, batch_size=1, max_new_tokens=16, show_progress=True
        )
        answers = [row.output for row in read_outputs(path)]
        results[name] = right_by_third(asked, answers) | {"prompt_tokens": round(made["prompt_tokens"])}
        write_record(args.output_dir, "documents", results, vars(args) | {"output_dir": str(args.output_dir)})

    measure("llink", LlinkSystem(model), rows)
    model.processor.long_passages = "cut"
    measure("llink, the beginning alone", LlinkSystem(model), rows)
    measure("base decoder, raw text", RawTextSystem("base", model, model.processor), rows[: args.raw])


if __name__ == "__main__":
    main()
