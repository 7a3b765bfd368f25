"""`llink eval retrieval` (paper table 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..data.pairs import read_pairs
from ..evaluation.record import write_record
from ..evaluation.report import retrieval_table
from ..evaluation.retrieval import retrieval_metrics
from ..modeling_llink import LlinkForCausalLM
from .parsing import check_two_files, output_field, pair_field, parse_arguments


@dataclass
class RetrievalArguments:
    """Retrieval of English by foreign sentences (paper table 1)."""

    model: str = field(metadata={"help": "Folder or repository of an llink model."})
    pairs: list[str] = pair_field(True, "Line-aligned UTF-8 files of held-out pairs.")
    batch_size: int = field(default=32, metadata={"help": "Texts in one forward pass."})
    dtype: str = field(default="auto", metadata={"help": "dtype of the bases."})
    output_dir: str | None = output_field()

    def __post_init__(self) -> None:
        check_two_files("pairs", self.pairs)


def evaluate(argv: Sequence[str]) -> None:
    """Retrieval over held-out pairs."""
    (args,) = parse_arguments("eval retrieval", argv, (RetrievalArguments,))
    pairs = read_pairs(*args.pairs)
    english, foreign = list(pairs["english"]), list(pairs["foreign"])
    model = LlinkForCausalLM.from_pretrained(args.model, dtype=args.dtype)
    teachers = model.get_teacher_features(english, args.batch_size)
    results = {"stage_a": retrieval_metrics(model.get_foreign_features(foreign, args.batch_size), teachers)}
    if model.config.stage == "inject":
        results["full"] = retrieval_metrics(model.get_slot_features(foreign, args.batch_size), teachers)
    print(retrieval_table(results))
    write_record(args.output_dir, "retrieval", results, args)
