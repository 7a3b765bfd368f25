"""Two-sided numbers, prices, ages, years and room numbers: English in Arabic digits, Khmer in Khmer digits."""

from __future__ import annotations

from .grammar import Choice, Word, khmer_digits


def number(low: int, high: int, step: int = 1) -> Choice:
    """Whole numbers low, low + step, ... up to high, written without separators."""
    return Choice.of([Word(str(n), khmer_digits(str(n))) for n in range(low, high + 1, step)])


def decimals(low: int, high: int, step: int = 1) -> Choice:
    """Tenths: `decimals(375, 405)` runs from 37.5 to 40.5; whole numbers are left out."""
    texts = [f"{n // 10}.{n % 10}" for n in range(low, high + 1, step) if n % 10]
    return Choice.of([Word(text, khmer_digits(text)) for text in texts])


def dollars(low: int, high: int, step: int = 1) -> Choice:
    """Whole dollars."""
    return Choice.of([Word(f"${n}", f"{khmer_digits(str(n))} ដុល្លារ") for n in range(low, high + 1, step)])


def riel(low: int, high: int, step: int = 500) -> Choice:
    """Riel, with thousands separated."""
    return Choice.of([Word(f"{n:,} riel", f"{khmer_digits(f'{n:,}')} រៀល") for n in range(low, high + 1, step)])


DOLLARS_CENTS = Choice(
    (
        [
            Word(f"${n}.{cents}", f"{khmer_digits(f'{n}.{cents}')} ដុល្លារ")
            for n in range(1, 8)
            for cents in ("25", "50", "75")
        ],
        1,
    )
)
SMALL_PRICE = Choice(*riel(1000, 9500).groups, *dollars(2, 9).groups, *DOLLARS_CENTS.groups)
"""Something small: 1,000 to 9,500 riel or up to about nine dollars."""
LITRES_A_DAY = Choice(*decimals(15, 35, 5).groups, *number(2, 4).groups)
AGE = number(18, 85)
YEAR = number(1985, 2024)
FUTURE_YEAR = number(2027, 2040)
FLOOR = number(2, 15)
ROOM = number(101, 599)
DIGITS3 = Choice.of([Word(f"{n:03d}", khmer_digits(f"{n:03d}")) for n in range(100, 1000)])
PREFIX = Choice.of([Word(text, khmer_digits(text)) for text in ("012", "015", "017", "077", "089", "092", "096")])
