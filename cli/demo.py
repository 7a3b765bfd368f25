"""`llink demo`."""

from __future__ import annotations

from collections.abc import Sequence

from ..demo import DemoArguments
from ..demo import run as run_demo
from .parsing import parse_arguments

OPTIONS = (DemoArguments,)
EXAMPLE = "llink demo --output-dir runs/demo"


def run(argv: Sequence[str]) -> None:
    """Both stages and an evaluation on the embedded pair and corpus."""
    (args,) = parse_arguments("demo", argv, OPTIONS)
    run_demo(args)
