"""One form for each text: what invisible characters mean in each script, NFC, spaces.

Invisible characters are decided by the letters that they stand between, never by the file's language:

- **U+200B, the zero-width space**, separates words in Khmer, Thai, Lao, Burmese and Tai Tham. Between two words of
  these scripts it is kept (several in a row are one); inside a syllable, beside a space, punctuation or another script
  it separates nothing and goes. It never counts when sentences are compared. `zero_width_space` can remove it
  everywhere or make it a space.
- **U+200C and U+200D, the joiners**, are spelling in Arabic script (Persian half-spaces), in Indic scripts (conjuncts;
  after a virama at a word's end too), in Khmer before a vowel sign or register shifter, in Burmese after a virama, in
  Mongolian (with U+180E), and between the parts of an emoji; there the first of a run is kept. Thai, Lao, Ethiopic,
  Latin, Han and kana never spell with them: they go.
- **Everything else invisible goes**: controls, soft hyphens, byte order marks, word joiners, marks and overrides of
  writing direction, tags (which can hide whole texts), Hangul fillers, Khmer's inherent vowels U+17B4 and U+17B5.

No text is ever cut, and no grapheme cluster is taken apart: only characters without a shape are removed.
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from collections.abc import Sequence
from typing import Literal

import numpy as np

from .characters import Codes, invisible, invisible_class, odd_spaces
from .scripts import JOINERS, SCRIPTS, ZERO_WIDTH_SPACE

ZeroWidthSpace = Literal["keep", "remove", "space"]
#: What changes a text, in this order.
CHANGES = ("invisible", "nfc", "spaces")

#: Thai and Lao vowels that Unicode calls letters: written after their consonant, and before it.
_FOLLOWING_VOWELS = "\u0e30\u0e32\u0e33\u0e45\u0eb0\u0eb2\u0eb3"
_LEADING_VOWELS = "\u0e40\u0e41\u0e42\u0e43\u0e44\u0ec0\u0ec1\u0ec2\u0ec3\u0ec4"
#: Signs that put the next consonant below: Khmer coeng, Burmese virama, Tai Tham sakot.
_STACKERS = "\u17d2\u1039\u1a60"
_SPACE_OF = {"remove": "", "space": " "}


def normalize_texts(
    texts: Sequence[str], zero_width_space: ZeroWidthSpace = "keep"
) -> tuple[list[str], dict[str, list[int]]]:
    """Brings texts into the one form described above.

    Args:
        texts: N texts.
        zero_width_space: What becomes of a zero-width space that separates two words.

    Returns:
        N texts, and for each of `CHANGES` the numbers of the texts that it changed.
    """
    result = list(texts)
    changed: dict[str, list[int]] = {name: [] for name in CHANGES}
    codes = Codes.of(texts)
    spaces = _rows_with_odd_spaces(codes)
    for row in _rows_to_clean(codes, zero_width_space).tolist():
        text = clean_invisible(result[row], zero_width_space)
        if text != result[row]:
            result[row] = text
            changed["invisible"].append(row)
            spaces[row] = True
    for row, text in enumerate(result):
        if not text.isascii() and (composed := unicodedata.normalize("NFC", text)) != text:
            result[row] = composed
            changed["nfc"].append(row)
    for row in np.flatnonzero(spaces).tolist():
        text = " ".join(result[row].split())
        if text != result[row]:
            result[row] = text
            changed["spaces"].append(row)
    return result, changed


def clean_invisible(text: str, zero_width_space: ZeroWidthSpace = "keep") -> str:
    """Keeps the invisible characters that are spelling and removes all others (see the module's text)."""
    cleaned = _rules().run.sub(_meaning, text)
    return cleaned.replace(ZERO_WIDTH_SPACE, _SPACE_OF.get(zero_width_space, ZERO_WIDTH_SPACE))


class _Rules:
    """What decides about invisible characters; building it takes a tenth of a second.

    Attributes:
        run: Matches invisible characters in a row.
        word_start, word_end: (code points,) bool: characters of scripts with word breaks that may begin or end a word.
        joiners: For each kind of spelling with joiners, what matches the character before and the one after.
    """

    def __init__(self) -> None:
        self.run = re.compile(f"[{invisible_class()}]+")
        self.word_start, self.word_end = np.zeros((2, sys.maxunicode + 1), bool)
        breaking = re.compile("[" + "".join(row.characters for row in SCRIPTS.values() if row.word_breaks) + "]")
        for char in filter(breaking.match, map(chr, range(0x10000))):
            self.word_start[ord(char)] = unicodedata.category(char)[0] in "LN" and char not in _FOLLOWING_VOWELS
            self.word_end[ord(char)] = char not in _LEADING_VOWELS + _STACKERS
        pairs = dict.fromkeys(pair for script in SCRIPTS.values() for pair in script.joiners)
        self.joiners = [(re.compile(f"[{a}]"), re.compile(f"[{b}]" if b else "")) for a, b in pairs]


@functools.cache
def _rules() -> _Rules:
    return _Rules()


def _rows_to_clean(codes: Codes, zero_width_space: ZeroWidthSpace) -> np.ndarray:
    """The numbers of the texts that hold invisible characters, but for single zero-width spaces between words."""
    rules, hidden = _rules(), invisible()[codes.values]
    if zero_width_space == "keep":
        begins = np.zeros(len(codes.values) + 1, bool)
        begins[codes.starts] = begins[-1] = True
        places = np.flatnonzero(codes.values == ord(ZERO_WIDTH_SPACE))
        places = places[~begins[places] & ~begins[places + 1]]
        between = rules.word_end[codes.values[places - 1]] & rules.word_start[codes.values[places + 1]]
        hidden[places[between]] = False
    return np.flatnonzero(codes.count(hidden))


def _meaning(run: re.Match[str]) -> str:
    """What a run of invisible characters becomes: the one of them that is spelling here, or nothing."""
    rules, text = _rules(), run.string
    before, after = text[max(0, run.start() - 1) : run.start()], text[run.end() : run.end() + 1]
    between = bool(before and after) and rules.word_end[ord(before)] and rules.word_start[ord(after)]
    if ZERO_WIDTH_SPACE in run.group() and between:
        return ZERO_WIDTH_SPACE
    joiner = next((char for char in run.group() if char in JOINERS), None)
    if joiner and (_is_emoji(before, after) or any(a.match(before) and b.match(after) for a, b in rules.joiners)):
        return joiner
    return ""


def _is_emoji(before: str, after: str) -> bool:
    return bool(before and after) and (
        unicodedata.category(after) == "So" and (before == "\ufe0f" or unicodedata.category(before) in ("So", "Sk"))
    )


def _rows_with_odd_spaces(codes: Codes) -> np.ndarray:
    """(N,) bool: texts with white space that is not one U+0020 between two other characters."""
    space = codes.values == 0x20
    after_space = np.zeros_like(space)
    after_space[1:] = space[:-1]
    filled = codes.lengths > 0
    after_space[codes.starts[filled]] = True
    rows = codes.count(odd_spaces()[codes.values] | (space & after_space)) > 0
    rows[filled] |= space[codes.ends[filled] - 1]
    return rows
