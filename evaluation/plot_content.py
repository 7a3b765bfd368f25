"""The plot of `llink eval content`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .content import MEASURES
from .report import new_figure, save_figure


def plot_content(results: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Draws each measure of the systems, with 95 % intervals, one panel a measure.

    Args:
        results: What [`content_scores`] returns.
        path: PNG file.
    """
    systems = results["systems"]
    figure, axes = new_figure(1, len(MEASURES), figsize=(2.6 * len(MEASURES), 3.4), layout="constrained")
    for axis, measure in zip(axes, MEASURES, strict=True):
        known = {name: score for name, score in systems.items() if score[measure] is not None}
        heights = [score[measure] for score in known.values()]
        ends = [
            score.get("intervals", {}).get(measure, (height, height))
            for score, height in zip(known.values(), heights, strict=True)
        ]
        errors = [
            [max(h - low, 0) for h, (low, _) in zip(heights, ends, strict=True)],
            [max(high - h, 0) for h, (_, high) in zip(heights, ends, strict=True)],
        ]
        axis.bar(list(known), heights, yerr=errors, capsize=3)
        axis.tick_params(axis="x", labelrotation=30)
        axis.set_title(measure.replace("_", " "))
    save_figure(figure, path)
