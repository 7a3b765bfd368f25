"""`llink eval numeric`: what must be exact, against references and sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..configuration_llink import LlinkConfigError
from ..data.entities.entity import KINDS
from ..data.instructions import translation_instructions
from ..data.pairs import read_pairs, sentences, target_language_of
from ..data.target import ENGLISH, is_english
from ..evaluation.numeric import ALL, entity_rows, kind_counts, numeric_metrics, source_metrics
from ..evaluation.numeric_suite import read_suite
from ..evaluation.outputs import TRANSLATION_TASKS, OutputRow, named_outputs, output_rows, output_samples
from ..evaluation.plot_numeric import plot_numeric
from ..evaluation.record import write_record
from ..evaluation.report import table
from ..evaluation.systems import load_systems, system_names
from .loading import ModelLoading
from .parsing import check_positive, check_two_files, parse_arguments

COLUMNS = ("exact", "precision", "recall", "f1", "n")


@dataclass(kw_only=True)
class NumericArguments(ModelLoading):
    """Are numbers, units, dates, names and addresses kept exactly? On the suite, on pairs, or on finished outputs."""

    model: str | None = field(default=None, metadata={"help": "Folder or repository of an llink model."})
    baselines: list[str] = field(
        default_factory=list, metadata={"help": "Folders that llink finetune and llink langbridge wrote."}
    )
    systems: list[str] | None = field(
        default=None, metadata={"help": "Of base, llink, finetune, langbridge, those that answer; all when not given."}
    )
    language: str | None = field(
        default=None, metadata={"help": "Only the suite's cases in this language, such as km; all when not given."}
    )
    pairs: list[str] | None = field(
        default=None,
        metadata={"help": "In place of the suite: two line-aligned files, whose pairs with entities are translated."},
    )
    target_language: str | None = field(
        default=None,
        metadata={
            "help": "BCP-47 tag of what is translated into; a prepared folder of --pairs knows it, else en. Of other "
            "languages than English only digits, codes and addresses are counted."
        },
    )
    outputs: list[str] = field(
        default_factory=list, metadata={"help": "In place of a model: files that llink eval outputs wrote."}
    )
    limit: int | None = field(default=None, metadata={"help": "Cases or pairs at most; all when not given."})
    batch_size: int = field(default=16, metadata={"help": "Passages in one generation."})
    max_new_tokens: int = field(default=64, metadata={"help": "Length of an answer at most."})
    resamples: int = field(default=1000, metadata={"help": "Draws of the 95 %% bootstrap intervals."})
    output_dir: str | None = field(default=None, metadata={"help": "Also write the record and plots into this folder."})

    def __post_init__(self) -> None:
        check_two_files("pairs", self.pairs)
        if self.outputs and (self.model or self.pairs or self.baselines or self.systems or self.language):
            raise LlinkConfigError(
                "--outputs are finished: leave out --model, --baselines, --systems, --pairs and --language."
            )
        if self.pairs and self.language:
            raise LlinkConfigError("--language chooses cases of the suite: leave it out with --pairs.")
        if (self.baselines or self.systems) and not self.model:
            raise LlinkConfigError("--baselines and --systems go with an llink model: give --model too.")
        if not (self.model or self.outputs or self.pairs):
            raise LlinkConfigError("Give --model for the suite, --outputs, or --pairs, which --model may translate.")
        if not (self.outputs or self.pairs or is_english(self.target_language or ENGLISH)):
            raise LlinkConfigError(
                f"--target-language {self.target_language}: the answers of the suite are English. Give --pairs, or "
                "--outputs."
            )
        check_positive(self, "limit", "batch_size", "max_new_tokens")
        check_positive(self, "resamples", least=0)


OPTIONS = (NumericArguments,)
EXAMPLE = "llink eval numeric --model out/b --output-dir out/eval"


def run(argv: Sequence[str]) -> None:
    """Scores systems by kind; without a model, tells what pairs hold and how far their two sides agree."""
    (args,) = parse_arguments("eval numeric", argv, OPTIONS)
    system_names(args.baselines, args.systems)
    pairs = read_pairs(*args.pairs, target_language=args.target_language) if args.pairs else None
    language = args.target_language or ENGLISH if pairs is None else target_language_of(pairs)
    answered = _finished(args) if args.outputs else _generated(args, _instructions(args, pairs, language))
    rows = next(iter(answered.values()))
    references = [row.reference for row in rows]
    if not is_english(language):
        print(f"Entities are read in English alone: in {language!r} only digits, codes and addresses are counted.")
    print(f"{len(rows)} rows; entities in the references: {_counted(kind_counts(references, language))}")

    outputs = {name: [row.output for row in answers] for name, answers in answered.items() if name != "reference"}

    def scored(*kinds: str) -> dict[str, dict[str, Any]]:
        return {
            name: numeric_metrics(texts, references, args.resamples, kinds=kinds, language=language)
            for name, texts in outputs.items()
        }

    scores, nameless = scored(*KINDS), scored(*(kind for kind in KINDS if kind != "name"))
    sources = _source_scores(answered, args.resamples, language)
    if scores:
        for title, found in (("system", scores), ("without names", nameless)):
            print(table([title, *COLUMNS], [[name, *_cells(_summary(score))] for name, score in found.items()]))
        print(table(["F1 of", "n", *scores], _kind_rows(scores)))
    if sources:
        print(table(["digits of the source kept", "recall", "n"], [[n, *_source_cells(s)] for n, s in sources.items()]))
    results = {
        "rows": len(rows),
        "systems": {name: _summary(found) for name, found in scores.items()},
        "without_names": {name: _summary(found) for name, found in nameless.items()},
        "by_kind": {name: found["kinds"] for name, found in scores.items()},
        "source": {name: found["kinds"] for name, found in sources.items()},
        "samples": output_samples(answered) if scores else [],
    }
    if args.output_dir is not None and scores:
        plot_numeric(scores, Path(args.output_dir) / "numeric.png")
    write_record(args.output_dir, "numeric", results, asdict(args) | {"target_language": language})


def _instructions(args: NumericArguments, pairs: Dataset | None, language: str) -> list[Mapping[str, Any]]:
    """Translation rows of the suite, evenly over its kinds, or of the pairs that hold entities."""
    if pairs is not None:
        chosen = entity_rows(sentences(pairs, "english"), sentences(pairs, "foreign"), language)
        print(f"{len(chosen)} of {len(pairs)} pairs hold numbers, dates, identifiers or addresses.")
        if not chosen:
            raise LlinkConfigError(f"None of the pairs of {' and '.join(args.pairs)} holds anything to check.")
        return list(translation_instructions(pairs.select(chosen[: args.limit])))
    cases = read_suite(args.language)
    count = min(args.limit or len(cases), len(cases))
    spread = [cases[index * len(cases) // count] for index in range(count)]
    return list(translation_instructions({"id": c.id, "english": c.english, "foreign": c.foreign} for c in spread))


def _generated(args: NumericArguments, rows: list[Mapping[str, Any]]) -> dict[str, list[OutputRow]]:
    """Answers by system, and the references themselves as `reference`."""
    systems = load_systems(args.model, args.baselines, only=args.systems, **args.loading()) if args.model else {}
    answered = {"reference": output_rows(rows, [row["completion"] for row in rows])}
    for name, system in systems.items():
        answers = system.answer(rows, args.batch_size, args.max_new_tokens, show_progress=True)
        answered[name] = output_rows(rows, answers)
    return answered


def _finished(args: NumericArguments) -> dict[str, list[OutputRow]]:
    return {name: rows[: args.limit] for name, rows in named_outputs(args.outputs).items()}


def _source_scores(
    answered: Mapping[str, Sequence[OutputRow]], resamples: int, language: str
) -> dict[str, dict[str, Any]]:
    """Of the rows whose task must keep everything; nothing where there are none."""
    scores = {}
    for name, answers in answered.items():
        faithful = [row for row in answers if row.task in TRANSLATION_TASKS]
        if faithful:
            texts = [row.foreign for row in faithful]
            scores[name] = source_metrics([row.output for row in faithful], texts, resamples, language=language)
    return scores


def _summary(found: Mapping[str, Any]) -> dict[str, Any]:
    every = found["kinds"][ALL]
    values = {"exact": found["exact"], **{name: every[name] for name in COLUMNS[1:]}}
    return {**values, "intervals": {**found["intervals"], **every["intervals"]}}


def _kind_rows(scores: Mapping[str, Mapping[str, Any]]) -> list[list[Any]]:
    rows = []
    for kind in (kind for kind in (ALL, *KINDS) if any(kind in found["kinds"] for found in scores.values())):
        of_kind = [found["kinds"].get(kind, {}) for found in scores.values()]
        rows.append([kind, max(rates.get("n", 0) for rates in of_kind), *(_cell(rates.get("f1")) for rates in of_kind)])
    return rows


def _source_cells(found: Mapping[str, Any]) -> list[Any]:
    every = found["kinds"][ALL]
    return [_cell(every["recall"]), every["n"]]


def _cells(summary: Mapping[str, Any]) -> list[Any]:
    return [_cell(summary[column]) for column in COLUMNS]


def _cell(value: Any) -> Any:
    return "–" if value is None else value


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in counts.items()) or "none"
