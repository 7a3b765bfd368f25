"""Many texts as one array of code points, so that a step looks at every character once and at no Python object.

Cleaning asks each character a few questions (a letter? of this script? invisible?). Here a question is a table with
one entry for each code point, and an answer for N texts is a look-up and a sum.
"""

from __future__ import annotations

import functools
import hashlib
import re
import sys
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

from .scripts import SCRIPTS

_POINTS = sys.maxunicode + 1
_BLOCK = 65_536  # texts that are folded at once
#: Planes 0 and 1 are looked at one by one; above them stand Han (2, 3), tags (14) and private use (15, 16).
_DETAILED = 0x20000
_HAN_PLANES = range(0x20000, 0x40000)
#: Format characters that a reader sees: signs that enclose the numerals after them, hieroglyphs' arrangement.
_VISIBLE_FORMATS = re.compile("[\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd\U00013430-\U0001345f]")
#: Invisible although Unicode calls them letters or marks: Hangul fillers, Khmer's inherent vowels (deprecated).
_INVISIBLE_LETTERS = "\u3164\uffa0\u17b4\u17b5"
#: Marks that change how a character is drawn, never which one it is: the combining joiner, variation selectors.
_UNREAD_MARKS = re.compile("[\u034f\ufe00-\ufe0f\u180b-\u180d\u180f\U000e0100-\U000e01ef]")


class Codes:
    """N texts as one array.

    Args:
        values: (C,) uint32 code points of all texts, one text after the other.
        lengths: (N,) int64 characters of each.
    """

    def __init__(self, values: np.ndarray, lengths: np.ndarray) -> None:
        self.values, self.lengths = values, lengths
        self.ends = np.cumsum(lengths)
        self.starts = self.ends - lengths

    @classmethod
    def of(cls, texts: Sequence[str]) -> Codes:
        """The code points of texts."""
        encoded = "".join(texts).encode("utf-32-le", "surrogatepass")
        return cls(np.frombuffer(encoded, dtype="<u4"), np.fromiter(map(len, texts), np.int64, len(texts)))

    def count(self, mask: np.ndarray) -> np.ndarray:
        """(N,) how many characters of each text have a true entry in `mask` (C,)."""
        counts = np.zeros(len(self.lengths), np.int64)
        filled = self.lengths > 0  # `reduceat` takes an empty text for its neighbour's first character
        counts[filled] = np.add.reduceat(mask.view(np.uint8), self.starts[filled], dtype=np.int64)
        return counts

    def rows(self) -> np.ndarray:
        """(C,) the number of the text in which each character stands."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def folded(self) -> Codes:
        """What is left when case, width, spaces, punctuation, symbols and invisible characters do not count."""
        values = fold_table()[self.values]
        kept = values != 0
        return Codes(values[kept], self.count(kept))

    def select(self, rows: np.ndarray) -> Codes:
        """The texts for which `rows` (N,) bool is true."""
        return Codes(self.values[np.repeat(rows, self.lengths)], self.lengths[rows])


def sentence_keys(texts: Sequence[str], folded: Codes | None = None) -> np.ndarray:
    """The keys of sentences: equal if and only if two are the same sentence, wherever llink compares sentences.

    That is for duplicates and splits, for what held-out rows share with training, for negatives that are none. A key is
    64 bits of BLAKE2b of the folded text: without case, width, spaces, punctuation and invisible characters.

    A text without letters and digits folds to nothing; it is the same as its own composed form (NFC) only.

    Args:
        texts: N sentences.
        folded: What is left of them when folded, where it is at hand; they are in NFC then.

    Returns:
        (N,) uint64.
    """
    if folded is None:
        composed = [text if text.isascii() else unicodedata.normalize("NFC", text) for text in texts]
        blocks = [composed[first : first + _BLOCK] for first in range(0, len(composed), _BLOCK)]
        return np.concatenate([np.empty(0, np.uint64), *(sentence_keys(b, Codes.of(b).folded()) for b in blocks)])
    content = memoryview(folded.values.astype("<u4", copy=False).tobytes())
    bounds = zip((4 * folded.starts).tolist(), (4 * folded.ends).tolist(), strict=True)
    contents = (content[start:end] if start < end else None for start, end in bounds)
    digests = [
        hashlib.blake2b(text.encode("utf-32-le", "surrogatepass") if left is None else left, digest_size=8).digest()
        for text, left in zip(texts, contents, strict=True)
    ]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


@functools.cache
def fold_table() -> np.ndarray:
    """(code points,) uint32: each letter, mark or digit in its compatibility form without case; 0 for the rest.

    Characters whose form is longer than one character (ligatures, ß) stay as they are.
    """
    table = np.zeros(_POINTS, np.uint32)
    table[_HAN_PLANES.start : _HAN_PLANES.stop] = np.arange(_HAN_PLANES.start, _HAN_PLANES.stop)
    for point in range(_DETAILED):
        char = chr(point)
        folded = unicodedata.normalize("NFKC", char).casefold()
        for form in (folded, char):
            if len(form) == 1 and unicodedata.category(form)[0] in "LMN" and not _UNREAD_MARKS.match(form):
                table[point] = ord(form)
                break
    for char in _INVISIBLE_LETTERS:
        table[ord(char)] = 0
    return table


def _table(holds: Callable[[str], bool], *above: range) -> np.ndarray:
    """(code points,) bool: `holds` for planes 0 and 1, and true on the ranges `above` them."""
    table = np.zeros(_POINTS, bool)
    table[:_DETAILED] = np.fromiter((holds(chr(point)) for point in range(_DETAILED)), bool, _DETAILED)
    for points in above:
        table[points.start : points.stop] = True
    return table


@functools.cache
def letters() -> np.ndarray:
    """(code points,) bool: letters of any script, and their marks (most vowels of Khmer are marks)."""
    return _table(lambda char: unicodedata.category(char)[0] in "LM", _HAN_PLANES)


@functools.cache
def script_characters(code: str) -> np.ndarray:
    """(code points,) bool: the characters of a row of [`SCRIPTS`]."""
    pattern = re.compile(f"[{SCRIPTS[code].characters}]")
    return _table(lambda char: bool(pattern.match(char)), *((_HAN_PLANES,) if code in ("Hani", "Jpan", "Kore") else ()))


@functools.cache
def damaged() -> np.ndarray:
    """(code points,) bool: what no text should hold.

    The replacement character (bytes that were no text), halves of surrogate pairs, noncharacters, and private use
    (which is readable with one font only).
    """
    table = _table(
        lambda char: char == "\ufffd" or unicodedata.category(char) in ("Cs", "Co") or "\ufdd0" <= char <= "\ufdef",
        range(0xF0000, _POINTS),
    )
    table[[plane + last for plane in range(0, _POINTS, 0x10000) for last in (0xFFFE, 0xFFFF)]] = True
    return table


@functools.cache
def invisible() -> np.ndarray:
    """(code points,) bool: characters without a shape that are not spaces: controls, formats, fillers, tags."""
    return _table(_is_invisible, range(0xE0000, 0xE0100))


def _is_invisible(char: str) -> bool:
    if char in _INVISIBLE_LETTERS:
        return True
    return unicodedata.category(char) in ("Cc", "Cf") and not char.isspace() and not _VISIBLE_FORMATS.match(char)


@functools.cache
def odd_spaces() -> np.ndarray:
    """(code points,) bool: white space other than U+0020, line ends and tabs among it."""
    return _table(lambda char: char.isspace() and char != " ")


def invisible_class() -> str:
    """The inside of a regular expression's character class for [`invisible`]."""
    points = np.flatnonzero(np.diff(np.concatenate([[0], invisible(), [0]])))
    return "".join(f"\\U{start:08x}-\\U{end - 1:08x}" for start, end in points.reshape(-1, 2))
