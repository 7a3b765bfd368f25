"""`llink eval representations` (paper appendix A, figure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..baselines.direct import load_direct
from ..configuration_llink import LlinkConfigError
from ..data.pairs import read_pairs, sentences
from ..evaluation.plot_representations import plot_representations
from ..evaluation.record import write_record
from ..evaluation.report import table
from ..evaluation.representations import SLOTS, read_passages, representation_report
from ..evaluation.systems import baseline_kinds
from ..modeling_llink import LlinkForCausalLM
from ..modeling_llink.prompts import DEFAULT_PROMPT
from .eval_tokens import aligned_texts
from .loading import ModelLoading
from .parsing import check_positive, check_two_files, parse_arguments


@dataclass(kw_only=True)
class RepresentationArguments(ModelLoading):
    """What the decoder's layers make of foreign text, its translation and its slots (paper figure 3)."""

    model: str = field(metadata={"help": "Folder or repository of an llink model."})
    pairs: list[str] = field(
        metadata={"help": "Two line-aligned UTF-8 files of held-out pairs: target (English), then foreign."}
    )
    transliterated: str | None = field(
        default=None, metadata={"help": "The foreign file in Latin letters, line by line; a further reading."}
    )
    baselines: list[str] = field(
        default_factory=list,
        metadata={"help": "A folder that `llink finetune` wrote: the foreign text as that decoder reads it."},
    )
    limit: int = field(default=200, metadata={"help": "Pairs from the beginning that are read."})
    prompt: str = field(default=DEFAULT_PROMPT, metadata={"help": "Instruction; the English is its answer."})
    batch_size: int = field(default=4, metadata={"help": "Texts in one forward pass."})
    output_dir: str | None = field(default=None, metadata={"help": "Also write the record and plots into this folder."})

    def __post_init__(self) -> None:
        check_two_files("pairs", self.pairs)
        if self.limit < 2:
            raise LlinkConfigError(
                f"--limit={self.limit}: at least 2 pairs are needed for a baseline of mismatched ones."
            )
        check_positive(self, "batch_size")


OPTIONS = (RepresentationArguments,)
EXAMPLE = "llink eval representations --model out/b --pairs test.en test.km --output-dir out/eval"


def run(argv: Sequence[str]) -> None:
    """Cosines with the English, norms, residual changes and losses, for raw text and for slots."""
    (args,) = parse_arguments("eval representations", argv, OPTIONS)
    texts = _texts(args)
    if len(texts["english"]) < 2:
        raise LlinkConfigError("--pairs: at least 2 pairs are needed for a baseline of mismatched ones; got 1.")
    if (kinds := baseline_kinds(args.baselines)).keys() - {"finetune"}:
        raise LlinkConfigError("--baselines: only what `llink finetune` wrote reads the foreign text itself.")
    model = LlinkForCausalLM.from_pretrained(args.model, **args.loading())
    options = {"prompt": args.prompt, "batch_size": args.batch_size, "show_progress": True}
    readings = {name: read_passages(model, lines, texts["english"], **options) for name, lines in texts.items()}
    if "finetune" in kinds:
        tuned, _ = load_direct(kinds["finetune"], **args.loading())
        readings["finetune"] = read_passages(model, texts["foreign"], texts["english"], decoder=tuned, **options)
    if model.config.stage == "inject":  # before Stage B nobody has learned to read slots
        readings[SLOTS] = read_passages(model, texts["foreign"], texts["english"], as_slots=True, **options)
    results = representation_report(readings, "english", texts | {"finetune": texts["foreign"]})
    print(_table(results))
    write_record(args.output_dir, "representations", results, args)
    if args.output_dir is not None:
        plot_representations(results, Path(args.output_dir) / "representations.png")


def _texts(args: RepresentationArguments) -> dict[str, list[str]]:
    """Aligned lines by name: of files, or of a prepared folder's split."""
    if Path(args.pairs[0]).is_dir():
        if args.transliterated is not None:
            raise LlinkConfigError("--transliterated goes with two files of --pairs, whose lines it follows.")
        pairs = read_pairs(*args.pairs)
        pairs = pairs.select(range(min(args.limit, len(pairs))))
        return {name: sentences(pairs, name) for name in ("english", "foreign")}
    files = {"english": args.pairs[0], "foreign": args.pairs[1]}
    if args.transliterated is not None:
        files["transliterated"] = args.transliterated
    return aligned_texts(files, "english", args.limit)


def _table(results: dict[str, Any]) -> str:
    rows = []
    for name, found in results["readings"].items():
        gaps = results["cosines"].get(name, {}).get("gap", [])
        best = max(range(len(gaps)), key=gaps.__getitem__) if gaps else None
        losses = [found.get(key, "") for key in ("text_nll", "text_nll_per_char", "answer_nll")]
        cosines = ["", "", ""] if best is None else [best, gaps[best], gaps[-1]]
        rows.append([name, found["tokens"], found["embedding_norm"], *losses, *cosines])
    return table(
        ["reading", "tokens", "embedding norm", "nats a token", "nats a character", "answer, nats a token"]
        + ["closest layer", "cosine gap there", "last layer's"],
        rows,
    )
