"""`llink eval usage` (paper 4.2)."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..data.instructions import read_instructions
from ..evaluation.record import write_record
from ..evaluation.report import table
from ..modeling_llink import LlinkForCausalLM
from ..trainers.inject_config import InjectConfig
from ..trainers.inject_trainer import InjectTrainer
from .parsing import output_field, parse_arguments

USAGE_KEYS = ("eval_loss", "eval_zeroed_gap", "eval_shuffled_gap", "eval_slots_help", "eval_own_slots_help")


@dataclass
class UsageArguments:
    """Does the decoder read its slots (paper 4.2)."""

    model: str = field(metadata={"help": "Folder or repository of an llink model."})
    instructions: str = field(metadata={"help": "JSONL file of held-out instruction rows."})
    batch_size: int = field(default=16, metadata={"help": "Rows in one forward pass."})
    dtype: str = field(default="auto", metadata={"help": "dtype of the bases."})
    output_dir: str | None = output_field()


def evaluate(argv: Sequence[str]) -> None:
    """Losses with slots, zeroed, and with another example's slots."""
    (args,) = parse_arguments("eval usage", argv, (UsageArguments,))
    rows = read_instructions(args.instructions)
    model = LlinkForCausalLM.from_pretrained(args.model, dtype=args.dtype)
    with tempfile.TemporaryDirectory() as scratch:
        config = InjectConfig(
            output_dir=scratch, per_device_eval_batch_size=args.batch_size, report_to=[], cosine_weight=0, nce_weight=0
        )
        measured = InjectTrainer(model=model, args=config, eval_dataset=rows).evaluate()
    metrics = {name.removeprefix("eval_"): measured[name] for name in sorted(measured) if name in USAGE_KEYS}
    print(table(["usage", "value"], list(metrics.items())))
    write_record(args.output_dir, "usage", metrics, args)
