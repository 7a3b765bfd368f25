"""Ethiopic numerals."""

from __future__ import annotations

import unicodedata
from fractions import Fraction


def read_ethiopic(run: str) -> Fraction:
    """`፳፻፲፫` is 2013: units and tens, times ፻ (100) and ፼ (10,000)."""
    total = section = pending = 0
    for character in run:
        value = int(unicodedata.numeric(character))
        if value == 10_000:
            total, section, pending = total + max(section + pending, 1) * value, 0, 0
        elif value == 100:
            section, pending = section + max(pending, 1) * value, 0
        else:
            pending += value
    return Fraction(total + section + pending)
