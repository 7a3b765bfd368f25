"""The plot of `llink eval numeric`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..data.entities.entity import KINDS
from .numeric import ALL
from .report import new_figure, save_figure


def plot_numeric(results: Mapping[str, Mapping[str, Any]], path: str | os.PathLike) -> None:
    """Draws each system's F1 by kind, with 95 % intervals; a kind without any entity in a system's row has no bar.

    Args:
        results: By system, what `numeric_metrics` returns.
        path: PNG file.
    """
    kinds = [kind for kind in (ALL, *KINDS) if any(kind in found["kinds"] for found in results.values())]
    most = {kind: max(found["kinds"].get(kind, {}).get("n", 0) for found in results.values()) for kind in kinds}
    width = 0.8 / len(results)
    figure, axis = new_figure(figsize=(1.5 + 0.9 * len(kinds), 4), layout="constrained")
    for column, (name, found) in enumerate(results.items()):
        places, heights, errors = [], [], []
        for index, kind in enumerate(kinds):
            rates = found["kinds"].get(kind, {})
            if rates.get("f1") is not None:
                low, high = rates["intervals"].get("f1", (rates["f1"], rates["f1"]))
                places.append(index + width * (column - (len(results) - 1) / 2))
                heights.append(rates["f1"])
                errors.append((max(rates["f1"] - low, 0.0), max(high - rates["f1"], 0.0)))
        ends = [list(side) for side in zip(*errors, strict=True)] or None
        axis.bar(places, heights, width, yerr=ends, capsize=2, label=name)
    axis.set_xticks(range(len(kinds)), [f"{kind}\n{most[kind]}" for kind in kinds])
    axis.set_ylim(0, 1.05)
    axis.set_ylabel("F1")
    axis.set_title("Exactly kept, by kind (entities in the references below)")
    axis.legend()
    save_figure(figure, path)
