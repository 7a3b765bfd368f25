"""Saving and loading: light and self-contained checkpoints."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from huggingface_hub import CommitInfo
from torch import Tensor
from transformers import PreTrainedModel

from ..arguments_llink import checked_methods
from ..configuration_llink import LlinkConfig, LlinkConfigError
from .bases import HUB_ARGUMENTS, check_pin, load_base, state_prefix
from .checkpoint import bridge_keys, bridge_path, load_bridge_state, read_bridge, save_base, staged, write_json
from .errors import BaseModelError, LlinkCheckpointError
from .generation_options import generation_defaults
from .layers import device_of
from .remote_code import check_push, upload_folder, write_code
from .sources import Source, check_loading, merged_config, read_json, stored_config, unknown_fields, where_base_lies
from .weights import BASES, compare_weights, read_samples, sample_weights, write_samples

#: What loading a checkpoint passes on to both bases, and never to the bridge or LoRA.
BASE_ARGUMENTS = ("dtype", "torch_dtype", "device_map", "max_memory", "attn_implementation", "quantization_config")
#: How the model came to be, as its trainers wrote it.
RECORD_FILE = "llink_run.json"


@checked_methods
class LlinkPersistenceMixin(PreTrainedModel):
    """How a [`LlinkForCausalLM`] comes from its bases, goes to disk and comes back."""

    #: Where the model was loaded from; None for one that was built on two bases.
    source: Source | None = None
    #: What a model that was built on two bases was built with: `token`, `cache_dir`, … .
    built_with: Mapping[str, Any] = MappingProxyType({})
    #: What its processor is loaded with; None for one that was built on two bases.
    _processor_place: dict[str, Any] | None = None
    #: The run that trained this model: plain JSON, saved beside the weights.
    run_record: dict[str, Any] | None = None

    def bridge_to_decoder(self) -> None:
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
            kwargs: As in transformers: `revision`, `subfolder`, `token`, `cache_dir`, `local_files_only`, … . `dtype`,
                `device_map`, `max_memory`, `attn_implementation` and `quantization_config` go to both bases and never
                to the bridge or LoRA, which stay in float32. Fields of [`LlinkConfig`] override the checkpoint's:
                `decoder_name_or_path` replaces a light one's decoder.

        Raises:
            LlinkCheckpointError: If there is no llink model, or it is damaged or does not fit its bases.
            BaseModelError: If a base cannot be loaded, or is not the one that the checkpoint was trained on.
            TypeError: If an argument is none of these.
        """
        check_loading(kwargs, (*HUB_ARGUMENTS, *BASE_ARGUMENTS))
        hub = {key: kwargs[key] for key in HUB_ARGUMENTS if kwargs.get(key) is not None}
        place = {key: kwargs[key] for key in ("revision", "subfolder") if kwargs.get(key) is not None}
        loading = {key: kwargs.pop(key) for key in BASE_ARGUMENTS if kwargs.get(key) is not None}
        config = kwargs.pop("config", None)
        located = {key: value for key, value in (hub | place).items() if key != "trust_remote_code"}
        # Its own code is already running where it is remote: nobody is asked a second time.
        trust = True if cls.is_remote_code() else hub.get("trust_remote_code")
        stored, source = stored_config(Source(str(pretrained_model_name_or_path), located, trust))
        if config is None:
            config = merged_config(source.name, stored, kwargs | source.located)
        trusted = {} if trust is None else {"trust_remote_code": trust}
        model = cls._load(source, config, stored, loading | hub | trusted, allow_other_bases)
        nothing: dict[str, list] = {f"{what}_keys": [] for what in ("missing", "unexpected", "mismatched")}
        loaded: Any = (model, nothing | {"error_msgs": []}) if kwargs.get("output_loading_info") else model
        return loaded

    @classmethod
    def _load(
        cls,
        source: Source,
        config: LlinkConfig,
        stored: dict[str, Any],
        loading: dict[str, Any],
        allow_other_bases: bool,
    ) -> Self:
        """Loads both bases from wherever they lie, builds the model around them, fills the bridge, checks the bases."""
        for kind in BASES:
            if getattr(config, f"{kind}_config") is None:
                raise LlinkCheckpointError(f"{source.name}: config.json has no {kind}_config. Save the model again.")
        state = read_bridge(bridge_path(source))  # damaged weights show before the bases load
        fields = source.read_json("generation_config.json")
        defaults = None if fields is None else generation_defaults(fields, source.name)
        bases = {}
        for kind in BASES:
            where = where_base_lies(kind, source, config, stored)
            bases[kind], commit = load_base(kind, **where, causal=config.encoder_is_causal, **loading)
            setattr(config, f"{kind}_config", bases[kind].config)
            if not config.self_contained:
                setattr(config, f"{kind}_revision", commit)
                if not allow_other_bases:
                    check_pin(kind, where["name_or_path"], stored.get(f"{kind}_revision"), commit)
        try:
            model = cls(config, bases["encoder"], bases["decoder"])
        except LlinkConfigError as error:
            raise LlinkCheckpointError(f"{source.name} does not fit its bases: {error}") from error
        model.source = source
        load_bridge_state(model, state, source.name)
        if not allow_other_bases:
            _check_weights(model)
        model.bridge_to_decoder()
        if defaults is not None:
            model.generation_config = defaults
        model.run_record = source.read_json(RECORD_FILE)
        model._processor_place = source.for_processor()  # its files are in the cache, so that they are there offline
        return model.eval()

    def load_bridge(self, directory: str | os.PathLike) -> None:
        """Loads projector, teacher statistics, slots and LoRA of a light checkpoint into this model, in place.

        Raises:
            LlinkCheckpointError: If the folder's weights are missing, damaged or do not fit.
        """
        path = Path(directory) / "model.safetensors"
        load_bridge_state(self, read_bridge(path), str(path))

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
            is_main_process, state_dict, push_to_hub, max_shard_size, hub: As in transformers.

        Raises:
            LlinkCheckpointError: If a light checkpoint is asked for, but the bases have no names.
            TypeError: If an option is none of a push.
        """
        check_push(save_directory, hub)
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
            # One file, under the names of this model: transformers renames what a base's authors named otherwise.
            super().save_pretrained(stage, state_dict=state, max_shard_size="1000GB", save_original_format=False)
            fields = read_json(stage / "config.json", str(stage))
            strangers = unknown_fields(fields)
            fields = {name: value for name, value in fields.items() if name not in strangers}
            write_json(stage / "config.json", fields | {"self_contained": self_contained})
            for kind in BASES if self_contained else ():
                base = getattr(self, kind)
                save_base(base, stage / kind, max_shard_size, state_prefix(kind, base.config))
            self._save_processor(stage, self_contained)
            if state_dict is None:  # given weights may lie on other processes
                write_samples(sample_weights(self), stage)
            if self.run_record is not None:
                write_json(stage / RECORD_FILE, self.run_record)
            write_code(stage)
        if push_to_hub:
            name = repo_id or Path(save_directory).name
            self.push_to_hub(name, self_contained=self_contained, max_shard_size=max_shard_size, **hub)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str = "Upload llink model",
        self_contained: bool | None = None,
        max_shard_size: int | str = "50GB",
        **hub: Any,
    ) -> CommitInfo:
        """Saves the model and puts all of it on the Hub in one commit: whatever else lies there stays.

        `llink.push_to_hub`, the trainers and `llink push` also write the card, check everything in a fresh process, and
        remove what an earlier push left.

        Args:
            repo_id, commit_message: As in transformers.
            self_contained, max_shard_size: As in `save_pretrained`.
            hub: `private`, `token`, `revision`, `create_pr`, `commit_description`.
        """
        with tempfile.TemporaryDirectory(prefix="llink-push-") as folder:
            self.save_pretrained(folder, self_contained=self_contained, max_shard_size=max_shard_size)
            return upload_folder(folder, repo_id, commit_message, **hub)

    @property
    def hub_options(self) -> dict[str, Any]:
        """What the model was loaded with: `token`, `cache_dir`, … ."""
        return {**(self.source.located if self.source else {}), **self.built_with}

    def _save_processor(self, directory: Path, self_contained: bool) -> None:
        try:
            processor = self.processor
        except LlinkCheckpointError as error:
            warnings.warn(f"The checkpoint is saved without a processor. {error}", stacklevel=3)
            return
        processor.save_pretrained(directory)
        # Offline, without a config.json of its own, this tokenizer would silently be taken from the folder above.
        self.config.encoder_config.save_pretrained(directory / "encoder_tokenizer")
        if self_contained:  # each base loads by itself, for other models too
            processor.encoder_tokenizer.save_pretrained(directory / "encoder")
            processor.tokenizer.save_pretrained(directory / "decoder")


def _check_weights(model: LlinkPersistenceMixin) -> None:
    """Raises if the loaded tensors are not those that were saved, as far as their samples tell."""
    source = model.source
    stored = read_samples(source)
    for finding in compare_weights(stored, sample_weights(model)) if stored is not None else ():
        if finding.equal or finding.harmless:
            continue
        kind = finding.what.split()[0]
        if kind not in BASES:
            raise LlinkCheckpointError(
                f"{source.name} was not loaded as it was saved: {finding.what}: {finding.detail}."
            )
        base = getattr(model.config, f"{kind}_name_or_path")
        raise BaseModelError(
            f"The {kind} {base!r} is not the one that {source.name} was trained on: {finding.detail}. Give that one "
            f"with {kind}_name_or_path=… and {kind}_revision=…, or pass allow_other_bases=True."
        )
