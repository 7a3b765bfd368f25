"""Gathers the whole runs of study.py into one record of the evidence; what was cut short is named and left out.

Of runs whose Stage B was cut short, the dictionary may be whole all the same: how many of the references' words it
holds goes into a record of its own, `NAME-words`.

python benchmarks/evidence/study_record.py runs/study NAME
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import llink

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Reads, gathers, writes."""
    folder, name = Path(sys.argv[1]), sys.argv[2]
    results: dict[str, Any] = {}
    machine: dict[str, str] = {}
    for path in sorted(folder.glob("*.json")):
        run = json.loads(path.read_text("utf-8"))
        if run["method"] != "align" and not whole(run):
            print(f"{path.stem}: cut short, left out")
            continue
        machine = run["machine"]
        kept = ("question", "method", "languages", "counts", "rows", "batch", "seed", "seconds", "took", "recall")
        results[path.stem] = {key: run[key] for key in kept if key in run} | {"sets": sets_of(run)}
    write(name, "languages", results, machine)
    write(f"{name}-words", "dictionary", dictionaries(folder), machine)


def write(name: str, kind: str, results: dict[str, Any], machine: dict[str, str]) -> None:
    """One record."""
    record = {
        "kind": kind,
        "results": results,
        "arguments": {"runs": "study.yaml", "only": sorted(results)},
        "versions": {"llink": llink.__version__, **{key: machine[key] for key in ("torch", "transformers", "peft")}},
        "machine": {"accelerator": machine["device"]},
    }
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", "utf-8")
    print(f"{path.name}: {', '.join(results)}")


def dictionaries(folder: Path) -> dict[str, Any]:
    """The dictionaries of Khmer alone by `tokens_per_slot`: steps, and the share of words found on each test set."""
    found: dict[int, Any] = {}
    for path in sorted(folder.glob("*.json")):
        run = json.loads(path.read_text("utf-8"))
        changed = run.get("model") or {}
        if run["languages"] == ["km"] and "recall" in run and not changed.keys() - {"tokens_per_slot"}:
            share = changed.get("tokens_per_slot", 1)
            if share not in found or run["took"]["lexicon_steps"] > found[share]["steps"]:
                found[share] = {"steps": run["took"]["lexicon_steps"], "recall": run["recall"]}
    return {str(share): found[share] for share in sorted(found)}


def whole(run: dict[str, Any]) -> bool:
    """Whether Stage B came to its end, and every test set was answered."""
    steps = sum(run["counts"].values()) * run.get("epochs", 1) // run.get("batch", 32)
    return run["took"]["inject_steps"] >= steps and set(run.get("answers", ())) == set(run["eval"])


def sets_of(run: dict[str, Any]) -> dict[str, Any]:
    """What was measured on each test set, with 95 % intervals."""
    found: dict[str, Any] = {}
    for name, gaps in run.get("usage", {}).items():
        keys = [key for key in ("loss", "shuffled_gap", "zeroed_gap") if key in gaps]
        found[name] = {key: gaps[key] for key in keys}
        found[name]["intervals"] = {key: gaps["intervals"][key] for key in keys if key in gaps.get("intervals", {})}
    for name, scores in run.get("answers", {}).items():
        row = found.setdefault(name, {"intervals": {}})
        row |= {"chrf": scores["translation"]["chrf"], "prompt_tokens": scores["prompt_tokens"]}
        row |= {"numbers_f1": scores["numbers"]["all"]["f1"], "numbers": scores["numbers"]["all"]["n"]}
        row["intervals"]["chrf"] = scores["translation"]["intervals"]["chrf"]
        row["intervals"]["numbers_f1"] = scores["numbers"]["all"]["intervals"]["f1"]
    for name, ranks in run.get("retrieval", {}).items():
        row = found.setdefault(name, {"intervals": {}})
        row |= {key: ranks[key] for key in ("r@1", "r@10", "n")}
        row["intervals"] |= {key: ranks["intervals"][key] for key in ("r@1", "r@10")}
    return found


if __name__ == "__main__":
    main()
