"""Checkpoints of a run: which are whole, and which one a run goes on from."""

from __future__ import annotations

import json
import logging
import os
import re
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers import TrainerState, TrainingArguments
from transformers.trainer import OPTIMIZER_NAME, TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from .errors import TrainingError

logger = logging.getLogger(__name__)

#: Where a checkpoint is written, within the run's folder, until all of it is there.
UNFINISHED = ".unfinished"
#: In a checkpoint: how many rows a step of its run reads.
BATCH_FILE = "step_rows.json"


def torn(folder: Path) -> str | None:
    """What is missing or damaged in a checkpoint, by what its files say of themselves; nothing of a whole one."""
    try:
        state = json.loads((folder / TRAINER_STATE_NAME).read_text("utf-8"))
    except (OSError, ValueError):
        return f"{TRAINER_STATE_NAME}, which is written last, is missing or damaged"
    if not isinstance(state, dict) or "global_step" not in state:
        return f"{TRAINER_STATE_NAME} names no step"
    for path in sorted(folder.iterdir()):
        if path.suffix == ".safetensors":
            try:
                with safe_open(path, framework="pt"):
                    pass  # it compares its header with the file's length
            except (OSError, SafetensorError):
                return f"{path.name} is damaged"
        elif path.suffix in (".pt", ".pth") and not zipfile.is_zipfile(path):
            return f"{path.name} is damaged"
    return None


def last_checkpoint(output_dir: str | os.PathLike) -> str | None:
    """The newest whole checkpoint of a run; torn ones are passed over, which is logged.

    Args:
        output_dir: The run's folder; it need not exist.

    Returns:
        Its folder; None where there is no checkpoint at all.

    Raises:
        TrainingError: If there are checkpoints, and all of them are torn.
    """
    found: dict[int, Path] = {}
    for path in Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        if path.is_dir() and (step := re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)", path.name)):
            found[int(step[1])] = path
    reasons = []
    for _, path in sorted(found.items(), reverse=True):
        if (reason := torn(path)) is None:
            return str(path)
        logger.warning("Passed over %s, which is torn: %s.", path, reason)
        reasons.append(f"{path.name}: {reason}")
    if reasons:
        raise TrainingError(
            f"{output_dir} holds no whole checkpoint ({'; '.join(reasons)}): start without resume_from_checkpoint."
        )
    return None


def check_resumable(folder: str | os.PathLike | bool | None, output_dir: str | os.PathLike) -> None:
    """Refuses a checkpoint that a run could not go on from.

    Args:
        folder: The checkpoint; of none, nothing is refused.
        output_dir: The run's folder, in which others are looked for.

    Raises:
        TrainingError: If it is no folder, torn, or holds the model alone; names the newest that is whole.
    """
    if not folder:
        return
    path = Path(str(folder))
    if not path.is_dir():
        raise TrainingError(
            f"There is no checkpoint {folder} to resume from: give one of the folders {output_dir}/checkpoint-…, or "
            "True for the last of them."
        )
    reason = torn(path)
    if reason is None and not _has_optimizer(path):
        reason = "it was saved with save_only_model, without the optimiser's state: the learning rate would start anew"
    if reason is not None:
        raise TrainingError(
            f"Cannot resume from {folder}: {reason}. Resume from another checkpoint, or load this one's model and "
            "start a new run."
        )


def write_batch(folder: Path, args: TrainingArguments) -> None:
    """Notes in a checkpoint how many rows a step of its run reads, and on how many processes."""
    fields = {"rows": _rows_of_step(args), "processes": args.world_size}
    (folder / BATCH_FILE).write_text(json.dumps(fields) + "\n", "utf-8")


def check_batch(folder: str | os.PathLike | bool | None, args: TrainingArguments) -> None:
    """Refuses to go on with another number of rows a step: which rows were read already could not be told.

    Other processes with as many rows a step go on where the others were. What they draw, for dropout, is other then.

    Args:
        folder: The checkpoint; of none, and of one that does not say it, nothing is refused.
        args: Of the run that goes on.

    Raises:
        TrainingError: If a step has another number of rows.
    """
    path = Path(str(folder)) / BATCH_FILE
    if not folder or args.auto_find_batch_size or args.ignore_data_skip or not path.is_file():
        return
    try:
        noted = json.loads(path.read_text("utf-8"))
        rows, processes = int(noted["rows"]), int(noted["processes"])
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"Cannot resume from {folder}: {BATCH_FILE} is damaged ({error}).") from error
    if rows != _rows_of_step(args):
        raise TrainingError(
            f"Cannot resume from {folder}: its run reads {rows} rows a step, on {processes} processes, and this one "
            f"{_rows_of_step(args)}, on {args.world_size}. Set --per_device_train_batch_size and "
            f"--gradient_accumulation_steps so that they make {rows}."
        )
    if processes != args.world_size:
        logger.warning(
            "%s was written by %d processes, and %d go on: dropout draws anew.", folder, processes, args.world_size
        )


def _rows_of_step(args: TrainingArguments) -> int:
    return args.train_batch_size * args.gradient_accumulation_steps * args.world_size


def done_already(folder: str | os.PathLike, max_steps: int) -> TrainerState | None:
    """The state of a whole checkpoint that was saved after the last of `max_steps`; nothing of any other."""
    state = TrainerState.load_from_json(str(Path(folder) / TRAINER_STATE_NAME))
    return state if 0 < max_steps <= state.global_step else None


def _has_optimizer(folder: Path) -> bool:
    """Whether transformers, FSDP or DeepSpeed left the optimiser's state there."""
    sharded = any(folder.glob("global_step*")) or any(folder.glob(f"{Path(OPTIMIZER_NAME).stem}_*"))
    return sharded or (folder / OPTIMIZER_NAME).is_file()
