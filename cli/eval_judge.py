"""`llink eval judge` (paper table 2)."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..configuration_llink import LlinkConfigError
from ..data.chat_client import estimate_cost
from ..evaluation.judge import UNPARSED, outcome, parse_verdict
from ..evaluation.judge_client import ask_judge
from ..evaluation.judge_questions import (
    Pair,
    Question,
    both_verdicts,
    judge_groups,
    load_prompt,
    make_questions,
    pair_outputs,
    sample_pairs,
)
from ..evaluation.judge_store import Judgement, JudgeSettings, missing_messages
from ..evaluation.outputs import aligned_outputs
from ..evaluation.plot_judge import judge_table, plot_judge
from ..evaluation.record import write_record
from ..evaluation.report import table, write_text
from .parsing import parse_arguments


@dataclass
class JudgeArguments:
    """Blinded pairwise comparison by a language model (paper table 2), both orders; see also --dry-run."""

    outputs: list[str] = field(
        metadata={"help": "Files of `llink eval outputs`: a system, and one or more that it is compared with."}
    )
    output_dir: str = field(
        metadata={"help": "Folder of the record and the plot; judgements are kept in its judge/judgements.jsonl."}
    )
    judge_prompt: str | None = field(
        default=None,
        metadata={"help": "Jinja file of what the judge is asked. Default: evaluation/judge_prompt.jinja."},
    )
    limit: int | None = field(
        default=None, metadata={"help": "Examples a bucket at most, picked by --seed (paper: 500)."}
    )
    dry_run: bool = field(default=False, metadata={"help": "Ask nothing; say what it would take."})
    price_per_million_input: float | None = field(default=None, metadata={"help": "For --dry-run, in any currency."})
    price_per_million_output: float | None = field(default=None, metadata={"help": "For --dry-run."})

    def __post_init__(self) -> None:
        if len(self.outputs) < 2:
            raise LlinkConfigError(f"--outputs takes two or more files; got {len(self.outputs)}: {self.outputs}.")
        resolved = Counter(Path(path).resolve() for path in self.outputs)
        twice = [str(path) for path, times in resolved.items() if times > 1]
        if twice:
            raise LlinkConfigError(f"--outputs names {twice[0]} twice: give the outputs of different systems.")
        if (self.price_per_million_input is None) != (self.price_per_million_output is None):
            raise LlinkConfigError(
                "Give --price-per-million-input and --price-per-million-output together, or neither."
            )


def system_names(paths: Sequence[str]) -> list[str]:
    """File names without endings; where they are not distinct, the paths."""
    stems = [Path(path).stem for path in paths]
    return stems if len(set(stems)) == len(stems) else [str(path) for path in paths]


OPTIONS = (JudgeArguments, JudgeSettings)
EXAMPLE = """
llink eval judge --outputs out/eval/outputs/llink.jsonl out/eval/outputs/finetune.jsonl \\
  --judge-model NAME --judge-url http://localhost:8000/v1 --output-dir out/eval
"""


def run(argv: Sequence[str]) -> None:
    """The first system's answers against each other's, judged in both orders."""
    args, settings = parse_arguments("eval judge", argv, OPTIONS)
    prompt = load_prompt(args.judge_prompt)
    first, *others = aligned_outputs(*args.outputs)
    names = system_names(args.outputs)
    asked: dict[str, tuple[list[Pair], list[Question]]] = {}
    for name, other in zip(names[1:], others, strict=True):
        pairs = sample_pairs(pair_outputs(first, other, (names[0], name)), args.limit, settings.seed)
        asked[f"{names[0]} vs. {name}"] = (pairs, make_questions(pairs, prompt, settings.seed))
    messages = [question.message for _, questions in asked.values() for question in questions]
    store = Path(args.output_dir) / "judge" / "judgements.jsonl"
    if args.dry_run:
        missing = list(missing_messages(messages, prompt, settings, store).values())
        prices = (args.price_per_million_input, args.price_per_million_output)
        print(table(["dry run", "value"], list(estimate_cost(missing, settings.max_tokens, *prices).items())))
        print(
            f"{len(messages) - len(missing)} of {len(messages)} judgements need no call. A prompt token is taken to be "
            "4 UTF-8 bytes; repeated attempts and the chat template are not counted."
        )
        return
    judgements = ask_judge(messages, prompt, settings, store, show_progress=True)
    verdicts = dict(zip(messages, (judgement.verdict for judgement in judgements), strict=True))
    comparisons, lines = {}, []
    for name, (pairs, questions) in asked.items():
        both = both_verdicts(pairs, questions, [verdicts[question.message] for question in questions])
        comparisons[name] = judge_groups(pairs, both, settings.seed)
        lines += [_example(name, pair, given) for pair, given in zip(pairs, both, strict=True)]
    judge = _judge_summary(settings, judgements, prompt.source)
    print(judge_table(comparisons))
    print(table(["judge", "value"], list(judge.items())))
    write_text(store.with_name("examples.jsonl"), "".join(lines))
    plot_judge(comparisons, Path(args.output_dir) / "judge.png")
    write_record(args.output_dir, "judge", {"judge": judge, **comparisons}, asdict(args) | asdict(settings))


def _example(comparison: str, pair: Pair, verdicts: tuple[str, str]) -> str:
    row: dict[str, Any] = {"comparison": comparison, "id": pair.id, "task": pair.task, "outcome": outcome(verdicts)}
    row |= {"first_as_a": verdicts[0], "second_as_a": verdicts[1], "outputs": pair.outputs}
    return json.dumps(row, ensure_ascii=False) + "\n"


def _judge_summary(settings: JudgeSettings, judgements: Sequence[Judgement], prompt: str) -> dict[str, Any]:
    """How well the judge answered, and what it took, earlier runs included; each distinct question counts once."""
    distinct = list({judgement.key: judgement for judgement in judgements}.values())
    readable_at_once = sum(parse_verdict(judgement.answers[0]) != UNPARSED for judgement in distinct)
    return {
        "model": settings.judge_model,
        "judgements": len(distinct),
        "answers": sum(len(judgement.answers) for judgement in distinct),
        "readable_at_once": readable_at_once / len(distinct) if distinct else None,
        "unparsed": sum(judgement.verdict == UNPARSED for judgement in distinct),
        "prompt_tokens": sum(judgement.prompt_tokens for judgement in distinct),
        "completion_tokens": sum(judgement.completion_tokens for judgement in distinct),
        "prompt_sha256": hashlib.sha256(prompt.encode()).hexdigest()[:16],
    }
