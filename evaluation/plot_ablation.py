"""Shows a study: one table, and one row of bars, a question."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .report import new_figure, save_figure, table


def ablation_table(question: str, variants: Mapping[str, Mapping[str, Any]]) -> str:
    """A row a variant; means with their standard deviation where a study has several seeds.

    Args:
        question: Title of the first column.
        variants: Variant → metrics, as `run_study` returns them for a question.
    """
    columns = [name for name in next(iter(variants.values())) if name != "seeds" and not name.endswith("_std")]
    cells = [[label, *(_with_deviation(found, name) for name in columns)] for label, found in variants.items()]
    return table([question, *columns], cells)


def _with_deviation(found: Mapping[str, Any], name: str) -> str:
    deviation = found.get(f"{name}_std")
    return f"{found[name]:.3f}" if deviation is None else f"{found[name]:.3f} ± {deviation:.3f}"


def plot_ablation(results: Mapping[str, Mapping[str, Mapping[str, Any]]], path: str | os.PathLike) -> None:
    """Draws retrieval and, where it was measured, the usage gap of every variant.

    Args:
        results: Question → variant → metrics, as `run_study` returns them.
        path: PNG file.
    """
    measured = {name for variants in results.values() for metrics in variants.values() for name in metrics}
    metrics = [name for name in ("r@1", "full_r@1", "zeroed_gap") if name in measured]
    heights = [1 + 0.4 * len(variants) for variants in results.values()]
    figure, axes = new_figure(
        len(results),
        len(metrics),
        figsize=(4 + 4 * len(metrics), 1 + sum(heights)),
        height_ratios=heights,
        layout="constrained",
        squeeze=False,
    )
    for row, (question, variants) in zip(axes, results.items(), strict=True):
        for axis, metric in zip(row, metrics, strict=True):
            values = [variant[metric] for variant in variants.values()]
            spread = [variant.get(f"{metric}_std", 0.0) for variant in variants.values()]
            bars = axis.barh(range(len(values)), values, xerr=spread if any(spread) else None, color="tab:blue")
            axis.bar_label(bars, fmt="%.3f", padding=3)
            axis.invert_yaxis()
            axis.margins(x=0.2)
            axis.set_yticks(range(len(values)), list(variants) if axis is row[0] else [""] * len(values))
            axis.set_title(f"{question}: {metric}" if axis is row[0] else metric, fontsize=10)
    save_figure(figure, path)
