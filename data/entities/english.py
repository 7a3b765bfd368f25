"""Entities of English text.

Patterns are tried in order, the most telling first, and what one has taken is hidden from the rest. What is decided
about ambiguous writings stands in the modules that hold the patterns; here:

- `one` and `1` in words alone are no number (`no one`, `one of them`), nor is `one day`; `one kilometre`, `twenty-one`
  and the digit 1 are. `first` and `second` in words count only after `the`, `this`, `my` and the like.
- Four digits from 1000 to 2099 without separator or unit are listed as a year; the value is the same as a number's.
- The unit at the end of a range belongs to both numbers: `5 to 10 km`, `between 5 and 10 km`, `$5–10`, `5-10 %`.
- Names are runs of capitalised words. A single one that begins a sentence is a name only if it is `known` from the
  middle of another; titles (`Mr.`) are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from fractions import Fraction

from .addresses import CODE, DIGIT_STRINGS, EMAIL, URL, read_digits, read_email, read_url
from .entity import Entity, plain, show, words
from .moments import DATES, TIMES, Found, read_date, read_time
from .numerals import (
    NUMERAL,
    ORDINAL_WORDS,
    PART_WORDS,
    SCALE_AFTER_DIGITS,
    read_numeral,
    read_ordinal,
    show_ordinal,
)
from .units import CURRENCY_BEFORE, UNIT_AFTER, unit_of

_HIDDEN = "\0"
_LEFT = r"(?<![A-Za-z0-9_])(?<!\d[.,])"
_RIGHT = r"(?![A-Za-z0-9_])(?![.,]\d)"
_SCALE_LETTERS = {"k": 10**3, "m": 10**6, "mn": 10**6, "bn": 10**9, "b": 10**9}
_DECADES = words("twenties thirties forties fifties sixties seventies eighties nineties")
_TITLES = {"Mr", "Mrs", "Ms", "Dr", "Prof", "St"}
#: Words that begin sentences and are no names.
_OPENERS = frozenset(
    words(
        "a about after all also although always an and another any as at because before both but by can could did "
        "do does during each either every everyone few finally first for from had has have he her here his how "
        "however if in is it its just last later let many may maybe might more most much must my near neither "
        "never next no nobody not nothing now of often on once one only or other our over people perhaps please "
        "several she should since so some someone sometimes soon still such thank thanks that the their then there "
        "these they this those though through to today together tomorrow tonight two under unless until very was "
        "we were what when where which while who whose why will with without would yes yesterday you your"
    )
)


def _url(match: re.Match) -> list[Found]:
    address, value = read_url(match[0])
    return [("url", value, (match.start(), match.start() + len(address)))]


def _measure(match: re.Match) -> list[Found]:
    """A number with what is counted, or both ends of a range of them."""
    if (match["number"].lower(), match["unit"].lower()) == ("one", "day"):
        return []
    kind, unit = unit_of(match["unit"])
    found = [(kind, f"{show(read_numeral(match['number']))} {unit}", (match.start("number"), match.end()))]
    if match["low"]:
        found.append((kind, f"{show(_low(match))} {unit}", match.span("low")))
    return found


def _low(match: re.Match) -> Fraction:
    """The first number of a range; that of `14 to 22 million` is 14 million."""
    low, high = read_numeral(match["low"]), match["number"].lower()
    scaled = re.fullmatch(r"([\d.,]+)[ -]([a-z -]+)", high)
    if scaled and match["low"].isdigit() and low < read_numeral(scaled[1]):
        return read_numeral(f"{match['low']} {scaled[2]}")
    return low


def _range(match: re.Match) -> list[Found]:
    return [("number", show(_low(match)), match.span("low")), *_number(match, "number")]


def _price(match: re.Match) -> list[Found]:
    kind, code = unit_of(match["currency"])
    scale = _SCALE_LETTERS.get((match["letter"] or "").lower(), 1)
    spans = {"number": (match.start(), match.end("number")), "high": match.span("high")}
    groups = [group for group in spans if match[group]]
    return [(kind, f"{show(read_numeral(match[group]) * scale)} {code}", spans[group]) for group in groups]


def _decade(match: re.Match) -> list[Found]:
    if word := match["word"]:
        return [("year", f"{'19' if match['century'] else ''}{20 + 10 * _DECADES.index(word.lower())}s", match.span())]
    return [("year", f"{match['digits']}s", match.span())]


def _era(match: re.Match) -> list[Found]:
    year = int(match["before"] or match["after"])
    return [("year", f"{year} BC" if match["era"] and match["era"][0] == "B" else str(year), match.span())]


def _ordinal(match: re.Match) -> list[Found]:
    number = int(match["digits"].replace(",", "")) if match["digits"] else read_ordinal(match["words"])
    if match["words"] and number <= 2 and not match["the"]:
        return []
    return [("ordinal", show_ordinal(number), match.span("figure" if match["figure"] else "words"))]


def _number(match: re.Match, group: str | int = 0) -> list[Found]:
    text = match[group].lower()
    if text == "one":
        return []
    value = show(read_numeral(text))
    year = _FOUR_DIGITS.fullmatch(value) and not re.search(r"[,.\s]\d|thousand|hundred", text)
    return [("year" if year else "number", value, match.span(group))]


_FOUR_DIGITS = re.compile(r"1\d{3}|20\d{2}")
_BETWEEN = r"(?P<between>(?i:\bbetween ))?"
_RANGE = r"(?(between) and |(?:(?<=\d) ?(?:-|–|~) ?| to | or ))"
_PATTERNS: list[tuple[str | re.Pattern, Callable[[re.Match], list[Found]]]] = [
    (EMAIL, lambda match: [("email", read_email(match[0]), match.span())]),
    (URL, _url),
    *((pattern, read_date) for pattern in DATES),
    *((pattern, read_time) for pattern in TIMES),
    (DIGIT_STRINGS, lambda match: [("id", read_digits(match[0]), match.span())]),
    (
        rf"(?<![A-Za-z])(?P<currency>{CURRENCY_BEFORE})(?P<number>{NUMERAL})"
        rf"(?:(?P<letter>k|K|m|M|mn|bn|b|B)(?![A-Za-z]))?(?: ?(?:-|–|to) ?(?P<high>{NUMERAL}){_RIGHT}"
        rf"(?! ?{UNIT_AFTER}))?",
        _price,
    ),
    (
        rf"(?<![A-Za-z0-9])(?:(?P<digits>(?:1\d|20)\d0|[2-9]0)'?s|(?P<century>(?i:nineteen[- ]))?"
        rf"(?P<word>(?i:{'|'.join(_DECADES)})))(?![A-Za-z0-9])",
        _decade,
    ),
    (
        rf"(?:{_BETWEEN}{_LEFT}(?P<low>{NUMERAL}){_RANGE})?{_LEFT}(?P<number>{NUMERAL})"
        rf"[ \u00a0-]?(?P<unit>{UNIT_AFTER})",
        _measure,
    ),
    (
        r"(?<![\w.,])(?:AD (?P<before>\d{1,4})(?![\w,.]\d)"
        r"|(?P<after>\d{1,4}) (?P<era>B\.?C\.?E?\.?|AD|CE)(?![A-Za-z]))",
        _era,
    ),
    (rf"{_LEFT}(?i:\b{PART_WORDS})", _number),
    (
        rf"(?P<the>(?i:\b(?:the|this|that|my|your|his|her|its|our|their) |'s ))?"
        rf"(?:{_LEFT}(?P<figure>(?P<digits>\d[\d,]*)(?:st|nd|rd|th))(?![A-Za-z0-9])|(?P<words>{ORDINAL_WORDS}))",
        _ordinal,
    ),
    (CODE, lambda match: [("id", match[0].upper(), match.span())]),
    (rf"{_BETWEEN}{_LEFT}(?P<low>\d[\d.,]*){_RANGE}(?P<number>\d[\d.,]*[ -](?i:{SCALE_AFTER_DIGITS}))", _range),
    (rf"{_LEFT}{NUMERAL}{_RIGHT}", _number),
]
_COMPILED = [(re.compile(pattern), read) for pattern, read in _PATTERNS]


def extract(text: str, known: Collection[str] = ()) -> list[Entity]:
    """Everything in an English text that a translation must keep exactly, in the order of the text.

    Args:
        text: English; digits of any script are read.
        known: Names that also count where they begin a sentence alone; see [`known_names`].

    Returns:
        Entities with canonical values; they do not overlap.
    """
    rest, found = plain(text), []
    for pattern, read in _COMPILED:
        for match in pattern.finditer(rest):
            for kind, value, (start, end) in read(match):
                found.append((kind, value, start, start + len(text[start:end].rstrip())))
                rest = rest[:start] + _HIDDEN * (end - start) + rest[end:]
    found += _names(rest, known)
    entities = [Entity(kind, value, text[start:end], start, end) for kind, value, start, end in found]
    return sorted(entities, key=lambda entity: entity.start)


def known_names(texts: Iterable[str]) -> frozenset[str]:
    """Names that stand somewhere in the texts where a capital can only mean a name."""
    return frozenset(entity.value for text in texts for entity in extract(text) if entity.kind == "name")


_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|['-](?=[^\W\d_]))*")


def _names(rest: str, known: Collection[str]) -> Iterator[tuple[str, str, int, int]]:
    """Runs of capitalised words, of which a first word of the sentence is dropped if it is no name by itself."""
    for run in _runs(rest):
        value = " ".join(word for word, _, _ in run)
        if len(run) > 1 or value in known or not _begins(rest, run[0][1]):
            yield "name", value, run[0][1], run[-1][2]


def _runs(rest: str) -> Iterator[list[tuple[str, int, int]]]:
    run: list[tuple[str, int, int]] = []
    for match in _WORD.finditer(rest):
        word = match[0].removesuffix("'s")
        opener = not run and _begins(rest, match.start()) and word.lower() in _OPENERS
        if run and rest[run[-1][2] : match.start()] != " ":
            yield run
            run = []
        if word[0].isupper() and word.split("'")[0] != "I" and word not in _TITLES and not opener:
            run.append((word, match.start(), match.start() + len(word)))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _begins(rest: str, start: int) -> bool:
    """Whether a sentence begins at `start`; the point of a title ends none."""
    before = rest[:start].rstrip(" \"“”'([*-")
    word = re.search(r"([A-Za-z]+)\.$", before)
    return (not before or before[-1] in ".!?:\n…") and not (word and word[1] in _TITLES)
