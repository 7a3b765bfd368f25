"""The run record: how a model came to be, as plain JSON."""

from __future__ import annotations

import datetime
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerState, TrainingArguments

from .._version import __version__
from ..hub_cards.canary import installed_versions

#: Settings of `TrainingArguments` that belong into a record, besides those that a stage declares itself.
SETTINGS = (
    *("learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "num_train_epochs", "max_steps"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "optim", "weight_decay", "max_grad_norm"),
    *("adam_beta1", "adam_beta2", "adam_epsilon", "bf16", "fp16", "gradient_checkpointing", "seed"),
)
#: Declared by a stage, but about the machine and not the model.
NO_SETTINGS = ("feature_cache_dir", "feature_batch_size", "remove_unused_columns", "ddp_find_unused_parameters")


def run_facts(args: TrainingArguments, state: TrainerState) -> dict[str, Any]:
    """What a training run adds to the record, but for its data: settings, metrics, steps, versions, machine."""
    return {
        "settings": settings_of(args),
        "metrics": last_metrics(state.log_history),
        "steps": state.global_step,
        "epochs": state.epoch,
        "seed": args.seed,
        "processes": args.world_size,
        "versions": {"llink": __version__, **installed_versions()},
        "machine": f"{platform.machine()}, {_device_name(args)}",
        "saved": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def with_stage(record: Mapping[str, Any] | None, stage: Mapping[str, Any]) -> dict[str, Any]:
    """A record with one more stage, last, in place of what this one makes void."""
    # Stage A begins anew: what was built on an earlier projector is gone, but words are not built on it.
    gone = ("align", "inject") if stage["stage"] == "align" else ()
    earlier = (record or {}).get("stages", [])
    return {"stages": [*(one for one in earlier if one["run"] != stage["run"] and one["stage"] not in gone), stage]}


def data_facts(train: Dataset | None, evaluated: Any, files: Sequence[str]) -> dict[str, Any]:
    """How many rows of which languages and tasks were trained and evaluated on, and from which files."""
    sets = evaluated if isinstance(evaluated, Mapping) else {"eval": evaluated}
    return {
        **dataset_facts(train),
        "eval_rows": {name: len(dataset) for name, dataset in sets.items() if dataset is not None},
        "files": [Path(name).name for name in files],
    }


def dataset_facts(dataset: Dataset | None) -> dict[str, Any]:
    """How many rows, of which languages and tasks."""
    if dataset is None:
        return {"train_rows": 0, "languages": [], "tasks": {}}
    columns = dataset.column_names
    languages = sorted(set(dataset["language"][:])) if "language" in columns else []
    tasks = Counter(task for task in dataset["task"][:] if task) if "task" in columns else {}
    return {"train_rows": len(dataset), "languages": languages, "tasks": dict(tasks)}


def settings_of(args: TrainingArguments) -> dict[str, Any]:
    """The settings of a run that shaped the model: what its stage declares, and the optimiser's."""
    declared = [name for name in type(args).__annotations__ if name not in NO_SETTINGS]
    values = {name: getattr(args, name) for name in dict.fromkeys([*declared, *SETTINGS]) if hasattr(args, name)}
    return {name: _plain(value) for name, value in values.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return value if isinstance(value, (str, int, float, bool)) else str(getattr(value, "value", value))


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


def _device_name(args: TrainingArguments) -> str:
    on_gpu = torch.cuda.is_available() and args.device.type == "cuda"
    return torch.cuda.get_device_name(args.device) if on_gpu else args.device.type.upper()
