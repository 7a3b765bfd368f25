"""`llink eval translation`: chrF++ and BLEU beside the base decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..data.pairs import read_pairs
from ..evaluation.record import write_record
from ..evaluation.report import table
from ..evaluation.samples import side_by_side, translation_scores
from ..modeling_llink import LlinkForCausalLM
from .parsing import check_two_files, output_field, pair_field, parse_arguments


@dataclass
class TranslationArguments:
    """Translations by llink and by its base decoder from the raw text, with chrF++ and BLEU."""

    model: str = field(metadata={"help": "Folder or repository of an llink model."})
    pairs: list[str] = pair_field(True, "Line-aligned UTF-8 files of held-out pairs.")
    limit: int = field(default=200, metadata={"help": "Pairs from the beginning that are translated."})
    show: int = field(default=10, metadata={"help": "Samples printed, the first ones as they come."})
    batch_size: int = field(default=16, metadata={"help": "Passages in one generation."})
    max_new_tokens: int = field(default=64, metadata={"help": "Length of an answer at most."})
    dtype: str = field(default="auto", metadata={"help": "dtype of the bases."})
    output_dir: str | None = output_field()

    def __post_init__(self) -> None:
        check_two_files("pairs", self.pairs)


def evaluate(argv: Sequence[str]) -> None:
    """Translations of held-out pairs, llink beside its base decoder."""
    (args,) = parse_arguments("eval translation", argv, (TranslationArguments,))
    pairs = read_pairs(*args.pairs)[: args.limit]
    model = LlinkForCausalLM.from_pretrained(args.model, dtype=args.dtype)
    samples = side_by_side(
        model,
        pairs["foreign"],
        pairs["english"],
        batch_size=args.batch_size,
        max_new_tokens=args.max_new_tokens,
        show_progress=True,
    )
    scores = translation_scores(samples)
    for sample in samples[: args.show]:
        print("\n".join(f"{name:>9}: {text!r}" for name, text in sample.items()) + "\n")
    print(table(["system", "chrF++", "BLEU", "n"], [(n, s["chrf"], s["bleu"], s["n"]) for n, s in scores.items()]))
    write_record(args.output_dir, "translation", {**scores, "samples": samples}, args)
