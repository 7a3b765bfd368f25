"""Table 2 of the paper and its picture."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .report import new_figure, save_figure, table

Comparisons = Mapping[str, Mapping[str, Mapping[str, Any]]]

_COLUMNS = (
    "comparison",
    "examples",
    "wins %",
    "losses %",
    "ties %",
    "preference",
    "95 %",
    "agreement",
    "picks A",
    "unparsed",
    "n",
)
_BARS = {"wins": "tab:blue", "ties": "tab:gray", "inconsistent": "lightgray", "losses": "tab:orange"}


def judge_table(comparisons: Comparisons) -> str:
    """Table 2, with what it takes to read it: the interval, agreement between orders, position bias, the unreadable.

    Args:
        comparisons: [`judge_groups`] by the comparison's name.
    """
    rows = [
        [
            comparison,
            group,
            *(f"{100 * counts[name] / counts['n']:.0f}" if counts["n"] else "-" for name in ("wins", "losses", "ties")),
            _cell(counts["preference"]),
            _interval(counts),
            _cell(counts["agreement"]),
            _cell(counts["picks_a"]),
            counts["unparsed"],
            counts["n"],
        ]
        for comparison, groups in comparisons.items()
        for group, counts in groups.items()
    ]
    return table(_COLUMNS, rows)


def _cell(value: float | None) -> Any:
    return "-" if value is None else value


def _interval(counts: Mapping[str, Any]) -> str:
    ends = counts.get("intervals", {}).get("preference")
    return f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else "-"


def plot_judge(comparisons: Comparisons, path: str | os.PathLike) -> None:
    """Draws wins, ties and losses in percent as stacked bars, one a comparison and group, with the preference.

    Ties on which the two orders do not agree are drawn apart.

    Args:
        comparisons: [`judge_groups`] by the comparison's name.
        path: PNG file.
    """
    bars = [(f"{name}\n{group}", counts) for name, groups in comparisons.items() for group, counts in groups.items()]
    figure, axis = new_figure(figsize=(9, 1.2 + 0.55 * len(bars)), layout="constrained")
    left = [0.0] * len(bars)
    for kind, color in _BARS.items():
        widths = [_percent(counts, kind) for _, counts in bars]
        axis.barh(range(len(bars)), widths, left=left, color=color, label=kind)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for place, (_, counts) in enumerate(bars):
        preference = "no preference" if counts["preference"] is None else f"{100 * counts['preference']:.1f} %"
        unparsed = f", {counts['unparsed']} unparsed" if counts["unparsed"] else ""
        axis.text(101, place, f"{preference} (n = {counts['n']}{unparsed})", va="center")
    axis.set_yticks(range(len(bars)), [label for label, _ in bars])
    axis.invert_yaxis()
    axis.set_xlim(0, 100)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_xlabel("% of the judged examples; beside the bars: wins / (wins + losses)")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=len(_BARS))
    save_figure(figure, path)


def _percent(counts: Mapping[str, Any], kind: str) -> float:
    number = counts["ties"] - counts["inconsistent"] if kind == "ties" else counts[kind]
    return 100 * number / counts["n"] if counts["n"] else 0.0
