"""The code that travels with a checkpoint, so that the Auto classes work where llink is not installed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from .errors import LlinkCheckpointError
from .pipeline import FEATURES, TASK, LlinkFeatures, LlinkPipeline

CONFIG_AUTO_MAP = {
    "AutoConfig": "configuration_llink.LlinkConfig",
    "AutoModel": "modeling_llink.LlinkForCausalLM",
    "AutoModelForCausalLM": "modeling_llink.LlinkForCausalLM",
    "AutoModelForMultimodalLM": "modeling_llink.LlinkForCausalLM",
}
CUSTOM_PIPELINES = {
    task: {"impl": f"pipeline.{pipeline.__name__}", "pt": ["AutoModelForCausalLM"]}
    for task, pipeline in ((TASK, LlinkPipeline), (FEATURES, LlinkFeatures))
}
PROCESSOR_AUTO_MAP = {"AutoProcessor": "processing_llink.LlinkProcessor"}
#: Where what a model needs begins.
MODEL_MODULES = ("configuration_llink", "modeling_llink", "processing_llink")
_IMPORT = re.compile(r"^from \.+(\w+) import", re.MULTILINE)


def _source(name: str) -> Path:
    """A module's file: beside this one, or above it when running from the package."""
    here = Path(__file__).parent
    return here / f"{name}.py" if (here / f"{name}.py").is_file() else here.parent / f"{name}.py"


@cache
def code_files(*modules: str) -> tuple[str, ...]:
    """The files of these modules, or of all that a model needs, and of what they import."""
    found: set[str] = set()
    waiting = set(modules or MODEL_MODULES)
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= set(_IMPORT.findall(_source(name).read_text("utf-8"))) - found
    return tuple(sorted(f"{name}.py" for name in found))


def write_code(directory: Path) -> None:
    """Copies source files flat into a folder and declares them in its configurations.

    transformers copies and follows only imports from the same folder: `from ..x import y` becomes `from .x import y`.

    Args:
        directory: A folder that holds `config.json`, `processor_config.json`, or both.
    """
    with_model = (directory / "config.json").is_file() and _source("modeling_llink").is_file()
    for name in code_files() if with_model else code_files("processing_llink"):
        text = _source(name.removesuffix(".py")).read_text("utf-8")
        (directory / name).write_text(re.sub(r"^from \.\.(\w+) import", r"from .\1 import", text, flags=re.M), "utf-8")
    _declare(directory / "config.json", auto_map=CONFIG_AUTO_MAP, custom_pipelines=CUSTOM_PIPELINES)
    _declare(directory / "processor_config.json", auto_map=PROCESSOR_AUTO_MAP)


def _declare(path: Path, **fields: dict[str, Any]) -> None:
    if not path.is_file():
        return
    content = json.loads(path.read_text("utf-8")) | fields
    path.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")


#: What a push takes beside the repository's name.
PUSH_OPTIONS = ("private", "token", "revision", "create_pr", "commit_message", "commit_description", "repo_id")


def check_push(folder: str | os.PathLike, options: Collection[str]) -> None:
    """Refuses what saving would swallow.

    Raises:
        LlinkCheckpointError: If the folder has no name, or is a file.
        TypeError: If an option is none.
    """
    if not str(folder) or Path(folder).is_file():
        raise LlinkCheckpointError(f"save_directory={str(folder)!r} is a file, or nothing: give a folder.")
    if unknown := sorted(set(options) - set(PUSH_OPTIONS)):
        raise TypeError(f"save_pretrained cannot take {', '.join(unknown)}; a push takes {', '.join(PUSH_OPTIONS)}.")


def upload_folder(
    folder: str | Path,
    repo_id: str,
    commit_message: str,
    private: bool | None = None,
    token: bool | str | None = None,
    **commit: Any,
) -> CommitInfo:
    """Puts all files of a folder on the Hub in one commit; other files there stay.

    Args:
        folder: Nothing but what shall be on the Hub.
        repo_id: `user/name`; the repository is made when missing.
        commit_message, private, token: As in huggingface_hub.
        commit: `revision`, `create_pr`, `commit_description`.

    Raises:
        LlinkCheckpointError: If the Hub refuses it, or cannot be reached.
    """
    api = HfApi(token=token)
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    operations = [CommitOperationAdd(path.relative_to(folder).as_posix(), str(path)) for path in files]
    try:
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        return api.create_commit(repo_id, operations, commit_message=commit_message, **commit)
    except (HfHubHTTPError, HFValidationError, OSError) as error:  # offline mode is the last
        reason = " ".join(str(error).split())
        raise LlinkCheckpointError(f"{repo_id!r} was not pushed: {reason}") from error
