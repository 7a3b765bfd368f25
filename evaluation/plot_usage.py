"""The plot of `llink eval usage`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from .report import new_figure, save_figure

_RISE = "loss above that with slots (nats a token)"


def plot_usage(results: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Draws the gaps with their 95 % intervals, over all rows and by task, and what each slot is worth alone.

    Args:
        results: What `usage_report` returns.
        path: PNG file.
    """
    tasks, per_slot = results["tasks"], results.get("per_slot", [])
    panels = 1 + bool(tasks) + bool(per_slot)
    figure, axes = new_figure(1, panels, figsize=(1 + 4.2 * panels, 4), squeeze=False, layout="constrained")
    free = iter(axes[0])
    gaps = list(results["intervals"])
    names = [gap.removesuffix("_gap") for gap in gaps]
    axis = next(free)
    bars = axis.bar(names, [results[gap] for gap in gaps], yerr=_errors([results], gaps), capsize=4, color="tab:blue")
    axis.bar_label(bars, fmt="%.2f", padding=3)
    axis.margins(y=0.12)  # room for the labels above the error bars
    axis.set_ylabel(_RISE)
    axis.set_title(f"In place of the slots, {results['n']} rows")
    if tasks:
        _draw_tasks(next(free), tasks, gaps)
    if per_slot:
        axis = next(free)
        rises = [slot["gap"] for slot in per_slot]
        errors = _distances(rises, [slot["interval"] for slot in per_slot])
        axis.bar(range(len(per_slot)), rises, yerr=errors, capsize=4, color="tab:green")
        axis.set_xlabel("slot zeroed alone")
        axis.set_title("What each slot is worth")
    for axis in axes[0]:
        axis.axhline(0, color="black", linewidth=0.8)
    save_figure(figure, path)


def _draw_tasks(axis: Any, tasks: Mapping[str, Mapping[str, Any]], gaps: Sequence[str]) -> None:
    width = 0.8 / len(gaps)
    for column, gap in enumerate(gaps):
        places = [index + width * (column - (len(gaps) - 1) / 2) for index in range(len(tasks))]
        heights = [found[gap] for found in tasks.values()]
        errors = _errors(list(tasks.values()), [gap])
        axis.bar(places, heights, width, yerr=errors, capsize=2, label=gap.removesuffix("_gap"))
    axis.set_xticks(range(len(tasks)), [name.replace("_", "\n") for name in tasks])
    axis.set_title("By task")
    axis.legend()


def _errors(found: Sequence[Mapping[str, Any]], gaps: Sequence[str]) -> list[list[float]]:
    heights = [report[gap] for report in found for gap in gaps]
    return _distances(heights, [report["intervals"][gap] for report in found for gap in gaps])


def _distances(heights: Sequence[float], intervals: Sequence[Sequence[float]]) -> list[list[float]]:
    """Error bars as matplotlib wants them: distances below and above; a skewed draw may leave a height outside."""
    pairs = list(zip(heights, intervals, strict=True))
    return [[max(h - low, 0.0) for h, (low, _) in pairs], [max(high - h, 0.0) for h, (_, high) in pairs]]
