"""`llink plan align`: what `llink align` would take."""

from __future__ import annotations

from collections.abc import Sequence

from ..trainers.align_config import AlignConfig
from ..trainers.plan import plan
from .align import AlignBases, prepared
from .model_options import config_fields
from .training import PairData

OPTIONS = (AlignBases, config_fields(), PairData, AlignConfig)
PRESETS = True
EXAMPLE = """
llink plan align --encoder FacebookAI/xlm-roberta-base --decoder meta-llama/Llama-3.2-1B-Instruct \\
  --pairs train.en train.km --language km --output-dir out/a
"""


def run(argv: Sequence[str]) -> None:
    """Tries a few batches and prints what all of them will take."""
    model, _, args, rows, held_out = prepared(argv, "plan align")
    print(plan(model, rows, args, held_out))
