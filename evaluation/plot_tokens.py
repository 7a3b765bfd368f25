"""The plot of `llink eval tokens`, after the paper's figure 2."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from .report import save_figure

_SHADES = ("#9ecae1", "#4292c6")
_FRAGMENT = "#fb6a4a"


def plot_tokens(results: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Draws one sentence token by token, tokens a sentence, and, where they were measured, the costs of prompts.

    Args:
        results: `english`, `tokenizers` (from `tokenization`), `example` (from `example_strips`), perhaps `costs` (from
            `prompt_costs`, by text).
        path: PNG file.
    """
    costs = results.get("costs")
    tokenizers = results["tokenizers"]
    strips = [
        (f"{text} · {tokenizer}" if len(tokenizers) > 1 else text, flags)
        for tokenizer, found in results["example"]["strips"].items()
        for text, flags in found.items()
    ]
    height = 1.2 + 0.32 * len(strips)
    figure = Figure(figsize=(12, height + 4), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[height, 4])
    _draw_strips(top.subplots(), strips)
    axes = bottom.subplots(1, 3 if costs else 1, squeeze=False)[0]
    _draw_counts(axes[0], tokenizers)
    if costs:
        _draw_costs(axes[1], costs, "tokens", "Prompt tokens", 1)
        _draw_costs(axes[2], costs, "flops", "Work of a prompt (GFLOP)", 1e9)
    save_figure(figure, path)


def _draw_strips(axis: Any, strips: list[tuple[str, str]]) -> None:
    """A cell a token: two shades of blue for characters and their groups, red for further pieces of a character."""
    for row, (_, flags) in enumerate(strips):
        whole = 0
        colours = []
        for flag in flags:
            whole += flag == "0"
            colours.append(_FRAGMENT if flag == "1" else _SHADES[whole % 2])
        axis.broken_barh([(place, 1) for place in range(len(flags))], (row - 0.4, 0.8), facecolors=colours)
        axis.annotate(f" {len(flags)}", (len(flags), row), va="center")
    axis.set_yticks(range(len(strips)), [name for name, _ in strips])
    axis.invert_yaxis()
    axis.margins(x=0.05)
    axis.set_xlim(left=0)
    axis.set_title("One sentence, a cell a token (red: a further piece of the same character)")


def _draw_counts(axis: Any, tokenizers: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    width = 0.8 / len(tokenizers)
    for column, (name, texts) in enumerate(tokenizers.items()):
        places = [index + width * (column - (len(tokenizers) - 1) / 2) for index in range(len(texts))]
        bars = axis.bar(places, [found["tokens"] for found in texts.values()], width, label=name)
        axis.bar_label(bars, [f"{found['premium']:.1f}×" for found in texts.values()], fontsize=8)
    axis.set_xticks(range(len(texts)), list(texts))
    axis.set_title("Tokens a sentence, and times the English")
    axis.margins(y=0.12)
    if len(tokenizers) > 1:
        axis.legend()


def _draw_costs(axis: Any, costs: Mapping[str, Mapping[str, Any]], key: str, title: str, unit: float) -> None:
    for column, kind in enumerate(("raw", "slots")):
        places = [index + 0.4 * (column - 0.5) for index in range(len(costs))]
        totals = [found[kind][key] / unit for found in costs.values()]
        encoder = [found[kind].get("encoder_flops", 0) / unit if key == "flops" else 0.0 for found in costs.values()]
        own = [total - part for total, part in zip(totals, encoder, strict=True)]
        axis.bar(places, encoder, 0.38, color="tab:orange", label="encoder" if any(encoder) else None)
        colour, label = (("tab:gray", "raw text"), ("tab:blue", "slots"))[column]
        bars = axis.bar(places, own, 0.38, bottom=encoder, color=colour, label=label)
        axis.bar_label(bars, [f"{total:.3g}" for total in totals], fontsize=8)
    axis.set_xticks(range(len(costs)), list(costs))
    axis.set_title(title)
    axis.margins(y=0.12)
    axis.legend()
