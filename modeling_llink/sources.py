"""Where a checkpoint's configuration and its bases come from, checked before anything is loaded."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, StrictDataclassError
from huggingface_hub.utils import validate_repo_id
from transformers.utils.hub import cached_file, extract_commit_hash

from ..configuration_bases import stands_in
from ..configuration_llink import GONE_FIELDS, LlinkConfig, LlinkConfigError
from .errors import LlinkCheckpointError

#: Fields of a config.json that transformers writes and reads itself.
_TRANSFORMERS_FIELDS = {
    *("architectures", "auto_map", "custom_pipelines", "dtype", "model_type", "torch_dtype", "transformers_version"),
}
#: Fields that transformers' Trainer sets on whatever it trains; they mean nothing for loading.
_TRAINER_FIELDS = {"use_cache", "bos_token_id", "eos_token_id", "pad_token_id"}
#: Of what finds a file, what finds many.
_SNAPSHOT = ("revision", "token", "cache_dir", "local_files_only")
#: What a processor reads of a repository.
_PROCESSOR_FILES = ("*.json", "*.jinja", "*.txt", "*.model", "encoder_tokenizer/*")


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a checkpoint lies.

    Attributes:
        name: A folder or repository.
        located: `revision`, `subfolder`, `token`, `cache_dir`, `local_files_only`, …: what finds its files.
        trust_remote_code: As its bases and tokenizers are loaded.
    """

    name: str
    located: dict[str, Any]
    trust_remote_code: bool | None = None

    def file(self, name: str) -> Path | None:
        """The path of one of its files, fetched where it lies on the Hub; None where it has none of that name."""
        path = cached_file(self.name, name, _raise_exceptions_for_missing_entries=False, **self.located)
        return None if path is None else Path(path)

    def read_json(self, name: str) -> dict[str, Any] | None:
        """One of its JSON files; None where it has none of that name."""
        path = self.file(name)
        return None if path is None else read_json(path, self.name)

    def folder(self, inside: str) -> Path:
        """One of its folders as one of this machine, fetched where it lies on the Hub."""
        if Path(self.name).is_dir():
            return Path(self.name) / inside
        hub = {key: value for key, value in self.located.items() if key in _SNAPSHOT}
        return Path(snapshot_download(self.name, allow_patterns=[f"{inside}/*"], **hub)) / inside

    def for_processor(self) -> dict[str, Any]:
        """Arguments of a processor's `from_pretrained`: cached files of the commit, with nothing asked of the Hub."""
        trust = {} if self.trust_remote_code is None else {"trust_remote_code": self.trust_remote_code}
        whole = {"pretrained_model_name_or_path": self.name, **self.located, **trust}
        if Path(self.name).is_dir() or self.located.get("revision") is None:
            return whole
        subfolder = self.located.get("subfolder", "")
        patterns = [f"{subfolder}/{pattern}" if subfolder else pattern for pattern in _PROCESSOR_FILES]
        hub = {key: value for key, value in self.located.items() if key in _SNAPSHOT}
        try:
            folder = snapshot_download(self.name, allow_patterns=patterns, **hub)
        except LocalEntryNotFoundError:  # offline, with a cache that was filled file by file
            return whole
        return {"pretrained_model_name_or_path": folder, "subfolder": subfolder, **trust}


def unknown_fields(fields: dict[str, Any]) -> list[str]:
    """Those that neither [`LlinkConfig`] nor transformers has, such as `use_cache`, which its Trainer sets."""
    return sorted(set(fields) - {field.name for field in dataclasses.fields(LlinkConfig)} - _TRANSFORMERS_FIELDS)


#: What transformers' own loading hands on, and what changes nothing here.
_HANDED_ON = (
    *("config", "revision", "subfolder", "code_revision", "adapter_kwargs", "output_loading_info", "use_safetensors"),
    *("low_cpu_mem_usage", "weights_only", "return_unused_kwargs", "name_or_path"),
)


def check_loading(given: Collection[str], known: Collection[str]) -> None:
    """Refuses arguments of `from_pretrained` that would be swallowed; those with an underscore are transformers' own.

    Raises:
        TypeError: If one is neither known nor a field of a configuration.
    """
    unknown = set(unknown_fields(dict.fromkeys(given))) - {*known, *_HANDED_ON}
    if unknown := {name for name in unknown if not name.startswith("_")}:
        near = {name: get_close_matches(name, [*known, *_HANDED_ON], 1) for name in sorted(unknown)}
        told = ", ".join(f"{name} (is it {found[0]}?)" if found else name for name, found in near.items())
        raise TypeError(f"from_pretrained got an unexpected keyword argument: {told}.")


def check_folder(name: str) -> None:
    """Refuses a path without a folder; what else is no folder is a name on the Hub.

    Raises:
        LlinkCheckpointError: If it begins as only a path does, and there is no such folder.
    """
    if name.startswith(("/", ".", "~")) and not Path(name).is_dir():
        raise LlinkCheckpointError(f"The folder {name} does not exist.")


def stored_config(source: Source) -> tuple[dict[str, Any], Source]:
    """The fields of a checkpoint's config.json, and the source with the commit that they came from.

    Raises:
        LlinkCheckpointError: If it cannot be read, is no llink model's, or has fields that this version does not know.
    """
    name = source.name
    check_folder(name)
    try:
        path = cached_file(name, "config.json", **source.located)
    except (OSError, ValueError) as error:
        raise LlinkCheckpointError(f"{name} holds no llink model: {str(error).splitlines()[0]}") from error
    fields = read_json(path, name) if path else {}
    model_type = fields.get("model_type")
    if model_type != LlinkConfig.model_type:
        other = f", but a {model_type!r} one" if model_type else ""
        raise LlinkCheckpointError(
            f"{name} holds no llink model{other}. Build one on its base with "
            "LlinkForCausalLM.from_encoder_decoder_pretrained, or `llink align`."
        )
    unknown = sorted(set(unknown_fields(fields)) - _TRAINER_FIELDS - set(GONE_FIELDS))
    if unknown:
        raise LlinkCheckpointError(
            f"{name} has a config.json with unknown fields: {', '.join(unknown)}. It was made by a newer llink, whose "
            "model this one would build wrongly: upgrade llink."
        )
    commit = None if Path(name).is_dir() else extract_commit_hash(path, None)
    located = source.located | ({"revision": commit} if commit else {})
    return fields, dataclasses.replace(source, located=located)


def read_json(path: str | Path, name: str) -> dict[str, Any]:
    """A JSON object out of a checkpoint's file.

    Raises:
        LlinkCheckpointError: If it is none.
    """
    try:
        content = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise LlinkCheckpointError(f"{name} holds no llink model: {Path(path).name} is not JSON ({error}).") from error
    if not isinstance(content, dict):
        raise LlinkCheckpointError(f"{name} holds no llink model: {Path(path).name} is no JSON object.")
    return content


def merged_config(name: str, stored: dict[str, Any], kwargs: dict[str, Any]) -> LlinkConfig:
    """The checkpoint's configuration, with those of the arguments that are its fields.

    Raises:
        LlinkCheckpointError: If no model can be built from it.
    """
    try:
        config, _ = LlinkConfig.from_dict(dict(stored), return_unused_kwargs=True, **kwargs)
    except (LlinkConfigError, StrictDataclassError) as error:
        said = " ".join(str(error).split())
        raise LlinkCheckpointError(f"{name} has a configuration that no model can be built from: {said}") from error
    except Exception as error:  # whatever transformers makes of what a stranger wrote
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise LlinkCheckpointError(f"{name} has a configuration that no model can be built from: {said}") from error
    return config


def where_base_lies(kind: str, source: Source, config: LlinkConfig, stored: dict[str, Any]) -> dict[str, Any]:
    """`name_or_path`, `revision` and `subfolder` of a base: inside a self-contained checkpoint, else by its name.

    Raises:
        LlinkCheckpointError: If a light one names no base, or none that others could have.
    """
    name = source.name
    if config.self_contained:
        inside = "/".join(part for part in (source.located.get("subfolder", ""), kind) if part)
        if stands_in(getattr(config, f"{kind}_config")):  # its code is looked for beside no subfolder
            return {"name_or_path": str(source.folder(inside)), "revision": None}
        return {"name_or_path": name, "revision": source.located.get("revision"), "subfolder": inside}
    base_name, revision = getattr(config, f"{kind}_name_or_path"), getattr(config, f"{kind}_revision")
    if base_name is None:
        raise LlinkCheckpointError(
            f"{name} is a light checkpoint that does not name its {kind}: pass {kind}_name_or_path=…."
        )
    own_name, own_revision = stored.get(f"{kind}_name_or_path"), stored.get(f"{kind}_revision")
    if base_name != own_name and revision == own_revision:
        revision = None  # the pinned commit belongs to the repository that was replaced
    elif base_name == own_name and not Path(name).is_dir():
        _check_base_name(kind, name, base_name)
    subfolder = config.encoder_subfolder if kind == "encoder" else ""
    return {"name_or_path": base_name, "revision": revision, "subfolder": subfolder}


def _check_base_name(kind: str, name: str, base_name: str) -> None:
    """Raises unless a repository's configuration names another repository: no folder of this machine, no address."""
    try:
        validate_repo_id(base_name)
    except HFValidationError as error:
        raise LlinkCheckpointError(
            f"{name} names {base_name!r} as its {kind}, which is no repository of the Hub. Do not trust it, or pass "
            f"{kind}_name_or_path=…."
        ) from error
    if Path(base_name).exists():
        raise LlinkCheckpointError(
            f"{name} names {base_name!r} as its {kind}, and the working directory holds a folder of that name, which "
            f"would be taken for it. Work in another directory, or pass {kind}_name_or_path=…."
        )
