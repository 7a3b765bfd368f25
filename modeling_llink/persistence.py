"""Building on two bases, saving and loading: light and self-contained checkpoints."""

from __future__ import annotations

import dataclasses
import os
import warnings
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel
from transformers.utils.hub import cached_file

from ..configuration_llink import LlinkConfig, LlinkConfigError
from .bases import HUB_ARGUMENTS, base_config, check_pin, load_base, local_or_id, state_prefix
from .canary import Finding, compare, differing_weights, read_canary, take_canary, write_canary
from .checkpoint import (
    BASES,
    bridge_keys,
    device_of,
    load_bridge_state,
    merge_lora,
    read_bridge,
    resolve_weights,
    save_base,
    staged,
    write_json,
)
from .errors import BaseModelError, LlinkCheckpointError
from .publishing import LlinkPublishingMixin
from .remote_code import write_code
from .sources import (
    merged_config,
    processor_source,
    read_json,
    stored_config,
    unknown_fields,
    where_base_lies,
)

#: What loading a checkpoint passes on to both bases, and never to the bridge or LoRA.
BASE_ARGUMENTS = ("dtype", "torch_dtype", "device_map", "max_memory", "attn_implementation", "quantization_config")
#: How the model came to be, as its trainers wrote it.
RECORD_FILE = "llink_run.json"


class LlinkPersistenceMixin(LlinkPublishingMixin, PreTrainedModel):
    """How a [`LlinkForCausalLM`] comes from its bases, goes to disk and comes back."""

    #: What the tokenizers of the bases need to be loaded with: `token`, `cache_dir`, … .
    _hub: dict[str, Any] | None = None
    #: The run that trained this model: plain JSON, saved beside the weights.
    run_record: dict[str, Any] | None = None

    @classmethod
    def config_from_bases(
        cls,
        encoder: str | os.PathLike,
        decoder: str | os.PathLike,
        encoder_revision: str | None = None,
        decoder_revision: str | None = None,
        hub: dict[str, Any] | None = None,
        **config: Any,
    ) -> LlinkConfig:
        """The configuration of a model on two bases, from their configurations alone: no weights are read.

        Args:
            encoder, decoder, encoder_revision, decoder_revision: As in [`from_encoder_decoder_pretrained`].
            hub: `token`, `cache_dir`, `local_files_only`, `trust_remote_code`.
            config: Fields of [`LlinkConfig`].

        Raises:
            BaseModelError: If a base is missing or of the wrong kind.
            LlinkConfigError: If a field does not exist or is invalid.
        """
        unknown = sorted(set(config) - {field.name for field in dataclasses.fields(LlinkConfig)})
        if unknown:
            raise LlinkConfigError(f"{', '.join(unknown)}: LlinkConfig has no such field. See its documentation.")
        names = {"encoder": local_or_id(encoder), "decoder": local_or_id(decoder)}
        revisions = {"encoder": encoder_revision, "decoder": decoder_revision}
        configs = {f"{kind}_config": base_config(kind, names[kind], revisions[kind], **(hub or {})) for kind in names}
        paths = {f"{kind}_name_or_path": name for kind, name in names.items()}
        try:
            return LlinkConfig(**configs, **paths, **config)
        except StrictDataclassError as error:
            raise LlinkConfigError(str(error)) from error

    @classmethod
    def from_encoder_decoder_pretrained(
        cls,
        encoder: str | os.PathLike,
        decoder: str | os.PathLike,
        encoder_revision: str | None = None,
        decoder_revision: str | None = None,
        dtype: str | torch.dtype = "auto",
        device_map: Any = None,
        attn_implementation: str | None = None,
        quantization_config: Any = None,
        token: str | None = None,
        cache_dir: str | None = None,
        local_files_only: bool = False,
        trust_remote_code: bool = False,
        **config: Any,
    ) -> Self:
        """Builds an untrained model on two pre-trained bases.

        Args:
            encoder, decoder: Repositories on the Hub or local folders.
            encoder_revision, decoder_revision: Branches, tags or commits; the resolved commits are recorded.
            dtype, device_map, attn_implementation, quantization_config, token, cache_dir, local_files_only,
                trust_remote_code: As in `from_pretrained`, for both bases.
            config: Fields of [`LlinkConfig`].

        Raises:
            BaseModelError: If a base is missing or of the wrong kind, before any weights are read.
            LlinkConfigError: If a field is invalid.
        """
        hub = dict(
            token=token, cache_dir=cache_dir, local_files_only=local_files_only, trust_remote_code=trust_remote_code
        )
        loading = dict(
            dtype=dtype,
            device_map=device_map,
            attn_implementation=attn_implementation,
            quantization_config=quantization_config,
        )
        loading = {key: value for key, value in loading.items() if value is not None} | hub
        planned = cls.config_from_bases(encoder, decoder, encoder_revision, decoder_revision, hub, **config)
        revisions = {"encoder": encoder_revision, "decoder": decoder_revision}
        bases = {}
        for kind, revision in revisions.items():
            bases[kind], commit = load_base(kind, getattr(planned, f"{kind}_name_or_path"), revision, **loading)
            setattr(planned, f"{kind}_revision", commit)
            setattr(planned, f"{kind}_config", bases[kind].config)
        model = cls(planned, bases["encoder"], bases["decoder"])
        model._hub = {key: value for key, value in hub.items() if value}
        model._bridge_to_decoder()
        return model.eval()

    def _bridge_to_decoder(self) -> None:
        """Puts the bridge where the decoder's embeddings are."""
        device = device_of(self.get_input_embeddings())
        for part in (self.projector, self.teacher_space, self.slot_embedder):
            part.to(device)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        *model_args: Any,
        allow_other_bases: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Loads a light or a self-contained checkpoint from a folder or the Hub.

        Everything comes from one commit, and the bases from the commits that the checkpoint was trained on: what is in
        the cache is read without asking the Hub.

        Args:
            pretrained_model_name_or_path: A folder or repository written by `save_pretrained` or `push_to_hub`.
            allow_other_bases: Also take a base that is not the one the checkpoint was trained on: another commit, or
                other weights. Otherwise such a base raises.
            kwargs: As in the library: `revision`, `subfolder`, `token`, `cache_dir`, `local_files_only`, … . `dtype`,
                `device_map`, `max_memory`, `attn_implementation` and `quantization_config` go to both bases and never
                to the bridge or LoRA, which stay in float32. Fields of [`LlinkConfig`] override the checkpoint's:
                `decoder_name_or_path` replaces a light one's decoder.

        Raises:
            LlinkCheckpointError: If there is no llink model, or it is damaged or does not fit its bases.
            BaseModelError: If a base cannot be loaded, or is not the one that the checkpoint was trained on.
        """
        name = str(pretrained_model_name_or_path)
        hub = {key: kwargs[key] for key in HUB_ARGUMENTS if kwargs.get(key) is not None}
        place = {key: kwargs[key] for key in ("revision", "subfolder") if kwargs.get(key) is not None}
        loading = {key: kwargs.pop(key) for key in BASE_ARGUMENTS if kwargs.get(key) is not None}
        config = kwargs.pop("config", None)
        stored, place = stored_config(name, place, hub)
        if config is None:
            config = merged_config(name, stored, kwargs | place)
        model = cls._load(name, config, stored, place, hub, loading, allow_other_bases)
        model._source = {"pretrained_model_name_or_path": name, **hub, **place}
        if cls.is_remote_code():  # its code is already running: do not ask a second time
            model._source["trust_remote_code"] = True
        processor_source(model._source)  # into the cache, so that it is there offline too
        info: dict[str, list[Any]] = {
            "missing_keys": [],
            "unexpected_keys": [],
            "mismatched_keys": [],
            "error_msgs": [],
        }
        loaded: Any = (model, info) if kwargs.get("output_loading_info") else model
        return loaded

    @classmethod
    def _load(
        cls,
        name: str,
        config: LlinkConfig,
        stored: dict[str, Any],
        place: dict[str, Any],
        hub: dict[str, Any],
        loading: dict[str, Any],
        allow_other_bases: bool,
    ) -> Self:
        """Loads both bases from wherever they lie, builds the model around them, fills the bridge, checks the bases."""
        located = {**{k: v for k, v in hub.items() if k != "trust_remote_code"}, **place}
        subfolder = located.pop("subfolder", "")
        state = read_bridge(resolve_weights(name, subfolder, located))  # damaged weights show before the bases load
        located["subfolder"] = subfolder
        bases = {}
        for kind in BASES:
            where = where_base_lies(kind, name, config, stored, place)
            bases[kind], commit = load_base(kind, **where, **loading, **hub)
            if not config.self_contained:
                setattr(config, f"{kind}_revision", commit)
                if not allow_other_bases:
                    check_pin(kind, where["name_or_path"], stored.get(f"{kind}_revision"), commit)
        model = cls(config, bases["encoder"], bases["decoder"])
        load_bridge_state(model, state, name)
        if not allow_other_bases:
            _check_weights(model, name, located)
        model._bridge_to_decoder()
        model.generation_config = _generation_config(name, located, model)
        record = cached_file(name, RECORD_FILE, _raise_exceptions_for_missing_entries=False, **located)
        model.run_record = None if record is None else read_json(record, name)
        return model.eval()

    def check_canary(self) -> list[Finding]:
        """Compares this model with the canary of the checkpoint it was loaded from: equal and different, one by one.

        Raises:
            LlinkCheckpointError: If it was not loaded from a checkpoint, or from one without a canary.
        """
        if self._source is None:
            raise LlinkCheckpointError("This model was not loaded from a checkpoint: there is no canary to compare.")
        source = {key: value for key, value in self._source.items() if key != "trust_remote_code"}
        name = source.pop("pretrained_model_name_or_path")
        stored = read_canary(name, **source)
        if stored is None:
            raise LlinkCheckpointError(f"{name} was saved without a canary: load it, check it, and save it again.")
        return compare(stored, take_canary(self))

    def merge_and_unload(self) -> Self:
        """Merges LoRA into the decoder for good, in place: faster, but text-only prompts lose the base decoder.

        What is saved afterwards is self-contained, because the decoder is no longer the one that others can load.

        Raises:
            LlinkCheckpointError: If LoRA is merged already, or the decoder is quantised.
        """
        if self.config.lora_merged:
            raise LlinkCheckpointError("LoRA is merged already.")
        merge_lora(self.decoder)
        self.config.lora_merged = self.config.self_contained = True
        return self

    def load_bridge(self, directory: str | os.PathLike) -> None:
        """Loads projector, teacher statistics, slots and LoRA of a light checkpoint into this model, in place.

        Raises:
            LlinkCheckpointError: If the folder's weights are missing, damaged or do not fit.
        """
        path = Path(directory) / "model.safetensors"
        state = read_bridge(path)
        load_bridge_state(self, state, str(path))

    def save_pretrained(
        self,
        save_directory: str | os.PathLike,
        is_main_process: bool = True,
        state_dict: dict[str, Tensor] | None = None,
        self_contained: bool | None = None,
        push_to_hub: bool = False,
        repo_id: str | None = None,
        max_shard_size: int | str = "50GB",
        **hub: Any,
    ) -> None:
        """Writes the checkpoint with its processor and code; files move into place only when all are written.

        Args:
            save_directory: The folder; created when missing.
            self_contained: False writes bridge, LoRA and the names and revisions of the bases; True also both bases,
                in the folders `encoder` and `decoder`. When not given, as the model was loaded; light for one built on
                two bases.
            repo_id: Where `push_to_hub=True` uploads to; the folder's name when not given.
            is_main_process, state_dict, push_to_hub, max_shard_size, hub: As in the library.

        Raises:
            LlinkCheckpointError: If a light checkpoint is asked for, but the bases have no names.
        """
        if Path(save_directory).is_file():
            raise LlinkCheckpointError(f"{save_directory} is a file: give a folder.")
        self_contained = self.config.self_contained if self_contained is None else self_contained
        if self.config.lora_merged and not self_contained:
            raise LlinkCheckpointError("LoRA is merged into the decoder: save with self_contained=True.")
        if not self_contained and None in (self.config.encoder_name_or_path, self.config.decoder_name_or_path):
            raise LlinkCheckpointError(
                "A light checkpoint needs the names of its bases, and this model was built from modules without names. "
                "Use save_pretrained(…, self_contained=True)."
            )
        if not is_main_process:
            return
        state = self.state_dict() if state_dict is None else state_dict
        wanted = bridge_keys(self)
        state = {key: value for key, value in state.items() if key in wanted}
        with staged(save_directory) as stage:
            super().save_pretrained(stage, state_dict=state, max_shard_size="1000GB")  # the bridge is one file
            fields = read_json(stage / "config.json", str(stage))
            strangers = unknown_fields(fields)
            fields = {name: value for name, value in fields.items() if name not in strangers}
            write_json(stage / "config.json", fields | {"self_contained": self_contained})
            for kind in BASES if self_contained else ():
                base = getattr(self, kind)
                save_base(base, stage / kind, max_shard_size, state_prefix(kind, base.config))
            complete = self._save_processor(stage, self_contained)
            if complete and state_dict is None:  # given weights may lie on other processes
                self._save_canary(stage)
            if self.run_record is not None:
                write_json(stage / RECORD_FILE, self.run_record)
            write_code(stage)
        if push_to_hub:
            name = repo_id or Path(save_directory).name
            self.push_to_hub(name, self_contained=self_contained, max_shard_size=max_shard_size, **hub)

    def _save_processor(self, directory: Path, self_contained: bool) -> bool:
        try:
            processor = self.processor
        except LlinkCheckpointError as error:
            warnings.warn(f"The checkpoint is saved without a processor. {error}", stacklevel=3)
            return False
        processor.save_pretrained(directory)
        # Offline, without a config.json of its own, this tokenizer would silently be taken from the folder above.
        self.config.encoder_config.save_pretrained(directory / "encoder_tokenizer")
        if self_contained:  # each base loads by itself, for other models too
            processor.encoder_tokenizer.save_pretrained(directory / "encoder")
            processor.tokenizer.save_pretrained(directory / "decoder")
        return True

    def _save_canary(self, directory: Path) -> None:
        try:
            write_canary(take_canary(self), directory)
        except RuntimeError as error:  # such as no memory left for a forward pass: the weights must still be saved
            warnings.warn(f"The checkpoint is saved without a canary: {error}", stacklevel=3)


def _check_weights(model: LlinkPersistenceMixin, name: str, located: dict[str, Any]) -> None:
    """Raises if the loaded tensors are not those that were saved, as far as the checkpoint's canary tells."""
    stored = read_canary(name, **located)
    for finding in differing_weights(model, stored) if stored is not None else ():
        kind = finding.what.split()[0]
        if kind not in BASES:
            raise LlinkCheckpointError(f"{name} was not loaded as it was saved: {finding.what}: {finding.detail}.")
        base = getattr(model.config, f"{kind}_name_or_path")
        raise BaseModelError(
            f"The {kind} {base!r} is not the one that {name} was trained on: {finding.detail}. Give that one with "
            f"{kind}_name_or_path=… and {kind}_revision=…, or pass allow_other_bases=True."
        )


def _generation_config(name: str, located: dict[str, Any], model: LlinkPersistenceMixin) -> GenerationConfig:
    """The checkpoint's generation defaults, or the decoder's where it has none."""
    if cached_file(name, "generation_config.json", _raise_exceptions_for_missing_entries=False, **located) is None:
        return model.generation_config
    return GenerationConfig.from_pretrained(name, **located)
