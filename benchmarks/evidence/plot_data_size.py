"""Draws R@1 against the number of pairs, from the records that `data_size.sh` made.

python benchmarks/evidence/plot_data_size.py
"""

from __future__ import annotations

import numpy as np
from matplotlib import pyplot as plt
from tables import HERE, read

from llink.evaluation.report import save_figure

RESULTS = HERE / "results"


def curve(preset: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs (S,), R@1 (S,) and its interval's ends (2, S), of a preset."""
    sizes = sorted(int(path.stem.rsplit("-", 1)[1]) for path in RESULTS.glob(f"size-{preset}-*.json"))
    records = [read(f"size-{preset}-{size}")["results"] for size in sizes]
    rows = [results["foreign_to_english"]["stage_a"] for results in records]
    return np.array(sizes), np.array([r["r@1"] for r in rows]), np.array([r["intervals"]["r@1"] for r in rows]).T


def main() -> None:
    """Writes `docs/images/size.png`."""
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for preset in ("recommended", "paper"):
        sizes, values, ends = curve(preset)
        axis.errorbar(sizes, values, yerr=np.abs(ends - values), label=preset, marker="o", capsize=3)
    axis.set(xscale="log", xlabel="training pairs", ylabel="R@1 over 1,024 test pairs", ylim=(0, 1))
    axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axis.minorticks_off()
    axis.legend()
    save_figure(figure, HERE.parent.parent / "docs" / "images" / "size.png")


if __name__ == "__main__":
    main()
