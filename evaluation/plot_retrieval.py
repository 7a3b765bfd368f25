"""Table 1 and its plots, for people: retrieval in both directions, and encoders compared before any training."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from .report import new_figure, save_figure, table, with_interval

#: The rows in the order of the paper's table 1.
ROW_TITLES = {
    "encoder": "raw encoder",
    "base": "base decoder",
    "finetune": "direct fine-tune",
    "untrained": "untrained projector",
    "stage_a": "Stage A",
    "full": "full model",
}
DIRECTION_TITLES = {"foreign_to_english": "foreign → English", "english_to_foreign": "English → foreign"}
_RECALLS = ("r@1", "r@5", "r@10")
_COLUMNS = (*_RECALLS, "mrr", "mean_rank", "median_rank")


def direction_table(title: str, rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Table 1 of the paper in one direction, with the 95 % intervals."""
    digits = {column: 1 if column.endswith("rank") else 3 for column in _COLUMNS}
    cells = [
        [ROW_TITLES.get(name, name), *(with_interval(row, *column) for column in digits.items()), row["n"]]
        for name, row in rows.items()
    ]
    return table([title, *_COLUMNS, "n"], cells)


def plot_retrieval(
    results: Mapping[str, Mapping[str, Mapping[str, Any]]],
    ranks: Mapping[str, Mapping[str, Tensor]],
    path: str | os.PathLike,
) -> None:
    """Draws each direction: bars of R@1, R@5 and R@10 with their intervals, and the share of ranks up to each rank.

    Args:
        results: Rows of metrics with `intervals` by direction.
        ranks: (N,) ranks of the same rows by direction.
        path: PNG file.
    """
    figure, axes = new_figure(len(results), 2, figsize=(12, 3.8 * len(results)), layout="constrained", squeeze=False)
    for (bars, steps), (direction, rows) in zip(axes, results.items(), strict=True):
        title = DIRECTION_TITLES.get(direction, direction)
        width = 0.8 / len(rows)
        for number, (name, row) in enumerate(rows.items()):
            places = [index + (number - (len(rows) - 1) / 2) * width for index in range(len(_RECALLS))]
            heights = np.array([row[recall] for recall in _RECALLS])
            ends = np.array([row["intervals"][recall] for recall in _RECALLS]).T  # (2, 3)
            errors = np.abs(ends - heights)
            bars.bar(places, heights, width, yerr=errors, capsize=2, label=ROW_TITLES.get(name, name))
            found = np.sort(ranks[direction][name].numpy())
            steps.step(found, np.arange(1, len(found) + 1) / len(found), where="post", label=ROW_TITLES.get(name, name))
        bars.set_xticks(range(len(_RECALLS)), _RECALLS)
        bars.set_ylim(0, 1.02)
        bars.set_title(f"{title}, {next(iter(rows.values()))['n']} pairs, 95 % intervals")
        bars.legend(fontsize="small")
        steps.set_xscale("log")
        steps.set_ylim(0, 1.02)
        steps.set_xlabel("rank of the right sentence")
        steps.set_title(f"{title}: share of queries up to this rank")
        steps.legend(fontsize="small")
    save_figure(figure, path)


def plot_encoders(rows: Sequence[Mapping[str, Any]], path: str | os.PathLike) -> None:
    """Draws R@1 of the probe, and zero-shot, over the layers: a line for each encoder, pooling and prefix.

    Args:
        rows: With `encoder`, `layer`, `depth` (the layer counted from the embeddings), `pooling`, `probe`, `zero_shot`.
        path: PNG file.
    """
    figure, axes = new_figure(1, 2, figsize=(12, 4), layout="constrained", sharey=True)
    for axis, measure, title in zip(
        axes, ("probe", "zero_shot"), ("linear probe, held-out folds", "zero-shot, all pairs"), strict=True
    ):
        lines: dict[tuple[str, ...], list] = {}
        for row in rows:
            place = row["encoder"], os.path.basename(row["encoder"]), row["pooling"], row.get("prefix", "")
            lines.setdefault(place, []).append((row["depth"], row[measure]["r@1"]))
        for (_, *name), line in lines.items():
            axis.plot(*zip(*sorted(line), strict=True), marker="o", label=", ".join(filter(None, name)))
        axis.set_title(f"R@1, {title}")
        axis.set_xlabel("layer (0: embeddings)")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_ylim(bottom=0)
        axis.legend(fontsize="small")
    save_figure(figure, path)
