"""Kills commands at random moments and starts them again until they are done: is the end that of an unbroken run?

    python benchmarks/soak.py --kills 200
    python benchmarks/soak.py --kills 20 --commands align inject

Each command runs once unbroken, on the tiny pair of `assets/` and the demo's sentences; then it is killed (`kill -9`)
again and again, each time started by the same words, until that run is through; then the next round. What it leaves is
compared: weights tensor by tensor, rows and lines byte by byte. Written to `benchmarks/results/soak.json`: kills,
rounds, how many ended differently, and how many could not go on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from llink.data.demo_corpus import demo_pairs, generate_instructions

ROOT = Path(__file__).parent.parent
QUIET = "--report_to none --use_cpu --disable_tqdm True --per_device_train_batch_size 8 --logging_steps 1"
GOES_ON = "--max_steps 8 --save_strategy steps --save_steps 1 --save_total_limit 2 --resume_from_checkpoint last"
PAIRS = "--pairs data.en data.km"


def weights(folder: Path) -> str:
    """A digest of the trained tensors, whatever else their file says."""
    digest = hashlib.sha256()
    for name in ("model.safetensors", "adapter_model.safetensors"):
        if (folder / name).is_file():
            for key, tensor in sorted(load_file(folder / name).items()):
                digest.update(key.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def lines(pattern: str) -> Callable[[Path], str]:
    """A digest of the files of a kind."""

    def read(folder: Path) -> str:
        digest = hashlib.sha256()
        for path in sorted(folder.rglob(pattern)):
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
        return digest.hexdigest()

    return read


#: Command → its words, what it begins from, and what tells two results apart. `{out}` is its own folder.
COMMANDS: dict[str, tuple[str, Callable[[Path], str]]] = {
    "prepare": (
        "prepare --input data.tsv --language km --splits train=300 held_out=40 --output-dir {out}",
        lines("*.*"),
    ),
    "synthesize": (
        f"synthesize {PAIRS} --language km --rule-made --splits train=100 --output-dir {{out}}",
        lines("*.jsonl"),
    ),
    "align": (
        f"align --encoder {ROOT}/assets/encoder --decoder {ROOT}/assets/decoder {PAIRS} --encoder_layer 2 "
        f"--output-dir {{out}} {QUIET} {GOES_ON}",
        weights,
    ),
    "lexicon": (f"lexicon --model align {PAIRS} --output-dir {{out}} {QUIET} {GOES_ON}", weights),
    "inject": (f"inject --model lexicon --instructions data.jsonl --output-dir {{out}} {QUIET} {GOES_ON}", weights),
    "finetune": (f"finetune --model align --instructions data.jsonl --output-dir {{out}} {QUIET} {GOES_ON}", weights),
    "eval outputs": (
        "eval outputs --model inject --instructions data.jsonl --limit 48 --batch_size 4 --max-new-tokens 8 "
        "--output-dir {out}",
        lines("*.jsonl"),
    ),
}


def furnish(folder: Path) -> None:
    """The data that the commands name."""
    pairs = demo_pairs(400)
    (folder / "data.en").write_text("".join(f"{pair.english}\n" for pair in pairs), "utf-8")
    (folder / "data.km").write_text("".join(f"{pair.foreign}\n" for pair in pairs), "utf-8")
    rows = "".join(f"{pair.english}\t{pair.foreign}\n" for pair in pairs)
    (folder / "data.tsv").write_text("english\tforeign\n" + rows, "utf-8")
    made = [json.dumps(row, ensure_ascii=False) for row in generate_instructions(pairs[:120])]
    (folder / "data.jsonl").write_text("\n".join(made), "utf-8")


def run(words: str, out: str, folder: Path, seconds: float | None = None) -> tuple[int | None, str]:
    """Runs a command, for so long at most; its exit status (None when it was killed) and what it said."""
    command = [sys.executable, "-m", "llink.cli", *words.format(out=out).split()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=said, stderr=said, start_new_session=True
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None, ""
        said.seek(0)
        return process.returncode, said.read()


def soak(name: str, folder: Path, kills: int, draw: random.Random) -> dict[str, Any]:
    """Kills one command so many times, over as many rounds as that takes."""
    words, read = COMMANDS[name]
    out = name.replace(" ", "-")
    began = time.monotonic()
    status, said = run(words, out, folder)
    if status != 0:
        raise SystemExit(f"{name} does not run at all: {said[-2000:]}")
    length, wanted = time.monotonic() - began, read(folder / out)
    found = {"kills": 0, "rounds": 0, "different": 0, "stuck": 0, "messages": []}
    while found["kills"] < kills:
        found["rounds"] += 1
        shutil.rmtree(folder / "again", ignore_errors=True)
        for leftover in folder.glob("again.*"):
            shutil.rmtree(leftover)
        status = None
        while status is None:
            last = found["kills"] >= kills
            status, said = run(words, "again", folder, None if last else draw.uniform(0.2, 1.1) * length)
            found["kills"] += status is None
        if status != 0:
            found["stuck"] += 1
            found["messages"].append(said.strip().splitlines()[-1][:300])
        elif read(folder / "again") != wanted:
            found["different"] += 1
    return found


def main() -> None:
    """Soaks the commands that are asked for and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="Of all commands together.")
    parser.add_argument("--commands", nargs="+", choices=list(COMMANDS), default=list(COMMANDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "soak.json")
    args = parser.parse_args()
    draw, results = random.Random(args.seed), {}
    with tempfile.TemporaryDirectory(prefix="llink-soak-") as name:
        folder = Path(name)
        furnish(folder)
        for command in COMMANDS:  # each builds on those before it
            kills = -(-args.kills // len(args.commands)) if command in args.commands else 0
            results[command] = soak(command, folder, kills, draw)
            print(command, json.dumps(results[command]), flush=True)
    total = {key: sum(found[key] for found in results.values()) for key in ("kills", "rounds", "different", "stuck")}
    content = {"seed": args.seed, "total": total, "commands": results}
    args.output.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    print("in all", json.dumps(total))


if __name__ == "__main__":
    main()
