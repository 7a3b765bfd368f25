"""Building a model before it is trained: on two bases, with other slots, its parts drawn, its teacher's space fitted.

None of it travels with a checkpoint, which needs it no more.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

from .arguments_llink import checked
from .base_checks import check_bases, check_end
from .configuration_llink import LlinkConfig, LlinkConfigError
from .encoder_settings import embedding_settings, language_code, script_of
from .modeling_llink import LlinkForCausalLM, LlinkProcessor
from .modeling_llink.bases import base_config, is_decoders, last_width, load_base, remedy
from .modeling_llink.errors import BaseModelError, LlinkCheckpointError, NotFittedError
from .modeling_llink.layers import TeacherSpace, device_of
from .modeling_llink.lora import lora_modules
from .modeling_llink.passages import ReadingOptions
from .modeling_llink.slots import SLOTS

#: What `renew_slots` takes.
SLOT_FIELDS = (
    "slot_adapter",
    "slot_adapter_hidden_size",
    "slot_expander",
    "slot_expander_hidden_size",
    "slot_layers",
    "slot_residual",
    "tokens_per_slot",
    "min_slots",
    "max_slots",
    "literals",
)


@checked
def build_model(
    encoder: str | os.PathLike,
    decoder: str | os.PathLike,
    encoder_revision: str | None = None,
    decoder_revision: str | None = None,
    dtype: str | torch.dtype = "auto",
    device_map: Any = None,
    attn_implementation: str | None = None,
    quantization_config: Any = None,
    token: str | bool | None = None,
    cache_dir: str | None = None,
    local_files_only: bool = False,
    trust_remote_code: bool = False,
    model_class: type[LlinkForCausalLM] = LlinkForCausalLM,
    **config: Any,
) -> LlinkForCausalLM:
    """Builds an untrained model on two pre-trained bases: `LlinkForCausalLM.from_encoder_decoder_pretrained`.

    Args:
        encoder, decoder: Repositories on the Hub or local folders.
        encoder_revision, decoder_revision: Branches, tags or commits; the resolved commits are recorded.
        dtype, device_map, attn_implementation, quantization_config, token, cache_dir, local_files_only,
            trust_remote_code: As in `from_pretrained`, for both bases.
        model_class: What is built: [`LlinkForCausalLM`], or a class of one's own that is one.
        config: Fields of [`LlinkConfig`].

    Raises:
        BaseModelError: If a base is missing or of the wrong kind, before any weights are read; or fails
            [`check_bases`].
        LlinkConfigError: If a field is invalid.
    """
    hub = dict(token=token, cache_dir=cache_dir, local_files_only=local_files_only, trust_remote_code=trust_remote_code)
    loading = dict(
        dtype=dtype,
        device_map=device_map,
        attn_implementation=attn_implementation,
        quantization_config=quantization_config,
    )
    loading = {key: value for key, value in loading.items() if value is not None} | hub
    planned = plan_config(encoder, decoder, encoder_revision, decoder_revision, hub, **config)
    bases = {}
    for kind, revision in (("encoder", encoder_revision), ("decoder", decoder_revision)):
        place = dict(subfolder=planned.encoder_subfolder, causal=planned.encoder_is_causal) if kind == "encoder" else {}
        bases[kind], commit = load_base(kind, getattr(planned, f"{kind}_name_or_path"), revision, **place, **loading)
        if kind == "encoder" and (width := last_width(bases[kind])) != planned.encoder_hidden_size:
            last = {"encoder_last_width": width}
            planned = plan_config(encoder, decoder, encoder_revision, decoder_revision, hub, **config | last)
        if kind == "decoder" and config.get("reserved_token_start") is None:  # rows beside the vocabulary: an image's
            rows = bases[kind].get_input_embeddings().weight.shape[0]
            planned.reserved_token_start = max(planned.reserved_token_start or 0, int(rows))
        setattr(planned, f"{kind}_revision", commit)
        setattr(planned, f"{kind}_config", bases[kind].config)
    model = model_class(planned, bases["encoder"], bases["decoder"])
    model.built_with = {key: value for key, value in hub.items() if value}
    model.bridge_to_decoder()
    check_bases(model.eval())
    return model


def plan_config(
    encoder: str | os.PathLike,
    decoder: str | os.PathLike,
    encoder_revision: str | None = None,
    decoder_revision: str | None = None,
    hub: dict[str, Any] | None = None,
    **config: Any,
) -> LlinkConfig:
    """The configuration of a model on two bases, from their configurations alone: no weights are read.

    Args:
        encoder, decoder, encoder_revision, decoder_revision: As in [`build_model`].
        hub: `token`, `cache_dir`, `local_files_only`, `trust_remote_code`.
        config: Fields of [`LlinkConfig`].

    Raises:
        BaseModelError: If a base is missing or of the wrong kind.
        LlinkConfigError: If a field does not exist or is invalid.
    """
    unknown = sorted(set(config) - {field.name for field in dataclasses.fields(LlinkConfig)})
    if unknown:
        raise LlinkConfigError(f"{', '.join(unknown)}: LlinkConfig has no such field. See its documentation.")
    hub, bases = hub or {}, dict[str, Any]()
    for kind, place, revision in (
        ("encoder", encoder, encoder_revision),
        ("decoder", decoder, decoder_revision),
    ):
        # A folder's name means the same base elsewhere only as an absolute path.
        name = str(Path(place).resolve()) if Path(place).is_dir() else str(place)
        if kind == "encoder":
            config, read = encoder_fields(name, revision, hub, config)
        else:
            read = base_config(kind, name, revision, **hub)
        bases |= {f"{kind}_config": read, f"{kind}_name_or_path": name}
    try:
        return LlinkConfig(**bases, **config)
    except StrictDataclassError as error:
        raise LlinkConfigError(str(error)) from error


def encoder_fields(
    name: str, revision: str | None, hub: dict[str, Any], config: dict[str, Any]
) -> tuple[dict[str, Any], PretrainedConfig]:
    """Fields of [`LlinkConfig`] with what an embedding model says of itself below them, and its own configuration.

    Warns of what a sentence-transformers folder asks for and llink does not do.

    Raises:
        BaseModelError: If it is missing or no encoder.
    """
    settings = embedding_settings(name, revision, **hub)
    if settings is not None:
        config = {**settings.fields, **config}
        unused = [text for text in settings.unused if "encoder_prefix" not in config or "encoder_prefix" not in text]
        if unused:
            warnings.warn(f"Of the encoder {name!r} is not used: {'; '.join(unused)}.", stacklevel=4)
    place, causal = config.get("encoder_subfolder", ""), bool(config.get("encoder_is_causal"))
    read = base_config("encoder", name, revision, place, causal=causal or settings is not None, **hub)
    if settings is not None and is_decoders(read):  # it says that it is an embedding model
        config = {"encoder_is_causal": True, **config}
    return config, read


# ---------------------------------------------------------------------- tokenizers


def base_tokenizer(kind: str, name_or_path: str, revision: str | None = None, **hub: Any) -> PreTrainedTokenizerBase:
    """Loads a base's tokenizer.

    Raises:
        BaseModelError: If there is none; transformers makes up an empty one for some architectures, which reads every
            text as unknown.
    """
    advice = "Save the one it was trained with in the same place."
    try:
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, revision=revision, **hub)
    except (OSError, ImportError) as error:
        raise BaseModelError(
            f"The tokenizer of the {kind} {name_or_path!r} cannot be loaded: {remedy(name_or_path, revision, error)}"
        ) from error
    except ValueError as error:
        reason = str(error).strip().split("\n")[0]
        raise BaseModelError(
            f"The {kind} {name_or_path!r} holds no tokenizer that loads ({reason}). {advice}"
        ) from error
    if is_empty(tokenizer):
        raise BaseModelError(f"The {kind} {name_or_path!r} holds no tokenizer: its vocabulary would be empty. {advice}")
    return tokenizer


def is_empty(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether it was made up by transformers: it knows special tokens only."""
    return not tokenizer.get_vocab().keys() - set(tokenizer.all_special_tokens)


def processor_of_bases(config: LlinkConfig, **hub: Any) -> LlinkProcessor:
    """The processor of a model that was never saved, from the tokenizers of its bases.

    Raises:
        BaseModelError: If a base holds no tokenizer.
    """
    place = config.encoder_subfolder
    encoder = base_tokenizer("encoder", config.encoder_name_or_path, config.encoder_revision, subfolder=place, **hub)
    decoder = base_tokenizer("decoder", config.decoder_name_or_path, config.decoder_revision, **hub)
    check_end(decoder, config.decoder_name_or_path)
    return build_processor(config, decoder, encoder)


def build_processor(
    config: LlinkConfig,
    tokenizer: PreTrainedTokenizerBase,
    encoder_tokenizer: PreTrainedTokenizerBase,
    chat_template: str | None = None,
) -> LlinkProcessor:
    """A processor of the decoder's and the encoder's tokenizer that reads passages as a configuration says."""
    names = {field.name for field in dataclasses.fields(ReadingOptions)} | {"reserved_token_start"}
    options = {name: getattr(config, name) for name in names}
    options["tokens_per_slot"] = options["tokens_per_slot"] or 1
    options["encoder_language"] = language_code(encoder_tokenizer, config.source_language)
    options["source_script"] = script_of(config.source_language)
    return LlinkProcessor(tokenizer, encoder_tokenizer, chat_template, **options)


# ---------------------------------------------------------------------- other slots


def config_with_slots(config: LlinkConfig, **fields: Any) -> LlinkConfig:
    """A copy with other settings of the slots; what is not given follows from their kind and the bases' widths.

    Args:
        config: Of a model on two bases.
        fields: Some of `SLOT_FIELDS`.

    Raises:
        LlinkConfigError: If a field is none of these, or its value lies outside its valid set.
    """
    if unknown := sorted(set(fields) - set(SLOT_FIELDS)):
        raise LlinkConfigError(f"{', '.join(unknown)}: settings of the slots are {', '.join(SLOT_FIELDS)}.")
    changed = copy.copy(config)
    renewed = {"slot_adapter_hidden_size": None, "slot_expander_hidden_size": None}
    if fields.get("slot_expander", config.slot_expander) != config.slot_expander:
        renewed |= dict.fromkeys(("slot_layers", "num_slots", "tokens_per_slot", "literals"))
    for name, value in {**renewed, **fields}.items():
        setattr(changed, name, value)
    changed.settle()
    return changed


@checked
def renew_slots(model: LlinkForCausalLM, **fields: Any) -> None:
    """Gives a model untrained slots of other settings, in place.

    Stage A trains nothing of the slots: after it, before Stage B, is the time.

    Args:
        model: Before Stage B.
        fields: As in [`config_with_slots`]: `slot_expander="tokens"`, … .

    Raises:
        LlinkConfigError: If a field is none of the slots', or its value lies outside its valid set.
        LlinkCheckpointError: If Stage B has trained the model's slots, and LoRA with them.
    """
    if model.config.stage == "inject":
        raise LlinkCheckpointError(
            f"Other slots ({', '.join(fields)}) would throw away those that Stage B has trained, while LoRA has "
            "learned to read them. Start from the Stage A model, or leave the slots as they are."
        )
    changed = config_with_slots(model.config, **fields)
    try:
        old = model.processor
    except LlinkCheckpointError:  # it has none yet
        old = None
    model.config = changed
    if old is not None:
        model.processor = build_processor(changed, old.tokenizer, old.encoder_tokenizer, old.chat_template)
    if model.config.stage == "lexicon":  # the dictionary is gone
        model.config.stage = "align"
    if model.run_record is not None:
        kept = [stage for stage in model.run_record["stages"] if stage["stage"] != "lexicon"]
        model.run_record = {**model.run_record, "stages": kept}
    slots = SLOTS[model.config.slot_expander](model.config).to(device_of(model.slot_embedder))
    model.slot_embedder = slots.apply(model._init_weights)
    model.start_scale()


# ---------------------------------------------------------------------- untrained parts, drawn from a run's seed


def draw_anew(model: Any, seed: int, parts: Sequence[str]) -> None:
    """Draws parts of a llink model as a new model draws them; the random numbers of the process stay where they were.

    Args:
        model: A [`LlinkForCausalLM`], changed in place.
        seed: Of the run.
        parts: Of `projector`, `slots` and `lora`. A dictionary that was learned stays, and so does the slots' scale,
            which is measured and not drawn.
    """
    with torch.random.fork_rng():
        for part in parts:
            torch.manual_seed(seed)  # for each: a part's numbers do not depend on which others are drawn
            _DRAW[part](model)


def _draw_projector(model: Any) -> None:
    model.projector.apply(model._init_weights)


def _draw_slots(model: Any) -> None:
    slots = model.slot_embedder
    if slots.learned:
        return
    fresh = type(slots)(model.config)  # on the CPU, so that every device starts alike
    fresh.apply(model._init_weights)
    slots.load_state_dict({**fresh.state_dict(), "scale": slots.scale})


def _draw_lora(model: Any) -> None:
    for _, module in lora_modules(model.decoder):
        for adapter in module.active_adapters:
            module.reset_lora_parameters(adapter, init_lora_weights=True)


_DRAW = {"projector": _draw_projector, "slots": _draw_slots, "lora": _draw_lora}


# ---------------------------------------------------------------------- the teacher's space


@torch.no_grad()
def fit_teacher_space(space: TeacherSpace, states: Tensor) -> None:
    """Estimates a space's statistics, in place, from raw teacher states (N, d) of the training pairs (paper 4.1).

    Raises:
        NotFittedError: If there are fewer than two states or they hold NaN or infinite values.
    """
    if space.conditioning == "none":
        return
    if len(states) < 2 or not torch.isfinite(states).all():
        raise NotFittedError(
            f"Cannot fit the teacher's space on {len(states)} states"
            + ("." if torch.isfinite(states).all() else " with NaN or infinite values.")
            + " Give at least two finite states."
        )
    states = states.double()
    mean = states.mean(dim=0)  # (d,)
    space.mean.copy_(mean)
    if space.conditioning == "whiten":
        centred = states - mean
        covariance = centred.T @ centred / (len(states) - 1)  # (d, d)
        variances, directions = torch.linalg.eigh(covariance)  # ascending
        components = space.basis.shape[1]
        space.basis.copy_(directions.flip(-1)[:, :components])
        space.deviation.copy_(variances.flip(-1)[:components].clamp(min=0).sqrt())
    space.fitted.fill_(True)
