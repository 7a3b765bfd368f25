"""What an evaluation leaves behind: its results, and what they were measured with."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import torch

from .._version import __version__
from .report import write_json

_LIBRARIES = ("torch", "transformers", "peft", "datasets")


def _accelerator() -> str:
    return f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""


def write_record(
    folder: str | os.PathLike | None, kind: str, results: Mapping[str, Any], arguments: Any
) -> Path | None:
    """Writes `folder/kind.json`, which `llink report` and the model card read; nothing when there is no folder.

    Args:
        folder: Made when it does not exist.
        kind: What was measured, such as `retrieval`.
        results: Plain numbers, strings, lists and mappings.
        arguments: A dataclass or mapping of what the measurement was called with.

    Returns:
        The file.
    """
    if folder is None:
        return None
    path = Path(folder) / f"{kind}.json"
    content = {
        "kind": kind,
        "results": dict(results),
        "arguments": asdict(arguments) if is_dataclass(arguments) else dict(arguments),
        "versions": {"llink": __version__, **{name: importlib.metadata.version(name) for name in _LIBRARIES}},
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs{_accelerator()}, Python {platform.python_version()}",
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    write_json(path, content)
    return path
