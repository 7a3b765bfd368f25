"""The plot of `llink eval representations`, after the paper's figure 3."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from matplotlib.ticker import MaxNLocator

from .report import new_figure, save_figure


def plot_representations(results: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Draws, by layer, cosines, norms and residual changes; below them embedding norms and losses by reading.

    Args:
        results: What `representation_report` returns.
        path: PNG file.
    """
    readings, reference = results["readings"], results["reference"]
    colours = {name: f"C{number}" for number, name in enumerate(readings)}
    figure, axes = new_figure(2, 3, figsize=(14, 7.5), layout="constrained")
    for name, cosines in results["cosines"].items():
        axes[0, 0].plot(cosines["matched"], color=colours[name], marker=".", label=name)
        axes[0, 0].plot(cosines["mismatched"], color=colours[name], linestyle=":")
    axes[0, 0].set_title(f"Cosine with {reference} (dotted: mismatched pairs)")
    for axis, key, first, title in (
        (axes[0, 1], "norms", 0, "Hidden-state norm"),
        (axes[0, 2], "residuals", 1, "Residual change (but the last layer's)"),
    ):
        for name, found in readings.items():
            layers = range(first, first + len(found[key]))
            axis.plot(layers, found[key], color=colours[name], marker=".", label=name)
        axis.set_yscale("log")
        axis.set_title(title)
    for axis in axes[0]:
        axis.set_xlabel("layer (0: embeddings)")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.legend()
    titles = {
        "embedding_norm": "Input-embedding norm",
        "text_nll": "Loss of the text itself (nats a token)",
        "answer_nll": "Loss of the English answer after it (nats a token)",
    }
    for axis, (key, title) in zip(axes[1], titles.items(), strict=True):
        names = [name for name in readings if key in readings[name]]
        bars = axis.bar(names, [readings[name][key] for name in names], color=[colours[name] for name in names])
        axis.bar_label(bars, fmt="%.3g")
        axis.set_title(title)
        axis.margins(y=0.1)
    save_figure(figure, path)
