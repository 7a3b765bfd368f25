"""Dates and times of day in English text, and their canonical forms.

Decisions: `3 May 2021`, `May 3rd, 2021` and `2021-05-03` are one date; so are `3 May` and `May 3`. `03/05/2021` may be
either of two and stays `3/5/2021`, equal only to itself; `25/12/2021` is not ambiguous. A day of the week is a date of
its own; so is a month alone, but `May`, `March` and `August` only after a word such as `in`: they are other words too.
`5 pm`, `5 p.m.`, `17:00` and `5 o'clock in the afternoon` are one time; `5 o'clock` and `5:00` alone are read on the
24-hour clock. Noon is 12:00, midnight 00:00. `at 5` is a number.
"""

from __future__ import annotations

import re

from .entity import words
from .numerals import ORDINAL_WORDS, one_of, read_numeral, read_ordinal

#: A kind, a canonical value, and where it stands: start and end.
Found = tuple[str, str, tuple[int, int]]

MONTHS = words("January February March April May June July August September October November December")
WEEKDAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
_NUMBERS = {name: n for n, name in enumerate(MONTHS, 1)}
_NUMBERS |= {name[:3]: n for name, n in _NUMBERS.items()} | {"Sept": 9}
_VERBS = ("March", "May", "August")
_PLAIN_MONTHS = rf"(?i:{one_of(set(MONTHS) - set(_VERBS))})"
_MONTH = (
    rf"(?:{_PLAIN_MONTHS}|{one_of(_VERBS)}|{one_of([name for name in _NUMBERS if len(name) < 5 and name != 'May'])}\.?)"
    "(?![a-z])"
)
_DAY = rf"(?:[0-3]?\d(?:st|nd|rd|th)?(?![\dA-Za-z]|[.,:]\d)|{ORDINAL_WORDS})"
_YEAR = r"(?:1\d{3}|20\d{2})(?![\d%A-Za-z]|[.,:]\d)"
_BEFORE_MONTH = (
    "in|of|since|until|till|by|during|from|to|through|last|next|this|early|late|mid|every|each|before|after|between|and"
)
_HOURS = words("one two three four five six seven eight nine ten eleven twelve")
_HOUR = rf"(?:[01]?\d|2[0-4]|(?i:{one_of(_HOURS)}))"
_PART = r"(?P<part> in the (?:morning|afternoon|evening)| at night)"
_HALF = r"(?:\s?(?P<half>(?i:[ap])\.?\s?(?i:m)(?![A-Za-z])\.?))"
_MINUTES = {"five": 5, "ten": 10, "twenty": 20, "twenty-five": 25, "a quarter": 15, "quarter": 15, "half": 30}

DATES = [
    re.compile(rf"(?P<from>{_DAY}) ?(?:-|–|to) ?(?P<day>{_DAY}) (?:of )?(?P<month>{_MONTH})(?:,? (?P<year>{_YEAR}))?"),
    re.compile(rf"(?P<month>{_MONTH}) (?P<from>{_DAY}) ?(?:-|–|to) ?(?P<day>{_DAY})(?:,? (?P<year>{_YEAR}))?"),
    re.compile(rf"(?<![\d.,-])(?P<day>{_DAY}) (?:of )?(?P<month>{_MONTH})(?:,? (?P<year>{_YEAR}))?"),
    re.compile(rf"(?P<month>{_MONTH}) (?:the )?(?P<day>{_DAY})(?:,? (?P<year>{_YEAR}))?"),
    re.compile(rf"(?P<month>{_MONTH}),? (?:of )?(?P<year>{_YEAR})"),
    re.compile(
        r"(?<![\d.-])(?P<year>1\d{3}|20\d{2})(?P<sep>[-/.])(?P<month>[01]?\d)(?P=sep)(?P<day>[0-3]?\d)(?![\d-])"
    ),
    re.compile(r"(?<![\d.-])(?P<one>[0-3]?\d)(?P<sep>[-/.])(?P<two>[0-3]?\d)(?P=sep)(?P<year>1\d{3}|20\d{2})(?![\d-])"),
    re.compile(rf"(?i:\b(?:{_BEFORE_MONTH}) )(?P<month>{one_of(_VERBS)})(?![a-z])"),
    re.compile(rf"\b(?P<month>{_PLAIN_MONTHS})(?![A-Za-z])"),
    re.compile(rf"(?i:\b(?P<weekday>{one_of(WEEKDAYS)})(?![a-z]))"),
]
TIMES = [
    re.compile(
        rf"(?i:\b(?P<minutes>half|(?:a )?quarter|(?:twenty-five|twenty|ten|five)(?: minutes)?) (?P<way>past|to) )"
        rf"(?P<hour>{_HOUR})(?![\d:A-Za-z])(?: o'clock)?(?:{_HALF}|{_PART})?"
    ),
    re.compile(rf"(?<![\d.,:])(?<!\w)(?P<hour>{_HOUR})(?:[:.](?P<minute>[0-5]\d))?(?: o'clock)?{_HALF}"),
    re.compile(
        rf"(?<![\d.,:/])(?P<hour>[01]?\d|2[0-4])(?::(?P<minute>[0-5]\d)|h(?P<minute_h>[0-5]\d))(?::(?P<second>[0-5]\d))?"
        rf"(?![\d:]){_PART}?"
    ),
    re.compile(rf"(?<![\d.,:])(?<!\w)(?P<hour>{_HOUR}) o'clock{_PART}?"),
    re.compile(rf"(?<![\d.,:])(?<!\w)(?P<hour>{_HOUR}){_PART}"),
    re.compile(r"(?i:\b(?:12 |twelve )?(?P<word>noon|midday|midnight)\b)"),
]


def read_date(match: re.Match) -> list[Found]:
    """The date, or both ends of a range of days; nothing where the numbers are no date."""
    found = match.groupdict()
    if found.get("weekday"):
        return [("date", found["weekday"].capitalize(), match.span())]
    year = found.get("year") or "XXXX"
    if found.get("one"):
        one, two = int(found["one"]), int(found["two"])
        if min(one, two) < 1 or min(one, two) > 12 or max(one, two) > 31:
            return []
        ambiguous = max(one, two) <= 12 and one != two
        value = f"{one}/{two}/{year}" if ambiguous else _date(year, min(one, two), max(one, two))
        return [("date", value, match.span())]
    month = found["month"].rstrip(".").capitalize()
    number = _NUMBERS.get(month) or int(month)
    if found.get("day") is None:
        return [("date", f"{year}-{number:02d}", match.span("month" if year == "XXXX" else 0))]
    days = [(name, _day(found[name])) for name in ("from", "day") if found.get(name)]
    if not 1 <= number <= 12 or not all(1 <= day <= 31 for _, day in days):
        return []
    if len(days) == 1:
        return [("date", _date(year, number, days[0][1]), match.span())]
    spans = {"from": (match.start(), match.end("from")), "day": (match.start("day"), match.end())}
    return [("date", _date(year, number, day), spans[name]) for name, day in days]


def _day(text: str) -> int:
    return int(re.match(r"\d+", text)[0]) if text[0].isdigit() else read_ordinal(text)


def _date(year: str, month: int, day: int) -> str:
    return f"{year}-{month:02d}-{day:02d}"


def read_time(match: re.Match) -> list[Found]:
    """The time on the 24-hour clock; nothing where the numbers are no time."""
    found = match.groupdict()
    if word := found.get("word"):
        return [("time", "00:00" if word.lower() == "midnight" else "12:00", match.span())]
    hour = int(read_numeral(found["hour"]))
    minute = int(found.get("minute") or found.get("minute_h") or 0)
    if way := found.get("way"):
        shift = _MINUTES[found["minutes"].lower().removesuffix(" minutes")]
        hour, minute = (hour, shift) if way.lower() == "past" else ((hour - 1) % 24 or 24, 60 - shift)
    if found.get("half"):
        if not 1 <= hour <= 12:
            return []
        hour = hour % 12 + 12 * (found["half"][0] in "pP")
    elif found.get("part"):
        hour = _on_24_hours(hour, found["part"].split()[-1])
    second = f":{found['second']}" if found.get("second") else ""
    return [("time", f"{hour:02d}:{minute:02d}{second}", match.span())]


def _on_24_hours(hour: int, part: str) -> int:
    if hour > 12:
        return hour
    if part == "morning" or (part == "night" and hour in (12, 1, 2, 3, 4, 5)):
        return hour % 12
    return hour % 12 + 12
