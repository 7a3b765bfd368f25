"""What Stage A runs on: pairs apart from what is held out, with the frozen features of both their sides."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from torch import Tensor

from .errors import DataError
from .features import compute_pair_features, encoder_spec, teacher_spec
from .pairs import check_pairs, overlapping_rows

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FrozenFeatures:
    """Pairs with what the frozen bases make of them; see [`compute_features`].

    Attributes:
        pairs: N rows with `id`, `english`, `foreign`.
        pooled: z_F, (N, d_e) float32: pooled encoder states of the foreign side.
        teacher_states: raw h_E, (N, d) float32: decoder states of the English side, not conditioned.
        specs: What the vectors depend on besides the texts: the bases' contents, layers, pooling, template, cuts.
    """

    pairs: Dataset
    pooled: Tensor
    teacher_states: Tensor
    specs: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.pooled)

    def select(self, rows: list[int]) -> FrozenFeatures:
        """Some of the rows."""
        return FrozenFeatures(self.pairs.select(rows), self.pooled[rows], self.teacher_states[rows], self.specs)

    def check_made_by(self, model: Any) -> None:
        """Refuses features of other bases, or of other layers, poolings or templates.

        Raises:
            DataError: If `model` would make others; it names what differs.
        """
        own = _specs(model)
        wrong = [
            f"{side} {name} {self.specs[side].get(name)!r} (the model: {value!r})"
            for side, spec in own.items()
            for name, value in spec.items()
            if self.specs[side].get(name) != value
        ]
        if wrong:
            raise DataError(f"These features were made by another model: {'; '.join(wrong)}. Compute them again.")


def compute_features(
    model: Any,
    pairs: Dataset,
    cache_dir: str | Path | None = None,
    batch_size: int = 32,
    show_progress: bool = True,
) -> FrozenFeatures:
    """Computes, or reads from a cache, what the frozen bases make of pairs (paper 4.1); no trainer is needed.

    ```python
    features = compute_features(model, pairs, cache_dir="cache")
    AlignTrainer(model, AlignConfig("out/a"), train_dataset=features).train()
    ```

    Args:
        model: A [`LlinkForCausalLM`].
        pairs: N rows with `id`, `english`, `foreign`.
        cache_dir: Folder of the [`FeatureCache`]; None computes without keeping.
        batch_size: Texts in one forward of a base.
        show_progress: Whether to show a bar over the texts that are missing.

    Raises:
        DataError: If the pairs are unusable, a base returns NaN, infinite or misshapen vectors, or the cache file
            cannot be used.
    """
    check_pairs(pairs, "pairs")
    vectors = compute_pair_features(model, pairs, cache_dir, batch_size, show_progress=show_progress)
    return FrozenFeatures(pairs, vectors.pooled, vectors.teacher_states, _specs(model))


def _specs(model: Any) -> dict[str, Any]:
    return {"encoder": encoder_spec(model), "teacher": teacher_spec(model)}


def apart_from(train: Any, held_out: Mapping[str, Dataset]) -> Any:
    """Training pairs, or features of pairs, without the rows that share a sentence with a held-out one.

    Args:
        train: Pairs or [`FrozenFeatures`].
        held_out: Evaluation pairs by name.

    Returns:
        The same object where nothing is shared; one warning counts what was dropped.
    """
    pairs = train.pairs if isinstance(train, FrozenFeatures) else train
    shared = {row for dataset in held_out.values() for row in overlapping_rows(pairs, dataset)}
    if not shared:
        return train
    logger.warning(
        "Dropped %d of %d training pairs that share a sentence with a held-out pair.", len(shared), len(pairs)
    )
    return train.select([row for row in range(len(pairs)) if row not in shared])
