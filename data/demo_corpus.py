"""The embedded demo corpus: 30,048 Khmer-English pairs that know what their sentences say, and instructions about them.

It needs no download, so that a first run, the tests and the demo work offline. It is simple, regular language about
people, places, school, shops, health, offices and travel: enough to show that the bridge carries names, numbers, dates
and relations, and no measure of how well a real language pair would do. `examples/make_demo_corpus.py` makes the file
from a grammar. Every answer of an instruction is made by rule from what the grammar knows about the sentence, so it is
right and says nothing that the text does not say; the four tasks are those of the paper's instruction data.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from random import Random

from ..errors_llink import LlinkConfigError

__all__ = [
    "PHRASINGS",
    "PLACEHOLDER",
    "SIZES",
    "TASK_MIX",
    "DemoPair",
    "demo_pairs",
    "demo_splits",
    "distinct_instructions",
    "generate_instructions",
]

CORPUS_FILE = Path(__file__).with_name("demo_corpus.jsonl.xz")
"""One pair a line, in the order in which they were drawn: template, English, Khmer, facts, parts, summary."""
#: Held-out pairs first, so that a larger training split would not move them.
SIZES = {"test": 1024, "dev": 1024, "train": 28_000}
PLACEHOLDER = "<foreign_emb>"
TASK_MIX: Mapping[str, float] = {
    "translate_to_english": 0.55,
    "summarize_in_english": 0.1,
    "bullet_pointify": 0.1,
    "qa_about_text": 0.25,
}
"""Share of each task in `generate_instructions`."""
PHRASINGS: Mapping[str, tuple[str, ...]] = {
    "translate_to_english": (
        "Translate to English.",
        "Translate this text into English.",
        "Translate the following sentence to English.",
        "What does this text say in English?",
        "Give the English translation.",
        "Please write this in English.",
        "Say this in English.",
    ),
    "summarize_in_english": (
        "Summarize in English.",
        "Summarize this text in English.",
        "Give a short summary in English.",
        "What is this text about?",
        "Write a short summary.",
        "Tell me the main point in English.",
    ),
    "bullet_pointify": (
        "List the points in English.",
        "List the main points.",
        "Write this text as bullet points.",
        "Turn this into bullet points in English.",
        "Give me the facts as a list.",
        "Make a list of the points.",
    ),
    "qa_about_text": (
        "{question}",
        "Answer in English: {question}",
        "Read the text and answer. {question}",
        "Answer the question about the text. {question}",
        "According to the text: {question}",
    ),
}
"""Instructions of each task; the first of each is the plain form."""
DEFAULT_SHARE = {"translate_to_english": 0.4, "summarize_in_english": 0.3, "bullet_pointify": 0.3, "qa_about_text": 0.5}
"""Share of the first phrasing of each task; the others share the rest evenly."""
MAX_PER_PAIR = 12
_ATTEMPTS = 200


class DemoPair(dict[str, str]):
    """A pair row (`id, english, foreign, language`) that also knows what its sentence says.

    The dict is the row and nothing else, so that `datasets.Dataset.from_list(pairs)` has the columns of every other
    corpus.

    Args:
        row: the four columns.
        template: name of the sentence plan.
        facts: question to answer, both English.
        parts: the points of the text, English, without full stops.
        summary: a shorter English sentence.
    """

    def __init__(
        self, row: dict[str, str], template: str, facts: dict[str, str], parts: list[str], summary: str
    ) -> None:
        super().__init__(row)
        self.template, self.facts, self.parts, self.summary = template, facts, parts, summary

    @property
    def english(self) -> str:
        """The English sentence."""
        return self["english"]

    @property
    def foreign(self) -> str:
        """The Khmer sentence."""
        return self["foreign"]


def demo_pairs(count: int | None = None) -> list[DemoPair]:
    """The first `count` pairs of the corpus, all 30,048 unless given; the map between the two sides is one to one.

    Returns:
        Rows `id, english, foreign, language` ("km") that also carry `facts`, `parts`, `summary` and `template`.

    Raises:
        LlinkConfigError: `count` is negative or more than the corpus holds.

    Example:
        >>> pair = demo_pairs(1)[0]
        >>> sorted(pair)
        ['english', 'foreign', 'id', 'language']
    """
    total = sum(SIZES.values())
    count = total if count is None else count
    if not 0 <= count <= total:
        raise LlinkConfigError(f"count is {count}, but the demo corpus holds {total} pairs: ask for 0 to {total}.")
    with lzma.open(CORPUS_FILE) as lines:
        drawn = json.loads(b"[%b]" % b",".join(islice(lines, count)))
    return [
        DemoPair(
            {"id": f"demo-0-{index:06d}", "english": english, "foreign": foreign, "language": "km"},
            template,
            facts,
            parts,
            summary,
        )
        for index, (template, english, foreign, facts, parts, summary) in enumerate(drawn)
    ]


def demo_splits() -> dict[str, list[DemoPair]]:
    """`test`, `dev` and `train` pairs without a common sentence; the embedded models saw only those of `train`."""
    pairs = demo_pairs()
    Random(0).shuffle(pairs)
    rest = iter(pairs)
    return {name: list(islice(rest, size)) for name, size in SIZES.items()}


def _pick(rng: Random, options: Sequence[str]) -> str:
    return options[int(rng.random() * len(options))]


def _phrase(task: str, rng: Random) -> str:
    """An instruction of a task: the plain form with its share, else one of the others."""
    first, *others = PHRASINGS[task]
    return first if rng.random() < DEFAULT_SHARE[task] else _pick(rng, others)


def _translation(pair: DemoPair, rng: Random) -> tuple[str, str]:
    return _phrase("translate_to_english", rng), pair["english"]


def _summary(pair: DemoPair, rng: Random) -> tuple[str, str]:
    return _phrase("summarize_in_english", rng), pair.summary


def _bullets(pair: DemoPair, rng: Random) -> tuple[str, str]:
    return _phrase("bullet_pointify", rng), "\n".join(f"- {part}" for part in pair.parts)


def _question(pair: DemoPair, rng: Random) -> tuple[str, str]:
    question = _pick(rng, list(pair.facts))
    return _phrase("qa_about_text", rng).format(question=question), pair.facts[question]


_MAKERS: Mapping[str, Callable[[DemoPair, Random], tuple[str, str]]] = {
    "translate_to_english": _translation,
    "summarize_in_english": _summary,
    "bullet_pointify": _bullets,
    "qa_about_text": _question,
}


def _check_mix(mix: Mapping[str, float]) -> None:
    unknown = sorted(set(mix) - set(_MAKERS))
    if unknown or any(share < 0 for share in mix.values()) or not any(mix.values()):
        raise LlinkConfigError(
            f"mix is {dict(mix)}; give shares of at least 0, not all 0, to tasks among {sorted(_MAKERS)}."
        )


def _check_per_pair(per_pair: int) -> None:
    if not 1 <= per_pair <= MAX_PER_PAIR:
        raise LlinkConfigError(
            f"per_pair is {per_pair}; choose 1 to {MAX_PER_PAIR} (a pair has only so many different instructions)."
        )


def _pick_task(mix: Mapping[str, float], rng: Random) -> str:
    point, task = rng.random() * sum(mix.values()), ""
    for name, share in mix.items():
        if share > 0:
            task = name
            if point < share:
                break
        point -= share
    return task


def distinct_instructions(
    pair: DemoPair, count: int, mix: Mapping[str, float], rng: Random
) -> list[tuple[str, str, str]]:
    """`count` different (task, instruction, answer) of one pair, drawn with `rng`.

    Raises:
        LlinkConfigError: `count` is out of range, or the pair has fewer under `mix`.
    """
    _check_per_pair(count)
    made: dict[str, tuple[str, str, str]] = {}
    for _ in range(_ATTEMPTS):
        if len(made) == count:
            return list(made.values())
        task = _pick_task(mix, rng)
        instruction, answer = _MAKERS[task](pair, rng)
        made.setdefault(instruction, (task, instruction, answer))
    raise LlinkConfigError(
        f"Pair {pair['id']} has only {len(made)} of {count} different instructions under {dict(mix)}; lower per_pair."
    )


def generate_instructions(
    pairs: Sequence[DemoPair], seed: int = 0, per_pair: int = 1, mix: Mapping[str, float] | None = None
) -> list[dict[str, str]]:
    """Instruction rows over the Khmer side of pairs.

    Args:
        pairs: pairs of `demo_pairs`, which know their facts.
        seed: seed of tasks and phrasings.
        per_pair: number of different instructions for each pair, 1 to 12.
        mix: share of each task; default :data:`TASK_MIX`.

    Returns:
        Rows `id, foreign, prompt, completion, task, english`, `per_pair` for each pair, in the order of the
        pairs. A prompt is `"<instruction>\\n<foreign_emb>"`.

    Raises:
        LlinkConfigError: `mix` names an unknown task or has no positive share; `per_pair` is out of range.
    """
    mix = TASK_MIX if mix is None else mix
    _check_mix(mix)
    rng, rows = Random(seed), []
    for pair in pairs:
        for number, (task, instruction, answer) in enumerate(distinct_instructions(pair, per_pair, mix, rng)):
            rows.append(
                {
                    "id": f"{pair['id']}-{number}",
                    "foreign": pair["foreign"],
                    "prompt": f"{instruction}\n{PLACEHOLDER}",
                    "completion": answer,
                    "task": task,
                    "english": pair["english"],
                }
            )
    return rows
