"""Kills commands at random moments, or fills their disk, and starts them again until they are done: is the end alike?

    python benchmarks/soak.py --kills 200 --full 20
    python benchmarks/soak.py --kills 20 --commands align inject

Each command runs once unbroken, on the tiny pair of `assets/` and the demo's sentences; then it is killed (`kill -9`)
again and again, each time started by the same words, until that run is through; then the next round. A full disk is a
limit on the size of files, after which it runs without. What it leaves is compared: weights tensor by tensor, rows and
lines byte by byte; what was pushed, on the tests' own Hub server. Written to `benchmarks/results/soak.json`: kills,
full disks, rounds, how many ended differently, how many could not go on, and how many said more than one sentence.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file

from llink.data.demo_corpus import demo_pairs, generate_instructions
from llink.evaluation.report import write_json

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from hub_server import HubServer  # noqa: E402

QUIET = "--report_to none --use_cpu --disable_tqdm True --per_device_train_batch_size 8 --logging_steps 1"
GOES_ON = "--max_steps 8 --save_strategy steps --save_steps 1 --save_total_limit 2 --resume_from_checkpoint last"
PAIRS = "--pairs data.en data.km"
LLINK = "-m llink.cli "
SAVE = (
    "from llink import LlinkForCausalLM as Model; "
    "Model.from_pretrained('inject').save_pretrained('{out}', self_contained=True)"
)
HUB = HubServer()
Reader = Callable[[Path], str]


def weights(folder: Path) -> str:
    """A digest of the trained tensors, whatever else their file says."""
    digest = hashlib.sha256()
    for name in ("model.safetensors", "adapter_model.safetensors"):
        if (folder / name).is_file():
            for key, tensor in sorted(load_file(folder / name).items()):
                digest.update(key.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def lines(pattern: str) -> Reader:
    """A digest of the files of a kind."""

    def read(folder: Path) -> str:
        digest = hashlib.sha256()
        for path in sorted(folder.rglob(pattern)):
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
        return digest.hexdigest()

    return read


def stored(folder: Path) -> str:
    """A digest of a store's rows, in whichever files they lie."""
    from llink.store.shards import Shards

    shards = Shards(folder)
    if (manifest := shards.read()) is None:
        return "no store"
    rows = {(row["id"], row["piece"]): row for row in shards.rows(manifest).with_format("numpy")}
    digest = hashlib.sha256()
    for _, row in sorted(rows.items(), key=lambda item: item[0]):
        digest.update(row["text"].encode() + np.asarray(row["vector"]).tobytes() + bytes(row["slots"]))
    return f"{len(shards.rows(manifest))} {digest.hexdigest()}"


def figures(folder: Path) -> str:
    """What a study found, without what it took."""
    results = json.loads((folder / "ablation.json").read_text("utf-8"))["results"]
    for rows in results.values():
        for row in rows.values() if isinstance(rows, dict) else rows:
            for name in [name for name in row if "second" in name]:
                del row[name]
    return json.dumps(results, sort_keys=True)


def pushed(folder: Path) -> str:
    """A digest of the weights in the repository of that name."""
    digest = hashlib.sha256()
    for name, content in sorted(HUB.files(f"someone/{folder.name}").items()):
        if name.endswith(".safetensors"):
            digest.update(name.encode() + content)
    return digest.hexdigest()


#: Command → its words, what it begins from, and what tells two results apart. `{out}` is its own folder.
COMMANDS: dict[str, tuple[str, Reader]] = {
    "prepare": (
        LLINK + "prepare --input data.tsv --language km --splits train=300 held_out=40 --output-dir {out}",
        lines("*.*"),
    ),
    "synthesize": (
        f"{LLINK}synthesize {PAIRS} --language km --rule-made --splits train=100 --output-dir {{out}}",
        lines("*.jsonl"),
    ),
    "align": (
        f"{LLINK}align --encoder {ROOT}/assets/encoder --decoder {ROOT}/assets/decoder {PAIRS} --encoder_layer 2 "
        f"--output-dir {{out}} {QUIET} {GOES_ON}",
        weights,
    ),
    "lexicon": (f"{LLINK}lexicon --model align {PAIRS} --output-dir {{out}} {QUIET} {GOES_ON}", weights),
    "inject": (
        f"{LLINK}inject --model lexicon --instructions data.jsonl --output-dir {{out}} {QUIET} {GOES_ON}",
        weights,
    ),
    "finetune": (
        f"{LLINK}finetune --model align --instructions data.jsonl --output-dir {{out}} {QUIET} {GOES_ON}",
        weights,
    ),
    "eval outputs": (
        LLINK + "eval outputs --model inject --instructions data.jsonl --limit 48 --batch_size 4 --max-new-tokens 8 "
        "--output-dir {out}",
        lines("*.jsonl"),
    ),
    "index": (LLINK + "index inject --texts data.km --batch_size 8 --output-dir {out}", stored),
    "ablate": (LLINK + "ablate --study study.yaml --output-dir {out}", figures),
    "save_pretrained": (f"-c {shlex.quote(SAVE)}", weights),
    "push": (LLINK + "push inject someone/{out} --self_contained --private", pushed),
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
    quick = {"max_steps": 4, "per_device_train_batch_size": 8, "use_cpu": True}
    study = {
        "encoder": f"{ROOT}/assets/encoder",
        "decoder": f"{ROOT}/assets/decoder",
        "pairs": ["data.en", "data.km"],
        "eval_pairs": ["data.en", "data.km"],
        "instructions": "data.jsonl",
        "eval_instructions": "data.jsonl",
        "settings": {f"{stage}.{key}": value for stage in ("align", "inject") for key, value in quick.items()},
        "questions": {"temperature": [{"align.temperature": 0.05}, {"align.temperature": 0.1}]},
    }
    (folder / "study.yaml").write_text(json.dumps(study), "utf-8")  # JSON is YAML


def run(words: str, folder: Path, seconds: float | None = None, most: int | None = None) -> tuple[int | None, str]:
    """Runs Python with such words, for so long, and writing files of so many bytes, at most.

    Returns:
        Its exit status (None when it was killed) and what it said.
    """

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that writing fails, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment |= HUB.environment(folder / "hf") if " push " in words else {}
    process = subprocess.Popen(
        [sys.executable, *shlex.split(words)],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=None if most is None else limit,
    )
    try:
        _, said = process.communicate(timeout=seconds)
        return process.returncode, said
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return None, ""


def soak(name: str, folder: Path, kills: int, full: int, draw: random.Random) -> dict[str, Any]:
    """Kills one command so many times, over as many rounds as that takes, and fills its disk so many times."""
    words, read = COMMANDS[name]
    own = name.replace(" ", "-")
    began = time.monotonic()
    status, said = run(words.format(out=own), folder)
    if status != 0:
        raise SystemExit(f"{name} does not run at all: {said[-2000:]}")
    length, wanted = time.monotonic() - began, read(folder / own)
    found: dict[str, Any] = {"kills": 0, "full_disks": 0, "rounds": 0, "different": 0, "stuck": 0, "tracebacks": 0}
    found["messages"] = []
    while found["kills"] < kills or found["full_disks"] < full:
        found["rounds"] += 1
        out = f"{own}-{found['rounds']}"
        if found["full_disks"] < full:
            status, said = run(words.format(out=out), folder, most=int(2 ** draw.uniform(8, 21)))
            found["full_disks"] += status != 0
            if "Traceback" in said and words.startswith(LLINK):
                found["tracebacks"] += 1
                found["messages"].append(said.strip().splitlines()[-1][:300])
        status = None
        while status is None:
            last = found["kills"] >= kills
            status, said = run(words.format(out=out), folder, None if last else draw.uniform(0.2, 1.1) * length)
            found["kills"] += status is None
        if status != 0:
            found["stuck"] += 1
            found["messages"].append((said.strip().splitlines() or [""])[-1][:300])
        elif read(folder / out) != wanted:
            found["different"] += 1
        shutil.rmtree(folder / out, ignore_errors=True)
    return found


def record(seed: int, results: dict[str, Any]) -> dict[str, Any]:
    """What is written: the commands that were soaked, and their sums."""
    counts = ("kills", "full_disks", "rounds", "different", "stuck", "tracebacks")
    total = {key: sum(found[key] for found in results.values()) for key in counts}
    return {"seed": seed, "total": total, "commands": results}


def main() -> None:
    """Soaks the commands that are asked for and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="Of all commands together.")
    parser.add_argument("--full", type=int, default=0, help="Full disks, of all commands together.")
    parser.add_argument("--commands", nargs="+", choices=list(COMMANDS), default=list(COMMANDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "soak.json")
    args = parser.parse_args()
    draw, results = random.Random(args.seed), {}
    with tempfile.TemporaryDirectory(prefix="llink-soak-") as name, HUB.running():
        folder = Path(name)
        furnish(folder)
        for command in COMMANDS:  # each builds on those before it
            share = 1 / len(args.commands) if command in args.commands else 0
            results[command] = soak(command, folder, math.ceil(share * args.kills), math.ceil(share * args.full), draw)
            print(command, json.dumps(results[command]), flush=True)
            write_json(args.output, record(args.seed, results))  # what is measured stays, whatever stops this
    print("in all", json.dumps(record(args.seed, results)["total"]))


if __name__ == "__main__":
    main()
