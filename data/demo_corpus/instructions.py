"""Instructions about demo pairs, for Stage B and for the tiny English-only decoder.

Every answer is made by rule from what the grammar knows about the sentence, so it is right and says nothing that the
text does not say. The four tasks are those of the paper's instruction data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

from .chat import CHAT
from .corpus import DemoPair
from .grammar import DemoCorpusError

__all__ = ["PHRASINGS", "PLACEHOLDER", "TASK_MIX", "english_instruction_dialogues", "generate_instructions"]

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
REPEAT_PHRASINGS = (
    "Repeat the text.",
    "Say the text again.",
    "Copy this text.",
    "Read the text aloud.",
    "Write the text again.",
)
REPEAT_SHARE, CHAT_SHARE = 0.15, 0.05
_ATTEMPTS = 200


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
        raise DemoCorpusError(
            f"mix is {dict(mix)}; give shares of at least 0, not all 0, to tasks among {sorted(_MAKERS)}."
        )


def _check_per_pair(per_pair: int) -> None:
    if not 1 <= per_pair <= MAX_PER_PAIR:
        raise DemoCorpusError(
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


def _distinct(pair: DemoPair, count: int, mix: Mapping[str, float], rng: Random) -> list[tuple[str, str, str]]:
    """`count` different (task, instruction, answer) of one pair."""
    made: dict[str, tuple[str, str, str]] = {}
    for _ in range(_ATTEMPTS):
        if len(made) == count:
            return list(made.values())
        task = _pick_task(mix, rng)
        instruction, answer = _MAKERS[task](pair, rng)
        made.setdefault(instruction, (task, instruction, answer))
    raise DemoCorpusError(
        f"Pair {pair['id']} has only {len(made)} of {count} different instructions under {dict(mix)}; lower per_pair."
    )


def generate_instructions(
    pairs: Sequence[DemoPair], seed: int = 0, per_pair: int = 1, mix: Mapping[str, float] | None = None
) -> list[dict[str, str]]:
    """Instruction rows over the Khmer side of pairs.

    Args:
        pairs: pairs of `generate_pairs`, which know their facts.
        seed: seed of tasks and phrasings.
        per_pair: number of different instructions for each pair, 1 to 12.
        mix: share of each task; default :data:`TASK_MIX`.

    Returns:
        Rows `id, foreign, prompt, completion, task, english`, `per_pair` for each pair, in the order of the
        pairs. A prompt is `"<instruction>\\n<foreign_emb>"`.

    Raises:
        DemoCorpusError: `mix` names an unknown task or has no positive share; `per_pair` is out of range.
    """
    mix = TASK_MIX if mix is None else mix
    _check_mix(mix)
    _check_per_pair(per_pair)
    rng, rows = Random(seed), []
    for pair in pairs:
        for number, (task, instruction, answer) in enumerate(_distinct(pair, per_pair, mix, rng)):
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


def english_instruction_dialogues(pairs: Sequence[DemoPair], seed: int = 0, per_pair: int = 1) -> list[dict[str, str]]:
    """Training rows for an English-only decoder: instructions with the English text in the place of the foreign text.

    The decoder so learns to read a text in the prompt and to act on it; a translation into English of an English text
    is the text. About one row in twenty is small talk without a text. No row holds a Khmer character.

    Args:
        pairs: pairs of `generate_pairs`.
        seed: seed of tasks and phrasings.
        per_pair: number of different instructions for each pair, 1 to 12.

    Returns:
        Rows `prompt, completion`.

    Raises:
        DemoCorpusError: `per_pair` is out of range.
    """
    _check_per_pair(per_pair)
    rng, rows = Random(seed), []
    for pair in pairs:
        for _, instruction, answer in _distinct(pair, per_pair, TASK_MIX, rng):
            if rng.random() < CHAT_SHARE:
                prompt, completion = CHAT[int(rng.random() * len(CHAT))]
                rows.append({"prompt": prompt, "completion": completion})
            if rng.random() < REPEAT_SHARE:
                instruction, answer = _pick(rng, REPEAT_PHRASINGS), pair["english"]
            rows.append({"prompt": f"{instruction}\n{pair['english']}", "completion": answer})
    return rows
