"""How trainers load datasets that are turned into tensors as a whole, before the first batch."""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from torch.utils.data import DataLoader

from .base import LlinkTrainer


class TensorLoading(LlinkTrainer):
    """Batches of what a subclass makes of a dataset, gathered by its own `collate`."""

    def tensors_of(self, dataset: Dataset) -> Any:
        """A torch dataset of row numbers with a `collate`; made on first use and kept."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it makes of a dataset.")

    def get_train_dataloader(self) -> DataLoader:
        """Batches of the training rows; what they need of the frozen bases is computed on the first call."""
        if self.train_dataset is None:
            raise ValueError("Training needs a train_dataset.")
        return self._loader(self.train_dataset, "Training", self._train_batch_size, self._get_train_sampler, True)

    def get_eval_dataloader(self, eval_dataset: str | Dataset | None = None) -> DataLoader:
        """As `Trainer.get_eval_dataloader`."""
        if eval_dataset is None:
            eval_dataset = self.eval_dataset
        if isinstance(eval_dataset, str):
            eval_dataset = self.eval_dataset[eval_dataset]
        if eval_dataset is None:
            raise ValueError("Evaluation needs an eval_dataset.")
        return self._loader(eval_dataset, "Evaluation", self.args.eval_batch_size, self._get_eval_sampler, False)

    def _loader(self, dataset: Dataset, description: str, size: int, sampler: Any, training: bool) -> DataLoader:
        tensors = self.tensors_of(dataset)
        self.data_collator = tensors.collate
        return self._get_dataloader(
            dataset=tensors, description=description, batch_size=size, sampler_fn=sampler, is_training=training
        )
