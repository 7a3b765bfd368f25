"""Damages every file of a small self-contained checkpoint in every way, and loads what comes out of it.

    python benchmarks/hostile.py              # every variant, with and without trust_remote_code
    python benchmarks/hostile.py --every 20   # one in twenty

Whole files: absent, empty, cut in two, not UTF-8, nested deeply, of another JSON type, a pickle that runs code, a link
that leads out, a folder, code that runs. Each key of each JSON file, and of the bases' configurations in `config.json`:
other types, huge and negative numbers, NaN. Each variant is loaded in a process of its own, which also makes a prompt
and two tokens, and must end in a working model or in one of llink's errors; nothing of it may run, hang, or take more
than 500 MB. Written to `benchmarks/results/hostile.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from llink import LlinkError, LlinkForCausalLM
from llink.evaluation.report import write_json

ROOT = Path(__file__).parent.parent
#: Seconds that a variant may take, and megabytes above what the process has before.
PATIENCE, MOST = 60, 500
DEEP = 100_000
WRONG: dict[str, Any] = {
    "none": None,
    "negative": -5,
    "huge": 10**30,
    "float": 1e308,
    "nan": float("nan"),
    "text": "evil",
    "list": ["x"],
    "object": {"model_type": ["x"], "x": 1},
    "true": True,
    "nothing": [],
}
Damage = Callable[[Path], None]


class Payload:
    """A pickle that writes a file when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)


def make_checkpoint(folder: Path) -> None:
    """A self-contained checkpoint on the tiny pair of `assets/`."""
    torch.manual_seed(0)
    bases = (ROOT / "assets" / name for name in ("encoder", "decoder"))
    model = LlinkForCausalLM.from_encoder_decoder_pretrained(*bases, dtype="float32", stage="inject")
    model.save_pretrained(folder, self_contained=True)


def variants(folder: Path, mark: Path) -> Iterator[tuple[str, str, Damage]]:
    """(file, what is done to it, how) of everything that is tried; what runs touches `mark`."""
    code = f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n".encode()
    for name in sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()):
        yield from ((name, kind, damage) for kind, damage in _whole(pickle.dumps(Payload(mark))))
        if name.endswith(".py"):
            yield name, "code", _put(code + (folder / name).read_bytes())
        if name.endswith(".json"):
            for keys in _keys(json.loads((folder / name).read_text("utf-8"))):
                yield from ((name, f"{'.'.join(keys)}={kind}", _with(keys, value)) for kind, value in WRONG.items())


def _whole(harmful: bytes) -> Iterator[tuple[str, Damage]]:
    contents = {
        "empty": b"",
        "not UTF-8": b"\xff\xfe\xfa",
        "list": b"[]",
        "number": b"5",
        "null": b"null",
        "NaN": b"NaN",
        "deep lists": b"[" * DEEP,
        "deep objects": b'{"a":' * DEEP,
        "pickle": harmful,
    }
    yield from ((kind, _put(content)) for kind, content in contents.items())
    yield "absent", Path.unlink
    yield "cut", lambda path: _put(path.read_bytes()[: path.stat().st_size // 2])(path)
    yield "pickle beside", lambda path: _put(harmful)(path.with_name("pytorch_model.bin"))

    def instead(make: Callable[[Path], Any]) -> Damage:
        return lambda path: (path.unlink(), make(path))[0]

    yield "folder", instead(Path.mkdir)
    yield "link", instead(lambda path: path.symlink_to("/etc/hostname"))
    yield "pickle in its place", instead(lambda path: path.with_suffix(".bin").write_bytes(harmful))


def _put(content: bytes) -> Damage:
    def damage(path: Path) -> None:
        path.write_bytes(content)

    return damage


def _keys(content: Any) -> Iterator[tuple[str, ...]]:
    """The keys of an object, and of the configurations in it."""
    for key, value in content.items() if isinstance(content, dict) else ():
        yield (key,)
        if key.endswith("_config") and isinstance(value, dict):
            yield from ((key, *more) for more in _keys(value))


def _with(keys: tuple[str, ...], value: Any) -> Damage:
    def damage(path: Path) -> None:
        content = json.loads(path.read_text("utf-8"))
        place = content
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        path.write_text(json.dumps(content), "utf-8")

    return damage


def outcome(folder: Path, trust: bool, mark: Path) -> tuple[str, str]:
    """What loading a folder in a process of its own comes to, and what was said: `ok`, `refused`, or a fault."""
    mark.unlink(missing_ok=True)
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        os.close(told)
        _load(folder, trust, tell)
    os.close(tell)
    end, said = time.monotonic() + PATIENCE, b""
    with os.fdopen(told, "rb") as answers:
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            if time.monotonic() > end:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return "hung", f"more than {PATIENCE} s"
            time.sleep(0.005)
        said = answers.read()
    kind, _, text = said.decode("utf-8", "replace").partition("\n")
    if mark.exists():
        return "executed", "code of the checkpoint ran"
    return kind or "died", text


def _load(folder: Path, trust: bool, tell: int) -> None:
    """In the child: loads, asks, and says how it went."""
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    before, kind, text = _megabytes(), "ok", ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = LlinkForCausalLM.from_pretrained(folder, trust_remote_code=trust)
            model.generate(foreign_text="the cat", max_new_tokens=2)
    except LlinkError as error:
        kind, text = ("refused", str(error)) if str(error).strip() else ("raw", "it says nothing")
    except BaseException as error:
        kind, text = "raw", f"{type(error).__name__}: {error}"
    if (taken := _megabytes() - before) > MOST:
        kind, text = "memory", f"{taken} MB"
    os.write(tell, f"{kind}\n{text[:300]}".encode("utf-8", "replace"))
    os._exit(0)


def _megabytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1 if sys.platform != "darwin" else 1024) // 1024


def measure(every: int = 1, first: int = 0, show: bool = True) -> dict[str, Any]:
    """Counts of outcomes, and the faults: (file, damage, with trust_remote_code, what it came to, what was said)."""
    torch.set_num_threads(1)
    counts, faults = Counter[str](), []
    with tempfile.TemporaryDirectory(prefix="llink-hostile-") as place:
        whole, mark = Path(place, "whole"), Path(place, "mark")
        make_checkpoint(whole)
        tried = list(variants(whole, mark))[first::every]
        for name, kind, damage in tried:
            for trust in (False, True):
                folder = Path(shutil.copytree(whole, Path(place, "variant")))
                with suppress(FileExistsError):
                    damage(folder / name)
                came, said = outcome(folder, trust, mark)
                if came == "executed" and trust and name.endswith(".py"):
                    came = "ok"  # that is what was allowed
                counts[came] += 1
                if came not in ("ok", "refused"):
                    faults.append([name, kind, trust, came, said])
                    if show:
                        print(*faults[-1], flush=True)
                shutil.rmtree(folder)
    names = ("ok", "refused", "executed", "hung", "memory", "raw", "died")
    return {"variants": len(tried), "loads": sum(counts.values()), **{n: counts[n] for n in names}, "faults": faults}


def main() -> None:
    """Measures and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--every", type=int, default=1, help="try one in so many variants")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "hostile.json")
    options = parser.parse_args()
    found = measure(options.every, options.first)
    print(json.dumps({name: value for name, value in found.items() if name != "faults"}))
    write_json(options.output, {"every": options.every} | found)


if __name__ == "__main__":
    main()
