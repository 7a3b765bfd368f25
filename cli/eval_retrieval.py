"""`llink eval retrieval` (paper table 1)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..baselines.direct import load_direct
from ..data.pairs import check_pairs, dataset_groups, read_pairs, sentences
from ..evaluation.consistency import impossibilities
from ..evaluation.plot_retrieval import DIRECTION_TITLES, direction_table, plot_retrieval
from ..evaluation.record import write_record
from ..evaluation.retrieval import KS, rank_report, retrieval_ranks
from ..evaluation.retrieval_rows import retrieval_rows
from ..evaluation.systems import baseline_kinds
from ..modeling_llink import LlinkForCausalLM
from .loading import ModelLoading
from .parsing import check_positive, check_two_files, parse_arguments

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class RetrievalArguments(ModelLoading):
    """Does a foreign sentence find its English one, and the reverse (paper table 1)?"""

    model: str = field(metadata={"help": "Folder or repository of an llink model."})
    pairs: list[str] = field(
        metadata={"help": "Two line-aligned UTF-8 files of held-out pairs: target (English), then foreign."}
    )
    baselines: list[str] = field(
        default_factory=list,
        metadata={"help": "Folders of baselines: one that `llink finetune` wrote gets a row, other kinds have none."},
    )
    rows: list[str] = field(
        default_factory=list,
        metadata={"help": "Rows of the table, such as stage_a full; all that the model can have when not given."},
    )
    batch_size: int = field(default=32, metadata={"help": "Texts in one forward pass."})
    output_dir: str | None = field(default=None, metadata={"help": "Also write the record and plots into this folder."})

    def __post_init__(self) -> None:
        check_two_files("pairs", self.pairs)
        check_positive(self, "batch_size")


OPTIONS = (RetrievalArguments,)
EXAMPLE = """
llink eval retrieval --model out/b --pairs test.en test.km --baselines out/finetune \\
  --output-dir out/eval
"""


def run(argv: Sequence[str]) -> None:
    """Retrieval over held-out pairs, in both directions, for every system at hand."""
    (args,) = parse_arguments("eval retrieval", argv, OPTIONS)
    pairs = read_pairs(*args.pairs)
    check_pairs(pairs, f"--pairs {args.pairs[0]}", max(KS))
    kinds = baseline_kinds(args.baselines)
    for kind in kinds.keys() - {"finetune"}:
        logger.warning("%s is a %s, which has no sentence vectors: it gets no row.", kinds[kind], kind)
    if repeated := len(pairs) - 1 - max(dataset_groups(pairs)):
        logger.warning(
            "%d of %d pairs repeat a sentence of another: they count as ties, against the model.", repeated, len(pairs)
        )
    model = LlinkForCausalLM.from_pretrained(args.model, **args.loading())
    finetuned = load_direct(kinds["finetune"], **args.loading())[0] if "finetune" in kinds else None
    ranks: dict[str, dict[str, Any]] = {direction: {} for direction in DIRECTION_TITLES}
    english, foreign = sentences(pairs, "english"), sentences(pairs, "foreign")
    options: dict[str, Any] = {"batch_size": args.batch_size, "show_progress": True, "rows": args.rows}
    for name, own, other in retrieval_rows(model, english, foreign, finetuned, **options):
        ranks["foreign_to_english"][name] = retrieval_ranks(own, other, show_progress=True)
        ranks["english_to_foreign"][name] = retrieval_ranks(other, own, show_progress=True)
    results = {
        direction: {name: rank_report(found) for name, found in rows.items()} for direction, rows in ranks.items()
    }
    for direction, rows in results.items():
        print(direction_table(DIRECTION_TITLES[direction], rows) + "\n")
        for name, row in rows.items():
            for sentence in impossibilities(row).values():
                print(f"{name}: {sentence}")
    write_record(args.output_dir, "retrieval", results, args)
    if args.output_dir is not None:
        plot_retrieval(results, ranks, Path(args.output_dir) / "retrieval.png")
