"""How deep, how far, how slow: the package's structure in numbers.

    python benchmarks/house.py            # everything
    python benchmarks/house.py hops       # or some of: size, depth, hops, help

`size`: lines of the package, files and lines that travel with a checkpoint, error classes. `depth`: classes between
each trainer and `transformers.Trainer`. `hops`: files of llink that `AlignTrainer` enters from its pairs to its first
loss, and `generate(foreign_text=…)` from the call to its slots, counted by a profile function. `help`: seconds of the
processor for every command's `--help`.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent.parent
ERROR = re.compile(r"class [A-Z][A-Za-z]*Error\(")
TRAINERS = ("AlignTrainer", "LexiconTrainer", "InjectTrainer", "FinetuneTrainer", "LangBridgeTrainer")


def depth() -> None:
    """Prints the classes above each trainer, up to `transformers.Trainer`."""
    from transformers import Trainer

    import llink

    for name in TRAINERS:
        above = [c for c in getattr(llink, name).__mro__[1:] if c is not Trainer and issubclass(c, Trainer)]
        mixed = [c for c in getattr(llink, name).__mro__[1:] if c.__module__.startswith("llink.") and c not in above]
        print(f"{name:18} {len(above) + len(mixed)}  {', '.join(c.__name__ for c in [*above, *mixed])}")


def size() -> None:
    """Prints how much there is, and how much of it travels."""
    from llink.hub_cards.staging import CODE_FILES

    def lines(paths: Iterable[Path]) -> int:
        return sum(len(path.read_text("utf-8").splitlines()) for path in paths)

    outside = {"tests", "examples", "benchmarks", "docs", "build", ".venv"}
    product = [p for p in PACKAGE.rglob("*.py") if p.relative_to(PACKAGE).parts[0] not in outside]
    room = PACKAGE / "modeling_llink"
    travels = [room / name if (room / name).is_file() else PACKAGE / name for name in CODE_FILES]
    classes = [line for p in product for line in p.read_text("utf-8").splitlines() if ERROR.match(line)]
    print(f"package: {len(product)} files, {lines(product)} lines; {len(classes)} public error classes")
    print(f"travels with a checkpoint: {len(travels)} files, {lines(travels)} lines")


@contextmanager
def files_entered() -> Iterator[dict[Path, None]]:
    """The files of llink that are entered in the block, in order."""
    entered: dict[Path, None] = {}

    def note(frame: Any, event: str, _: Any) -> None:
        path = Path(frame.f_code.co_filename)
        inside = event == "call" and PACKAGE in path.parents and path.suffix == ".py" and ".venv" not in path.parts
        if inside and path != Path(__file__).resolve():
            entered.setdefault(path.relative_to(PACKAGE))

    sys.setprofile(note)
    try:
        yield entered
    finally:
        sys.setprofile(None)


class Stop(Exception):  # noqa: N818 - it is no error
    """What was waited for has been computed."""


def hops() -> None:
    """Prints which files are entered between the pairs and the first loss, and between the call and the slots."""
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback

    import llink

    class StopAtFirst(TrainerCallback):
        def on_pre_optimizer_step(self, *_, **__):
            raise Stop

    assets, trainer = PACKAGE / "assets", llink.AlignTrainer
    torch.manual_seed(0)
    model = llink.LlinkForCausalLM.from_encoder_decoder_pretrained(assets / "encoder", assets / "decoder")
    rows = [{"id": str(n), "english": f"the {n} cat", "foreign": f"ឆ្មា {n}", "language": "km"} for n in range(32)]
    with tempfile.TemporaryDirectory() as folder:
        args = llink.AlignConfig(
            folder, per_device_train_batch_size=16, max_steps=1, report_to=[], disable_tqdm=True, save_strategy="no"
        )
        with suppress(Stop), files_entered() as entered:
            trainer(model, args, train_dataset=Dataset.from_list(rows), callbacks=[StopAtFirst()]).train()
        print(f"align, pairs to first loss: {len(entered)} files: {', '.join(map(str, entered))}")

        def stop(*_: Any) -> None:
            raise Stop

        model.save_pretrained(folder)
        loaded = llink.LlinkForCausalLM.from_pretrained(folder)
        loaded.slot_embedder.register_forward_hook(stop)
        with suppress(Stop), files_entered() as entered:
            loaded.generate(foreign_text="ឆ្មា", prompt="Translate to English.")
        print(f"generate, call to slots: {len(entered)} files: {', '.join(map(str, entered))}")


def help_seconds() -> None:
    """Prints the processor seconds that each command's help takes, and how many lines it has."""
    from llink.cli import COMMANDS

    for name in COMMANDS:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-m", "llink.cli", *name.split(), "--help"], capture_output=True, text=True, check=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(f"llink {name:22} {seconds:6.2f} s  {len(done.stdout.splitlines()):4} lines")


PARTS = {"size": size, "depth": depth, "hops": hops, "help": help_seconds}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
