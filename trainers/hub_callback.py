"""What goes with a model that a trainer saves: stage, run record, canary, card, and pushes that are whole."""

from __future__ import annotations

import logging
import secrets
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo
from transformers import TrainerCallback
from transformers.trainer_utils import HubStrategy
from transformers.utils.hub import PushInProgress, hf_api

from ..hub_cards.card import bases_licences, write_card
from ..hub_cards.licences import name_problem
from ..hub_cards.publishing import publish
from ..hub_cards.staging import base_problems, stage_folder, temporary_stage
from ..hub_cards.upload import LlinkPushError
from .record import data_facts, run_facts, with_stage

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class HubCallback(TrainerCallback):
    """Keeps the model's stage and run record as training goes on, and pushes nothing but complete, checked models.

    `hub_strategy` is `end` or `every_save`: the others would push optimiser states, which are pickles. A push that
    fails while training is reported in the log, and training goes on.

    Args:
        trainer: Whose model, arguments and data; transformers tells a callback of its events only the arguments.
        data_files: The names of the data's files, for the record; the command line sets them.
        run: Of the trainer's stage in the record.
    """

    trainer: Any
    data_files: tuple[str, ...] = ()
    run: str = field(default_factory=partial(secrets.token_hex, 8))

    # ------------------------------------------------------------------ events

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Something has been trained."""
        self.reach_stage()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The model knows how it was trained, however it is saved."""
        self.update_record()

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The metrics of a training run go into its record."""
        if state.global_step:
            self.update_record()

    # ------------------------------------------------------------------ stage and record

    def reach_stage(self) -> None:
        """The model's configuration says what has been trained: nothing before the first optimiser step."""
        self.trainer.llink_model.config.stage = self.trainer.stage

    def update_record(self) -> None:
        """Writes this run into the model's record: a stage for each training run, this one last.

        A stage holds `run`, `stage`, `data`, `settings`, `metrics`, `steps`, `epochs`, `seed`, `processes`,
        `versions`, `machine` and `saved`.
        """
        trainer, model = self.trainer, self.trainer.llink_model
        stage = {
            "run": self.run,
            "stage": model.config.stage,
            "data": data_facts(trainer.train_dataset, trainer.eval_dataset, self.data_files),
            **run_facts(trainer.args, trainer.state),
        }
        model.run_record = with_stage(getattr(model, "run_record", None), stage)

    # ------------------------------------------------------------------ what transformers asks of a trainer

    def check_pushable(self) -> None:
        """Refuses at once what could not be pushed at the end.

        Raises:
            LlinkPushError: If `hub_strategy` would push pickles, nobody else could load the bases, or their licences
                do not allow the repository's name.
        """
        args = self.trainer.args
        if not self.trainer.is_world_process_zero():
            return
        if args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            raise LlinkPushError(
                f"hub_strategy={args.hub_strategy.value!r} would push optimiser states, which are pickles. "
                "Choose end or every_save."
            )
        config = self.trainer.llink_model.config.to_dict()
        problems = [] if config["self_contained"] else base_problems(config)
        name = args.hub_model_id or Path(args.output_dir).absolute().name
        problems += [problem] if (problem := name_problem(name, bases_licences(config))) else []
        if problems:
            raise LlinkPushError(f"This model could not be pushed: {'; '.join(problems)}")

    def write_card(self, model_name: str | None = None, **_: Any) -> None:
        """Writes the card of what was saved in `output_dir`; the reader's own text of an earlier one stays."""
        trainer, folder = self.trainer, Path(self.trainer.args.output_dir)
        if not (folder / "config.json").is_file():
            trainer.save_model(_internal_call=True)
        if trainer.is_world_process_zero():
            write_card(folder, trainer.hub_model_id or model_name or folder.absolute().name)

    def try_to_push(self) -> None:
        """Pushes what has just been saved; a failure is an error in the log."""
        args = self.trainer.args
        try:
            self.trainer.push_to_hub(commit_message="Model save", revision=args.hub_revision)
        except LlinkPushError as error:
            logger.error("The model is saved in %s, but was not pushed. %s", args.output_dir, error)

    def push(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> CommitInfo | Future | None:
        """Saves the model and pushes all of it in one commit, checked.

        Args:
            commit_message, blocking, token, revision, private: As `Trainer.push_to_hub` takes them.
            kwargs: `tags` of the card, and `create_pr`.

        Returns:
            The commit, or its future if not `blocking`; nothing on other processes than the first.

        Raises:
            LlinkPushError: If the model is not complete, reloads to another one, or the upload fails.
        """
        trainer, args = self.trainer, self.trainer.args
        trainer.callback_handler.on_push_begin(args, trainer.state, trainer.control)
        if trainer.hub_model_id is None:
            trainer.init_hf_repo(token=token, private=private)
        trainer.save_model(_internal_call=True)
        if not trainer.is_world_process_zero():
            return None
        trainer.create_model_card(kwargs.get("model_name"))
        trainer._finish_current_push()
        options = {
            "commit_message": commit_message,
            "token": token or args.hub_token,
            "revision": revision or args.hub_revision,
            "tags": kwargs.get("tags"),
            "create_pr": kwargs.get("create_pr", False),
        }
        push = self._staged_push(Path(args.output_dir), options)
        return push() if blocking else hf_api().run_as_future(push)

    def push_checkpoint(self, folder: str) -> None:
        """Pushes a checkpoint's model in the background: staged now, because the folder may be deleted soon."""
        trainer, args = self.trainer, self.trainer.args
        if not trainer.is_world_process_zero() or args.hub_strategy == HubStrategy.END:
            return
        busy = trainer.push_in_progress is not None and not trainer.push_in_progress.is_done()
        if busy and not args.hub_always_push:
            return
        trainer.callback_handler.on_push_begin(args, trainer.state, trainer.control)
        options = {
            "commit_message": f"Training in progress, step {trainer.state.global_step}",
            "token": args.hub_token,
            "revision": args.hub_revision,
        }
        job = hf_api().run_as_future(self._staged_push(Path(folder), options))
        job.add_done_callback(_report)
        trainer.push_in_progress = PushInProgress([*(trainer.push_in_progress.jobs if busy else ()), job])

    def _staged_push(self, folder: Path, options: dict[str, Any]) -> Any:
        """Stages a folder at once and returns what checks and pushes the stage, then removes it."""
        stage = temporary_stage()
        try:
            stage_folder(folder, Path(stage.name))
        except BaseException:
            stage.cleanup()
            raise
        source, repo_id = self.trainer.llink_model.hub_options, self.trainer.hub_model_id

        def push() -> CommitInfo:
            with stage as name:
                return publish(Path(name), repo_id, cache_dir=source.get("cache_dir"), **options)

        return push


def _report(job: Future) -> None:
    if not job.cancelled() and job.exception() is not None:
        logger.error("A push while training failed, and training goes on. %s", job.exception())
