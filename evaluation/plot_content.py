"""The tables and the plot of `llink eval content`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .content import MEASURES
from .report import new_figure, save_figure, table, with_interval


def systems_table(systems: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str] | None = None) -> str:
    """Every measure of each system, with 95 % intervals; nothing stands where there is none.

    Args:
        systems: `systems` of what [`content_scores`] returns.
        titles: What systems are called; by their names if not given.
    """
    rows = [
        [(titles or {}).get(name, name), *("" if s[m] is None else with_interval(s, m) for m in MEASURES), s["n"]]
        for name, s in systems.items()
    ]
    return table(["system", *MEASURES, "n"], rows)


def agreement_table(found: Mapping[str, Mapping[str, float | None]]) -> str:
    """The correlation of every two measures: `agreement` of what [`content_scores`] returns."""
    rows = [[name, *("" if value is None else value for value in row.values())] for name, row in found.items()]
    return table(["", *MEASURES], rows)


def plot_content(results: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Draws each measure of the systems, with 95 % intervals, one panel a measure.

    Args:
        results: What [`content_scores`] returns.
        path: PNG file.
    """
    figure, axes = new_figure(1, len(MEASURES), figsize=(2.6 * len(MEASURES), 3.4))
    for axis, measure in zip(axes, MEASURES, strict=True):
        for name, score in results["systems"].items():
            if (height := score[measure]) is None:
                continue
            low, high = score.get("intervals", {}).get(measure, (height, height))
            axis.bar(name, height, color="tab:blue", capsize=3, yerr=[[max(height - low, 0)], [max(high - height, 0)]])
        axis.tick_params(axis="x", labelrotation=30)
        axis.set_title(measure.replace("_", " "))
    save_figure(figure, path)
