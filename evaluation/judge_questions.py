"""What the judge is asked: blinded pairs of answers, in both orders, by a prompt that can be replaced (paper 6.1)."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ..configuration_llink import FOREIGN_TOKEN
from ..data.errors import DataError
from ..data.instructions import BUCKETS, OTHER_BUCKET, bucket_of
from .judge import IDENTICAL, MIRRORED, VERDICTS, tally
from .outputs import OutputRow, aligned_outputs

DEFAULT_PROMPT_FILE = Path(__file__).parent / "judge_prompt.jinja"
PROMPT_NEEDS = ("prompt", "answer_a", "answer_b")
PROMPT_NEEDS_ONE = ("english", "reference")
PROMPT_MAY_HOLD = ("foreign", "task")
_SHOWN_PLACEHOLDER = "[foreign text]"
#: How many ids an error lists.
_NAMED_IDS = 10


@dataclass(frozen=True)
class Pair:
    """One example and the answers of the two systems, first and second."""

    id: str
    task: str
    prompt: str
    foreign: str
    english: str
    reference: str
    outputs: tuple[str, str]


@dataclass(frozen=True)
class Question:
    """One call of the judge.

    Attributes:
        pair: Index of the pair.
        swapped: Whether the second system's answer is shown as A.
        message: What the judge reads.
    """

    pair: int
    swapped: bool
    message: str


class JudgePrompt:
    """A Jinja template that makes the judge's message from a pair, checked when it is made.

    Args:
        source: The template's text. Variables: `prompt`, `answer_a`, `answer_b`, `english`, `reference`, `foreign`,
            `task`.

    Attributes:
        verification: Which of `english` and `reference` it shows, so that the judge can verify an answer.

    Raises:
        DataError: If it is no template, leaves out what the judge must see, names an unknown variable, or does not
            name the verdicts.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        names = (*PROMPT_NEEDS, *PROMPT_NEEDS_ONE, *PROMPT_MAY_HOLD)
        probes = {name: f"probe-{name}-probe" for name in names}
        environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True)
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise DataError(f"The judge's prompt is no Jinja template: {error}.") from error
        shown = self._render(probes)
        missing = [name for name in PROMPT_NEEDS if probes[name] not in shown]
        if missing:
            raise DataError(
                f"The judge's prompt leaves out {', '.join(missing)}; it must show {', '.join(PROMPT_NEEDS)}."
            )
        self.verification = tuple(name for name in PROMPT_NEEDS_ONE if self._shows(name, probes))
        if not self.verification:
            raise DataError(f"The judge's prompt must show {' or '.join(PROMPT_NEEDS_ONE)}, for verification.")
        unnamed = [verdict for verdict in VERDICTS if not re.search(rf"\b{verdict}\b", shown)]
        if unnamed:
            raise DataError(
                f"The judge's prompt never says {', '.join(unnamed)}: it must ask for a JSON object whose verdict is "
                f"{', '.join(VERDICTS)}, or for one of these words alone."
            )

    def message(self, pair: Pair, swapped: bool = False) -> str:
        """The message about a pair; with `swapped` the second system's answer is A.

        Raises:
            DataError: If the template fails on it.
        """
        first, second = reversed(pair.outputs) if swapped else pair.outputs
        fields = {name: value for name, value in asdict(pair).items() if name not in ("id", "outputs")}
        return self._render(fields | {"answer_a": first, "answer_b": second})

    def _shows(self, name: str, probes: dict[str, str]) -> bool:
        """Whether a field for verification is shown, be it only where the others are empty."""
        alone = probes | {other: "" for other in PROMPT_NEEDS_ONE if other != name}
        return any(probes[name] in self._render(fields) for fields in (probes, alone))

    def _render(self, fields: dict[str, str]) -> str:
        try:
            return self._template.render(fields)
        except Exception as error:  # a template can raise anything
            valid = ", ".join((*PROMPT_NEEDS, *PROMPT_NEEDS_ONE, *PROMPT_MAY_HOLD))
            raise DataError(f"The judge's prompt cannot be filled in: {error}. It may hold {valid}.") from error


def load_prompt(path: str | Path | None = None) -> JudgePrompt:
    """The judge's prompt in a file; without one, llink's own (`evaluation/judge_prompt.jinja`).

    Raises:
        DataError: If there is no such file, or it is not UTF-8, or as [`JudgePrompt`].
    """
    path = DEFAULT_PROMPT_FILE if path is None else Path(path)
    if not path.is_file():
        raise DataError(f"The judge's prompt {path} does not exist.")
    try:
        return JudgePrompt(path.read_text("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"The judge's prompt {path} is not UTF-8: {error}") from error


def pair_outputs(
    first: Sequence[OutputRow], second: Sequence[OutputRow], names: tuple[str, str] = ("first", "second")
) -> list[Pair]:
    """Puts two systems' outputs side by side.

    Args:
        first: N rows of the system whose wins are counted.
        second: N rows of the other, with the same ids in the same order.
        names: Of the systems, for errors; the judge never sees them.

    Raises:
        DataError: If the two do not answer the same rows.
        DataError: If there are none, or if all answers are the same.
    """
    first, second = aligned_outputs(first, second)
    if not first:
        raise DataError("There are no outputs to judge.")
    pairs = [
        Pair(
            id=one.id,
            task=one.task,
            prompt=one.prompt.replace(FOREIGN_TOKEN, _SHOWN_PLACEHOLDER),
            foreign="\n".join(one.foreign),
            english=one.english,
            reference=one.reference,
            outputs=(one.output.strip(), other.output.strip()),
        )
        for one, other in zip(first, second, strict=True)
    ]
    if all(pair.outputs[0] == pair.outputs[1] for pair in pairs):
        raise DataError(f"All {len(pairs)} answers of {names[0]} and {names[1]} are the same: is it one system twice?")
    return pairs


def sample_pairs(pairs: Sequence[Pair], limit: int | None, seed: int) -> list[Pair]:
    """At most `limit` pairs of each bucket, in their order; a larger limit adds pairs and drops none.

    Raises:
        DataError: If the limit is not positive.
    """
    if limit is None:
        return list(pairs)
    if limit < 1:
        raise DataError(f"The limit is {limit}; give a positive number of examples a bucket, or none.")
    kept = []
    for bucket in (*BUCKETS, OTHER_BUCKET):
        members = [index for index, pair in enumerate(pairs) if bucket_of(pair.task) == bucket]
        random.Random(f"{seed}:{bucket}").shuffle(members)
        kept += members[:limit]
    return [pairs[index] for index in sorted(kept)]


def swapped_first(pair: Pair, seed: int) -> bool:
    """Whether the seed shows the second system's answer as A when a pair is judged for the first time."""
    return random.Random(f"{seed}:{pair.id}").random() < 0.5


def make_questions(pairs: Sequence[Pair], prompt: JudgePrompt, seed: int) -> list[Question]:
    """Both orders of every pair whose answers differ; which comes first is random.

    Raises:
        DataError: If all that the prompt shows for verification is empty in such a pair, or as [`JudgePrompt`].
    """
    differing = [(index, pair) for index, pair in enumerate(pairs) if pair.outputs[0] != pair.outputs[1]]
    blind = [pair.id for _, pair in differing if not any(getattr(pair, name).strip() for name in prompt.verification)]
    if blind:
        ids = ", ".join(blind[:_NAMED_IDS]) + (", …" if len(blind) > _NAMED_IDS else "")
        raise DataError(
            f"{len(blind)} examples have no {' and no '.join(prompt.verification)}, and the judge's prompt shows "
            f"nothing else to verify their answers by: {ids}. Let the prompt show {' and '.join(PROMPT_NEEDS_ONE)}, or "
            "leave these examples out."
        )
    return [
        Question(index, swapped, prompt.message(pair, swapped))
        for index, pair in differing
        for swapped in ((True, False) if swapped_first(pair, seed) else (False, True))
    ]


def both_verdicts(
    pairs: Sequence[Pair], questions: Sequence[Question], verdicts: Sequence[str]
) -> list[tuple[str, str]]:
    """Gathers the verdicts on [`make_questions`] by pair, in the order that [`outcome`] reads."""
    found: dict[tuple[int, bool], str] = {
        (question.pair, question.swapped): verdict for question, verdict in zip(questions, verdicts, strict=True)
    }
    return [(found.get((i, False), IDENTICAL), found.get((i, True), IDENTICAL)) for i in range(len(pairs))]


def judge_groups(pairs: Sequence[Pair], verdicts: Sequence[tuple[str, str]], seed: int) -> dict[str, dict[str, Any]]:
    """Table 2 of one comparison: a tally for all, for each bucket, for each task, and for one random order alone.

    The last is the paper's protocol: it reads only the verdict that was asked for first. Agreement between orders and
    `picks_a` mean nothing there and are None.

    Args:
        pairs: N pairs.
        verdicts: N times two verdicts, as [`both_verdicts`] gives them.
        seed: Of [`make_questions`].

    Raises:
        DataError: As [`tally`].
    """
    groups: dict[str, list[tuple[str, str]]] = {"all": list(verdicts)}
    for bucket in (*BUCKETS, OTHER_BUCKET):
        members = [both for pair, both in zip(pairs, verdicts, strict=True) if bucket_of(pair.task) == bucket]
        groups |= {bucket: members} if members else {}
    for pair, both in zip(pairs, verdicts, strict=True):
        groups.setdefault(f"task: {pair.task or 'none'}", []).append(both)
    single = [
        (MIRRORED[both[1]], both[1]) if swapped_first(pair, seed) else (both[0], MIRRORED[both[0]])
        for pair, both in zip(pairs, verdicts, strict=True)
    ]
    one_order = tally(single) | {"agreement": None, "picks_a": None}
    return {name: tally(members) for name, members in groups.items()} | {"one random order": one_order}
