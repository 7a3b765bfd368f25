"""One thing that must be exact, and the forms in which texts and numbers are compared."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from fractions import Fraction

#: What an [`Entity`] can be, in the order of tables.
KINDS = (
    "number",
    "ordinal",
    "quantity",
    "percent",
    "price",
    "year",
    "date",
    "time",
    "id",
    "url",
    "email",
    "name",
)

#: Narrow and no-break spaces: between digits they group thousands, which an ordinary space does not.
GROUP_SPACE = "\u00a0"
_CHARACTERS = {
    **{chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},  # full-width forms
    "\u3000": " ",
    "\u2009": GROUP_SPACE,
    "\u202f": GROUP_SPACE,
    "\u066a": "%",
    "\u066b": ".",
    "\u066c": ",",
    "\u2212": "-",
    "\u2011": "-",
    "\u2014": "–",
    "’": "'",
    "‘": "'",
}


@dataclass(frozen=True)
class Entity:
    """Something that a translation must keep exactly.

    Attributes:
        kind: One of [`KINDS`]; it only sorts tables: two entities are the same if their values are.
        value: Canonical: `25`, `3rd`, `30 MW`, `12.5 %`, `50 USD`, `1985`, `1980s`, `2021-05-03`, `XXXX-05-03`,
            `17:30`, `012345678`, an address, a name.
        text: As it is written.
        start: Where it begins in the text, in characters.
        end: Where it ends.
    """

    kind: str
    value: str
    text: str
    start: int
    end: int


def words(text: str) -> list[str]:
    """A list that is written as one string."""
    return text.split()


def plain(text: str) -> str:
    """The text with digits of every script and full-width signs in ASCII, character for character (same length)."""
    return "".join(map(_plain_character, text))


def _plain_character(character: str) -> str:
    if character < "\x80":
        return character
    digit = unicodedata.decimal(character, None)
    return str(digit) if digit is not None else _CHARACTERS.get(character, character)


def show(number: Fraction) -> str:
    """The shortest exact writing: `25`, `1.5`, `-0.75`; `1/3` where no decimal is exact."""
    denominator, places = number.denominator, 0
    for prime in (2, 5):
        power = 0
        while denominator % prime == 0:
            denominator //= prime
            power += 1
        places = max(places, power)
    if denominator != 1:
        return f"{number.numerator}/{number.denominator}"
    digits = str(abs(number.numerator) * 10**places // number.denominator).rjust(places + 1, "0")
    whole = f"{digits[:-places]}.{digits[-places:]}" if places else digits
    return f"-{whole}" if number < 0 else whole
