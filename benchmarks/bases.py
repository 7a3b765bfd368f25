"""Which bases work: every encoder and decoder architecture of the installed transformers, tiny, through a user's steps.

Each runs in a process of its own with a time limit: built, three stages of two steps, greedy, beams, sampling, batches,
text alone, light and self-contained save and reload without llink, merged. What was found is kept in
`benchmarks/results/bases.json`, so that a run goes on where it stopped; at the end `docs/bases.md` is written of it.

    python benchmarks/bases.py                      # all that is not done yet with this transformers, then the page
    python benchmarks/bases.py --only gemma3 qwen3  # these anew
    python benchmarks/bases.py --only               # none: the page alone
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "bases")]
RUNS, RECORD = ROOT / "runs" / "bases", ROOT / "benchmarks" / "results" / "bases.json"
os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
MODULES = tempfile.TemporaryDirectory(prefix="llink-bases-modules-")  # of the checkpoints, which bring their code
os.environ |= {"HF_MODULES_CACHE": MODULES.name}

import accelerate  # noqa: E402, F401 - what llink imports, once for all processes
import datasets  # noqa: E402, F401
import peft  # noqa: E402, F401
import torch  # noqa: E402
import user  # noqa: E402
from transformers import GenerationMixin, ProcessorMixin, Trainer  # noqa: E402, F401

FORK = multiprocessing.get_context("fork")  # what is imported here need not be again; llink is not
DECODER, ENCODER = "llama", "xlm-roberta"
#: Packages that a process in which checkpoints load without llink must not have imported.
OWN = ("llink", "transformers_modules", "any_base", "tiny")


def serve(pipe) -> None:
    """A process that has imported llink, and of which those are forked that train.

    It runs nothing itself: a process whose torch has worked cannot be forked. What a journey imports on its way it
    learns from a first one.
    """
    import any_base

    with tempfile.TemporaryDirectory(prefix="llink-bases-") as folder:
        work = Path(folder)
        limited(journey, 600, work / "log", "decoder", DECODER, work, work / "result.json", work / "imported")
        imported = (work / "imported").read_text().split()
    bring(imported)
    rows = [("decoder", name) for name in any_base.DECODERS] + [("encoder", name) for name in any_base.ENCODERS]
    pipe.send((rows + [("encoder", name) for name in any_base.EMBEDDERS], imported, notes(any_base)))
    for seconds, log, *arguments in iter(pipe.recv, None):
        pipe.send(limited(journey, seconds, log, *arguments))


def notes(any_base) -> list[str]:
    """What the lists of architectures leave out, and what is made otherwise than whole."""
    said = [f"Left out, for they are no language models: {quoted(sorted(any_base.NO_LANGUAGE_MODELS))}."]
    part = any_base.TEXT_PART
    if part:
        said.append(f"Made of its text part alone, for want of a library for its vision tower: {quoted(sorted(part))}.")
    return said


def quoted(names) -> str:
    return ", ".join(f"`{name}`" for name in names)


def bring(modules: list[str]) -> None:
    """Imports what can be imported."""
    for name in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def journey(kind: str, name: str, work: Path, result: Path, imported: Path | None = None) -> None:
    """Takes one architecture through all steps but the reload, in this process, and writes down how far it came."""
    import any_base

    from llink import LlinkError

    try:
        other = "encoder" if kind == "decoder" else "decoder"
        folders = {
            kind: any_base.save_base(kind, name, work / kind),
            other: any_base.save_base(other, ENCODER if kind == "decoder" else DECODER, work / other),
        }
    except BaseException as error:
        result.write_text(json.dumps({"status": "not made", "why": sentence(error)}))
        raise

    class Journey(user.Journey):
        def reload(self) -> None:
            """Done afterwards, where llink was never imported."""

    causal = {"encoder_is_causal": True} if kind == "encoder" and name in any_base.EMBEDDERS else {}
    try:
        done = Journey(**folders, work=work, **causal)
        done.run()
    except BaseException as error:
        step = getattr(error, "__notes__", ["?"])[0]
        refused = isinstance(error, LlinkError) and step == "build"
        why = sentence(error) if refused else f"{step}: {type(error).__name__}: {sentence(error)}"
        result.write_text(json.dumps({"status": "refused" if refused else "fails", "why": why}))
        raise
    result.write_text(json.dumps({"status": "passes", "why": " ".join(done.remarks)}))
    if imported is not None:
        imported.write_text("\n".join(sorted(sys.modules)))


def reload(work: Path, result: Path) -> None:
    """Loads what was saved where llink does not exist."""
    try:
        user.load_without_llink(work, [str(work / kind) for kind in user.SAVED])
    except BaseException as error:
        result.write_text(json.dumps({"status": "fails", "why": f"reload: {type(error).__name__}: {sentence(error)}"}))
        raise


def sentence(error: BaseException) -> str:
    """The first line of what an error says, without the folders of this run."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()] or [type(error).__name__]
    said = (lines[0] if len(lines[0]) > 40 else " ".join(lines[:2])).strip()[:500]
    return re.sub(r" ?'/\S*?/llink-bases-[^/']*/\w+'", "", said)


def limited(target, seconds: float, log: Path, *arguments) -> bool:
    """Runs a function in a process of its own; whether it ended in time."""

    def quietly() -> None:
        with log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        target(*arguments)

    process = FORK.Process(target=quietly)
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
        return False
    return True


def try_one(pipe, kind: str, name: str, seconds: float) -> dict:
    work, start = Path(tempfile.mkdtemp(prefix="llink-bases-")), time.monotonic()
    log, result = RUNS / f"{kind}-{name}.log", work / "result.json"
    log.unlink(missing_ok=True)
    try:
        pipe.send((seconds, log, kind, name, work, result))
        in_time = pipe.recv()
        found = json.loads(result.read_text()) if result.is_file() else {"status": "fails", "why": "the process died"}
        if found["status"] == "passes":
            in_time = limited(reload, seconds, log, work, result)
            found = json.loads(result.read_text())
        if not in_time:
            found = {"status": "fails", "why": f"took more than {seconds:.0f} s"}
        versions = {"code": code(), "transformers": version("transformers")}
        return {"kind": kind, "name": name, **found, **versions, "seconds": round(time.monotonic() - start)}
    finally:
        shutil.rmtree(work, ignore_errors=True)


def code() -> str:
    """The last commit that changed what is tried."""
    command = ["git", "log", "-1", "--format=%h", "--", "*.py", ":!benchmarks"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "no commit"


def page(rows: list[dict], missing: list[tuple[str, str]], remarks: list[str]) -> str:
    """`docs/bases.md`, of what was tried and what was not yet."""
    commits = ", ".join(f"{count} at {commit}" for commit, count in Counter(row["code"] for row in rows).items())
    order = {"passes": 0, "refused": 1, "fails": 2, "not made": 3}
    rows = sorted(rows, key=lambda row: (order[row["status"]], row["name"]))
    lines = [
        "# Which bases work",
        "",
        f"Written by `python benchmarks/bases.py` with transformers {version('transformers')}, peft {version('peft')} "
        f"and torch {version('torch').partition('+')[0]}: every architecture that the installed transformers lists as "
        "a causal language model or as a text encoder, tiny and with random weights.",
        "",
        f"What is run: build on a {ENCODER} encoder or a {DECODER} decoder; Stage A, the dictionary and Stage B, two "
        "steps each, in which LoRA moves and no base does; greedy, beam and sampled answers; a batch gives what its "
        "rows give alone; without a passage the decoder is the base; a light and a self-contained checkpoint load "
        "without llink to equal logits; merged LoRA answers alike.",
        "",
        "*refused* is said when the model is built, in these words. *not made*: no tiny model of this architecture "
        f"could be made, so nothing is known. Tried: {commits}.",
        "",
        " ".join(remarks),
        "",
    ]
    for kind in ("decoder", "encoder"):
        own = [row for row in rows if row["kind"] == kind]
        counts = ", ".join(f"{sum(row['status'] == status for row in own)} {status}" for status in order)
        passing = quoted(row["name"] for row in own if row["status"] == "passes")
        lines += [f"## {kind.title()}s", "", f"{len(own)} architectures: {counts}.", "", f"**Passes:** {passing}.", ""]
        lines += ["| architecture | | why, or what of it |", "|---|---|---|"]
        for row in own:
            if row["why"]:
                why = row["why"].replace("|", "\\|").replace("\n", " ")
                lines.append(f"| `{row['name']}` | {row['status']} | {why} |")
        lines.append("")
        if left := [name for kind_, name in missing if kind_ == kind]:
            lines += [f"**Not tried yet** ({len(left)}): {quoted(left)}.", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="Architectures to try, also those that are done.")
    parser.add_argument("--kind", choices=("encoder", "decoder"), help="These alone.")
    parser.add_argument("--failed", action="store_true", help="Try those again that did not pass.")
    parser.add_argument("--anew", action="store_true", help="Try those again that were tried with other code.")
    parser.add_argument("--seconds", type=float, default=180, help="Time limit of one architecture.")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "bases.md", help="The page to write.")
    args = parser.parse_args()
    for folder in (RUNS, RECORD.parent):
        folder.mkdir(parents=True, exist_ok=True)
    rows = json.loads(RECORD.read_text("utf-8")) if RECORD.is_file() else []
    done = {(row["kind"], row["name"]): row for row in rows if row["transformers"] == version("transformers")}
    pipe, other = FORK.Pipe()
    server = FORK.Process(target=serve, args=(other,))
    server.start()
    wanted, imported, remarks = pipe.recv()
    bring([name for name in imported if name.partition(".")[0] not in OWN])
    for place, (kind, name) in enumerate(wanted, start=1):
        if args.kind not in (None, kind) or (args.only is not None and name not in args.only):
            continue
        known = done.get((kind, name))
        again = known and ((args.failed and known["status"] != "passes") or (args.anew and known["code"] != code()))
        if args.only is None and known and not again:
            continue
        row = done[kind, name] = try_one(pipe, kind, name, args.seconds)
        lines = [json.dumps(done[row], ensure_ascii=False) for row in wanted if row in done]
        RECORD.write_text("[\n" + ",\n".join(lines) + "\n]\n", "utf-8")
        said = f"{kind} {name}: {row['status']} {row['why'][:150]} ({row['seconds']} s)"
        print(f"[{place}/{len(wanted)}] {said}", flush=True)
    pipe.send(None)
    server.join()
    tried = [done[row] for row in wanted if row in done]
    args.page.write_text(page(tried, [row for row in wanted if row not in done], remarks), "utf-8")
    print(f"Wrote {args.page}.")


if __name__ == "__main__":
    main()
