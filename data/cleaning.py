"""The steps that look at one pair at a time: each drops pairs for one reason, counted and with examples.

A step is a function of a block of pairs that answers which to drop. Steps see normalised text (`normalization.py`) and
never change or cut it. What needs the whole corpus (duplicates, splits) is in `splitting.py`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .characters import Codes, damaged, letters, script_characters, sentence_keys
from .language_identification import is_another_language
from .near_duplicates import pair_signatures
from .normalization import CHANGES, ZeroWidthSpace, normalize_texts
from .scripts import SCRIPTS, primary_language
from .target import ENGLISH

EXAMPLES = 5

#: In Burmese the vowel sign E follows its consonant; before it, it is the look-alike encoding Zawgyi.
_BURMESE_E = 0x1031
_BEFORE_BURMESE_E = np.array(
    [*range(0x1000, 0x102B), *range(0x103B, 0x1040), 0x1039, 0x104E, *range(0x1050, 0x1083), 0x108E]
    + [*range(0xA9E0, 0xAA00), *range(0xAA60, 0xAA80)]
)


@dataclass(frozen=True)
class CleaningRules:
    """What the steps go by.

    Args:
        language, script: Of the foreign side: its tag, and its row in [`SCRIPTS`].
        target_language, target_script: The same of the target side.
        zero_width_space: See `normalization.py`.
        english_length, foreign_length: Fewest and most characters.
        ratio: Fewest and most foreign characters per target character.
        min_script_share: The least share of a side's letters that must be of its script.
        identify_languages: Whether the step `language` runs.
        skip: Names of steps that are left out.
    """

    language: str
    script: str
    target_language: str = ENGLISH
    target_script: str = "Latn"
    zero_width_space: ZeroWidthSpace = "keep"
    english_length: tuple[int, int] = SCRIPTS["Latn"].length
    foreign_length: tuple[int, int] = SCRIPTS["Latn"].length
    ratio: tuple[float, float] = (0.2, 5.0)
    min_script_share: float = 0.5
    identify_languages: bool = False
    skip: tuple[str, ...] = ()


@dataclass
class StepReport:
    """What a step did to a block, or to the whole corpus.

    Args:
        name: The step.
        rows_in: Pairs that came to it.
        dropped: Pairs that it dropped.
        changed: Pairs whose text it changed.
        examples: The first of either: id and both sides; for a change, one side before and after.
        seconds: Processor time it took.
    """

    name: str
    rows_in: int = 0
    dropped: int = 0
    changed: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, other: StepReport) -> None:
        """Adds what the same step did to a later block."""
        self.rows_in += other.rows_in
        self.dropped += other.dropped
        self.changed += other.changed
        self.seconds += other.seconds
        self.examples = (self.examples + other.examples)[:EXAMPLES]


@dataclass
class Side:
    """One side of a block: N normalised texts, as code points too, and folded (see [`Codes.folded`])."""

    texts: list[str]

    @functools.cached_property
    def codes(self) -> Codes:
        """Code points of the texts."""
        return Codes.of(self.texts)

    @functools.cached_property
    def folded(self) -> Codes:
        """What of the texts counts in comparisons."""
        return self.codes.folded()

    @functools.cached_property
    def keys(self) -> np.ndarray:
        """(N,) uint64 sentence keys."""
        return sentence_keys(self.texts, self.folded)

    def script_share(self, script: str) -> np.ndarray:
        """(N,) the share of the letters that are of the script; 0 for a text without letters."""
        letter = letters()[self.codes.values]
        own = self.codes.count(letter & script_characters(script)[self.codes.values])
        return own / np.maximum(self.codes.count(letter), 1)


Drops = Callable[[Side, Side, CleaningRules], np.ndarray]


def _empty(english: Side, foreign: Side, rules: CleaningRules) -> np.ndarray:
    return (english.folded.lengths == 0) | (foreign.folded.lengths == 0)


def _damaged(english: Side, foreign: Side, rules: CleaningRules) -> np.ndarray:
    drop = np.zeros(len(english.texts), bool)
    for side, script in ((english, rules.target_script), (foreign, rules.script)):
        drop |= side.codes.count(damaged()[side.codes.values]) > 0
        if script == "Mymr":
            drop |= _is_zawgyi(side.codes)
    return drop


def _is_zawgyi(codes: Codes) -> np.ndarray:
    sign = codes.values == _BURMESE_E
    follows = np.zeros_like(sign)
    follows[1:] = np.isin(codes.values[:-1], _BEFORE_BURMESE_E)
    follows[codes.starts[codes.lengths > 0]] = False
    return 2 * codes.count(sign & ~follows) > codes.count(sign)


def _copy(english: Side, foreign: Side, rules: CleaningRules) -> np.ndarray:
    return english.keys == foreign.keys


def _length(english: Side, foreign: Side, rules: CleaningRules) -> np.ndarray:
    drop = np.zeros(len(english.texts), bool)
    for side, (fewest, most) in ((english, rules.english_length), (foreign, rules.foreign_length)):
        drop |= (side.codes.lengths < fewest) | (side.codes.lengths > most)
    return drop


def _ratio(english: Side, foreign: Side, rules: CleaningRules) -> np.ndarray:
    ratio = foreign.codes.lengths / np.maximum(english.codes.lengths, 1)
    return (ratio < rules.ratio[0]) | (ratio > rules.ratio[1])


def _script(english: Side, foreign: Side, rules: CleaningRules) -> np.ndarray:
    least = rules.min_script_share
    return (english.script_share(rules.target_script) < least) | (foreign.script_share(rules.script) < least)


def _language(english: Side, foreign: Side, rules: CleaningRules) -> np.ndarray:
    target, language = map(primary_language, (rules.target_language, rules.language))
    return is_another_language(english.texts, target) | is_another_language(foreign.texts, language)


#: Name → what is dropped, for people, and the function. In this order.
CLEANING_STEPS: dict[str, tuple[str, Drops]] = {
    "empty": ("a side has no letter and no digit", _empty),
    "damaged": ("broken characters, private use, or Burmese in the Zawgyi encoding", _damaged),
    "copy": ("both sides are the same", _copy),
    "length": ("too short or too long for its script", _length),
    "ratio": ("one side is far longer than the other", _ratio),
    "script": ("a side is not mostly in its script", _script),
    "language": ("a side is recognised as another language", _language),
}


def clean(
    ids: Sequence[str], english: Sequence[str], foreign: Sequence[str], rules: CleaningRules
) -> tuple[Side, Side, np.ndarray, list[StepReport]]:
    """Normalises a block of pairs and runs every step on it.

    Args:
        ids, english, foreign: N pairs.
        rules: What the steps go by.

    Returns:
        Both sides, normalised; (N,) bool, which pairs every step lets through; a report for each change and step.
    """
    sides, reports = _normalized(ids, english, foreign, rules)
    for side in sides:
        _ = side.folded  # what several steps look at is not any one's time
    alive = np.ones(len(ids), bool)
    for name, (_, drops) in CLEANING_STEPS.items():
        if name in rules.skip or (name == "language" and not rules.identify_languages):
            continue
        started = time.process_time()
        drop = drops(*sides, rules) & alive
        report = StepReport(name, int(alive.sum()), int(drop.sum()))
        for row in np.flatnonzero(drop)[:EXAMPLES].tolist():
            report.examples.append({"id": ids[row], "english": sides[0].texts[row], "foreign": sides[1].texts[row]})
        alive &= ~drop
        report.seconds = time.process_time() - started
        reports.append(report)
    return *sides, alive, reports


def block_keys(english: Side, foreign: Side, alive: np.ndarray) -> np.ndarray:
    """What the whole corpus' steps need of a block.

    Returns:
        (2 + BANDS, n) uint64 for the n pairs that are left: both sides' sentence keys, then the signatures' bands.
    """
    bands = pair_signatures(english.folded.select(alive), foreign.folded.select(alive))
    return np.vstack([english.keys[alive], foreign.keys[alive], bands.T])


def _normalized(
    ids: Sequence[str], english: Sequence[str], foreign: Sequence[str], rules: CleaningRules
) -> tuple[tuple[Side, Side], list[StepReport]]:
    sides: list[Side] = []
    changes: dict[str, dict[int, dict[str, str]]] = {name: {} for name in CHANGES}
    for name, before in (("english", english), ("foreign", foreign)):
        after, changed = normalize_texts(before, rules.zero_width_space)
        for change, rows in changed.items():
            for row in rows:
                example = {"id": ids[row], "side": name, "before": before[row], "after": after[row]}
                changes[change].setdefault(row, example)
        sides.append(Side(after))
    reports = [
        StepReport(change, len(ids), 0, len(rows), [rows[row] for row in sorted(rows)[:EXAMPLES]])
        for change, rows in changes.items()
    ]
    return (sides[0], sides[1]), reports
