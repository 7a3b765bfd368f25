"""The study of languages: many short runs of llink's own trainers on one machine, each with its record.

    python benchmarks/evidence/study_data.py CORPORA data
    python benchmarks/evidence/study.py --data data --encoder E5 --decoder SMOLLM2 --output runs/study --workers 4

Reads study.yaml, which says what each run is. A run that has a record is not made again, so that the same command goes
on after a break; `--seconds` ends in time, with the dearest runs made. Every worker is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import yaml
from study_run import Run

HERE = Path(__file__).parent


def main() -> None:
    """Starts workers, or is one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--decoder", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=HERE / "study.yaml")
    parser.add_argument("--only", nargs="*", help="names of runs; all when not given")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=math.inf, help="after which no run is begun, and none goes on")
    parser.add_argument("--scale", type=float, default=1.0, help="share of rows and steps, to try the study out")
    parser.add_argument("--end", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    if args.end is not None:
        return Worker(args).work()
    command = [sys.executable, *sys.argv, "--end", str(time.time() + args.seconds)]
    workers = [subprocess.Popen(command) for _ in range(args.workers)]
    sys.exit(max(worker.wait() for worker in workers))


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


class Worker:
    """Makes one run after another, until none is left or the time is over."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.pairs = read_rows(args.data / "train.jsonl")
        self.tests = {path.stem: read_rows(path) for path in sorted((args.data / "test").glob("*.jsonl"))}
        self.documents = {part: read_rows(args.data / f"documents.{part}.jsonl") for part in ("train", "test")}

    def work(self) -> None:
        import torch

        torch.backends.cuda.matmul.allow_tf32 = True
        torch.set_num_threads(1)
        plan = yaml.safe_load(self.args.runs.read_text("utf-8"))
        for run in ({**plan["defaults"], **run} for run in plan["runs"]):
            record, mark = (self.args.output / f"{run['name']}{suffix}" for suffix in (".json", ".begun"))
            if record.exists() or (self.args.only and run["name"] not in self.args.only):
                continue
            if time.time() > self.args.end - 60:
                break
            try:
                mark.touch(exist_ok=False)
            except FileExistsError:
                continue
            try:
                begun = time.time()
                found = {**run, **Run(self, run).make(), "seconds": round(time.time() - begun, 1)}
                record.write_text(json.dumps(found, ensure_ascii=False, indent=1), "utf-8")
                print(f"{run['name']}: {found['seconds']} s {found.get('headline', '')}", flush=True)
            except Exception:
                record.with_suffix(".error").write_text(traceback.format_exc(), "utf-8")
                print(f"{run['name']}: {traceback.format_exc()[-1500:]}", flush=True)
            mark.unlink()
            torch.cuda.empty_cache()


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
