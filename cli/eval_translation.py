"""`llink eval translation`: chrF++ and BLEU, the systems side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from datasets import Dataset

from ..configuration_llink import LlinkConfigError
from ..data.instructions import translation_instructions
from ..data.pairs import read_pairs, target_language_of
from ..data.target import ENGLISH, is_english
from ..evaluation.outputs import TRANSLATION_TASKS, named_outputs, output_samples
from ..evaluation.record import write_record
from ..evaluation.report import table, with_interval
from ..evaluation.samples import side_by_side, translation_scores
from ..evaluation.systems import load_systems
from ..evaluation.translation import bleu_tokenizer, check_comet, comet
from .loading import ModelLoading
from .parsing import check_positive, check_two_files, parse_arguments


@dataclass(kw_only=True)
class TranslationArguments(ModelLoading):
    """Translations by llink, its base decoder and the baselines, with chrF++ and BLEU; or those in finished outputs."""

    model: str | None = field(default=None, metadata={"help": "Folder or repository of an llink model."})
    pairs: list[str] | None = field(
        default=None,
        metadata={"help": "Two line-aligned UTF-8 files of held-out pairs: target (English), then foreign."},
    )
    target_language: str | None = field(
        default=None,
        metadata={"help": "BCP-47 tag of what is translated into; a prepared folder of --pairs knows it, else en."},
    )
    baselines: list[str] = field(
        default_factory=list, metadata={"help": "Folders that llink finetune and llink langbridge wrote."}
    )
    systems: list[str] | None = field(
        default=None, metadata={"help": "Of base, llink, finetune, langbridge, those that answer; all when not given."}
    )
    outputs: list[str] = field(
        default_factory=list,
        metadata={"help": "In place of a model and pairs: files of llink eval outputs, whose translations are scored."},
    )
    limit: int = field(default=200, metadata={"help": "Pairs from the beginning that are translated."})
    show: int = field(default=10, metadata={"help": "Samples printed, the first ones as they come."})
    batch_size: int = field(default=16, metadata={"help": "Passages in one generation."})
    max_new_tokens: int = field(default=64, metadata={"help": "Length of an answer at most."})
    comet: str | None = field(default=None, metadata={"help": "COMET model that scores too: a name or a checkpoint."})
    comet_python: str | None = field(
        default=None, metadata={"help": "Python of the environment that has unbabel-comet, which needs its own."}
    )
    output_dir: str | None = field(default=None, metadata={"help": "Also write the record and plots into this folder."})

    def __post_init__(self) -> None:
        if self.outputs and (self.model or self.pairs or self.baselines or self.systems):
            raise LlinkConfigError("--outputs are finished: leave out --model, --baselines, --systems and --pairs.")
        if not self.outputs and not (self.model and self.pairs):
            raise LlinkConfigError("Give --model and --pairs, or --outputs, which are finished.")
        check_two_files("pairs", self.pairs)
        bleu_tokenizer(self.target_language or ENGLISH)
        check_positive(self, "limit", "batch_size", "max_new_tokens")
        check_positive(self, "show", least=0)
        if self.comet_python is not None and self.comet is None:
            raise LlinkConfigError("--comet-python needs --comet, the model that is to score.")


OPTIONS = (TranslationArguments,)
EXAMPLE = "llink eval translation --model out/b --pairs test.en test.km --limit 200 --output-dir out/eval"


def run(argv: Sequence[str]) -> None:
    """Translations of held-out pairs, the systems side by side."""
    (args,) = parse_arguments("eval translation", argv, OPTIONS)
    if args.comet is not None:
        check_comet(args.comet_python)
    pairs = None if args.outputs else read_pairs(*args.pairs, target_language=args.target_language)
    language = args.target_language or ENGLISH if pairs is None else target_language_of(pairs)
    samples = _finished(args) if pairs is None else _translated(args, pairs)
    scores = translation_scores(samples, language)
    for sample in samples[: args.show]:
        print("\n".join(f"{name:>10}: {text!r}" for name, text in sample.items()) + "\n")
    _show(scores)
    tokenizer = bleu_tokenizer(language)
    if not is_english(language):
        print(f"Translations into {language!r}; BLEU's tokenizer: {tokenizer}.")
    used = asdict(args) | {"target_language": language, "bleu_tokenizer": tokenizer}
    write_record(args.output_dir, "translation", {**scores, "samples": samples}, used)  # COMET may fail
    if args.comet is not None:
        foreign, references = ([sample[name] for sample in samples] for name in ("foreign", "reference"))
        for name, score in scores.items():
            hypotheses = [sample[name] for sample in samples]
            score["comet"] = comet(foreign, hypotheses, references, args.comet, args.comet_python)
        _show(scores)
        write_record(args.output_dir, "translation", {**scores, "samples": samples}, used)


def _show(scores: dict[str, dict[str, Any]]) -> None:
    columns = [column for column in next(iter(scores.values())) if column not in ("n", "intervals")]
    rows = [[name, *(with_interval(score, column) for column in columns), score["n"]] for name, score in scores.items()]
    print(table(["system", *columns, "n"], rows), flush=True)


def _translated(args: TranslationArguments, pairs: Dataset) -> list[dict[str, str]]:
    return side_by_side(
        load_systems(args.model, args.baselines, only=args.systems, **args.loading()),
        translation_instructions(pairs.select(range(min(args.limit, len(pairs))))),
        batch_size=args.batch_size,
        max_new_tokens=args.max_new_tokens,
        show_progress=True,
    )


def _finished(args: TranslationArguments) -> list[dict[str, str]]:
    answered = {
        name: [row for row in rows if row.task in TRANSLATION_TASKS][: args.limit]
        for name, rows in named_outputs(args.outputs).items()
    }
    if samples := output_samples(answered):
        return samples
    tasks = " or ".join(filter(None, TRANSLATION_TASKS))
    raise LlinkConfigError(f"{', '.join(args.outputs)} hold no translations: the task of none is {tasks}.")
