"""The exactness suite: short parallel sentences whose numbers, units, dates, names and addresses must survive.

`numeric_suite.txt` holds sentence plans (`@`) and single sentences (`=`). A plan has

- `fields`: the names of what a row gives;
- `must`: the entities of the English sentence, `kind: value`, separated by `; `;
- `en`: the English pattern; brackets enclose what goes wrong;
- `wrong`: what typical wrong answers hold in place of the brackets, separated by ` / `;
- a pattern for each language, and `rows`: two for each language, in that order.

In a pattern `{n}` is a field: digits are written in the language's own for its first row, a field whose name begins
with `month` is the month's name, `_` is a space.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..data.entities.moments import MONTHS
from ..data.errors import DataError

_PATH = Path(__file__).with_suffix(".txt")
_ROWS_EACH = 2
_DIGITS = {"km": "០", "my": "၀", "ar": "٠", "hi": "०", "th": "๐", "ja": "０"}
#: Decimal point and thousands separator beside own digits, where they differ from English.
_SEPARATORS = {"km": (",", "."), "ar": ("٫", "٬"), "ja": ("．", "，")}
_MONTHS = {
    "en": " ".join(MONTHS),
    "km": "មករា កុម្ភៈ មីនា មេសា ឧសភា មិថុនា កក្កដា សីហា កញ្ញា តុលា វិច្ឆិកា ធ្នូ",
    "my": "ဇန်နဝါရီ ဖေဖော်ဝါရီ မတ် ဧပြီ မေ ဇွန် ဇူလိုင် ဩဂုတ် စက်တင်ဘာ အောက်တိုဘာ နိုဝင်ဘာ ဒီဇင်ဘာ",
    "ar": "يناير فبراير مارس أبريل مايو يونيو يوليو أغسطس سبتمبر أكتوبر نوفمبر ديسمبر",
    "hi": "जनवरी फ़रवरी मार्च अप्रैल मई जून जुलाई अगस्त सितंबर अक्टूबर नवंबर दिसंबर",
    "th": "มกราคม กุมภาพันธ์ มีนาคม เมษายน พฤษภาคม มิถุนายน กรกฎาคม สิงหาคม กันยายน ตุลาคม พฤศจิกายน ธันวาคม",
    "am": "ጃንዋሪ ፌብሩዋሪ ማርች ኤፕሪል ሜይ ጁን ጁላይ ኦገስት ሴፕቴምበር ኦክቶበር ኖቬምበር ዲሴምበር",
}


@dataclass(frozen=True)
class SuiteCase:
    """One sentence of the suite.

    Attributes:
        id: Plan, language and number.
        language: Of the foreign sentence, as an ISO 639 code.
        foreign: The sentence.
        english: Its translation.
        must: Kind and canonical value of everything in it that must be exact.
        wrong: Translations with typical faults, each of which must be caught.
    """

    id: str
    language: str
    foreign: str
    english: str
    must: tuple[tuple[str, str], ...]
    wrong: tuple[str, ...]


def read_suite(language: str | None = None) -> list[SuiteCase]:
    """The cases of the suite.

    Args:
        language: Only the cases of this one; all of them by default.

    Raises:
        DataError: If there are no cases in the language; names those that there are.
    """
    cases = list(_cases())
    if language is None:
        return cases
    chosen = [case for case in cases if case.language == language]
    if not chosen:
        languages = ", ".join(dict.fromkeys(case.language for case in cases))
        raise DataError(f"The suite has no language {language!r}: choose one of {languages}, or bring --pairs.")
    return chosen


def _cases() -> Iterator[SuiteCase]:
    plan: dict[str, str] = {}
    singles = 0
    for line in _PATH.read_text("utf-8").splitlines():
        if line.startswith("@ "):
            plan = {"name": line[2:]}
        elif line.startswith("= "):
            language, must, english, wrong, foreign = line[2:].split(" | ")
            singles += 1
            yield _case(f"single-{language}-{singles}", language, foreign, english, must, wrong)
        elif line and not line.startswith("#"):
            label, _, value = line.partition(": ")
            plan[label] = value
            if label == "rows":
                yield from _of_plan(plan)


def _of_plan(plan: Mapping[str, str]) -> Iterator[SuiteCase]:
    labels = ("name", "fields", "must", "en", "wrong", "rows")
    languages = [label for label in plan if label not in labels]
    rows = [row.split() for row in plan["rows"].split("; ")]
    for index, row in enumerate(rows):
        language, number = languages[index // _ROWS_EACH], index % _ROWS_EACH
        raw = dict(zip(plan["fields"].split(), row, strict=True))
        english = {name: _written(name, value, "en", own_digits=False) for name, value in raw.items()}
        foreign = {name: _written(name, value, language, own_digits=number == 0) for name, value in raw.items()}
        bare = {name: value.replace(",", "").replace("_", " ") for name, value in raw.items()}
        yield _case(
            f"{plan['name']}-{language}-{number + 1}",
            language,
            plan[language].format(**foreign),
            plan["en"].format(**english),
            plan["must"].format(**bare),
            plan["wrong"].format(**english),
        )


def _case(name: str, language: str, foreign: str, english: str, must: str, wrong: str) -> SuiteCase:
    before, _, rest = english.partition("[")
    answer, _, after = rest.partition("]")
    return SuiteCase(
        id=name,
        language=language,
        foreign=foreign,
        english=before + answer + after,
        must=tuple((kind, value) for kind, _, value in (entity.partition(": ") for entity in must.split("; "))),
        wrong=tuple(before + fault + after for fault in wrong.split(" / ")),
    )


def _written(name: str, value: str, language: str, own_digits: bool) -> str:
    if name.startswith("month"):
        if language in _MONTHS:
            return _MONTHS[language].split()[int(value) - 1]
        return f"{_written('', value, language, own_digits)}月"
    if value.strip("0123456789.,") or not own_digits or language not in _DIGITS:
        return value.replace("_", " ")
    if language == "hi":
        value = _indian_groups(value)
    point, comma = _SEPARATORS.get(language, (".", ","))
    own = [chr(ord(_DIGITS[language]) + digit) for digit in range(10)]
    return value.translate({ord("."): point, ord(","): comma, **{ord(str(n)): digit for n, digit in enumerate(own)}})


def _indian_groups(value: str) -> str:
    """`124,000` as `1,24,000`."""
    whole, point, decimals = value.replace(",", "").partition(".")
    if "," not in value:
        return value
    head, groups = whole[:-3], [whole[-3:]]
    while head:
        head, groups = head[:-2], [head[-2:], *groups]
    return ",".join(groups) + point + decimals
