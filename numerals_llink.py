"""Ethiopic numerals, where what travels with a checkpoint and what needs no torch both find them."""

from __future__ import annotations

import unicodedata


def read_ethiopic(numeral: str) -> int:
    """`፳፻፲፫` is 2013: units and tens, times ፻ (100) and ፼ (10,000)."""
    total = section = pending = 0
    for sign in numeral:
        value = int(unicodedata.numeric(sign))
        if value == 10_000:
            total, section, pending = total + max(section + pending, 1) * value, 0, 0
        elif value == 100:
            section, pending = section + max(pending, 1) * value, 0
        else:
            pending += value
    return total + section + pending
