"""`llink plan inject`: what `llink inject` would take."""

from __future__ import annotations

from collections.abc import Sequence

from ..trainers.inject_config import InjectConfig
from ..trainers.plan import plan
from .inject import InjectData, prepared
from .model_options import config_fields

OPTIONS = (InjectData, config_fields("slot_"), InjectConfig)
PRESETS = True
EXAMPLE = """
llink plan inject --model out/a --instructions train.jsonl --output-dir out/b
"""


def run(argv: Sequence[str]) -> None:
    """Tries a few batches and prints what all of them will take."""
    model, _, args, rows, held_out = prepared(argv, "plan inject")
    print(plan(model, rows, args, held_out))
