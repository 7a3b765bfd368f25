"""Units and currencies in English text, and their canonical symbols.

Decisions: the same amount in another unit is not exact: 1.5 km is not 1,500 m, and 25 km is not 15.5 miles. Spellings
of one unit are the same (metre, meter, m). `ton` and `tonne` are one unit, as translations use them alike. `pound` is
one unit for money and weight, since `50 pounds` does not say which. `$` and `dollar` mean the US dollar, `¥` the yen,
unless the text names another. Cents are a unit of their own. `in` (inch), `A`, `K`, `C`, `F` alone are no units.
"""

from __future__ import annotations

import re
from functools import cache

_PREFIXES = {
    "": "",
    "n": "nano",
    "µ": "micro",
    "m": "milli",
    "c": "centi",
    "d": "deci",
    "h": "hecto",
    "k": "kilo",
    "M": "mega",
    "G": "giga",
    "T": "tera",
}
#: symbol → (words, prefixes that occur, whether the bare symbol counts)
_METRIC = {
    "m": ("met(?:re|er)s?", "nµmcdk", True),
    "g": ("gram(?:me)?s?", "nµmk", True),
    "l": ("lit(?:re|er)s?", "µmcdhk", True),
    "W": ("watts?", "mkMGT", True),
    "Wh": ("watt[- ]?hours?", "kMGT", True),
    "V": ("volts?", "mkM", True),
    "A": ("amp(?:ere)?s?", "mk", False),
    "Ah": ("amp(?:ere)?[- ]?hours?", "m", True),
    "Hz": ("hertz", "kMGT", True),
    "Pa": ("pascals?", "hkMG", True),
    "J": ("joules?", "kMG", False),
    "B": ("bytes?", "kMGT", False),
    "bit": ("bits?", "kMG", False),
    "cal": ("calories?", "k", False),
}
_KM, _M, _CM = "kilomet(?:re|er)s?", "met(?:re|er)s?", "centimet(?:re|er)s?"
#: canonical → (symbols, case-sensitive patterns; words, case-insensitive patterns)
_OTHER = {
    "kg": ("Kg|KG", "kilos?"),
    "t": ("t", "(?:metric )?ton(?:ne)?s?"),
    "km/h": ("km/h|kmph|kph|km per hour", f"{_KM} (?:per|an) hour"),
    "m/s": ("m/s", f"{_M} (?:per|a) second"),
    "mph": ("mph", "miles? (?:per|an) hour"),
    "km²": ("km²|km2|sq\\.? ?km", f"square {_KM}"),
    "m²": ("m²|m2|sq\\.? ?m", f"square {_M}"),
    "cm²": ("cm²|cm2", f"square {_CM}"),
    "m³": ("m³|m3", f"cubic {_M}"),
    "cm³": ("cm³|cm3", f"cubic {_CM}"),
    "ha": ("ha", "hectares?"),
    "acre": ("", "acres?"),
    "mi": ("mi", "miles?"),
    "sq mi": ("sq\\.? ?mi", "square miles?"),
    "ft": ("ft", "f(?:oo|ee)t"),
    "sq ft": ("sq\\.? ?ft", "square f(?:oo|ee)t"),
    "inch": ("", "inch(?:es)?"),
    "yd": ("yd", "yards?"),
    "pound": ("lbs?", "pounds?"),
    "oz": ("oz", "ounces?"),
    "gal": ("gal", "gallons?"),
    "barrel": ("", "barrels?"),
    "°C": ("° ?C|℃", "degrees? (?:celsius|centigrade)"),
    "°F": ("° ?F|℉", "degrees? fahrenheit"),
    "°": ("°", "degrees?"),
    "dB": ("dB", "decibels?"),
    "rpm": ("rpm", "revolutions per minute"),
    "hp": ("hp", "horse ?power"),
    "s": ("s", "sec(?:ond)?s?(?!-)"),
    "min": ("", "min(?:ute)?s?"),
    "h": ("h", "h(?:ou)?rs?"),
    "day": ("", "days?"),
    "week": ("", "weeks?"),
    "month": ("", "months?"),
    "year": ("", "y(?:ea)?rs?"),
    "decade": ("", "decades?"),
    "century": ("", "centur(?:y|ies)"),
    "%": ("%", "per ?cent|pct"),
    "percentage point": ("pp", "percentage points?"),
}
#: code → (before the number, case-sensitive; after it, case-insensitive words)
_CURRENCIES = {
    "USD": (r"(?:US ?)?\$ ?|USD ?", r"(?:US |U\.S\. |American )?dollars?"),
    "AUD": (r"AU?\$|AUD ?", "Australian dollars?"),
    "CAD": (r"CA?\$|CAD ?", "Canadian dollars?"),
    "HKD": (r"HK\$|HKD ?", "Hong Kong dollars?"),
    "NZD": (r"NZ\$|NZD ?", "New Zealand dollars?"),
    "SGD": (r"SG?\$|SGD ?", "Singapore(?:an)? dollars?"),
    "TWD": (r"NT\$|TWD ?", "(?:New )?Taiwan(?:ese)? dollars?"),
    "EUR": ("€ ?|EUR ?", "euros?"),
    "pound": ("£ ?|GBP ?", "pounds? sterling|British pounds?"),
    "EGP": ("EGP ?", "Egyptian pounds?"),
    "JPY": ("(?:JP)?¥ ?|JPY ?", "(?:Japanese )?yen"),
    "CNY": ("CN¥ ?|RMB ?|CNY ?", "(?:Chinese )?yuan|renminbi|RMB|kuai"),
    "INR": (r"₹ ?|Rs\.? ?|INR ?", "(?:Indian )?rupees?"),
    "BDT": ("৳ ?|Tk\\.? ?|BDT ?", "taka"),
    "THB": ("฿ ?|THB ?", "(?:Thai )?bahts?"),
    "KHR": ("៛ ?|KHR ?", "(?:Cambodian )?riels?"),
    "MMK": ("MMK ?", "(?:Burmese |Myanmar )?kyats?"),
    "LAK": ("₭ ?|LAK ?", "(?:Lao )?kips?"),
    "VND": ("₫ ?|VND ?", "(?:Vietnamese )?dongs?"),
    "ETB": ("ETB ?", "(?:Ethiopian )?birrs?"),
    "KRW": ("₩ ?|KRW ?", "(?:South )?Korean won"),
    "RUB": ("₽ ?|RUB ?", "rou?bles?"),
    "TRY": ("₺ ?|TRY ?", "(?:Turkish )?liras?"),
    "AED": ("AED ?", "dirhams?"),
    "dinar": ("", "dinars?"),
    "riyal": ("SAR ?", "ri[ya]+ls?"),
    "peso": ("₱ ?|PHP ?|MXN ?", "pesos?"),
    "CHF": ("CHF ?", "(?:Swiss )?francs?"),
    "MYR": ("MYR ?", "ringgits?"),
    "IDR": ("IDR ?", "rupiahs?"),
    "shilling": ("KES ?|TZS ?", "shillings?"),
    "cent": ("", "cents?|¢"),
}


def _units() -> dict[str, str]:
    """canonical → pattern of everything that is written for it."""
    found: dict[str, list[str]] = {}
    for base, (words, prefixes, bare) in _METRIC.items():
        for prefix in ["", *prefixes]:
            canonical = prefix + base
            letters = {"µ": "[µμu]", "k": "[kK]" if base == "B" else "k"}.get(prefix, prefix)
            symbol = letters + ("[lL]" if base == "l" else base)
            found[canonical] = [*([symbol] if prefix or bare else []), f"(?i:{_PREFIXES[prefix]}{words})"]
    for canonical, (symbols, words) in _OTHER.items():
        found.setdefault(canonical, []).extend([symbols] * bool(symbols) + [f"(?i:{words})"])
    return {canonical: "|".join(patterns) for canonical, patterns in found.items()}


_UNIT_PATTERNS = _units()
_AFTER_PATTERNS = {
    code: "|".join([f"(?i:{words})", *([before] if before else [])]) for code, (before, words) in _CURRENCIES.items()
}


def _longest_first(patterns: object) -> str:
    """So that `degrees Celsius` is tried before `degrees`, and `km/h` before `km`."""
    alternatives = [part for pattern in patterns for part in _split(pattern)]
    return "(?:" + "|".join(sorted(alternatives, key=len, reverse=True)) + ")"


def _split(pattern: str) -> list[str]:
    """The alternatives at the top level of a pattern."""
    parts, depth = [""], 0
    for character in pattern:
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(character, 0)
        if character == "|" and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


#: What may follow a number and makes it a quantity, a percentage or a price.
UNIT_AFTER = f"{_longest_first([*_UNIT_PATTERNS.values(), *_AFTER_PATTERNS.values()])}(?![A-Za-z0-9²³])"
#: What may stand before a number and makes it a price.
CURRENCY_BEFORE = _longest_first([before for before, _ in _CURRENCIES.values() if before])


@cache
def unit_of(text: str) -> tuple[str, str]:
    """Kind (`quantity`, `percent`, `price`) and canonical unit of a match of [`UNIT_AFTER`] or [`CURRENCY_BEFORE`]."""
    text = text.strip()
    for code, pattern in _AFTER_PATTERNS.items():
        if re.fullmatch(pattern, text) or re.fullmatch(pattern, f"{text} "):
            return "price", code
    canonical = next(unit for unit, pattern in _UNIT_PATTERNS.items() if re.fullmatch(pattern, text))
    return ("percent" if canonical == "%" else "quantity"), canonical
