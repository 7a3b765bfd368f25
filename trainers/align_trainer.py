"""Stage A: contrastive alignment of the projector with the teacher (paper 4.1)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from datasets import Dataset
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, ProcessorMixin, TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput

from ..data.features import PairFeatures, PairTensors, compute_pair_features, condition
from ..data.pairs import PairDataError, check_pairs, check_training_pairs, dataset_groups, pairs_digest
from ..evaluation.retrieval import KS, retrieval_metrics
from .align_config import AlignConfig
from .base import Evaluated
from .distributed import gather_rows
from .losses import NonFiniteLossError, direction_loss, log_norm_loss, symmetric_info_nce
from .part_trainer import PartTrainer
from .queue import QueueStateError, TeacherQueue

QUEUE_FILE = "teacher_queue.safetensors"
MIN_EVAL_PAIRS = 10  # recall at 10 needs ten candidates


class AlignTrainer(PartTrainer):
    r"""Trains the projector g, and nothing else, so that p_F = g(z_F) finds h_E (paper 4.1).

    Both bases are frozen, so z_F and h_E are computed once, cached on disk, and every epoch runs on vectors.
    `self.model` is the projector; the whole model is `self.llink_model`, and it is what is saved, in checkpoints too.
    The statistics of the teacher's space are fitted on the training pairs only (and loaded when resuming).

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
        train_dataset: Pairs (`id`, `english`, `foreign`); at least 2, and at least one whole batch.
        eval_dataset: Pairs, or a dict of named pairs; at least 10 each.
        processing_class: Saved with the model if given; the model saves its own otherwise.
        callbacks: As in `Trainer`.
        optimizers: As in `Trainer`.

    Raises:
        TypeError: If `args` is no [`AlignConfig`].
        PairDataError: If a dataset lacks columns, holds blank or non-string sentences, or is too small.

    While training: [`NonFiniteLossError`] when the loss is NaN or infinite, and [`QueueStateError`] when a checkpoint's
    queue is missing or was filled from other pairs.
    """

    # The loss is the mean over the whole batch; accumulation never splits it.
    loss_is_scaled_for_ga = False
    stage = "align"  # after Stage B too: its slots no longer fit the projector

    def __init__(
        self,
        model: PreTrainedModel,
        args: AlignConfig | None = None,
        train_dataset: Dataset | None = None,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        processing_class: ProcessorMixin | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LRScheduler | None] = (None, None),
    ) -> None:
        args = AlignConfig(output_dir="llink-align") if args is None else args
        if not isinstance(args, AlignConfig):
            raise TypeError(f"args is a {type(args).__name__}; AlignTrainer needs an AlignConfig.")
        args = args.with_accumulation_folded()
        self.queue: TeacherQueue | None = None
        self._resumed = False
        self._train_tensors: PairTensors | None = None
        self._eval_tensors: dict[int, tuple[Dataset, PairTensors]] = {}
        self._terms: dict[str, Tensor] = {}
        self._terms_steps = 0
        evaluated = eval_dataset if isinstance(eval_dataset, dict) else {"eval_dataset": eval_dataset}
        evaluated = {name: dataset for name, dataset in evaluated.items() if dataset is not None}
        self._groups = torch.tensor(check_training_pairs(train_dataset, evaluated, MIN_EVAL_PAIRS))
        _check_batch(train_dataset, args)
        super().__init__(
            model,
            model.projector,
            args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            callbacks=callbacks,
            optimizers=optimizers,
        )
        if self.args.gradient_accumulation_steps != 1:
            raise ValueError(
                "accelerate's own gradient accumulation does not apply to Stage A, whose batches are not split: use "
                "gradient_accumulation_steps."
            )

    # ---- data ----

    def _features(self, dataset: Dataset) -> PairFeatures:
        """The frozen features of pairs, through the cache; the first process computes, the others then read."""
        cache_dir = self.args.feature_cache_dir or os.path.join(self.args.output_dir, "_feature_cache")
        with self.args.main_process_first(desc="computing frozen features"):
            return compute_pair_features(
                self.llink_model,
                dataset,
                cache_dir,
                batch_size=self.args.feature_batch_size,
                show_progress=not self.args.disable_tqdm and self.is_world_process_zero(),
            )

    def _fit_teacher_space(self, states: Tensor) -> None:
        """Fits the conditioning on the training states (N, d), unless the model or the checkpoint brought it."""
        space = self.llink_model.teacher_space
        if self._resumed or (bool(space.fitted) and not self.args.refit_teacher_space):
            return
        space.fit(states)
        if self.args.world_size > 1:
            for buffer in space.buffers():
                on_device = buffer.to(self.args.device)
                dist.broadcast(on_device, src=0)
                buffer.copy_(on_device)

    def _conditioned(self, features: PairFeatures, groups: Tensor) -> PairTensors:
        return PairTensors(features.pooled, condition(self.llink_model.teacher_space, features.teacher_states), groups)

    def _training_tensors(self) -> PairTensors:
        if self._train_tensors is None:
            features = self._features(self.train_dataset)
            self._fit_teacher_space(features.teacher_states)
            self._train_tensors = self._conditioned(features, self._groups)
        return self._train_tensors

    def get_train_dataloader(self) -> DataLoader:
        """Batches of cached vectors; computes the features on the first call."""
        if self.train_dataset is None:
            raise ValueError("Training needs a train_dataset.")
        tensors = self._training_tensors()
        self.data_collator = tensors.collate
        return self._get_dataloader(
            dataset=tensors,
            description="Training",
            batch_size=self._train_batch_size,
            sampler_fn=self._get_train_sampler,
            is_training=True,
        )

    def get_eval_dataloader(self, eval_dataset: str | Dataset | None = None) -> DataLoader:
        """All pairs of an evaluation set, in order, on every process: retrieval needs them all.

        Raises:
            PairDataError: If the set does not hold at least 10 usable pairs.
        """
        if eval_dataset is None and self.eval_dataset is None:
            raise ValueError("Evaluation needs an eval_dataset.")
        if eval_dataset is None:
            eval_dataset = self.eval_dataset
        elif isinstance(eval_dataset, str):
            eval_dataset = self.eval_dataset[eval_dataset]
        key = id(eval_dataset)
        if key not in self._eval_tensors:
            check_pairs(eval_dataset, "eval_dataset", MIN_EVAL_PAIRS)
            if self.train_dataset is not None:
                self._training_tensors()  # the teacher's space is fitted on training pairs only
            tensors = self._conditioned(self._features(eval_dataset), torch.tensor(dataset_groups(eval_dataset)))
            self._eval_tensors[key] = (eval_dataset, tensors)  # the dataset too, so that its id stays taken
        tensors = self._eval_tensors[key][1]
        # With a generator of its own, evaluating does not move the random numbers of training.
        return DataLoader(
            tensors, batch_size=self.args.eval_batch_size, collate_fn=tensors.collate, generator=torch.Generator()
        )

    # ---- training ----

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Trains the projector; see `Trainer.train`. The projector is left in evaluation mode.

        Raises:
            NonFiniteLossError: If the loss becomes NaN or infinite.
            QueueStateError: If the queue of the checkpoint to resume from is missing or was filled from other pairs.
        """
        self._resumed = False
        self._terms, self._terms_steps = {}, 0
        if self.args.queue_size:
            width = self.llink_model.config.hidden_size
            self.queue = TeacherQueue(self.args.queue_size, width, self.args.device)
        return super().train(resume_from_checkpoint, *args, **kwargs)

    @property
    def temperature(self) -> float:
        """τ of the coming step: linear from `temperature_start` to `temperature_end` over the run."""
        progress = self.state.global_step / max(self.state.max_steps, 1)
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
        p, h = gather_rows(local), gather_rows(inputs["targets"])  # (B, d)
        groups, rows = gather_rows(inputs["groups"]), gather_rows(inputs["rows"])  # (B,)
        loss, terms = self._loss(p, h, groups, self.temperature, self.queue)
        if not torch.isfinite(loss):
            raise self._non_finite(loss, p, h, rows)
        if self.queue is not None:
            self.queue.push(h, groups)  # after the loss: the batch itself is in it already
        for name, value in {**terms, "temperature": torch.tensor(self.temperature)}.items():
            self._terms[name] = self._terms.get(name, 0.0) + value.detach()
        self._terms_steps += 1
        return (loss, {"projected": local}) if return_outputs else loss

    def _loss(
        self, p: Tensor, h: Tensor, groups: Tensor, temperature: float, queue: TeacherQueue | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        terms = {
            "nce": symmetric_info_nce(
                p,
                h,
                temperature,
                groups,
                queue.vectors if queue is not None else None,
                queue.ids if queue is not None else None,
                self.args.hard_negatives,
                self.args.hard_negative_mining,
            )
        }
        loss = terms["nce"]
        if self.args.direction_weight:
            terms["direction"] = direction_loss(p, h, self.args.direction_reduction)
            loss = loss + self.args.direction_weight * terms["direction"]
        if self.args.norm_weight:
            terms["log_norm"] = log_norm_loss(p, h)
            loss = loss + self.args.norm_weight * terms["log_norm"]
        return loss, terms

    def _non_finite(self, loss: Tensor, p: Tensor, h: Tensor, rows: Tensor) -> NonFiniteLossError:
        finite = torch.isfinite(p).all(dim=1) & torch.isfinite(h).all(dim=1)
        guilty = rows[~finite] if not finite.all() else rows
        ids = [self.train_dataset[row]["id"] for row in guilty.tolist()]
        return NonFiniteLossError(self.state.global_step, ids, loss.item())

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the terms of the loss, averaged since the last log, to the training logs."""
        if "loss" in logs and self._terms_steps:
            logs.update({name: float(total) / self._terms_steps for name, total in self._terms.items()})
            self._terms, self._terms_steps = {}, 0
        super().log(logs, start_time)

    # ---- evaluation ----

    def evaluated(self, model: nn.Module, batches: Iterator[dict[str, Any]], dataset: Any) -> Evaluated:
        """Projects every pair and scores retrieval over all of them; see the class.

        Raises:
            RetrievalError: If a projected vector is NaN or infinite.
        """
        projected, total = [], 0.0
        for batch in batches:
            p = model(batch["features"]).float()  # (B, d)
            loss, _ = self._loss(p, batch["targets"], batch["groups"], self.args.temperature_end, queue=None)
            total += loss.item() * len(p)
            projected.append(p)
        p = torch.cat(projected)  # (N, d)
        metrics = {**retrieval_metrics(p, dataset.targets.to(p.device)), "loss": total / len(p)}
        return p, dataset.targets, metrics

    @staticmethod
    def metric_names(dataset: Dataset) -> list[str]:
        """As [`retrieval_metrics`] names them, and the loss."""
        return [*(f"r@{k}" for k in KS), "mrr", "mean_rank", "median_rank", "n", "loss"]

    # ---- checkpoints ----

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        if self.queue is not None and self.args.should_save and not self.args.save_only_model:
            folder = Path(self._get_output_dir(trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            folder.mkdir(parents=True, exist_ok=True)
            self.queue.save(folder / QUEUE_FILE, self._queue_metadata())
        super()._save_checkpoint(model, trial)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Loads the bridge, with the teacher's space, and the queue."""
        path = Path(resume_from_checkpoint) / QUEUE_FILE
        if self.queue is not None:
            self.queue.load(path, self._queue_metadata())
        elif path.exists():
            raise QueueStateError(f"{path} exists but queue_size=0: resume with the queue_size of the broken run.")
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._resumed = True
        self._train_tensors, self._eval_tensors = None, {}  # they were conditioned with another space

    def _queue_metadata(self) -> dict[str, str]:
        """Names the training pairs: the queue's group ids mean nothing for others."""
        return {"train_pairs": pairs_digest(self.train_dataset)}


def _check_batch(train_dataset: Dataset | None, args: AlignConfig) -> None:
    """Without this an epoch would hold no batch at all, and training would end at once without a word."""
    batch = args.train_batch_size * args.world_size
    if train_dataset is not None and args.dataloader_drop_last and len(train_dataset) < batch:
        raise PairDataError(
            f"train_dataset holds {len(train_dataset)} pairs, fewer than one batch of {batch}. Lower "
            "per_device_train_batch_size × gradient_accumulation_steps, or set dataloader_drop_last=False."
        )
