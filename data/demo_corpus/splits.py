"""The demo's own split: what the tiny models, the demo and the tests train on and hold out."""

from __future__ import annotations

from .corpus import DemoPair, generate_pairs, split_pairs

SEED = 0
#: Held-out pairs first, so that a larger training split would not move them.
SIZES = {"test": 1024, "dev": 1024, "train": 28_000}


def demo_splits() -> dict[str, list[DemoPair]]:
    """`test`, `dev` and `train` pairs without a common sentence; the embedded models saw only those of `train`."""
    return split_pairs(generate_pairs(sum(SIZES.values()), SEED), SIZES, SEED)
