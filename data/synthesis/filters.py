"""What makes an example worth training on: each filter drops for one reason, and every drop is counted.

The paper's filters (5.1) are a non-empty input and target, the placeholder in the prompt, and 12 to 256 foreign
characters; the last is decided before anything is asked (`plan.py`). The others here go beyond it.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...configuration_llink import FOREIGN_TOKEN
from ..characters import damaged, letters, script_characters, sentence_keys
from ..cleaning import Side
from ..entities.english import extract
from ..entities.entity import GROUP_SPACE, plain
from ..entities.foreign import extract_foreign
from ..language_identification import is_another_language
from ..near_duplicates import pair_signatures, similarity
from ..scripts import SPACELESS, primary_language, word_count
from ..target import ENGLISH, is_english
from .tasks import TASK_TABLE, without_marker

#: Wordings that are more alike than this count as one.
ALIKE = 0.8
#: Of letters: Latin ones and the target's together, and a text's own.
_KNOWN_SHARE, _OWN_SHARE = 0.95, 0.5
#: A text is given away by an instruction that holds so much of its runs of three words.
_GIVEN_AWAY = 0.5
_SUPPORTED = 0.25
_LONGEST_TITLE = 15
#: Words of a text below which its language cannot be told.
_TELLING_WORDS = 4
_NUMBER_KINDS = frozenset(("number", "ordinal", "quantity", "percent", "price", "year", "date", "time", "id"))
_CHATTER = re.compile(
    r"\b(?:as an ai|(?:i'm|i am) (?:an? )?(?:ai|assistant|language model|sorry)|(?:ai|large) (?:language )?model"
    r"|language model|i (?:cannot|can't|can not|apologi[sz]e|don't have access)|json|placeholder"
    r"|here(?:'s| is| are) (?:the|a|an|your|some) (?:summary|translation|title|paraphrase|answer|points|list))\b"
    r"|^(?:sure|certainly|of course|okay)[,!]|</?text>|<\|",
    re.IGNORECASE,
)
#: Digits that are a number of their own: no part of 9,500, 15.50, 9:30 or 1/2, and without a minus sign.
_WHOLE = re.compile(rf"(?<!\d)(?<!\d[.,:/{GROUP_SPACE}])(?<!(?<!\w)-)\d+(?!\d|[.,:/{GROUP_SPACE}]\d)")
_LOOP = re.compile(r"(\S)\1{7,}|\b(\w+)(?:\W+\2\b){3,}", re.IGNORECASE)


@dataclass(frozen=True)
class Example:
    """An instruction about a pair, and its answer.

    Attributes:
        id: Of the pair.
        english, foreign: Its two sides; the first in the target language.
        task: Key of `TASK_TABLE`.
        instruction: Holds the placeholder.
        answer: In the target language.
    """

    id: str
    english: str
    foreign: str
    task: str
    instruction: str
    answer: str

    @property
    def plain_instruction(self) -> str:
        """The instruction without its placeholder, in one line."""
        return " ".join(self.instruction.replace(FOREIGN_TOKEN, " ").split())


@dataclass(frozen=True)
class FilterRules:
    """What the filters go by.

    Args:
        script: Key of `SCRIPTS`, of the foreign side.
        target_language, target_script: Tag of the target side, and key of `SCRIPTS`.
        identify_languages: Whether the language of answers is recognised too (extra `langid`).
        max_repeats: Most examples of a task in one split that share a wording of the instruction; -1 for any number.
        by_rule: Whether instructions and answers were made by rule: their wordings repeat and may quote the text.
    """

    script: str
    target_language: str = ENGLISH
    target_script: str = "Latn"
    identify_languages: bool = False
    max_repeats: int = 50
    by_rule: bool = False


Drops = Callable[[Example, FilterRules], bool]


def _empty(example: Example, rules: FilterRules) -> bool:
    return any(Side([text]).folded.lengths[0] == 0 for text in (example.plain_instruction, example.answer))


def _placeholder(example: Example, rules: FilterRules) -> bool:
    return example.instruction.count(FOREIGN_TOKEN) != 1 or FOREIGN_TOKEN in example.answer


def _damaged(example: Example, rules: FilterRules) -> bool:
    codes = Side([example.instruction + example.answer]).codes.values
    return bool(damaged()[codes].any()) or "\0" in example.instruction + example.answer


def _leaked(example: Example, rules: FilterRules) -> bool:
    """Foreign letters, or, where an answer is written in the same letters, the foreign text itself."""
    text = example.plain_instruction + "\n" + example.answer
    known = script_characters("Latn") | script_characters(rules.target_script)
    foreign = letters() & script_characters(rules.script) & ~known
    return bool(foreign[Side([text]).codes.values].any()) if foreign.any() else example.foreign in text


def _other_language(example: Example, rules: FilterRules) -> bool:
    """Letters of other scripts than the target's and Latin, too few of a text's own, or another language."""
    target, script = primary_language(rules.target_language), rules.target_script
    texts = ((example.plain_instruction, ENGLISH, "Latn"), (example.answer, target, script))
    for text, _, own in texts:
        side = Side([text])
        shares = {name: side.script_share(name)[0] for name in ("Latn", script)}
        if letters()[side.codes.values].any() and (sum(shares.values()) < _KNOWN_SHARE or shares[own] < _OWN_SHARE):
            return True
    if not rules.identify_languages:
        return False
    telling = [(text, language) for text, language, own in texts if word_count(text, own) >= _TELLING_WORDS]
    return any(is_another_language([text], language).any() for text, language in telling)


def _chatter(example: Example, rules: FilterRules) -> bool:
    if any(_CHATTER.search(text.strip()) for text in (example.plain_instruction, example.answer)):
        return not _CHATTER.search(example.english)
    return False


def _given_away(example: Example, rules: FilterRules) -> bool:
    if rules.by_rule:
        return False
    asked, answer = words(example.plain_instruction), words(example.answer)
    if len(answer) > 1 and _holds(asked, answer):
        return True
    runs = _runs(words(example.english))
    return bool(runs) and len(runs & _runs(asked)) >= _GIVEN_AWAY * len(runs)


def _numbers(example: Example, rules: FilterRules) -> bool:
    """Where the target is not English, of digits alone."""
    answer = "\n".join(without_marker(line) for line in example.answer.splitlines())
    if not is_english(rules.target_language):
        held = {value for entity in extract_foreign(example.english) for value in entity.values}
        return any(not entity.values & held for entity in extract_foreign(answer))
    written = frozenset(number.lstrip("0") or "0" for number in _WHOLE.findall(plain(example.english)))
    return not numbers_of(answer) <= numbers_of(example.english) | written


def _unsupported(example: Example, rules: FilterRules) -> bool:
    """Where spaces separate words."""
    if rules.target_script in SPACELESS:
        return False
    telling = {word[:5] for word in words(example.answer) if len(word) > 3}
    known = {word[:5] for word in words(example.english)}
    return len(telling & known) < _SUPPORTED * len(telling)


def _shape(example: Example, rules: FilterRules) -> bool:
    """An answer that is not what its task is: one point, a long title, a summary or paraphrase that only copies."""
    lines, count = example.answer.splitlines(), _length(example.answer, rules)
    if TASK_TABLE[example.task].answer == "points":
        return len(lines) < 2 or len(np.unique(sentence_keys(lines))) < len(lines)
    if example.task == "title":
        return len(lines) > 1 or count > _LONGEST_TITLE
    if example.task == "paraphrase":
        answer, text = sentence_keys([example.answer, example.english])
        return bool(answer == text)
    return example.task == "summarize_in_english" and count >= _length(example.english, rules)


def _degenerate(example: Example, rules: FilterRules) -> bool:
    if example.task == "translate_to_english":
        return False  # the answer is the text itself
    if _LOOP.search(example.answer) or _LOOP.search(example.plain_instruction):
        return True
    found = words(example.answer)
    runs = list(zip(found, found[1:], found[2:], strict=False))
    return len(runs) >= 10 and len(set(runs)) < 0.6 * len(runs)


#: Name → what is dropped, for people, and the function. In this order.
FILTERS: dict[str, tuple[str, Drops]] = {
    "empty": ("the instruction or the answer is empty", _empty),
    "placeholder": (f"{FOREIGN_TOKEN} does not stand exactly once in the instruction", _placeholder),
    "damaged": ("broken characters", _damaged),
    "leaked": ("foreign text stands in it", _leaked),
    "language": ("the instruction is not English, or the answer not in the target language", _other_language),
    "chatter": ("it speaks of itself, of the format, or excuses itself", _chatter),
    "given_away": ("the instruction holds the answer, or most of the text", _given_away),
    "numbers": ("the answer holds a number that the text does not", _numbers),
    "unsupported": ("hardly a word of the answer stands in the text", _unsupported),
    "shape": ("too few points, too long a title, or a mere copy", _shape),
    "degenerate": ("the answer repeats itself", _degenerate),
}
#: Reasons that are decided elsewhere.
REFUSED, UNREADABLE, REPEATED = "refused", "unreadable", "repeated"
REASONS: dict[str, str] = {
    REFUSED: "the server takes this message at no try",
    UNREADABLE: "no attempt was the JSON object that was asked for",
    **{name: text for name, (text, _) in FILTERS.items()},
    REPEATED: "its wording, or nearly the same, has been used often enough",
}


def first_fault(example: Example, rules: FilterRules) -> str | None:
    """The name of the first filter that drops an example; None if all let it through."""
    return next((name for name, (_, drops) in FILTERS.items() if drops(example, rules)), None)


class Wordings:
    """Counts instructions by wording; nearly the same wordings count as one.

    Args:
        most: Examples that may share a wording; -1 for any number.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._signatures: list[np.ndarray] = []
        self._counts: Counter[int] = Counter()
        self._bands: dict[int, list[int]] = defaultdict(list)

    def take(self, text: str) -> bool:
        """Whether the wording may be used once more; then it counts."""
        if self._most == -1:
            return True
        folded = Side([text]).folded
        signature = pair_signatures(folded, folded)[0]
        near = {group for band in signature.tolist() for group in self._bands[band]}
        alike = [group for group in near if similarity(signature[None], self._signatures[group][None])[0] >= ALIKE]
        if alike:
            group = min(alike)
        else:
            group = len(self._signatures)
            self._signatures.append(signature)
            for band in set(signature.tolist()):
                self._bands[band].append(group)
        self._counts[group] += 1
        return self._counts[group] <= self._most


def words(text: str) -> list[str]:
    """Words and numbers of a text, in lower case."""
    return re.findall(r"\w+(?:[.,:'’-]\w+)*", text.casefold())


def numbers_of(text: str) -> frozenset[str]:
    """Every number in an English text, in digits or words, parts of dates and measures too; times but for full hours
    are whole: `9:30`."""
    values = [entity.value.removesuffix(":00") for entity in extract(text) if entity.kind in _NUMBER_KINDS]
    found = (number for value in values for number in re.findall(r"(?:^-)?\d+(?:[.:/]\d+)*", value))
    return frozenset(number.lstrip("0") or "0" for number in found)


def _length(text: str, rules: FilterRules) -> int:
    return word_count(text, rules.target_script) if rules.target_script in SPACELESS else len(words(text))


def _runs(found: list[str]) -> set[tuple[str, ...]]:
    size = min(3, len(found))
    return {tuple(found[start : start + size]) for start in range(len(found) - size + 1)} if size else set()


def _holds(long: list[str], short: list[str]) -> bool:
    return any(long[start : start + len(short)] == short for start in range(len(long) - len(short) + 1))
