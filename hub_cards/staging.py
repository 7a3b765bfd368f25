"""What of a model goes to the Hub: a folder that holds all of it and nothing else, and what is wrong with one."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError

from ..modeling_llink import LlinkForCausalLM
from ..modeling_llink.checkpoint import read_bridge, write_json
from ..modeling_llink.errors import LlinkCheckpointError
from ..modeling_llink.persistence import RECORD_FILE
from ..modeling_llink.remote_code import code_files, write_code
from ..modeling_llink.sources import Source, read_json
from ..modeling_llink.weights import BASES, SAMPLES_FILE, read_samples
from .canary import CANARY_FOLDER, FACTS, TENSORS
from .upload import README, LlinkPushError
from .verify import check_canary, passed, read_canary, save_canary

CODE_FILES = code_files()
EVALUATION_FOLDER = "evaluation"
TRAINING_PLOT = "training.png"
#: What a model that is pushed again keeps of where it came from.
NOTICE = "NOTICE"
PROVENANCE = (README, NOTICE, "LICENSE*", "USE_POLICY*", f"{EVALUATION_FOLDER}/*")
#: What a checkpoint's folder may give to the Hub; a run leaves much else there.
FOLDERS = (*BASES, "encoder_tokenizer", CANARY_FOLDER, EVALUATION_FOLDER, "additional_chat_templates")
FILES = (
    *("config.json", "generation_config.json", "processor_config.json", "tokenizer_config.json", "tokenizer.json"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "chat_template.jinja"),
    *("*.model", "model*.safetensors", SAMPLES_FILE, "LICENSE*", "USE_POLICY*", NOTICE, README, RECORD_FILE),
    *CODE_FILES,
)
#: What a record or a plot of an evaluation is called; its rows and caches are not pushed.
EVALUATION_FILES = (".json", ".png")
NEEDED = (
    *("config.json", "processor_config.json", "tokenizer_config.json", SAMPLES_FILE),
    *("encoder_tokenizer/config.json", "encoder_tokenizer/tokenizer_config.json"),
    *(f"{CANARY_FOLDER}/{name}" for name in (FACTS, TENSORS)),
)
PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".h5", ".msgpack"}


def temporary_stage() -> tempfile.TemporaryDirectory:
    """An empty folder for what shall be on the Hub, and nothing else."""
    return tempfile.TemporaryDirectory(prefix="llink-push-")


def stage_model(
    model: LlinkForCausalLM,
    stage: Path,
    repo_id: str,
    self_contained: bool | None = None,
    max_shard_size: int | str = "50GB",
) -> None:
    """Saves a model into a stage, with its canary and with the card and notices of the very same model elsewhere."""
    model.save_pretrained(stage, self_contained=self_contained, max_shard_size=max_shard_size)
    save_canary(model, stage)
    _copy_provenance(model.source, stage, repo_id)


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
    if wanted != config["self_contained"] or not (folder / SAMPLES_FILE).is_file() or read_canary(folder) is None:
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
    if read_canary(folder) is not None:
        findings = check_canary(model)
        if not passed(findings):
            wrong = [f"{f.what}: {f.detail}" for f in findings if not (f.equal or f.harmless)]
            raise LlinkPushError(f"{folder} loads as another model than was saved: {'; '.join(wrong)}")
    model.save_pretrained(stage, self_contained=self_contained)
    save_canary(model, stage)
    if not self_contained:
        for kind in BASES:
            shutil.rmtree(stage / kind, ignore_errors=True)


def forget_folders(stage: Path) -> None:
    """Strikes the folders of this machine from a configuration; a self-contained checkpoint does not need them."""

    def without(fields: dict[str, Any]) -> dict[str, Any]:
        fields = {key: without(value) if isinstance(value, dict) else value for key, value in fields.items()}
        local = [key for key, value in fields.items() if key.endswith("name_or_path") and os.path.isabs(value or "")]
        return fields | dict.fromkeys(local)

    path = stage / "config.json"
    fields = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    if fields.get("self_contained"):
        write_json(path, without(fields))


def _copy_provenance(source: Source | None, stage: Path, repo_id: str) -> None:
    """Copies card, notices and evaluation from where a model was loaded, if it is still the very same model."""
    if source is None:
        return
    was, now = read_samples(source), read_samples(Source(str(stage), {}))
    if was is None or now is None or was.tensors != now.tensors or not was.values.equal(now.values):
        return
    name, subfolder = source.name, source.located.get("subfolder", "")
    for file in _listed(source):
        inner = file.removeprefix(f"{subfolder}/") if subfolder else file
        if any(fnmatch(inner, pattern) for pattern in PROVENANCE):
            path = source.file(inner)
            (stage / inner).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, stage / inner)
    if (stage / README).is_file():  # its example loads the repository that it is in
        (stage / README).write_text((stage / README).read_text("utf-8").replace(repr(name), repr(repo_id)), "utf-8")


def _listed(source: Source) -> list[str]:
    """The files of a folder, or of a repository if it can be asked."""
    if Path(source.name).is_dir():
        return [path.relative_to(source.name).as_posix() for path in Path(source.name).rglob("*") if path.is_file()]
    try:
        api = HfApi(token=source.located.get("token"))
        return api.list_repo_files(source.name, revision=source.located.get("revision"))
    except Exception as error:
        warnings.warn(f"The card and evaluation of {source.name} are not carried over: {error}", stacklevel=3)
        return []


# ------------------------------------------------------------------ checking


def validate(stage: Path) -> None:
    """Raises [`LlinkPushError`] naming everything that a staged folder lacks or must not hold."""
    problems = [f"{path.name} may be a pickle" for path in sorted(stage.rglob("*")) if path.suffix in PICKLES]
    problems += [f"{path.name} is a link" for path in sorted(stage.rglob("*")) if path.is_symlink()]
    problems += [f"{name} is missing" for name in (*NEEDED, *CODE_FILES) if not (stage / name).is_file()]
    if (stage / "config.json").is_file():
        problems += _config_problems(stage)
    if problems:
        raise LlinkPushError(
            f"This is not complete: {'; '.join(problems)}. Push what save_pretrained writes, with a processor."
        )


def _config_problems(stage: Path) -> list[str]:
    config = json.loads((stage / "config.json").read_text("utf-8"))
    problems = [] if config.get("model_type") == "llink" else ["config.json is no llink model's"]
    problems += [] if "AutoModelForCausalLM" in config.get("auto_map", {}) else ["config.json has no auto_map"]
    if config.get("self_contained"):
        missing = [kind for kind in BASES if not list((stage / kind).glob("*.safetensors"))]
        problems += [f"{kind}/ holds no safetensors weights" for kind in missing]
    else:
        problems += base_problems(config)
    try:
        state = read_bridge(stage / "model.safetensors")
        problems += [f"{name} holds NaN" for name, tensor in state.items() if tensor.isnan().any()]
    except (LlinkCheckpointError, SafetensorError) as error:
        problems.append(str(error))
    return problems


def base_problems(config: dict[str, Any]) -> list[str]:
    """Why nobody else could find the bases of a light checkpoint; empty if everybody can."""
    return [problem for kind in BASES if (problem := _base_problem(config, kind))]


def _base_problem(config: dict[str, Any], kind: str) -> str | None:
    name, revision = config.get(f"{kind}_name_or_path"), config.get(f"{kind}_revision")
    remedy = "build on a repository of the Hub, or push with self_contained=True"
    try:
        validate_repo_id(name or "")
    except HFValidationError:
        return f"the {kind} {name!r} is no repository that others can load: {remedy}"
    if not re.fullmatch("[0-9a-f]{40}", revision or ""):
        return f"the {kind} {name!r} is not pinned to a commit (its revision is {revision!r}): {remedy}"
    return None
