"""Stage A: contrastive alignment of the projector with the teacher (paper 4.1)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from datasets import Dataset
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, TrainerCallback
from transformers.trainer_utils import TrainOutput

from ..arguments_llink import checked_methods
from ..building import draw_anew, fit_teacher_space
from ..configuration_llink import LlinkConfigError
from ..data.errors import DataError
from ..data.features import FrozenFeatures, PairTensors, compute_features, condition
from ..data.pairs import apart_from, check_pairs, check_training_pairs, dataset_groups, pairs_digest
from ..data.shapes import pair_dataset
from ..evaluation.retrieval import KS, retrieval_metrics
from .align_config import AlignConfig
from .align_loss import AlignLoss
from .arguments import check_arguments
from .base import Evaluated, LlinkTrainer, Optimizers, named_sets
from .distributed import gather_rows
from .errors import TrainingError
from .queue import TeacherQueue

QUEUE_FILE = "teacher_queue.safetensors"
MIN_EVAL_PAIRS = 10  # recall at 10 needs ten candidates


@checked_methods
class AlignTrainer(LlinkTrainer):
    r"""Trains the projector g, and nothing else, so that p_F = g(z_F) finds h_E (paper 4.1).

    `self.model` is the projector, `self.llink_model` the whole model; see [`LlinkTrainer`]. Both bases are frozen, so
    z_F and h_E are computed once, cached on disk, and every epoch runs on vectors; [`compute_features`] does it
    without a trainer, and what it returns may be given in place of pairs. The statistics of the teacher's space are
    fitted on the training pairs only (and loaded when resuming). Training pairs that share a sentence with a held-out
    pair are left out; one warning counts them.

    The contrastive loss is no sum over rows: accumulating it over small batches would lose negatives. So
    `gradient_accumulation_steps` is folded into the batch (on a copy of the arguments), and with several processes the
    vectors are gathered: negatives, loss and queue are those of one process with the whole batch. A resumed run goes
    on with the checkpoint's queue and gives the losses of an unbroken one.

    Evaluation reports, over all pairs of an evaluation set, `eval_r@1`, `eval_r@5`, `eval_r@10`, `eval_mrr`,
    `eval_mean_rank`, `eval_median_rank`, `eval_n` and `eval_loss` (in batches of `per_device_eval_batch_size`, at
    `temperature_end`, without the queue, so that it can be compared between steps).

    Args:
        model: A [`LlinkForCausalLM`]; its projector is trained in place.
        args: An [`AlignConfig`]; not changed.
        train_dataset: Pairs, as [`pair_dataset`] takes them, or [`FrozenFeatures`] of pairs; at least 2, and at least
            one whole batch.
        eval_dataset: The same, or a dict of them by name; at least 10 each.
        processing_class: Saved with the model if given; the model saves its own otherwise.
        callbacks: As in `Trainer`.
        optimizers: As in `Trainer`.
        loss: What is descended, given the inputs and returning the terms that [`AlignLoss`] tabulates; one made of
            `args` when not given. It has no weights of its own.

    Raises:
        LlinkConfigError: If `args` is no [`AlignConfig`].
        DataError: If a dataset lacks columns, holds blank or non-string sentences, or is too small; if features were
            made by another model.
        LlinkConfigError: If a setting does not apply, or the loss has weights, which nothing would train.

    While training: [`TrainingError`] when the loss is NaN or infinite, or a checkpoint's queue is missing or was filled
    from other pairs.
    """

    # The loss is the mean over the whole batch; accumulation never splits it.
    loss_is_scaled_for_ga = False
    stage = "align"  # after Stage B too: its slots no longer fit the projector
    _tag_names = ("llink", "stage-a")

    def __init__(
        self,
        model: PreTrainedModel,
        args: AlignConfig | None = None,
        train_dataset: Dataset | FrozenFeatures | None = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: Optimizers = (None, None),
        loss: Callable[..., dict[str, Tensor]] | None = None,
    ) -> None:
        args = AlignConfig(output_dir="llink-align") if args is None else args
        check_arguments(args, AlignConfig, type(self))
        args = args.with_accumulation_folded()
        self.queue: TeacherQueue | None = None
        self.loss = AlignLoss.of(args) if loss is None else loss
        self._resumed = False
        self._given: dict[int, FrozenFeatures] = {}
        held_out = {name: self._pairs_of(model, dataset, name) for name, dataset in named_sets(eval_dataset).items()}
        if train_dataset is not None:
            pairs = self._pairs_of(model, train_dataset, "train_dataset")
            check_pairs(pairs, "train_dataset")  # before they are compared
            given = train_dataset if isinstance(train_dataset, FrozenFeatures) else pairs
            train_dataset = self._pairs_of(model, apart_from(given, held_out), "train_dataset")
        self._groups = torch.tensor(check_training_pairs(train_dataset, held_out, MIN_EVAL_PAIRS))
        _check_batch(train_dataset, args)
        if any(True for _ in getattr(self.loss, "parameters", tuple)()):
            raise LlinkConfigError(f"{type(self.loss).__name__} has weights of its own, which nothing would train.")
        model.projector.requires_grad_(True)
        if model.config.stage == "untrained":
            draw_anew(model, args.seed, ("projector", "slots", "lora"))
        super().__init__(
            model.projector,
            args,
            llink_model=model,
            train_dataset=train_dataset,
            eval_dataset=held_out if isinstance(eval_dataset, dict) else held_out.get("eval_dataset"),
            processing_class=processing_class,
            callbacks=callbacks,
            optimizers=optimizers,
        )
        if self.args.gradient_accumulation_steps != 1:
            raise LlinkConfigError(
                "accelerate's own gradient accumulation does not apply to Stage A, whose batches are not split: use "
                "gradient_accumulation_steps."
            )

    # ---- data ----

    def _pairs_of(self, model: PreTrainedModel, dataset: Any, name: str) -> Any:
        """The pairs of what was given, whose features are kept where they came with them."""
        if isinstance(dataset, FrozenFeatures):
            dataset.check_made_by(model)
            self._given[id(dataset.pairs)] = dataset
            return dataset.pairs
        return pair_dataset(dataset, name=name)

    def _features(self, dataset: Dataset) -> FrozenFeatures:
        """The frozen features of pairs, through the cache; the first process computes, the others then read."""
        if id(dataset) in self._given:
            return self._given[id(dataset)]
        cache_dir = self.args.feature_cache_dir or os.path.join(self.args.output_dir, "_feature_cache")
        show = not self.args.disable_tqdm and self.is_world_process_zero()
        with self.args.main_process_first(desc="computing frozen features"):
            return compute_features(self.llink_model, dataset, cache_dir, self.args.feature_batch_size, show)

    def make_tensors(self, dataset: Dataset) -> PairTensors:
        """The pairs' features, the teacher's conditioned; its space is fitted on the training pairs first."""
        training = dataset is self.train_dataset
        if not training and self.train_dataset is not None:
            self.tensors_of(self.train_dataset)
        features = self._features(dataset)
        if training:
            self._fit_teacher_space(features.teacher_states)
        groups = self._groups if training else torch.tensor(dataset_groups(dataset))
        return PairTensors(features.pooled, condition(self.llink_model.teacher_space, features.teacher_states), groups)

    def _fit_teacher_space(self, states: Tensor) -> None:
        """Fits the conditioning on the training states (N, d), unless the model or the checkpoint brought it."""
        space = self.llink_model.teacher_space
        if self._resumed or (bool(space.fitted) and not self.args.refit_teacher_space):
            return
        fit_teacher_space(space, states)
        if self.args.world_size > 1:
            for buffer in space.buffers():
                on_device = buffer.to(self.args.device)
                dist.broadcast(on_device, src=0)
                buffer.copy_(on_device)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """All pairs of an evaluation set, in order, on every process: retrieval needs them all.

        Raises:
            DataError: If the set does not hold at least 10 usable pairs.
        """
        dataset = self._pairs_of(self.llink_model, self.eval_set(eval_dataset), "eval_dataset")
        check_pairs(dataset, "eval_dataset", MIN_EVAL_PAIRS)
        tensors = self.tensors_of(dataset)
        # With a generator of its own, evaluating does not move the random numbers of training.
        return DataLoader(
            tensors, batch_size=self.args.eval_batch_size, collate_fn=tensors.collate, generator=torch.Generator()
        )

    # ---- training ----

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Trains the projector; see `Trainer.train`. The projector is left in evaluation mode.

        Raises:
            TrainingError: If the loss becomes NaN or infinite; if the queue of the checkpoint to resume from is missing
                or was filled from other pairs.
        """
        self._resumed = False
        if self.args.queue_size:
            width = self.llink_model.config.hidden_size
            self.queue = TeacherQueue(self.args.queue_size, width, self.args.device)
        return super().train(resume_from_checkpoint, *args, **kwargs)

    @property
    def temperature(self) -> float:
        """τ of the coming step: linear from `temperature_start` at the first to `temperature_end` at the last."""
        progress = min(self.state.global_step / max(self.state.max_steps - 1, 1), 1.0)
        return self.args.temperature_start + (self.args.temperature_end - self.args.temperature_start) * progress

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """The loss of one step over the batches of all processes (W processes, b rows each, B = W·b).

        z (b, d_e) → p (b, d) → gathered (B, d), against h (B, d) and the queue (Q, d) → scalar
        """
        local = model(inputs["features"]).float()  # (b, d)
        p, h, groups, rows = local, inputs["targets"], inputs["groups"], inputs["rows"]
        if self.args.world_size > 1:
            p, h, groups, rows = map(gather_rows, (p, h, groups, rows))  # (B, d), (B, d), (B,), (B,)
        terms = dict(self._terms_of(p, h, groups, self.temperature, self.queue))
        loss = terms.pop("loss")
        fine = torch.isfinite(p).all(dim=1) & torch.isfinite(h).all(dim=1)  # (B,)
        self.check_finite(loss, fine, [self.train_dataset[row]["id"] for row in rows.tolist()])
        if self.queue is not None:
            self.queue.push(h, groups)  # after the loss: the batch itself is in it already
        self.record_terms({**terms, "temperature": self.temperature})
        return (loss, {"projected": local}) if return_outputs else loss

    def _terms_of(
        self, p: Tensor, h: Tensor, groups: Tensor, temperature: float, queue: TeacherQueue | None
    ) -> dict[str, Tensor]:
        negatives = {} if queue is None else {"queue_vectors": queue.vectors, "queue_groups": queue.ids}
        return self.loss(projected=p, targets=h, groups=groups, temperature=temperature, **negatives)

    # ---- evaluation ----

    def evaluated(self, model: nn.Module, batches: Iterator[dict[str, Any]], dataset: Any) -> Evaluated:
        """Projects every pair and scores retrieval over all of them; see the class.

        Raises:
            DataError: If a projected vector is NaN or infinite.
        """
        projected, total = [], 0.0
        for batch in batches:
            p = model(batch["features"]).float()  # (B, d)
            terms = self._terms_of(p, batch["targets"], batch["groups"], self.args.temperature_end, queue=None)
            total += float(terms["loss"]) * len(p)
            projected.append(p)
        p = torch.cat(projected)  # (N, d)
        metrics = {**retrieval_metrics(p, dataset.targets.to(p.device)), "loss": total / len(p)}
        return p, dataset.targets, metrics

    @staticmethod
    def metric_names(dataset: Dataset) -> list[str]:
        """As [`retrieval_metrics`] names them, and the loss."""
        return [*(f"r@{k}" for k in KS), "mrr", "mean_rank", "median_rank", "n", "loss"]

    # ---- checkpoints ----

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.queue is not None and self.args.should_save:
            self.queue.save(Path(output_dir) / QUEUE_FILE, self._queue_metadata())

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Loads the bridge, with the teacher's space, and the queue."""
        path = Path(resume_from_checkpoint) / QUEUE_FILE
        if self.queue is not None:
            self.queue.load(path, self._queue_metadata())
        elif path.exists():
            raise TrainingError(f"{path} exists but queue_size=0: resume with the queue_size of the broken run.")
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._resumed = True
        self._tensors = {}  # they were conditioned with another space

    def _queue_metadata(self) -> dict[str, str]:
        """Names the training pairs: the queue's group ids mean nothing for others."""
        return {"train_pairs": pairs_digest(self.train_dataset)}


def _check_batch(train_dataset: Dataset | None, args: AlignConfig) -> None:
    """Without this an epoch would hold no batch at all, and training would end at once without a word."""
    batch = args.train_batch_size * args.world_size
    if train_dataset is not None and args.dataloader_drop_last and len(train_dataset) < batch:
        raise DataError(
            f"train_dataset holds {len(train_dataset)} pairs, fewer than one batch of {batch}. Lower "
            "per_device_train_batch_size × gradient_accumulation_steps, or set dataloader_drop_last=False."
        )
