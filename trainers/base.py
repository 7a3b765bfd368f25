"""What all trainers are made of: one class of arguments, and one trainer, which a subclass tells what to train."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import nullcontext
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from datasets import Dataset
from huggingface_hub import CommitInfo
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, SequentialSampler
from transformers import PreTrainedModel, Trainer, TrainingArguments, set_seed
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, EvalLoopOutput, TrainOutput, rotate_checkpoints

from ..arguments_llink import checked_methods
from ..base_checks import warn_of_slow_dtypes
from ..configuration_llink import LlinkConfigError
from ..data.one_writer import one_writer
from ..data.prepared_folder import move_into_place
from ..hub_cards.verify import save_canary
from .arguments import check_best_metric, check_optimizer
from .checkpoints import UNFINISHED, check_batch, check_resumable, done_already, last_checkpoint, write_batch
from .errors import TrainingError
from .hub_callback import HubCallback
from .sampling import GroupedByLength

logger = logging.getLogger(__name__)

#: Predictions, labels, metrics.
Evaluated = tuple[Tensor, Tensor, dict[str, float]]
#: An optimiser and a schedule, each made by the trainer where it is None.
Optimizers = tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LRScheduler | None]


def named_sets(eval_dataset: Any) -> dict[str, Any]:
    """Evaluation sets by name, those that there are."""
    named = eval_dataset if isinstance(eval_dataset, Mapping) else {"eval_dataset": eval_dataset}
    return {name: dataset for name, dataset in named.items() if dataset is not None}


@checked_methods
class LlinkTrainer(Trainer):
    """The one base of llink's trainers: a subclass says what is trained, on which tensors, with which loss.

    Two names mean the same in all of them:

    - `self.model` is what is optimised, and what transformers wraps: the projector in Stage A, a lexicon, the whole
      model in Stage B, a baseline.
    - `self.llink_model` is the whole llink model: the same object in Stage B, that of which `self.model` is a part
      before. It is what is saved, in checkpoints too, and pushed. A baseline is no llink model: None.

    Weights depend on the data, the arguments and `args.seed` alone, not on what was drawn before: parts that no stage
    has trained yet are drawn anew from the seed when the trainer is made, and `train` begins with it.

    Args:
        model: What is optimised.
        args: As in `Trainer`.
        llink_model: The whole model; None for a baseline.
        options: As in `Trainer`: datasets, callbacks, optimizers.

    Raises:
        LlinkConfigError: If FSDP or DeepSpeed are set up where a part of a model is trained.
    """

    #: How far a llink model is once this has trained it, as its configuration names it.
    stage: str | None = None

    def __init__(
        self, model: nn.Module, args: TrainingArguments, llink_model: PreTrainedModel | None = None, **options: Any
    ) -> None:
        self.llink_model = llink_model
        self.hub = None if llink_model is None else HubCallback(self)
        self._tensors: dict[int, tuple[Any, Any]] = {}
        self._terms: dict[str, tuple[Tensor | float, set[int]]] = {}
        self._is_saving = False
        callbacks = [*(options.pop("callbacks", None) or ()), *([] if self.hub is None else [self.hub])]
        super().__init__(model=model, args=args, callbacks=callbacks, **options)
        if llink_model is not None and model is not llink_model:
            self._train_a_part(llink_model)

    def _train_a_part(self, whole: PreTrainedModel) -> None:
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise LlinkConfigError(
                f"FSDP and DeepSpeed do not apply to {type(self).__name__}, which trains a small part: launch with "
                "torchrun."
            )
        fixed = (getattr(m, "hf_device_map", None) or getattr(m, "is_quantized", False) for m in whole.modules())
        if not any(fixed):  # a quantised or dispatched base stays where it was loaded
            whole.to(self.args.device)
        warn_of_slow_dtypes(whole)

    # ------------------------------------------------------------------ what a subclass says

    def make_tensors(self, dataset: Any) -> Any:
        """A torch dataset of row numbers, or examples, with a `collate`, made of a dataset's rows."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it makes of a dataset.")

    def of_whole_step(self, batches: list[dict[str, Any]], device: torch.device) -> dict[str, Any]:
        """What every micro-batch is to know of the whole optimiser step, over all processes: none, unless said."""
        return {}

    def parameter_groups(self) -> list[dict[str, Any]] | None:
        """Groups of what is trained, each with its learning rate; None leaves transformers' own grouping."""
        return None

    def evaluated(self, model: nn.Module, batches: Iterator[dict[str, Any]], dataset: Any) -> Evaluated:
        """Scores a whole set: (N, …) predictions, (N, …) labels, and the metrics' values by name."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it is evaluated.")

    @staticmethod
    def metric_names(dataset: Dataset) -> list[str]:
        """Names of what [`evaluated`] reports over a dataset."""
        return ["loss"]

    def save_weights(self, folder: str, state_dict: dict[str, Tensor] | None = None) -> None:
        """Writes what is saved: the whole llink model. A baseline writes itself."""
        self.llink_model.save_pretrained(folder, **({} if state_dict is None else {"state_dict": state_dict}))

    def load_weights(self, folder: str) -> None:
        """Loads a checkpoint's trained weights in place: bridge and LoRA. A baseline loads its own.

        Raises:
            LlinkCheckpointError: If they are missing, damaged or do not fit.
        """
        self.llink_model.load_bridge(folder)

    # ------------------------------------------------------------------ data

    def tensors_of(self, dataset: Any) -> Any:
        """[`make_tensors`] of a dataset, made on first use and kept."""
        key = id(dataset)
        if key not in self._tensors:
            self._tensors[key] = (dataset, self.make_tensors(dataset))  # the dataset too, so that its id stays taken
        return self._tensors[key][1]

    def get_train_dataloader(self) -> DataLoader:
        """Batches of the training rows; what they need of the frozen bases is computed on the first call."""
        return self._loader(self.train_dataset, "Training", self._train_batch_size, self._get_train_sampler, True)

    def get_eval_dataloader(self, eval_dataset: str | Dataset | None = None) -> DataLoader:
        """As `Trainer.get_eval_dataloader`."""
        dataset = self.eval_set(eval_dataset)
        return self._loader(dataset, "Evaluation", self.args.eval_batch_size, self._get_eval_sampler, False)

    def get_test_dataloader(self, test_dataset: Dataset) -> DataLoader:
        """As `get_eval_dataloader`, for `predict`."""
        return self.get_eval_dataloader(test_dataset)

    def eval_set(self, given: str | Dataset | None) -> Any:
        """The evaluation set that is meant: the one given, or named, or the trainer's own.

        Raises:
            LlinkConfigError: If there is none, or none of that name.
        """
        dataset = self.eval_dataset if given is None else given
        if isinstance(dataset, str):
            if dataset not in (named := named_sets(self.eval_dataset)):
                raise LlinkConfigError(f"eval_dataset={dataset!r} is none of {', '.join(named) or 'no names'}.")
            dataset = named[dataset]
        if dataset is None:
            raise LlinkConfigError("Evaluation needs an eval_dataset.")
        return dataset

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        lengths = getattr(train_dataset, "lengths", None)  # of the rows, as `make_tensors` counts them
        if self.args.train_sampling_strategy != "group_by_length" or lengths is None:
            return super()._get_train_sampler(train_dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        rows = self._train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return GroupedByLength(lengths, rows, seed)

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler | None:
        """In order: transformers would group these too, and not find their lengths."""
        return SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None

    def _loader(self, dataset: Any, description: str, size: int, sampler: Any, training: bool) -> DataLoader:
        tensors = self.tensors_of(dataset)
        self.data_collator = tensors.collate
        return self._get_dataloader(tensors, description, batch_size=size, sampler_fn=sampler, is_training=training)

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, Tensor | int | None]:
        """As in transformers; each micro-batch of a step also holds what `of_whole_step` says."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        whole = self.of_whole_step(batches, device) if batches else {}
        return [{**batch, **whole} for batch in batches], items

    def over_processes(self, count: Tensor) -> Tensor:
        """A scalar summed over all processes."""
        return count if self.args.world_size == 1 else self.accelerator.gather(count).sum()

    # ------------------------------------------------------------------ training

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """As `Trainer.train`; leaves the model in evaluation mode.

        Raises:
            TrainingError: If the loss becomes NaN or infinite, or the checkpoint to resume from (True: the newest whole
                one) is missing, torn, or holds the model alone.
            DataError: If another run is writing the output folder.
            LlinkConfigError: If there are no data, the model could not be saved, or there is no such optimiser.
        """
        if self.train_dataset is None:
            raise LlinkConfigError("Training needs a train_dataset.")
        if resume_from_checkpoint is True and (resume_from_checkpoint := last_checkpoint(self.args.output_dir)) is None:
            raise TrainingError(f"{self.args.output_dir} holds no checkpoint: start without resume_from_checkpoint.")
        check_resumable(resume_from_checkpoint, self.args.output_dir)
        check_batch(resume_from_checkpoint, self.args)
        check_optimizer(self.args)
        if not isinstance(self.eval_dataset, (Mapping, NoneType)):  # of several sets each has its own names
            check_best_metric(self.args, self.metric_names(self.eval_dataset))
        self._check_savable()
        set_seed(self.args.seed)  # whatever was drawn since the trainer was made
        try:
            with one_writer(self.args.output_dir, inside=True) if self.args.should_save else nullcontext():
                if resume_from_checkpoint and (state := done_already(resume_from_checkpoint, self.args.max_steps)):
                    self._load_from_checkpoint(str(resume_from_checkpoint))  # transformers would take one more step
                    self.state = state
                    return TrainOutput(state.global_step, 0.0, {})
                return super().train(resume_from_checkpoint, *args, **kwargs)
        finally:
            self.model.eval()

    def _check_savable(self) -> None:
        """Finds out before training, not at its first checkpoint, that a light checkpoint cannot name its bases."""
        if self.llink_model is None:
            return
        config = self.llink_model.config
        names = config.encoder_name_or_path, config.decoder_name_or_path
        if self.args.save_strategy != "no" and not config.self_contained and None in names:
            raise LlinkConfigError(
                f"The bases are named {names}: a light checkpoint could not find them again. Build the model from "
                "names or folders, set model.config.self_contained=True, or save_strategy='no'."
            )

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The chosen optimiser over `parameter_groups`."""
        groups = self.parameter_groups()
        if groups is None:
            return super().create_optimizer(model)
        if self.optimizer is None:
            optimizer_class, kwargs = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = optimizer_class(groups, **kwargs)
        return self.optimizer

    def check_finite(self, loss: Tensor, fine: Tensor, ids: list[str]) -> None:
        """Stops a run whose loss is NaN or infinite.

        Args:
            loss: Scalar.
            fine: (B,) whether a row's own share is finite.
            ids: The rows' names.

        Raises:
            TrainingError: If the loss is not finite; it names the rows that are not, or all.
        """
        if not torch.isfinite(loss):
            guilty = [name for name, good in zip(ids, fine.tolist(), strict=True) if not good]
            raise TrainingError.of_loss(loss.item(), self.state.global_step, guilty or ids)

    def record_terms(self, terms: Mapping[str, Tensor | float]) -> None:
        """Keeps the terms of a loss, summed over a step's micro-batches, for the next log."""
        for name, value in terms.items():
            total, steps = self._terms.get(name, (0.0, set()))
            value = value.detach() if isinstance(value, Tensor) else value
            self._terms[name] = (total + value, steps | {self.state.global_step})

    def mean_terms(self) -> dict[str, float]:
        """The terms since the last log, averaged over the steps that had them."""
        return {name: float(total) / len(steps) for name, (total, steps) in self._terms.items()}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the terms of the loss to the training logs."""
        if "loss" in logs and self._terms:
            logs.update(self.mean_terms())
            self._terms = {}
        super().log(logs, start_time)

    # ------------------------------------------------------------------ evaluation

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

    # ------------------------------------------------------------------ checkpoints and the Hub

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """What is trained and its processor; no pickled arguments."""
        if not self.args.should_save:
            return
        folder = output_dir or self.args.output_dir
        Path(folder).mkdir(parents=True, exist_ok=True)
        if self.hub is not None:
            self.hub.update_record()
        self.save_weights(folder, state_dict)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)
        if self.llink_model is not None and state_dict is None:  # given weights may lie on other processes
            save_canary(self.llink_model, folder)

    def _get_output_dir(self, trial: Any) -> str:
        folder = super()._get_output_dir(trial)
        return os.path.join(folder, UNFINISHED) if self._is_saving else folder

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """As in transformers; a checkpoint gets its name when all processes have written their part of it."""
        run, name = Path(self._get_output_dir(trial)), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if self.args.should_save:
            shutil.rmtree(run / UNFINISHED, ignore_errors=True)  # of a run that was killed
        self.accelerator.wait_for_everyone()
        self._is_saving = True
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._is_saving = False
        self.accelerator.wait_for_everyone()
        if not self.args.should_save:
            return
        made = run / UNFINISHED / name
        write_batch(made, self.args)
        if self.state.best_model_checkpoint == str(made):
            self.state.best_model_checkpoint = str(run / name)
            self.state.save_to_json(str(made / TRAINER_STATE_NAME))
        move_into_place(made, run / name)
        shutil.rmtree(run / UNFINISHED)
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(run / name))
        rotate_checkpoints(str(run), self.args.save_total_limit, self.state.best_model_checkpoint, use_mtime=True)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        self.load_weights(resume_from_checkpoint)
        if self.hub is not None:
            self.hub.reach_stage()

    def _load_best_model(self) -> None:
        logger.info("Loading the best model, %s = %s.", self.state.best_model_checkpoint, self.state.best_metric)
        self.load_weights(self.state.best_model_checkpoint)

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """As in transformers; refuses at once what could not be pushed at the end ([`HubCallback.check_pushable`])."""
        if self.hub is not None:
            self.hub.check_pushable()
        super().init_hf_repo(token, private)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """See [`HubCallback.write_card`]; a baseline's is transformers'."""
        return (super().create_model_card if self.hub is None else self.hub.write_card)(*args, **kwargs)

    def save_model(self, output_dir: str | os.PathLike | None = None, _internal_call: bool = False) -> None:
        """As in transformers; when the push that follows with `push_to_hub=True` fails, the run goes on."""
        super().save_model(output_dir and str(output_dir), _internal_call=_internal_call or self.hub is not None)
        if self.hub is not None and self.args.push_to_hub and not _internal_call:
            self.hub.try_to_push()

    def push_to_hub(self, *args: Any, **kwargs: Any) -> CommitInfo | Future | None:
        """See [`HubCallback.push`]; a baseline's is transformers'."""
        return (super().push_to_hub if self.hub is None else self.hub.push)(*args, **kwargs)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if not self._is_saving:  # else it has no name yet
            (super()._push_from_checkpoint if self.hub is None else self.hub.push_checkpoint)(checkpoint_folder)
