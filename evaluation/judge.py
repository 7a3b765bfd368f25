"""Blinded pairwise comparison of two systems' answers by a language model (paper 5, 6.1 and table 2).

Every example is judged twice, once in each order. A system wins where both verdicts name it; two verdicts that differ
are a tie, and are counted as inconsistent. Pure functions: how the judge's answers are read, and verdicts counted.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..data.chat_client import json_objects
from ..data.errors import DataError

#: What a judge may answer.
VERDICTS = ("A", "B", "tie")
#: No attempt gave an answer that could be read: the pair is left out, and counted.
UNPARSED = "unparsed"
#: Both systems gave the same text: a tie without asking.
IDENTICAL = "identical"
MIRRORED = {"A": "B", "B": "A", "tie": "tie", UNPARSED: UNPARSED, IDENTICAL: IDENTICAL}


def parse_verdict(answer: str) -> str:
    """Reads a judge's answer: `A`, `B`, `tie`, or `unparsed`.

    A verdict is the value of `verdict` in a JSON object, wherever it stands; several must agree. An answer that is
    nothing but `A`, `B` or `tie` counts too. What stands before `</think>` is not read.
    """
    named = [value for members in json_objects(answer) for name, value in members if name == "verdict"]
    if not named:
        bare = re.fullmatch(r"\W*(A|B|(?i:tie))\W*", answer.rpartition("</think>")[2])
        named = [bare.group(1)] if bare else [None]
    spelled = {name.lower(): name for name in VERDICTS}
    verdicts = {spelled.get(value.strip().lower(), UNPARSED) if isinstance(value, str) else UNPARSED for value in named}
    return verdicts.pop() if len(verdicts) == 1 else UNPARSED


def outcome(verdicts: tuple[str, str]) -> str:
    """What two verdicts on a pair mean for the first system.

    Args:
        verdicts: With the first system's answer as A, and with the second's.

    Returns:
        `win`, `loss`, `tie`, `inconsistent` (the verdicts differ), `identical` or `unparsed`.

    Raises:
        DataError: If one is no verdict.
    """
    for verdict in verdicts:
        if verdict not in MIRRORED:
            raise DataError(f"{verdict!r} is no verdict; choose from {', '.join(MIRRORED)}.")
    straight, mirrored = verdicts[0], MIRRORED[verdicts[1]]
    if (straight == IDENTICAL) != (mirrored == IDENTICAL):
        raise DataError(f"{verdicts}: the answers cannot be identical in one order only.")
    if UNPARSED in verdicts:
        return UNPARSED
    if straight != mirrored:
        return "inconsistent"
    return {"A": "win", "B": "loss"}.get(straight, straight)


def tally(verdicts: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Counts two verdicts on each of N pairs for the first system (paper table 2).

    Returns:
        `wins`, `losses`, `ties` (these three sum to `n`); of the ties, `inconsistent` and `identical`; `unparsed`, the
        pairs left out; `preference`, wins/(wins + losses), with its 95 % Wilson interval in `intervals`; `agreement`,
        the share of judged pairs on which both orders agree; and `picks_a`, the share of A among the verdicts that
        name an answer (0.5 without position bias). A share of nothing is None, and has no interval.

    Raises:
        DataError: If there are none, or one is no verdict.
    """
    if not verdicts:
        raise DataError("There are no verdicts to count.")
    counts = Counter(outcome(pair) for pair in verdicts)
    wins, losses = counts["win"], counts["loss"]
    ties = counts["tie"] + counts["inconsistent"] + counts[IDENTICAL]
    agreed = wins + losses + counts["tie"]
    named = Counter(verdict for pair in verdicts for verdict in pair)
    shares = {
        "preference": _share(wins, wins + losses),
        "agreement": _share(agreed, agreed + counts["inconsistent"]),
        "picks_a": _share(named["A"], named["A"] + named["B"]),
    }
    interval = wilson_interval(wins, wins + losses)
    return {
        "wins": wins,
        "losses": losses,
        "ties": ties,
        "inconsistent": counts["inconsistent"],
        "identical": counts[IDENTICAL],
        "unparsed": counts[UNPARSED],
        "n": wins + losses + ties,
        **shares,
        **({"intervals": {"preference": list(interval)}} if interval else {}),
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def wilson_interval(successes: int, n: int, z: float = 1.959964) -> tuple[float, float] | None:
    """Wilson's score interval of a share; 95 % for the default z. None when n is 0."""
    if n == 0:
        return None
    share, spread = successes / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread * spread / 4) / (1 + spread)
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))  # rounding must not leave it out
