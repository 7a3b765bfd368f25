"""Results for people: tables, JSON that is moved into place, and plots."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

RETRIEVAL_COLUMNS = ("r@1", "r@5", "r@10", "mrr", "mean_rank", "n")
TITLES = {"untrained": "untrained projector", "stage_a": "Stage A", "full": "full model"}


def write_json(path: str | os.PathLike, content: Mapping[str, Any]) -> None:
    """Writes JSON under a temporary name and moves it into place."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes UTF-8 text under a temporary name and moves it into place; makes the folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, "utf-8")
    os.replace(temporary, path)


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; numbers with three decimals."""
    cells = [[_cell(value) for value in row] for row in [header, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = ["| " + " | ".join(v.ljust(w) for v, w in zip(row, widths, strict=True)) + " |" for row in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def retrieval_table(results: Mapping[str, Mapping[str, float]]) -> str:
    """Table 1 of the paper for the systems in `results`."""
    rows = [
        [TITLES.get(name, name), *(metrics[column] for column in RETRIEVAL_COLUMNS)]
        for name, metrics in results.items()
    ]
    return table(["retrieval", *RETRIEVAL_COLUMNS], rows)


def with_interval(row: Mapping[str, Any], column: str, digits: int = 3) -> str:
    """A cell: a figure of `row`, and its ends [low, high] where `row["intervals"]` has them."""
    ends = row.get("intervals", {}).get(column)
    return f"{row[column]:.{digits}f}" + (f" [{ends[0]:.{digits}f}, {ends[1]:.{digits}f}]" if ends else "")


def marked_words(answer: str, reference: str, color: bool) -> str:
    """An answer whose words that the reference has, in its order, are told from the others.

    Args:
        answer: A translation.
        reference: The right one.
        color: Whether by green and red on a terminal; else the wrong ones stand in `[-…-]`.
    """
    words = answer.split()
    plain = [[word.strip(".,;:!?\"'").casefold() for word in text] for text in (words, reference.split())]
    blocks = SequenceMatcher(None, plain[0], plain[1], autojunk=False).get_matching_blocks()
    right = {place for block in blocks for place in range(block.a, block.a + block.size)}
    good, bad = ("\033[32m{}\033[0m", "\033[31m{}\033[0m") if color else ("{}", "[-{}-]")
    return " ".join((good if place in right else bad).format(word) for place, word in enumerate(words))


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def plot_history(history: Sequence[Mapping[str, float]], path: str | os.PathLike, metric: str | None = None) -> None:
    """Draws a training run: the loss, and on a second axis a metric of the evaluations.

    Args:
        history: `trainer.state.log_history`.
        path: PNG file.
        metric: An evaluation key such as `eval_r@1`.
    """
    figure, axis = new_figure(figsize=(7, 4), layout="constrained")
    steps = [(row["step"], row["loss"]) for row in history if "loss" in row]
    if steps:
        axis.plot(*zip(*steps, strict=True), color="tab:blue", label="training loss")
    axis.set_xlabel("step")
    axis.set_ylabel("loss")
    points = [(row["step"], row[metric]) for row in history if metric and metric in row]
    if points:
        second = axis.twinx()
        second.plot(*zip(*points, strict=True), color="tab:orange", marker="o", label=metric)
        second.set_ylabel(metric)
    if steps or points:
        figure.legend(loc="outside upper center", ncols=2)
    save_figure(figure, path)


def plot_demo(report: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Draws a demo report: retrieval, usage, prompt tokens, translation."""
    figure, axes = new_figure(1, 4, figsize=(15, 3.8), layout="constrained")
    retrieval = report["retrieval"]
    for offset, key in enumerate(("r@1", "r@5", "r@10")):
        places = [index + 0.27 * (offset - 1) for index in range(len(retrieval))]
        axes[0].bar(places, [metrics[key] for metrics in retrieval.values()], width=0.25, label=key)
    axes[0].set_xticks(range(len(retrieval)), [TITLES.get(name, name).replace(" ", "\n") for name in retrieval])
    axes[0].set_title(f"Retrieval over {retrieval['full']['n']} pairs")
    axes[0].legend()
    usage = report["usage"]
    _bars(axes[1], "Usage gap (nats a token)", {"zeroed": usage["zeroed_gap"], "shuffled": usage["shuffled_gap"]})
    tokens = report["tokens"]
    _bars(axes[2], "Prompt tokens", {"raw text": tokens["raw"], "slots": tokens["slotted"]})
    scores = report["translation"]
    _bars(axes[3], "Translation (chrF)", {"base decoder": scores["base"]["chrf"], "llink": scores["llink"]["chrf"]})
    save_figure(figure, path)


def _bars(axis: Any, title: str, values: Mapping[str, float]) -> None:
    bars = axis.bar(list(values), list(values.values()), color=["tab:gray", "tab:blue"])
    axis.bar_label(bars, fmt="%.2f")
    axis.set_title(title)


def new_figure(
    rows: int = 1, columns: int = 1, figsize: tuple[float, float] = (6.4, 4.8), layout: str = "constrained", **grid: Any
) -> Any:
    """A figure to be saved and its axes, as `pyplot.subplots` gives them, without touching the user's pyplot."""
    figure = Figure(figsize=figsize, layout=layout)
    return figure, figure.subplots(rows, columns, **grid)


def save_figure(figure: Any, path: str | os.PathLike) -> None:
    """Draws a figure into a PNG file, moved into place."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.tmp.png")
    figure.savefig(temporary, dpi=120)
    os.replace(temporary, path)
