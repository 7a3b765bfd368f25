"""What the trainers of a llink model share: the run record beside every save, the card, and pushes that are whole."""

from __future__ import annotations

import datetime
import logging
import platform
import secrets
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from huggingface_hub import CommitInfo
from transformers import PreTrainedModel, TrainingArguments
from transformers.trainer_utils import HubStrategy, TrainOutput
from transformers.utils.hub import PushInProgress, hf_api

from .._version import __version__
from ..hub_cards.canary import installed_versions
from ..hub_cards.card import bases_licences, write_card
from ..hub_cards.licences import name_problem
from ..hub_cards.publishing import publish
from ..hub_cards.staging import base_problems, stage_folder, temporary_stage
from ..hub_cards.upload import LlinkPushError
from .base import LlinkTrainer

logger = logging.getLogger(__name__)

#: Settings of `TrainingArguments` that belong into a record, besides those that a stage declares itself.
SETTINGS = (
    *("learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "num_train_epochs", "max_steps"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "optim", "weight_decay", "max_grad_norm"),
    *("adam_beta1", "adam_beta2", "adam_epsilon", "bf16", "fp16", "gradient_checkpointing", "seed"),
)
#: Declared by a stage, but about the machine and not the model.
NO_SETTINGS = ("feature_cache_dir", "feature_batch_size", "remove_unused_columns", "ddp_find_unused_parameters")


class HubMixin(LlinkTrainer):
    """Saves the whole model with its run record, and pushes nothing but complete, checked models.

    `hub_strategy` is `end` or `every_save`: the others would push optimiser states, which are pickles. A push that
    fails while training is reported in the log, and training goes on.
    """

    #: The names of the data's files, for the record; the command line sets them.
    data_files: tuple[str, ...] = ()
    _run_id: str | None = None  # of this trainer's stage in the record

    @property
    def whole_model(self) -> PreTrainedModel:
        """The llink model, of which the trainer may train a part."""
        return self.accelerator.unwrap_model(getattr(self, "llink_model", self.model), keep_torch_compile=False)

    # ------------------------------------------------------------------ the run record

    def run_record(self) -> dict[str, Any]:
        """How the model came to be up to now, plain JSON: a stage for each training run, this one last.

        A stage holds `stage`, `data`, `settings`, `metrics`, `steps`, `epochs`, `seed`, `processes`, `versions`,
        `machine` and `saved`.
        """
        self._run_id = self._run_id or secrets.token_hex(8)
        state, stage = self.state, self.whole_model.config.stage
        earlier = (getattr(self.whole_model, "run_record", None) or {}).get("stages", [])
        record = {
            "run": self._run_id,
            "stage": stage,
            "data": self._data_facts(),
            "settings": settings_of(self.args),
            "metrics": last_metrics(state.log_history),
            "steps": state.global_step,
            "epochs": state.epoch,
            "seed": self.args.seed,
            "processes": self.args.world_size,
            "versions": {"llink": __version__, **installed_versions()},
            "machine": f"{platform.machine()}, {self._device_name()}",
            "saved": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        # Stage A begins anew: what was built on an earlier projector is gone, but words are not built on it.
        gone = ("align", "inject") if stage == "align" else ()
        kept = [one for one in earlier if one["run"] != self._run_id and one["stage"] not in gone]
        return {"stages": [*kept, record]}

    def _device_name(self) -> str:
        on_gpu = torch.cuda.is_available() and self.args.device.type == "cuda"
        return torch.cuda.get_device_name(self.args.device) if on_gpu else self.args.device.type.upper()

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """As in the library; the model then knows how it was trained, however it is saved."""
        output = super().train(*args, **kwargs)
        self.whole_model.run_record = self.run_record()
        return output

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As in the library; the metrics go into the record of a training run."""
        metrics = super().evaluate(*args, **kwargs)
        if self.state.global_step:
            self.whole_model.run_record = self.run_record()
        return metrics

    def _data_facts(self) -> dict[str, Any]:
        evaluated = self.eval_dataset if isinstance(self.eval_dataset, Mapping) else {"eval": self.eval_dataset}
        return {
            **dataset_facts(self.train_dataset),
            "eval_rows": {name: len(dataset) for name, dataset in evaluated.items() if dataset is not None},
            "files": [Path(name).name for name in self.data_files],
        }

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """Saves the whole model, not only what is trained, with its record; no pickled arguments."""
        if not self.args.should_save:
            return
        folder, model = output_dir or self.args.output_dir, self.whole_model
        Path(folder).mkdir(parents=True, exist_ok=True)
        model.run_record = self.run_record()
        model.save_pretrained(folder, **({} if state_dict is None else {"state_dict": state_dict}))
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)

    # ------------------------------------------------------------------ the Hub

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """As in the library; refuses at once what could not be pushed at the end.

        Raises:
            LlinkPushError: If `hub_strategy` would push pickles, nobody else could load the bases, or their licences
                do not allow the repository's name.
        """
        if self.is_world_process_zero():
            if self.args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
                raise LlinkPushError(
                    f"hub_strategy={self.args.hub_strategy.value!r} would push optimiser states, which are pickles. "
                    "Choose end or every_save."
                )
            config = self.whole_model.config.to_dict()
            problems = [] if config["self_contained"] else base_problems(config)
            name = self.args.hub_model_id or Path(self.args.output_dir).absolute().name
            problems += [problem] if (problem := name_problem(name, bases_licences(config))) else []
            if problems:
                raise LlinkPushError(f"This model could not be pushed: {'; '.join(problems)}")
        super().init_hf_repo(token, private)

    def create_model_card(self, model_name: str | None = None, **_: Any) -> None:
        """Writes the card of what was saved in `output_dir`; the reader's own text of an earlier one stays."""
        if not (Path(self.args.output_dir) / "config.json").is_file():
            self.save_model(_internal_call=True)
        if self.is_world_process_zero():
            name = self.hub_model_id or model_name or Path(self.args.output_dir).absolute().name
            write_card(Path(self.args.output_dir), name)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As in the library; when the push that follows with `push_to_hub=True` fails, the run goes on."""
        super().save_model(output_dir, _internal_call=True)
        if self.args.push_to_hub and not _internal_call:
            try:
                self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)
            except LlinkPushError as error:
                logger.error("The model is saved in %s, but was not pushed. %s", self.args.output_dir, error)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> CommitInfo | Future | None:
        """Saves the model and pushes all of it in one commit, as `model.push_to_hub` does.

        Args:
            commit_message, blocking, token, revision, private: As in the library.
            kwargs: `tags` of the card, and `create_pr`.

        Returns:
            The commit, or its future if not `blocking`; nothing on other processes than the first.

        Raises:
            LlinkPushError: If the model is not complete, reloads to another one, or the upload fails.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.hub_model_id is None:
            self.init_hf_repo(token=token, private=private)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        self.create_model_card(kwargs.get("model_name"))
        self._finish_current_push()
        options = {
            "commit_message": commit_message,
            "token": token or self.args.hub_token,
            "revision": revision or self.args.hub_revision,
            "tags": kwargs.get("tags"),
            "create_pr": kwargs.get("create_pr", False),
        }
        push = self._staged_push(Path(self.args.output_dir), options)
        return push() if blocking else hf_api().run_as_future(push)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Pushes a checkpoint's model in the background: staged now, because the folder may be deleted soon."""
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        busy = self.push_in_progress is not None and not self.push_in_progress.is_done()
        if busy and not self.args.hub_always_push:
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        options = {
            "commit_message": f"Training in progress, step {self.state.global_step}",
            "token": self.args.hub_token,
            "revision": self.args.hub_revision,
        }
        job = hf_api().run_as_future(self._staged_push(Path(checkpoint_folder), options))
        job.add_done_callback(_report)
        self.push_in_progress = PushInProgress([*(self.push_in_progress.jobs if busy else ()), job])

    def _staged_push(self, folder: Path, options: dict[str, Any]) -> Any:
        """Stages a folder at once and returns what checks and pushes the stage, then removes it."""
        stage = temporary_stage()
        try:
            stage_folder(folder, Path(stage.name))
        except BaseException:
            stage.cleanup()
            raise
        source, repo_id = self.whole_model.hub_options, self.hub_model_id

        def push() -> CommitInfo:
            with stage as name:
                return publish(Path(name), repo_id, cache_dir=source.get("cache_dir"), **options)

        return push


def _report(job: Future) -> None:
    if not job.cancelled() and job.exception() is not None:
        logger.error("A push while training failed, and training goes on. %s", job.exception())


def settings_of(args: TrainingArguments) -> dict[str, Any]:
    """The settings of a run that shaped the model: what its stage declares, and the optimiser's."""
    declared = [name for name in type(args).__annotations__ if name not in NO_SETTINGS]
    values = {name: getattr(args, name) for name in dict.fromkeys([*declared, *SETTINGS]) if hasattr(args, name)}
    return {name: _plain(value) for name, value in values.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return value if isinstance(value, (str, int, float, bool)) else str(getattr(value, "value", value))


def dataset_facts(dataset: Dataset | None) -> dict[str, Any]:
    """How many rows, of which languages and tasks."""
    if dataset is None:
        return {"train_rows": 0, "languages": [], "tasks": {}}
    columns = dataset.column_names
    languages = sorted(set(dataset["language"][:])) if "language" in columns else []
    tasks = Counter(task for task in dataset["task"][:] if task) if "task" in columns else {}
    return {"train_rows": len(dataset), "languages": languages, "tasks": dict(tasks)}


def last_metrics(history: list[dict[str, Any]]) -> dict[str, float]:
    """The last value of every evaluation metric in a trainer's log, and of the training loss."""
    found: dict[str, float] = {}
    for row in history:
        for name, value in row.items():
            timing = name.endswith(("_runtime", "_per_second", "_time"))
            if isinstance(value, (int, float)) and name.startswith("eval_") and not timing:
                found[name] = value
            elif name == "loss":
                found["train_loss"] = value
    return found
