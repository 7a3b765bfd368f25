"""Writes `modeling_llink/calendar_names.py`: months and weekdays of the scripts that an English decoder reads badly.

    pip install babel && python examples/make_calendar_names.py

The names are those of Unicode's CLDR, as Babel has them, and a few ways of writing that it lacks.
"""

from __future__ import annotations

from pathlib import Path

import regex
from babel import Locale

TARGET = Path(__file__).parent.parent / "modeling_llink" / "calendar_names.py"
#: Languages in other scripts than Latin that have names of their own for the Gregorian months, and many readers.
LANGUAGES = (
    "am ar as be bg bn el fa gu he hi hy ka kk km kn ko ky lo mk ml mn mr my ne or pa ps ru sd sr ta te tg th "
    "ug uk ur zh"
)
#: Languages whose weekdays mean nothing else: a Russian Wednesday is also the environment, a Georgian Sunday a week.
WITH_WEEKDAYS = "am ar bn fa gu he hi ja km kn ko lo ml mr my ne or pa te th zh"
#: Ways of writing that CLDR lacks.
MONTHS = {"ឧសភា": 5, "កុម្ភះ": 2, "ဇန္နဝါရီ": 1, "သြဂုတ်": 8, "ፌብሯሪ": 2, "ፌብሩአሪ": 2, "ዲሰምበር": 12, "ኖቨምበር": 11}
WEEKDAYS = {"ចន្ទ": 0, "ព្រហស្បត្តិ៍": 3, "សៅរ": 5}
#: What stands at a weekday's name where the name alone means other things too: moon, Mars, the first.
BEFORE = {"km": "ថ្ងៃ", "ar": "يوم "}
AFTER = {"my": "နေ့"}
_ENGLISH_OR_DIGIT = regex.compile(r"\p{Latin}|\p{Nd}")


def names(part: str) -> dict[str, int]:
    """Names of months (1 to 12) or weekdays (0 is Monday)."""
    found: dict[str, int] = {}
    for language in (WITH_WEEKDAYS if part == "days" else LANGUAGES).split():
        forms = getattr(Locale.parse(language), part)
        for context in ("format", "stand-alone"):
            for number, name in forms[context]["wide"].items():
                if not _ENGLISH_OR_DIGIT.search(name):
                    found.setdefault(_whole(language, name) if part == "days" else name, number)
    extra = {_whole("km", name): day for name, day in WEEKDAYS.items()} if part == "days" else MONTHS
    return found | extra


def _whole(language: str, name: str) -> str:
    return BEFORE.get(language, "") + name + AFTER.get(language, "")


def lines(found: dict[str, int], english: dict[int, str]) -> list[str]:
    """One entry a month or weekday, broken at 118 characters."""
    made = []
    for number, title in english.items():
        made.append(f'    "{title}": (')
        line = '        "'
        for name in sorted(name for name, own in found.items() if own == number):
            if len(line) + len(name) > 110:
                made.append(f'{line}"')
                line = '        "'
            line += f"{name}|"
        made += [f'{line[:-1]}"' if line.endswith("|") else line, "    ),"]
    return made


def main() -> None:
    """Writes the module."""
    english = Locale.parse("en")
    text = [
        '"""Months and weekdays by their English names, of languages that are not written in Latin letters.',
        "",
        "Made by `examples/make_calendar_names.py` from Unicode's CLDR.",
        '"""',
        "",
        "MONTHS = {",
        *lines(names("months"), dict(english.months["format"]["wide"])),
        "}",
        "WEEKDAYS = {",
        *lines(names("days"), dict(english.days["format"]["wide"])),
        "}",
    ]
    TARGET.write_text("\n".join(text) + "\n", "utf-8")


if __name__ == "__main__":
    main()
