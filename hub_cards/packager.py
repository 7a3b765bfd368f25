"""From a checkpoint's folder to the Hub: what is staged, what completes it, and `push_folder`.

`model.push_to_hub`, the trainers and `llink push` all end in `modeling_llink.publishing.publish`, which calls
[`complete`] on what they staged: everything that is pushed has the same parts.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo

from ..modeling_llink import LlinkForCausalLM
from ..modeling_llink.canary import read_canary
from ..modeling_llink.checkpoint import BASES, CANARY_FOLDER, write_json
from ..modeling_llink.errors import LlinkCheckpointError
from ..modeling_llink.persistence import RECORD_FILE
from ..modeling_llink.publishing import EVALUATION_FOLDER, FINISHERS, NOTICE, publish, temporary_stage
from ..modeling_llink.remote_code import CODE_FILES, write_code
from ..modeling_llink.sources import read_json
from ..modeling_llink.upload import README, LlinkPushError
from .card import bases_licences, write_card
from .licences import name_problem

TRAINING_PLOT = "training.png"
#: What a checkpoint's folder may give to the Hub; a run leaves much else there.
FOLDERS = (*BASES, "encoder_tokenizer", CANARY_FOLDER, EVALUATION_FOLDER, "additional_chat_templates")
FILES = (
    *("config.json", "generation_config.json", "processor_config.json", "tokenizer_config.json", "tokenizer.json"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "chat_template.jinja"),
    *("*.model", "model*.safetensors", "LICENSE*", "USE_POLICY*", NOTICE, README, RECORD_FILE, *CODE_FILES),
)
#: What a record or a plot of an evaluation is called; its rows and caches are not pushed.
EVALUATION_FILES = (".json", ".png")


def complete(stage: Path, repo_id: str) -> None:
    """Writes what a staged checkpoint still lacks: the card, and the notice that its bases' licences ask for.

    Raises:
        LlinkPushError: If the licences do not allow a model of this name.
    """
    licences = bases_licences(read_json(stage / "config.json", str(stage)), ask_hub=True)
    problem = name_problem(repo_id, licences)
    if problem:
        raise LlinkPushError(problem)
    notices = list(dict.fromkeys(licence.notice for licence in licences.values() if licence.notice))
    if notices:
        (stage / NOTICE).write_text("\n".join(notices) + "\n", "utf-8")
    write_card(stage, repo_id, ask_hub=True)


FINISHERS.append(complete)


def push_folder(
    folder: str | os.PathLike,
    repo_id: str,
    self_contained: bool | None = None,
    evaluations: Sequence[str | os.PathLike] = (),
    **options: Any,
) -> CommitInfo:
    """Pushes a checkpoint's folder: stages it, checks it in a fresh offline process, uploads it in one commit.

    Args:
        folder: What `save_pretrained` or a trainer wrote; not changed.
        repo_id: `user/name`.
        self_contained: Whether the bases go along; as in the folder when not given.
        evaluations: Folders that `llink eval … --output-dir` wrote, besides `folder/evaluation`.
        options: `message`, `description`, `private`, `token`, `revision`, `create_pr`, `tags`, `cache_dir` of
            [`publish`].

    Raises:
        LlinkPushError: If the folder is not complete, reloads to another model, or the upload fails.
        LlinkCheckpointError: If it holds no llink model.
    """
    with temporary_stage() as stage:
        stage_folder(Path(folder), Path(stage), self_contained, evaluations)
        return publish(Path(stage), repo_id, **options)


def stage_folder(
    folder: Path,
    stage: Path,
    self_contained: bool | None = None,
    evaluations: Sequence[str | os.PathLike] = (),
) -> None:
    """Copies what of a checkpoint's folder goes to the Hub, or saves the model anew where the folder has not all of it.

    Raises:
        LlinkPushError: If the model that the folder holds is not the one that its canary was taken on.
        LlinkCheckpointError: If it holds no llink model.
    """
    config = read_json(folder / "config.json", str(folder)) if (folder / "config.json").is_file() else {}
    if config.get("model_type") != "llink":
        raise LlinkCheckpointError(
            f"{folder} holds no llink model: give a folder that a trainer or save_pretrained wrote."
        )
    _copy(folder, stage)
    wanted = config["self_contained"] if self_contained is None else self_contained
    if wanted != config["self_contained"] or read_canary(str(folder)) is None:
        _save_anew(folder, stage, wanted)
    write_code(stage)  # of this version: what is checked in a fresh process is what runs there
    for evaluation in evaluations:
        _copy_evaluation(Path(evaluation), stage / EVALUATION_FOLDER)
    if (folder / TRAINING_PLOT).is_file():
        (stage / EVALUATION_FOLDER).mkdir(exist_ok=True)
        shutil.copyfile(folder / TRAINING_PLOT, stage / EVALUATION_FOLDER / TRAINING_PLOT)


def _copy(folder: Path, stage: Path) -> None:
    files = [path for pattern in FILES for path in folder.glob(pattern)]
    for name in FOLDERS:
        inner = [path for path in (folder / name).rglob("*") if path.is_file()]
        files += [path for path in inner if name != EVALUATION_FOLDER or path.suffix in EVALUATION_FILES]
    for path in files:
        target = stage / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    for path in (stage / EVALUATION_FOLDER).glob("*.json"):
        _forget_paths(path)


def _copy_evaluation(folder: Path, target: Path) -> None:
    records = [path for path in folder.glob("*") if path.is_file() and path.suffix in EVALUATION_FILES]
    if not records:
        raise LlinkPushError(f"{folder} holds no records: give folders that `llink eval … --output-dir` wrote.")
    target.mkdir(exist_ok=True)
    for path in records:
        shutil.copyfile(path, target / path.name)
        if path.suffix == ".json":
            _forget_paths(target / path.name)


def _forget_paths(path: Path) -> None:
    """Leaves of the files that an evaluation was called with only their names: the folders are of this machine."""

    def name_of(value: Any) -> Any:
        if isinstance(value, list):
            return [name_of(item) for item in value]
        return os.path.basename(value.rstrip(os.sep)) if isinstance(value, str) and os.sep in value else value

    record = read_json(path, path.name)
    if isinstance(record.get("arguments"), dict):
        record["arguments"] = {name: name_of(value) for name, value in record["arguments"].items()}
        write_json(path, record)


def _save_anew(folder: Path, stage: Path, self_contained: bool) -> None:
    """Saves the folder's model into the stage, after it has matched the canary that was saved with it."""
    model = LlinkForCausalLM.from_pretrained(folder)
    if read_canary(str(folder)) is not None:
        wrong = [f for f in model.check_canary() if not (f.equal or f.harmless)]
        if wrong:
            raise LlinkPushError(
                f"{folder} loads as another model than was saved: "
                + "; ".join(f"{finding.what}: {finding.detail}" for finding in wrong)
            )
    model.save_pretrained(stage, self_contained=self_contained)
    if not self_contained:
        for kind in BASES:
            shutil.rmtree(stage / kind, ignore_errors=True)
