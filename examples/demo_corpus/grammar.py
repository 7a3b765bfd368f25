"""The mechanism of the demo grammar: two-sided words, slots and templates.

A :class:`Template` holds one English and one Khmer pattern over the same slots, and the English material that
instructions are made of (a summary, bullet points, questions with answers). Each slot is a :class:`Choice` of two-sided
:class:`Word` objects, so a sampled sentence is right on both sides by construction, and so is every answer about it.

Pattern syntax: ``{slot}`` is the word on the side of the pattern, ``{slot.form}`` is a named form of the word
(``{p.he}``, ``{item.pl}``, ``{item.cl}``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from random import Random

__all__ = [
    "Choice",
    "DemoCorpusError",
    "Template",
    "Word",
    "arabic_digits",
    "finish_english",
    "finish_khmer",
    "khmer_digits",
]

KHMER_DIGITS = "០១២៣៤៥៦៧៨៩"
_TO_KHMER = str.maketrans("0123456789.,", KHMER_DIGITS + ",.")
_TO_ARABIC = str.maketrans(KHMER_DIGITS, "0123456789")
_SWAP_SEPARATORS = str.maketrans(".,", ",.")
_NUMBER_SEPARATOR = re.compile(f"(?<=[{KHMER_DIGITS}])[.,](?=[{KHMER_DIGITS}])")
_PLACEHOLDER = re.compile(r"\{(\w+)(?:\.(\w+))?\}")
_SENTENCE_START = re.compile(r"((?:(?<![ap]\.m)\.|[?!\0]) )([a-z])")
_RENDER_ATTEMPTS = 100

Segments = tuple["str | tuple[str, str | None]", ...]


class DemoCorpusError(ValueError):
    """A request that the demo corpus cannot meet, or a template that is not well formed."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word or phrase on both sides.

    Args:
        en: English text, as it stands in the middle of a sentence.
        km: Khmer text; numbers are in Khmer digits.
        forms: further named forms of either side, e.g. `he`, `his`, `pl` (plural), `a` (with article), `cl` (Khmer
            classifier).
        key: what the word denotes; two slots of one sentence never denote the same (empty: no restriction).
    """

    en: str
    km: str
    forms: Mapping[str, str] = field(default_factory=dict)
    key: str = ""


class Choice:
    """A slot: groups of words with weights. The group is drawn first, then a word in it, uniformly.

    Args:
        groups: (words, weight) pairs; weights need not sum to one.
    """

    def __init__(self, *groups: tuple[Iterable[Word], float]) -> None:
        self.groups = tuple((tuple(words), weight) for words, weight in groups)
        if not self.groups or not all(words and weight > 0 for words, weight in self.groups):
            raise DemoCorpusError("A Choice needs groups with at least one word and a positive weight each.")
        total = sum(weight for _, weight in self.groups)
        self._shares = tuple(weight / total for _, weight in self.groups)

    @classmethod
    def of(cls, words: Iterable[Word]) -> Choice:
        """One group: every word is as likely as another."""
        return cls((words, 1.0))

    @property
    def words(self) -> tuple[Word, ...]:
        """All words of all groups."""
        return tuple(chain.from_iterable(words for words, _ in self.groups))

    def __len__(self) -> int:
        return sum(len(words) for words, _ in self.groups)

    def sample(self, rng: Random) -> Word:
        """Draw one word; uses `rng.random()` only, so the stream is the same on every Python version."""
        point, chosen = rng.random(), self.groups[-1][0]
        for (words, _), share in zip(self.groups, self._shares, strict=True):
            if point < share:
                chosen = words
                break
            point -= share
        return chosen[int(rng.random() * len(chosen))]


def khmer_digits(number: str) -> str:
    """`"4,000"` to `"៤.០០០"`, `"37.5"` to `"៣៧,៥"`: Khmer has a point between thousands, a comma before decimals."""
    return number.translate(_TO_KHMER)


def arabic_digits(khmer: str) -> str:
    """A Khmer sentence with its numbers in Arabic digits (`"4,000"`, `"37.5"`), as newspapers often print them."""
    swapped = _NUMBER_SEPARATOR.sub(lambda match: match.group().translate(_SWAP_SEPARATORS), khmer)
    return swapped.translate(_TO_ARABIC)


def finish_english(text: str) -> str:
    """Capitalise sentence starts and merge the stop of `a.m.` with the full stop."""
    text = text.replace(".m..", ".m.\0")  # marks a stop that also ends the sentence
    if ". " in text or "? " in text or "\0 " in text:
        text = _SENTENCE_START.sub(lambda match: match.group(1) + match.group(2).upper(), text)
    return (text[:1].upper() + text[1:]).replace("\0", "")


def finish_khmer(text: str) -> str:
    """One space between phrases and none before a sentence mark."""
    while "  " in text:
        text = text.replace("  ", " ")
    return text.replace(" ។", "។").replace(" ?", "?").strip()


def _compile(pattern: str, slots: Mapping[str, Choice], name: str) -> Segments:
    """Split a pattern into literals and (slot, form) pairs."""
    segments: list[str | tuple[str, str | None]] = []
    position = 0
    for match in _PLACEHOLDER.finditer(pattern):
        slot, form = match.groups()
        if slot not in slots:
            raise DemoCorpusError(f"Template '{name}' uses the slot '{slot}', but has only {sorted(slots)}.")
        segments.extend((pattern[position : match.start()], (slot, form)))
        position = match.end()
    segments.append(pattern[position:])
    return tuple(segment for segment in segments if segment)


def _render(segments: Segments, words: Mapping[str, Word], side: str) -> str:
    """Fill a compiled pattern; `side` is "en" or "km"."""
    out = []
    for segment in segments:
        if isinstance(segment, str):
            out.append(segment)
        else:
            slot, form = segment
            out.append(words[slot].forms[form] if form else getattr(words[slot], side))
    return "".join(out)


class Template:
    """One sentence plan on both sides, with the material for instructions.

    The plan is a block of lines: a name, then `en:` and `km:` (the patterns), `sum:` (a shorter English sentence),
    `pts:` (bullet points, separated by ` / `), and one `q:` line per question (`Question? Answer.`).

    Args:
        text: the block.
        slots: the Choice of each slot.

    Raises:
        DemoCorpusError: a line is missing or malformed, or a pattern names an unknown slot.
    """

    def __init__(self, text: str, **slots: Choice) -> None:
        lines = [line.strip() for line in text.strip().splitlines()]
        self.name, self.slots = lines[0], slots
        fields: dict[str, list[str]] = {"en": [], "km": [], "sum": [], "pts": [], "q": []}
        for line in lines[1:]:
            label, _, value = line.partition(": ")
            if label not in fields or not value:
                raise DemoCorpusError(
                    f"Template '{self.name}': the line {line!r} has none of the labels {list(fields)}."
                )
            fields[label].append(value)
        if any(len(fields[label]) != 1 for label in ("en", "km", "sum", "pts")) or not fields["q"]:
            raise DemoCorpusError(
                f"Template '{self.name}' needs en, km, sum and pts once each and at least one q line."
            )
        self._english = self._compile(fields["en"][0])
        self._khmer = self._compile(fields["km"][0])
        self._summary = self._compile(fields["sum"][0])
        self._points = tuple(self._compile(point) for point in fields["pts"][0].split(" / "))
        self._questions = tuple(self._question(line) for line in fields["q"])

    def _compile(self, pattern: str) -> Segments:
        return _compile(pattern, self.slots, self.name)

    def _question(self, line: str) -> tuple[Segments, Segments]:
        question, mark, answer = line.partition("? ")
        if not mark or not answer:
            raise DemoCorpusError(f"Template '{self.name}': write {line!r} as 'Question? Answer.'.")
        return self._compile(question + "?"), self._compile(answer)

    @property
    def size(self) -> int:
        """Number of ways to fill the slots: an upper bound, as two slots must not denote the same."""
        size = 1
        for choice in self.slots.values():
            size *= len(choice)
        return size

    def sample(self, rng: Random) -> dict[str, Word]:
        """Draw a word for each slot; no two slots denote the same thing."""
        for _ in range(_RENDER_ATTEMPTS):
            words = {name: choice.sample(rng) for name, choice in self.slots.items()}
            keys = [word.key for word in words.values() if word.key]
            if len(keys) == len(set(keys)):
                return words
        raise DemoCorpusError(
            f"Template '{self.name}': no draw in {_RENDER_ATTEMPTS} filled the slots with different things."
        )

    def english(self, words: Mapping[str, Word]) -> str:
        """The English sentence."""
        return finish_english(_render(self._english, words, "en"))

    def khmer(self, words: Mapping[str, Word]) -> str:
        """The Khmer sentence, in Khmer digits."""
        return finish_khmer(_render(self._khmer, words, "km"))

    def summary(self, words: Mapping[str, Word]) -> str:
        """A shorter English sentence."""
        return finish_english(_render(self._summary, words, "en"))

    def parts(self, words: Mapping[str, Word]) -> list[str]:
        """The points of the text, in English, without full stops."""
        return [finish_english(_render(point, words, "en")) for point in self._points]

    def facts(self, words: Mapping[str, Word]) -> dict[str, str]:
        """Question to answer, in English."""
        return {
            finish_english(_render(question, words, "en")): finish_english(_render(answer, words, "en"))
            for question, answer in self._questions
        }
