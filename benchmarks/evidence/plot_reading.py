"""Draws chrF++ against the rows of Stage B, llink beside the direct fine-tune, from the record of what was tried.

python benchmarks/evidence/plot_reading.py
"""

from __future__ import annotations

from matplotlib import pyplot as plt
from tables import DOCS, read

from llink.evaluation.report import save_figure

#: Names in the record by rows of Stage B.
RUNS = {
    "llink, a slot a token": {
        8_500: "a slot a token, dictionary of English and pairs",
        17_000: "the same, 17,000 rows",
        34_000: "the same, 34,000 rows",
    },
    "llink, one vector (the paper's)": {8_500: "one pooled vector, K = 8, zeroed contrast"},
    "direct fine-tune": {8_500: "direct fine-tune", 17_000: "direct fine-tune, 17,000 rows"},
}


def main() -> None:
    """Writes `docs/images/reading.png`."""
    record = read("km-reading-gpu")["results"]
    figure, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
    for label, names in RUNS.items():
        axis.plot(list(names), [record[name]["chrf"] for name in names.values()], marker="o", label=label)
    sizes = sorted({size for names in RUNS.values() for size in names})
    axis.set(xscale="log", xlabel="rows of Stage B", ylabel="chrF++, held-out Khmer help", ylim=(0, 70))
    axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axis.minorticks_off()
    axis.legend()
    save_figure(figure, DOCS / "images" / "reading.png")


if __name__ == "__main__":
    main()
