"""English numerals, in digits and in words, as one pattern and the exact number that it means.

Decisions: a comma before three digits groups thousands (also Indian 1,00,000) and a point is decimal, so 3.000 is 3.
A comma before one or two digits is decimal too, as many languages write it: 7,5 is 7.5, and 1.234,56 is 1234.56.
`1/2`, `½`, `0.5` and `one half` are one number; a slash is never a date without a year. `one and a half` is 1.5.
`dozen` is 12. Plurals (`hundreds of`), `once`, `both`, `half` alone and `a few` are no numbers.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from fractions import Fraction

from .entity import GROUP_SPACE, words

_UNITS = {word: n for n, word in enumerate(words("one two three four five six seven eight nine"), 1)}
_TEENS = {
    word: n
    for n, word in enumerate(
        words("ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"), 10
    )
}
_TENS = {w: 10 * n for n, w in enumerate(words("twenty thirty forty fifty sixty seventy eighty ninety"), 2)}
_SMALL = {"zero": 0, **_UNITS, **_TEENS, **_TENS}
#: Words that multiply the number before them.
SCALES = {
    "dozen": 12,
    "thousand": 10**3,
    "lakh": 10**5,
    "million": 10**6,
    "crore": 10**7,
    "billion": 10**9,
    "trillion": 10**12,
}
_PARTS = {word: n for n, word in enumerate(words("half third quarter fifth sixth seventh eighth ninth tenth"), 2)} | {
    "fourth": 4
}
_REST = {"half": Fraction(1, 2), "quarter": Fraction(1, 4), "quarters": Fraction(3, 4)}
ORDINALS = {
    word: n
    for n, word in enumerate(
        words(
            "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth "
            "fifteenth sixteenth seventeenth eighteenth nineteenth"
        ),
        1,
    )
}
_ROUND_ORDINALS = {re.sub("y$", "ieth", word): n for word, n in _TENS.items()} | {"hundredth": 100, "thousandth": 1000}
#: Longer digit strings are identifiers, not amounts.
_LONGEST = 18


def one_of(words: Iterable[str]) -> str:
    """An alternation of literal words, longest first."""
    return "(?:" + "|".join(sorted(map(re.escape, words), key=len, reverse=True)) + ")"


_VULGAR = "[¼-¾⅐-⅞]"
_COMMA_DECIMAL = rf"(?:\d{{1,3}}(?:\.\d{{3}})+|\d{{1,{_LONGEST}}}),\d{{1,2}}(?!\d|[.,]\d)"
_DIGITS = (
    rf"(?:\d{{1,3}}(?:,\d{{2,3}})*,\d{{3}}(?!\d)(?:\.\d+)?|\d{{1,3}}(?:{GROUP_SPACE}\d{{3}})+(?!\d)(?:\.\d+)?"
    rf"|{_COMMA_DECIMAL}|\d{{1,{_LONGEST}}}(?:\.\d{{1,{_LONGEST}}})?)"
)
_SCALE = one_of(SCALES)
#: What may follow digits: `5 hundred`, `2.5 million`, `3 hundred thousand`.
SCALE_AFTER_DIGITS = rf"(?:hundred(?:[ -]{_SCALE})?|{_SCALE})(?![A-Za-z])"
_BELOW_100 = rf"(?:{one_of(_TENS)}(?:[- ]{one_of(_UNITS)})?|{one_of(_TEENS)}|{one_of(_UNITS)}|zero)(?![a-z])"
_BELOW_1000 = rf"(?:(?:{_BELOW_100}|an?) hundred(?:(?: and)? {_BELOW_100})?|{_BELOW_100})(?![a-z])"
_CARDINAL = (
    rf"(?:(?:{_BELOW_1000}|an?)[ -]{_SCALE}(?![a-z])(?:(?: and)? {_BELOW_1000} {_SCALE}(?![a-z]))*"
    rf"(?:(?: and)? {_BELOW_1000})?|{_BELOW_1000})"
)
_YEAR_WORDS = (
    rf"(?:{one_of([*_TEENS, 'twenty'])}) (?:{one_of(_TENS)}(?:[- ]{one_of(_UNITS)})?|{one_of(_TEENS)}"
    rf"|oh[- ]{one_of(_UNITS)})(?![a-z])"
)
_AND_PART = rf"(?: and (?:a half|a quarter|three quarters)(?: {_SCALE})?(?![a-z]))"
#: A fraction in words: `one third`, `two-thirds`, `a quarter of`.
PART_WORDS = (
    rf"(?:one[- ]{one_of(_PARTS)}|{one_of(list(_UNITS)[1:])}[- ](?:halves|{one_of(_PARTS)}s)|"
    rf"an? {one_of(_PARTS)}(?= of(?![a-z])))(?![a-z])"
)
#: One numeral, without groups; what stands around it is the caller's business.
NUMERAL = (
    r"(?:(?:(?<![\w)%°.,-])-|(?i:\b(?:minus|negative) ))?(?:"
    rf"\d{{1,3}} [1-9]\d?/[1-9]\d?(?![\d/])|(?<![\d/])[1-9]\d{{0,5}}/[1-9]\d{{0,5}}(?![\d/])|(?:\d{{1,3}} ?)?{_VULGAR}"
    rf"|{_DIGITS}(?:[ -](?i:{SCALE_AFTER_DIGITS})|{_AND_PART})?"
    rf"|(?i:\bhalf an? {_SCALE}(?![a-z])|\b{_YEAR_WORDS}|\b{PART_WORDS}"
    rf"|\b{_BELOW_100} point(?: {one_of(['zero', *_UNITS])})+(?![a-z])|\b{_CARDINAL}{_AND_PART}?)))"
)
#: An ordinal number in words; `first` and `second` are told from their other uses by the caller.
ORDINAL_WORDS = (
    rf"(?i:\b(?:{one_of(_TENS)}[- ])?{one_of(list(ORDINALS)[:9])}(?![a-z])|\b{one_of(list(ORDINALS)[9:])}(?![a-z])"
    rf"|\b(?:(?:one|a)[- ])?{one_of(_ROUND_ORDINALS)}(?![a-z]))"
)


def read_numeral(text: str) -> Fraction:
    """The number that a match of [`NUMERAL`] means."""
    text = text.strip().lower()
    for sign in ("minus ", "negative ", "-"):
        if text.startswith(sign):
            return -read_numeral(text.removeprefix(sign))
    if part := re.search(rf" and (?:a|three) (half|quarters?)(?: ({_SCALE}))?$", text):
        return (read_numeral(text[: part.start()]) + _REST[part[1]]) * SCALES.get(part[2], 1)
    if mixed := re.fullmatch(r"(?:(\d+) )?(\d+)/(\d+)", text):
        return Fraction(mixed[1] or 0) + Fraction(int(mixed[2]), int(mixed[3]))
    if vulgar := re.fullmatch(rf"(\d*) ?({_VULGAR})", text):
        return Fraction(vulgar[1] or 0) + Fraction(unicodedata.numeric(vulgar[2])).limit_denominator(10)
    if text[0].isdigit():
        digits, *scales = re.split("[ -]", text)
        if re.fullmatch(_COMMA_DECIMAL, digits):
            digits = digits.replace(".", "").replace(",", ".")
        amount = Fraction(digits.replace(",", "").replace(GROUP_SPACE, ""))
        return amount * math.prod(100 if scale == "hundred" else SCALES[scale] for scale in scales)
    if text.startswith("half a"):
        return Fraction(SCALES[text.split()[-1]], 2)
    return _read_words(text)


def _read_words(text: str) -> Fraction:
    if re.fullmatch(_YEAR_WORDS, text):
        century, rest = text.split(" ", 1)
        return Fraction(100 * _SMALL[century] + _sum_of_words(rest.removeprefix("oh").strip(" -")))
    if " point " in text:
        whole, decimals = text.split(" point ")
        return Fraction(f"{_sum_of_words(whole)}." + "".join(str(_SMALL[word]) for word in decimals.split()))
    if re.fullmatch(PART_WORDS.replace("(?= of(?![a-z]))", ""), text):
        count, part = re.split("[- ]", text, maxsplit=1)
        singular = "half" if part == "halves" else part if part in _PARTS else part.removesuffix("s")
        return Fraction(_SMALL.get(count, 1), _PARTS[singular])
    return Fraction(_sum_of_words(text))


def _sum_of_words(text: str) -> int:
    total = current = 0
    for word in re.findall("[a-z]+", text):
        if word in _SMALL:
            current += _SMALL[word]
        elif word == "hundred":
            current = max(current, 1) * 100
        elif word in SCALES:
            total, current = total + max(current, 1) * SCALES[word], 0
    return total + current


def read_ordinal(text: str) -> int:
    """The number that a match of [`ORDINAL_WORDS`] means."""
    words = re.findall("[a-z]+", text.lower())
    last = ORDINALS.get(words[-1]) or _ROUND_ORDINALS[words[-1]]
    return last + sum(_TENS.get(word, 0) for word in words[:-1])


def show_ordinal(number: int) -> str:
    """`1st`, `2nd`, `3rd`, `11th`."""
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"
