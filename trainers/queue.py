"""The FIFO queue of teacher vectors from which Stage A draws its hard negatives (paper 4.1; He et al. 2020)."""

from __future__ import annotations

import os
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..configuration_llink import LlinkConfigError
from .errors import TrainingError

_FORMAT = {"kind": "llink-teacher-queue", "format": "pt"}


class TeacherQueue:
    """The last `capacity` teacher vectors, L2-normalised, in fp16, each with the group id of its pair.

    The queue is training state: a resumed run goes on with the same queue, byte for byte. The ids are there because
    the queue does hold the current queries' positives (with fewer pairs than capacity it always does); the loss masks
    them by id.

    Args:
        capacity: Vectors kept (paper 4.1: 32,768).
        dim: d, their width.
        device: Where they lie.

    Raises:
        LlinkConfigError: If the capacity or the width is not positive.
    """

    def __init__(self, capacity: int, dim: int, device: torch.device | str = "cpu") -> None:
        if capacity < 1 or dim < 1:
            raise LlinkConfigError(f"capacity={capacity} and dim={dim} must be positive; for no queue make none.")
        self.capacity = capacity
        self._vectors = torch.zeros(capacity, dim, dtype=torch.float16, device=device)
        self._ids = torch.zeros(capacity, dtype=torch.int64, device=device)
        self._size = 0
        self._cursor = 0  # where the next vector goes

    def __len__(self) -> int:
        return self._size

    @property
    def dim(self) -> int:
        """d, the width of the vectors."""
        return self._vectors.shape[1]

    @property
    def vectors(self) -> Tensor:
        """(len, d) fp16, L2-normalised; in memory order, which is not the order of age once the queue has wrapped."""
        return self._vectors[: self._size]

    @property
    def ids(self) -> Tensor:
        """(len,) int64 group ids, aligned with `vectors`."""
        return self._ids[: self._size]

    @torch.no_grad()
    def push(self, vectors: Tensor, ids: Tensor) -> None:
        """Appends vectors, the oldest making room.

        Args:
            vectors: (n, d), any norm, any floating type; more than `capacity` keep the last `capacity`.
            ids: (n,) their group ids.

        Raises:
            ValueError: If the shapes do not fit each other or the queue.
        """
        if vectors.dim() != 2 or vectors.shape[1] != self.dim or ids.shape != vectors.shape[:1]:
            raise ValueError(
                f"Vectors of shape {tuple(vectors.shape)} with ids of shape {tuple(ids.shape)} do not fit a queue of "
                f"width {self.dim}: push (n, {self.dim}) and (n,)."
            )
        vectors, ids = vectors[-self.capacity :], ids[-self.capacity :]
        places = (self._cursor + torch.arange(len(ids), device=self._ids.device)) % self.capacity
        self._vectors[places] = F.normalize(vectors.float(), dim=1).to(self._vectors)
        self._ids[places] = ids.to(self._ids)
        self._cursor = (self._cursor + len(ids)) % self.capacity
        self._size = min(self._size + len(ids), self.capacity)

    def state_dict(self) -> dict[str, Tensor]:
        """The filled part in memory order, and the cursor: what `load_state_dict` needs to go on byte for byte."""
        numbers = torch.tensor([self.capacity, self._cursor], dtype=torch.int64)
        return {"vectors": self.vectors.cpu(), "ids": self.ids.cpu(), "capacity_and_cursor": numbers}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Takes over a saved state.

        Raises:
            TrainingError: If its capacity or width is not this queue's.
        """
        capacity, cursor = state["capacity_and_cursor"].tolist()
        vectors, ids = state["vectors"], state["ids"]
        if capacity != self.capacity or vectors.shape[1] != self.dim:
            raise TrainingError(
                f"The saved queue has capacity {capacity} and width {vectors.shape[1]}, this run's {self.capacity} "
                f"and {self.dim}. Resume with the same queue_size and model, or start a new run from the checkpoint."
            )
        self._size, self._cursor = len(ids), cursor
        self._vectors[: self._size] = vectors.to(self._vectors)
        self._ids[: self._size] = ids.to(self._ids)

    def save(self, path: str | Path, metadata: dict[str, str] | None = None) -> None:
        """Writes the state as safetensors, whole or not at all.

        Args:
            path: File to write.
            metadata: Strings to keep with it, checked by `load`.
        """
        path = Path(path)
        partial = path.with_name(path.name + ".partial")
        save_file(
            {name: tensor.contiguous() for name, tensor in self.state_dict().items()},
            partial,
            metadata={**_FORMAT, **(metadata or {})},
        )
        os.replace(partial, path)

    def load(self, path: str | Path, metadata: dict[str, str] | None = None) -> None:
        """Takes over the state in a file.

        Args:
            path: File written by `save`.
            metadata: What the file must have been saved with.

        Raises:
            TrainingError: If the file is missing, damaged or no queue, if it was saved with other metadata, or if
                its capacity or width is not this queue's.
        """
        remedy = "Start a new run from the checkpoint's weights instead of resuming, or resume with the same data."
        try:
            with safe_open(path, framework="pt") as file:
                saved = file.metadata() or {}
            state = load_file(path)
        except (OSError, SafetensorError) as error:
            raise TrainingError(f"Cannot read the queue of negatives {path}: {error}. {remedy}") from error
        for name, value in {**_FORMAT, **(metadata or {})}.items():
            if saved.get(name) != value:
                raise TrainingError(
                    f"The queue of negatives {path} was saved with {name}={saved.get(name)!r}, this run has {value!r}. "
                    + remedy
                )
        self.load_state_dict(state)
