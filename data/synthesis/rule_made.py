"""Examples without any model: translations, and questions whose answers stand in the English side, made by rule.

They let Stage B start today with any language. Translations are made into any; questions are English, and about English
texts. A question asks for the one year, date, price … that the text mentions
(`entities/`); where there is none, for the words that are missing from a sentence of it.
"""

from __future__ import annotations

import re
from random import Random

from ...configuration_llink import FOREIGN_TOKEN
from ..entities.english import extract
from ..target import ENGLISH, is_english, language_name

#: Tasks that can be made so.
RULE_TASKS = ("translate_to_english", "qa_about_text")

_TRANSLATE = (
    "Translate to {language}.\n{text}",
    "Translate this text into {language}.\n{text}",
    "{text}\nTranslate the text above into {language}.",
    "What does this text say in {language}?\n{text}",
    "Give the {language} translation of this: {text}",
    "Please write this in {language}: {text}",
    "{text}\nSay this in {language}.",
    "How would you put this in {language}? {text}",
)
_ASK = (
    "{question}\n{text}",
    "Read this text: {text}\n{question}",
    "{text}\n{question}",
    "Answer in English, from the text alone. {question}\n{text}",
)
#: Kind of entity → questions about the one that a text mentions.
_QUESTIONS = {
    "year": ("Which year does the text mention?", "What year is named in the text?"),
    "date": ("Which date does the text mention?", "What date is named in the text?"),
    "time": ("Which time of day does the text mention?", "What time is named in the text?"),
    "price": ("Which amount of money does the text mention?", "What sum is named in the text?"),
    "percent": ("Which percentage does the text mention?", "What percentage is named in the text?"),
    "quantity": ("Which measure does the text mention?", "What quantity is named in the text?"),
    "number": ("Which number does the text mention?", "What number is named in the text?"),
    "name": ("Which name stands in the text?", "What name does the text mention?"),
}
_GAP_QUESTIONS = (
    'Which words of the text are missing here? "{gap}"',
    'Fill the gap from the text: "{gap}"',
    'Complete this translation of the text: "{gap}" Write only what is missing.',
)
_LAST_QUESTIONS = ("What is the last word of the text in English?", "With which English word does the text end?")
_GAP, _LONGEST_GAP, _LEAST_WORDS, _MOST_WORDS = "___", 3, 6, 40


def rule_tasks(language: str) -> tuple[str, ...]:
    """The tasks that can be made by rule where the target side is in a language: questions are English."""
    return RULE_TASKS if is_english(language) else RULE_TASKS[:1]


def made_by_rule(task: str, english: str, seed: int, language: str = ENGLISH) -> tuple[str, str]:
    """Instruction and answer about a pair; the same for the same arguments.

    Args:
        task: One of [`rule_tasks`].
        english: The target side, which answers are taken from.
        seed: Of the choices.
        language: Tag of the target side.

    Raises:
        LlinkConfigError: If the language has no name here.
    """
    rng = Random(f"{seed}\0{task}\0{english}")
    if task == "translate_to_english":
        return rng.choice(_TRANSLATE).format(text=FOREIGN_TOKEN, language=language_name(language)), english
    question, answer = _question(english, rng)
    frame = rng.choice(_ASK)
    return frame.replace("{question}", question).replace("{text}", FOREIGN_TOKEN), answer


def _question(english: str, rng: Random) -> tuple[str, str]:
    by_kind: dict[str, list[str]] = {}
    for entity in extract(english):
        whole = not re.match(r"[\w/–-]", english[entity.end :]) and not re.search(r"[\w/–-]$", english[: entity.start])
        by_kind.setdefault(entity.kind if whole else "", []).append(entity.text)
    telling = [(kind, found[0]) for kind, found in by_kind.items() if kind in _QUESTIONS and len(found) == 1]
    if telling:
        kind, answer = rng.choice(telling)
        return rng.choice(_QUESTIONS[kind]), answer
    found = [match.span() for match in re.finditer(r"[^\W_](?:\S*[^\W_])?", english)]
    if not _LEAST_WORDS <= len(found) <= _MOST_WORDS:
        return rng.choice(_LAST_QUESTIONS), english[slice(*found[-1])] if found else ""
    length = rng.randint(1, _LONGEST_GAP)
    start = rng.randint(1, len(found) - length)
    first, last = found[start][0], found[start + length - 1][1]
    gap = f"{english[:first]}{_GAP}{english[last:]}"
    return rng.choice(_GAP_QUESTIONS).replace("{gap}", gap), english[first:last]
