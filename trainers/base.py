"""What all trainers share: named groups of parameters, weights that load in place, evaluation mode afterwards."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput, TrainOutput

logger = logging.getLogger(__name__)

#: Predictions, labels, metrics.
Evaluated = tuple[Tensor, Tensor, dict[str, float]]


class ResumeError(ValueError):
    """A checkpoint to resume from that is not there."""


def split_groups(name: str, parameters: Iterable[nn.Parameter], rate: float, decay: float) -> list[dict[str, Any]]:
    """Two groups of the optimiser, of those that there are: matrices, and what is never decayed (biases, norms)."""
    parameters = list(parameters)
    matrices, vectors = [p for p in parameters if p.dim() > 1], [p for p in parameters if p.dim() <= 1]
    groups = [
        {"name": f"{name}s", "params": matrices, "lr": rate, "weight_decay": decay},
        {"name": f"{name}_vectors", "params": vectors, "lr": rate, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


class LlinkTrainer(Trainer):
    """A `Trainer` of a part of a model: a subclass says what is trained, and how its weights are loaded in place."""

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """As `Trainer.train`; leaves the model in evaluation mode.

        Raises:
            NonFiniteLossError: If the loss becomes NaN or infinite.
            ResumeError: If the checkpoint to resume from is no folder.
        """
        if isinstance(resume_from_checkpoint, str) and not Path(resume_from_checkpoint).is_dir():
            raise ResumeError(
                f"There is no checkpoint {resume_from_checkpoint} to resume from: give one of the folders "
                f"{self.args.output_dir}/checkpoint-…, or True for the last of them."
            )
        try:
            return super().train(resume_from_checkpoint, *args, **kwargs)
        finally:
            self.model.eval()

    def parameter_groups(self) -> list[dict[str, Any]] | None:
        """Groups of what is trained, each with its learning rate; None leaves the library's own grouping."""
        return None

    def evaluated(self, model: nn.Module, batches: Iterator[dict[str, Any]], dataset: Any) -> Evaluated:
        """Scores a whole set: (N, …) predictions, (N, …) labels, and the metrics' values by name."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it is evaluated.")

    @staticmethod
    def metric_names(dataset: Dataset) -> list[str]:
        """Names of what [`evaluated`] reports over a dataset."""
        return ["loss"]

    def load_weights(self, folder: str) -> None:
        """Loads a checkpoint's trained weights into the model, in place."""
        raise NotImplementedError(f"{type(self).__name__} does not say how its weights are loaded.")

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The chosen optimiser over `parameter_groups`."""
        groups = self.parameter_groups()
        if groups is None:
            return super().create_optimizer(model)
        if self.optimizer is None:
            optimizer_class, kwargs = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = optimizer_class(groups, **kwargs)
        return self.optimizer

    def get_test_dataloader(self, test_dataset: Dataset) -> DataLoader:
        """As `get_eval_dataloader`, for `predict`."""
        return self.get_eval_dataloader(test_dataset)

    @torch.no_grad()
    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """[`evaluated`] over the dataloader, in evaluation mode."""
        self.callback_handler.eval_dataloader = dataloader
        model = self._wrap_model(self.model, training=False)
        was_training = model.training
        model.eval()
        try:
            predictions, labels, metrics = self.evaluated(model, self._batches(dataloader), dataloader.dataset)
        finally:
            model.train(was_training)
        return EvalLoopOutput(
            predictions=predictions.cpu().numpy(),
            label_ids=labels.cpu().numpy(),
            metrics={f"{metric_key_prefix}_{name}": value for name, value in metrics.items()},
            num_samples=len(labels),
        )

    def _batches(self, dataloader: DataLoader) -> Iterator[dict[str, Any]]:
        for batch in dataloader:
            yield self._prepare_inputs(batch)
            self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        self.load_weights(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        logger.info("Loading the best model, %s = %s.", self.state.best_model_checkpoint, self.state.best_metric)
        self.load_weights(self.state.best_model_checkpoint)
