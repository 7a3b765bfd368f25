"""Chinese numerals, which Japanese and Korean write too.

They are also parts of words. A run counts if it holds ASCII digits (`3万5千`), if digits and places are
composed (`二十五`), or if a counter follows (`三人`, `二〇二一年`); 一緒, 千葉, 三角 and 十分 hold no number.
"""

from __future__ import annotations

import re
from fractions import Fraction

_DIGITS = {character: n for n, character in enumerate("〇一二三四五六七八九")} | {"零": 0, "两": 2, "兩": 2}
_PLACES = {"十": 10, "百": 100, "千": 1000}
_GROUPS = {"万": 10**4, "萬": 10**4, "億": 10**8, "亿": 10**8, "兆": 10**12}
_CHARACTERS = "".join([*_DIGITS, *_PLACES, *_GROUPS])
_COUNTERS = (
    "年月日号號時时点點分秒円圆圓元人個个箇か本枚匹台回歳岁歲度階阶楼层層冊册名頁页杯歩步条件位家只块塊斤公里米克吨小週周世"
    "番丁倍割章課课つ％%キメグトドパワセミヘリペポフユ名座张張"
)
#: Words that hold numerals and counters, but no number.
_WORDS = re.compile("十分(?![間钟鐘])|二度と|八百屋|八百長|三日月|百人一首|万分|百万長者|[百千万]分之")
#: Digits and numerals in one run; 兆 before a unit is the prefix mega, 点 a decimal point but in a time.
CHINESE_RUN = (
    rf"(?:\d[\d,]*(?:\.\d+)?|[{_CHARACTERS}](?<!兆)|兆(?![瓦字赫欧歐帕焦比伏])"
    r"|(?<=[〇零一二三四五六七八九十])[点點](?=[〇零一二三四五六七八九]+(?![〇零一二三四五六七八九十分刻半])))+"
    rf"(?<=[{_CHARACTERS}\d])"
)


def read_chinese(run: str, before: str = "", after: str = "") -> Fraction | None:
    """What a match of [`CHINESE_RUN`] means; None where it is part of a word, or holds no Chinese numeral.

    Args:
        run: The match.
        before: The text before it.
        after: The text after it.
    """
    if not re.search(f"[{_CHARACTERS}]", run) or _WORDS.match(run + after):
        return None
    digits = [character for character in run if character.isascii() and character.isdigit()]
    composed = any(c in _DIGITS for c in run) and any(c in _PLACES or c in _GROUPS for c in run)
    spelled = len(run) > 2 and all(c in _DIGITS for c in run)
    if not (digits or composed or spelled or before.endswith(("第", "分之")) or (after and after[0] in _COUNTERS)):
        return None
    if re.fullmatch(f"[{''.join(_DIGITS)}]+(?:[点點][{''.join(_DIGITS)}]+)?", run):
        return Fraction("".join("." if c in "点點" else str(_DIGITS[c]) for c in run))
    return _sum_of_places(run)


def _sum_of_places(run: str) -> Fraction:
    """`二千五百`, `3万5千`, `1.5億`, `三十点五`: digits times places, sections times groups of four."""
    run, _, decimals = run.replace("點", "点").partition("点")
    total = section = Fraction(0)
    number: Fraction | None = None
    for token in re.findall(r"\d[\d,]*(?:\.\d+)?|.", run):
        if token in _PLACES:
            section += (1 if number is None else number) * _PLACES[token]
            number = None
        elif token in _GROUPS:
            amount = section + (number or 0)
            total = total + amount * _GROUPS[token] if amount else max(total, Fraction(1)) * _GROUPS[token]
            section, number = Fraction(0), None
        elif token in _DIGITS:
            number = (number or Fraction(0)) * 10 + _DIGITS[token]
        else:
            number = Fraction(token.replace(",", ""))
    fraction = Fraction("0." + "".join(str(_DIGITS[c]) for c in decimals)) if decimals else 0
    return total + section + (number or 0) + fraction
