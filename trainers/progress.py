"""One line of progress a stage, with its loss and its measure; every log goes to a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback

LOG_FILE = "log.jsonl"


class ProgressLine(TrainerCallback):
    """A bar over the steps with the last loss and one measure of the last evaluation.

    Args:
        stage: How the line is called.
        metric: Such as `eval_r@1`.
    """

    def __init__(self, stage: str, metric: str) -> None:
        self.stage, self.metric = stage, metric
        self.shown: dict[str, str] = {}
        self.bar: tqdm | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Draws the line."""
        if state.is_world_process_zero:
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc=self.stage, dynamic_ncols=True)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Moves it."""
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict | None = None, **kwargs: Any) -> None:
        """Shows loss and measure, and keeps everything in the file."""
        if not state.is_world_process_zero or not logs:
            return
        with (Path(args.output_dir) / LOG_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": state.global_step, **logs}) + "\n")
        for name, shown in (("loss", "loss"), (self.metric, self.metric.removeprefix("eval_"))):
            if name in logs:
                self.shown[shown] = f"{logs[name]:.3g}"
        if self.bar is not None:
            self.bar.set_postfix(self.shown)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leaves the line as it is."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def quieten(trainer: Trainer, metric: str) -> None:
    """One line in place of transformers' bars and dictionaries."""
    for callback in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(callback)
    if not trainer.args.disable_tqdm:
        trainer.add_callback(ProgressLine(getattr(trainer, "stage", None) or type(trainer).__name__, metric))
