"""How deep, how far, how slow: the package's structure in numbers.

    python benchmarks/house.py            # everything
    python benchmarks/house.py hops       # or some of: depth, hops, help

`depth`: classes between each trainer and `transformers.Trainer`. `hops`: files of llink that `AlignTrainer` enters from
its pairs to its first loss, counted by a profile function. `help`: processor seconds of every command's `--help`.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
TRAINERS = ("AlignTrainer", "LexiconTrainer", "InjectTrainer", "FinetuneTrainer", "LangBridgeTrainer")


def depth() -> None:
    """Prints the classes above each trainer, up to `transformers.Trainer`."""
    from transformers import Trainer

    import llink

    for name in TRAINERS:
        above = [c for c in getattr(llink, name).__mro__[1:] if c is not Trainer and issubclass(c, Trainer)]
        mixed = [c for c in getattr(llink, name).__mro__[1:] if c.__module__.startswith("llink.") and c not in above]
        print(f"{name:18} {len(above) + len(mixed)}  {', '.join(c.__name__ for c in [*above, *mixed])}")


def hops() -> None:
    """Prints which files are entered, in order, between the pairs and the first loss."""
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback

    import llink

    class Stop(Exception):  # noqa: N818 - it is none
        """The first loss has been computed."""

    class StopAtFirst(TrainerCallback):
        def on_pre_optimizer_step(self, *_, **__):
            raise Stop

    entered: dict[Path, None] = {}

    def note(frame, event, _):
        path = Path(frame.f_code.co_filename)
        if event == "call" and PACKAGE in path.parents and path.suffix == ".py" and ".venv" not in path.parts:
            entered.setdefault(path.relative_to(PACKAGE))

    assets, trainer = PACKAGE / "assets", llink.AlignTrainer
    torch.manual_seed(0)
    model = llink.LlinkForCausalLM.from_encoder_decoder_pretrained(assets / "encoder", assets / "decoder")
    rows = [{"id": str(n), "english": f"the {n} cat", "foreign": f"ឆ្មា {n}", "language": "km"} for n in range(32)]
    with tempfile.TemporaryDirectory() as folder:
        args = llink.AlignConfig(
            folder, per_device_train_batch_size=16, max_steps=1, report_to=[], disable_tqdm=True, save_strategy="no"
        )
        sys.setprofile(note)
        try:
            trainer(model, args, train_dataset=Dataset.from_list(rows), callbacks=[StopAtFirst()]).train()
        except Stop:
            pass
        finally:
            sys.setprofile(None)
    own = [path for path in entered if path != Path(__file__).resolve().relative_to(PACKAGE)]
    print(f"align enters {len(own)} files from the pairs to the first loss: {', '.join(map(str, own))}")


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


PARTS = {"depth": depth, "hops": hops, "help": help_seconds}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
