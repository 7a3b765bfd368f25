"""`llink demo`."""

from __future__ import annotations

from collections.abc import Sequence

from ..demo import DemoArguments, run
from .parsing import parse_arguments


def demonstrate(argv: Sequence[str]) -> None:
    """Both stages and an evaluation on the embedded pair and corpus."""
    (args,) = parse_arguments("demo", argv, (DemoArguments,))
    run(args)
