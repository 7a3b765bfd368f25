"""A passage that is longer than the encoder reads, cut where its own script ends a sentence, or at the limit."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

import regex

from .literals import Literal

#: Unicode ends a grapheme cluster after the sign that stacks the next consonant in Khmer and Burmese; readers do not.
_SYLLABLE = r"\X(?:(?<=[\u17D2\u1039])\X)*"
_CLOSING = r"[\p{Pe}\p{Pf}\"']*+\s*+"
#: Where a passage may be cut, from the best place to the worst: after a sentence or line (not inside Khmer ។ល។, which
#: is `etc.`), after a clause, at a space, between syllables or graphemes, between characters.
_PLACES = [
    regex.compile(pattern)
    for pattern in (
        rf"[\n\r\v\f\u0085\u2028\u2029]\s*+|(?:[៕៚။。！？｡؟۔।॥።፧፨།༎։]|។(?!ល។)|፡፡)++{_CLOSING}"
        rf"|(?<![.!?…])[.!?…]++[\p{{Pe}}\p{{Pf}}\"']*+\s++",
        rf"[၊،؛、，；;,៖፣፤፥:：]++{_CLOSING}",
        r"[\s\u200B]++",
        _SYLLABLE,
        r"(?s:.)",
    )
]


def split_passage(text: str, fits: Callable[[str], bool], literals: Sequence[Literal]) -> list[str]:
    """Pieces of a passage, each as long as fits, that joined give it back but for white space.

    Sentences are joined while they fit. One that does not fit alone is cut after clauses, then at spaces, then between
    syllables; a literal is cut, and a syllable, only if it does not fit by itself.

    Args:
        text: A passage.
        fits: Whether a piece, without white space around it, is short enough; called on few pieces, each about as long
            as what fits or as one sentence.
        literals: Of all kinds in the passage, in order.

    Returns:
        Pieces that are not empty, without white space around them. All fit, but single characters that do not; none if
        the passage is only white space.
    """
    if not text.strip() or fits(text.strip()):
        return [text.strip()] if text.strip() else []
    return _split(text, 0, len(text), 0, literals, fits)


def _split(
    text: str, start: int, end: int, place: int, literals: Sequence[Literal], fits: Callable[[str], bool]
) -> list[str]:
    """Pieces of `text[start:end]`, which does not fit, cut at places of this rank or worse."""
    last = place == len(_PLACES) - 1
    ends = [match.end() for match in _PLACES[place].finditer(text, start, end)]
    ends = [cut for cut in ends if cut < end and (last or not _inside(cut, literals))] + [end]
    if len(ends) == 1 and not last:
        return _split(text, start, end, place + 1, literals, fits)
    pieces: list[str] = []
    first = 0

    def fit(count: int) -> bool:
        return fits(text[start : ends[first + count - 1]].strip())

    while first < len(ends):
        count = _most(fit, len(ends) - first)
        first += max(count, 1)
        stop = ends[first - 1]
        piece = text[start:stop].strip()
        if piece:
            pieces += [piece] if count or last else _split(text, start, stop, place + 1, literals, fits)
        start = stop
    return pieces


def _inside(cut: int, literals: Sequence[Literal]) -> bool:
    """Whether a cut falls inside one of the literals, which are in order."""
    before = bisect_right(literals, cut, key=lambda literal: literal.start) - 1
    return before >= 0 and literals[before].start < cut < literals[before].end


def _most(fit: Callable[[int], bool], limit: int) -> int:
    """The greatest number up to a limit that fits, if more never fits where less does not; 0 if none does."""
    low, high = 0, 1
    while high <= limit and fit(high):
        low, high = high, high * 2
    high = min(high, limit + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fit(middle) else (low, middle)
    return low


def cut_text(text: str, max_chars: int) -> str:
    """The longest beginning of at most `max_chars` characters that ends between grapheme clusters.

    A Khmer syllable stays whole. A first cluster that is longer than the limit is cut, as nothing would be left of it.
    """
    end = 0
    for cluster in regex.finditer(_SYLLABLE, text[: max_chars + 64]):
        if cluster.end() > max_chars:
            break
        end = cluster.end()
    return text[: end or max_chars]
