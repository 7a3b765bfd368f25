"""Digits in text of any language: what an English output must hold of it, whatever the words around it mean.

No vocabulary is needed but words of magnitude (`លាន`, `သိန်း`, `लाख`, `万`), Latin units and calendar eras. Where a
writing is ambiguous, every reading is accepted: `4.000` may be 4000 or 4 (Khmer groups with points, Thai with commas),
`05` may be 5, a Buddhist, Ethiopian or Japanese year may be rendered in either era. Signs are left to the comparison
with a reference. Numbers in words are not read, and 1 is not asked for, since English says `a` or `one`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from ...numerals_llink import read_ethiopic
from .addresses import CODE, DIGIT_STRINGS, EMAIL, URL, read_digits, read_email, read_url
from .chinese import CHINESE_RUN, read_chinese
from .entity import GROUP_SPACE, plain, show
from .numerals import one_of
from .units import CURRENCY_BEFORE, UNIT_AFTER

#: Kinds that are read from foreign text.
FOREIGN_KINDS = ("number", "id", "url", "email")

_MAGNITUDES = {
    **dict.fromkeys(["រយ", "ရာ", "ร้อย", "ຮ້ອຍ", "सौ", "শত", "መቶ", "مئة", "مائة"], 10**2),
    **dict.fromkeys(["ពាន់", "ထောင်", "พัน", "ພັນ", "हज\u093cार", "ह\u095bार", "हजार", "হাজার"], 10**3),
    **dict.fromkeys(["ሺህ", "ሺ", "ألف", "آلاف"], 10**3),
    **dict.fromkeys(["ម៉ឺន", "သောင်း", "หมื่น", "ໝື່ນ"], 10**4),
    **dict.fromkeys(["សែន", "သိန်း", "แสน", "ແສນ", "लाख", "লাখ", "লক্ষ"], 10**5),
    **dict.fromkeys(["លាន", "သန်း", "ล้าน", "ລ້ານ", "मिलियन", "ሚሊዮን", "ሚሊየን", "مليون", "ملايين", "မီလီယံ"], 10**6),
    **dict.fromkeys(["ကုဋေ", "करोड\u093c", "करो\u095c", "কোটি"], 10**7),
    **dict.fromkeys(["ប៊ីលាន", "ဘီလီယံ", "ຕື້", "अरब", "ቢሊዮን", "مليار"], 10**9),
}
#: What makes another word of a magnitude: vowel signs (Khmer រយៈ is a duration), Burmese ရာခိုင်နှုန်း (per cent) and
#: ရာစု (century), Thai พันธุ์ (species).
_OTHER_WORDS = "(?![\u0900-\u0903\u093a-\u094f\u0e31-\u0e3a\u102b-\u103e\u17b4-\u17d3]|ခိုင်|စု|ธ)"
#: Burmese letters that are often written with the digits 4 and 0.
_LETTERS = re.compile("၄(?=င်း)|(?<![၀-၉.,])၀(?![၀-၉.,])")
_ERAS = {"明治": 1867, "大正": 1911, "昭和": 1925, "平成": 1988, "令和": 2018}
_BUDDHIST = 543

_AMOUNT = rf"\d++(?:[.,{GROUP_SPACE}']\d++)*+"
_MAGNITUDE = rf"[ \u200b]*(?:{one_of(_MAGNITUDES)}{_OTHER_WORDS})"
_ALONE = r"(?<![A-Za-z0-9])(?<!\d[.,])"


@dataclass(frozen=True)
class ForeignEntity:
    """Digits or an address in foreign text.

    Attributes:
        kind: One of [`FOREIGN_KINDS`].
        values: Canonical forms of which any will do.
        text: As it is written.
        start: Where it begins in the text, in characters.
        end: Where it ends.
    """

    kind: str
    values: frozenset[str]
    text: str
    start: int
    end: int


#: A kind, the readings, and the group of the match.
_Found = tuple[str, set[Fraction] | set[str], "str | int"]


def amounts(text: str) -> set[Fraction]:
    """Every number that a run of digits and separators may mean, by the conventions of any language."""
    parts = re.split(rf"[.,{GROUP_SPACE}']", text)
    separators = re.sub(r"\d", "", text)
    if not separators:
        return {Fraction(text)}
    grouped = len(parts[0]) <= 3 and parts[0] != "0" and all(len(part) in (2, 3) for part in parts[1:-1])
    found = set()
    if grouped and len(parts[-1]) == 3 and len(set(separators)) == 1:
        found.add(Fraction("".join(parts)))
    if separators[-1] in ".," and (len(parts) == 2 or (separators[-1] not in separators[:-1] and grouped)):
        found.add(Fraction("".join(parts[:-1]) + "." + parts[-1]))
    return found


def _with_magnitude(match: re.Match) -> list[_Found]:
    factor = 1
    for word in re.findall(one_of(_MAGNITUDES), f"{match['before'] or ''} {match['after'] or ''}"):
        factor *= _MAGNITUDES[word]
    return [(kind, {reading * factor for reading in readings}, 0) for kind, readings, _ in _number(match)]


def _number(match: re.Match) -> list[_Found]:
    readings = amounts(match["amount"])
    # Separators that no convention explains stand in a list, such as 3,5,7.
    each = [readings] if readings else [{Fraction(part)} for part in re.findall(r"\d+", match["amount"])]
    return [("number", numbers, "amount") for numbers in each]


def _each(match: re.Match) -> list[_Found]:
    """The parts of a date or a time; nothing is asked for the minutes of a full hour."""
    parts = {name: int(part) for name, part in match.groupdict().items() if part and part.isdigit()}
    return [("number", {Fraction(part)}, name) for name, part in parts.items() if part]


def _japanese_year(match: re.Match) -> list[_Found]:
    year = (
        1
        if match["year"] == "元"
        else int(match["year"])
        if match["year"].isdigit()
        else int(read_chinese(match["year"], after="年"))
    )
    return [("number", {Fraction(year), Fraction(_ERAS[match["era"]] + year)}, 0)]


def _buddhist_year(match: re.Match) -> list[_Found]:
    year = int(match["year"])
    return [("number", {Fraction(year), Fraction(year - _BUDDHIST)}, "year")]


def _ethiopian_year(match: re.Match) -> list[_Found]:
    year = int(match["year"])
    return [("number", {Fraction(year + shift) for shift in (0, 7, 8)}, "year")]


def _chinese(match: re.Match) -> list[_Found]:
    number = read_chinese(match[0], match.string[: match.start()], match.string[match.end() :])
    return [] if number is None else [("number", {number}, 0)]


_PATTERNS: list[tuple[str | re.Pattern, Callable[[re.Match], list[_Found]]]] = [
    (EMAIL, lambda match: [("email", {read_email(match[0])}, 0)]),
    (URL, lambda match: [("url", {read_url(match[0])[1]}, 0)]),
    (rf"(?P<era>{one_of(_ERAS)})(?P<year>\d+|[元一二三四五六七八九十]+)年", _japanese_year),
    (r"(?:พ\.ศ\.|ปี|ព\.ស\.|ພ\.ສ\.) ?(?P<year>2[45]\d\d)(?!\d)", _buddhist_year),
    (r"(?<!\d)(?<!እ\.ኤ\.አ\. )(?<!እ\.ኤ\.አ\. በ)(?P<year>1[89]\d\d|20\d\d) ?ዓ\.?ም", _ethiopian_year),
    (r"(?<![\d-])(?P<year>1\d{3}|2\d{3})(?P<_>[-/.])(?P<month>[01]?\d)(?P=_)(?P<day>[0-3]?\d)(?![\d-])", _each),
    (r"(?<![\d-])(?P<day>[0-3]?\d)(?P<_>[-/.])(?P<month>[01]?\d)(?P=_)(?P<year>1\d{3}|2\d{3})(?![\d-])", _each),
    (
        r"(?<![\d:])(?P<hour>\d{1,2})(?::(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d))?|\.(?P<thai>[0-5]\d)(?= ?น\.))",
        _each,
    ),
    (DIGIT_STRINGS, lambda match: [("id", {read_digits(match[0])}, 0)]),
    (rf"(?<![A-Za-z]){CURRENCY_BEFORE}(?P<amount>{_AMOUNT})(?!{_MAGNITUDE})", _number),
    (rf"{_ALONE}(?P<amount>{_AMOUNT}) ?{UNIT_AFTER}", _number),
    (CODE, lambda match: [("id", {match[0].upper()}, 0)]),
    (CHINESE_RUN, _chinese),
    (
        rf"{_ALONE}(?:(?P<before>သောင်း|သိန်း|သန်း|ကုဋေ)(?:ပေါင်း)? ?(?={_AMOUNT}(?!{_MAGNITUDE})))?(?P<amount>{_AMOUNT})"
        rf"(?P<after>(?:{_MAGNITUDE}){{1,2}})?",
        _with_magnitude,
    ),
    (r"[\u1369-\u137c]+", lambda match: [("number", {Fraction(read_ethiopic(match[0]))}, 0)]),
]
_COMPILED = [(re.compile(pattern), read) for pattern, read in _PATTERNS]


def extract_foreign(text: str) -> list[ForeignEntity]:
    """Digits, codes and addresses in text of any language, in the order of the text."""
    rest, found = plain(_LETTERS.sub("\0", text)), []
    for pattern, read in _COMPILED:
        for match in pattern.finditer(rest):
            for kind, readings, group in read(match):
                start, end = match.span(group)
                rest = rest[: match.start()] + "\0" * len(match[0]) + rest[match.end() :]
                values = {show(reading) if isinstance(reading, Fraction) else reading for reading in readings}
                if values != {"1"}:
                    found.append(ForeignEntity(kind, frozenset(values), text[start:end], start, end))
    return sorted(found, key=lambda entity: entity.start)
