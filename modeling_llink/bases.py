"""Loading and building the two frozen bases: any encoder, any causal decoder."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    StrictDataclassError,
)
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForTextEncoding,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_TEXT_ENCODING_MAPPING,
)
from transformers.utils.hub import cached_file, extract_commit_hash

from ..configuration_bases import stands_in, text_config
from .errors import BaseModelError
from .layers import hidden_states, input_device

#: What transformers ends in where a configuration says what cannot be.
_DAMAGED = (ValueError, RuntimeError, TypeError, ArithmeticError, LookupError, AttributeError)
#: transformers' name for a decoder's cache: `cache` from 5.24 on.
_FIELDS = {field.name for field in dataclasses.fields(CausalLMOutputWithPast)}
CACHE = "cache" if "cache" in _FIELDS else "past_key_values"
HUB_ARGUMENTS = ("token", "cache_dir", "local_files_only", "force_download", "trust_remote_code", "proxies")


def base_config(
    kind: str, name_or_path: str, revision: str | None, subfolder: str = "", causal: bool = False, **hub: Any
) -> PretrainedConfig:
    """Reads a base's configuration and checks that it is of the asked kind, before any weights are touched.

    Args:
        kind: `encoder` or `decoder`.
        name_or_path: A repository on the Hub or a local folder.
        revision: Branch, tag or commit.
        subfolder: Where in the repository or folder it lies.
        causal: Whether an encoder may be of a decoder's architecture.
        hub: `token`, `cache_dir`, `local_files_only`, … .

    Raises:
        BaseModelError: If it cannot be read, or is a decoder where an encoder is asked, or the reverse.
    """
    hub = {"trust_remote_code": False} | hub  # else a base with code of its own would ask at a prompt
    try:
        config = AutoConfig.from_pretrained(name_or_path, revision=revision, subfolder=subfolder, **hub)
    except (OSError, ValueError, KeyError, HFValidationError, StrictDataclassError) as error:
        raise _unreadable(kind, name_or_path, revision, error) from error
    check_kind(kind, config, name_or_path, causal)
    _check_sizes(kind, config, name_or_path)
    return config


def check_kind(kind: str, config: PretrainedConfig, name: str, causal: bool = False) -> None:
    """Raises [`BaseModelError`] unless the configuration belongs to an encoder or a causal decoder, as asked."""
    if config is None or config.model_type == "llink":
        problem = "not given" if config is None else "an llink model itself"
        raise BaseModelError(f"The {kind} {name!r} is {problem}: name the {kind} that llink should be built on.")
    if stands_in(config):
        raise BaseModelError(
            f"The {kind} {name!r} brings code of its own, which a configuration alone does not hold. Load the model "
            "with from_pretrained(…, trust_remote_code=True)."
        )
    own = getattr(config, "auto_map", None) or {}
    if kind == "encoder" and not causal and is_decoders(config):
        raise BaseModelError(
            f"The encoder {name!r} is a decoder (model_type {config.model_type!r}). Choose a model that reads a text "
            "in both directions, such as xlm-roberta-base, LaBSE, multilingual-e5 or the encoder of mT5 or NLLB. If it "
            "is an embedding model, such as Qwen3-Embedding or e5-mistral, say encoder_is_causal=True."
        )
    # BERT-like models can be run causally, but only if they were trained to.
    only_masked = type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False)
    decodes = _causal_class(config) is not None or "AutoModelForCausalLM" in own
    if kind == "decoder" and (not decodes or only_masked or config.is_encoder_decoder):
        raise BaseModelError(
            f"The decoder {name!r} (model_type {config.model_type!r}) is not a causal language model. Choose an "
            "instruction-tuned one, such as Llama, Qwen, Gemma, Mistral or SmolLM."
        )


def is_decoders(config: PretrainedConfig) -> bool:
    """Whether it is of an architecture whose tokens read only those before them, and says nothing else."""
    if _causal_class(config) is None or config.is_encoder_decoder:
        return False
    text = config.get_text_config()
    both = getattr(text, "use_bidirectional_attention", None) in (True, "all")
    both = both or getattr(text, "is_causal", None) is False
    return not both and type(config) not in MODEL_FOR_MASKED_LM_MAPPING


def load_base(
    kind: str, name_or_path: str, revision: str | None = None, subfolder: str = "", causal: bool = False, **kwargs: Any
) -> tuple[PreTrainedModel, str | None]:
    """Loads a base with its weights.

    Args:
        kind: `encoder` or `decoder`.
        name_or_path: A repository on the Hub or a local folder.
        revision: Branch, tag or commit.
        subfolder: Where in the repository or folder it lies.
        causal: Whether an encoder may be of a decoder's architecture.
        kwargs: As `from_pretrained` takes them: `dtype`, `device_map`, `quantization_config`, `token`, … .

    Returns:
        The model, and the commit it was loaded from (the given revision for a local folder).

    Raises:
        BaseModelError: If it cannot be read or is of the wrong kind.
    """
    hub = {key: kwargs[key] for key in HUB_ARGUMENTS if key in kwargs}
    commit = _commit(kind, name_or_path, revision, subfolder, hub)
    config = base_config(kind, name_or_path, commit, subfolder, causal, **hub)
    auto = _auto_class(kind, config)
    if auto is AutoModelForTextEncoding:  # T5Gemma reads the encoder alone only of what says that it is one
        config.is_encoder_decoder = False
    extra = _no_pooling_layer(auto, config)
    try:
        model, info = auto.from_pretrained(
            name_or_path,
            revision=commit,
            subfolder=subfolder,
            config=config,
            output_loading_info=True,
            use_safetensors=True,  # a pickle can hold code
            **extra,
            **kwargs,
        )
    except (*_DAMAGED, OSError, ImportError, SafetensorError) as error:
        raise BaseModelError(
            f"The {kind} {name_or_path!r} cannot be loaded: {remedy(name_or_path, revision, error)}"
        ) from error
    unused = ("decoder.", "shared.") if kind == "encoder" else ()  # of an encoder-decoder only the encoder is kept
    missing = sorted(key for key in info["missing_keys"] if not key.startswith(unused))
    if missing:
        raise BaseModelError(
            f"The {kind} {name_or_path!r} lacks weights for {len(missing)} parameters, such as {missing[0]!r}; they "
            "would be random. Choose a complete checkpoint of this architecture."
        )
    part = _encoder_part(model) if kind == "encoder" else model
    if type(model).is_remote_code() and part is not model:
        raise BaseModelError(
            f"The encoder {name_or_path!r} is a part of a model with code of its own, and could not be saved alone. "
            "Choose one whose own code has the encoder as a model (AutoModel)."
        )
    if not isinstance(part, PreTrainedModel):
        raise BaseModelError(
            f"The encoder {name_or_path!r} has an inner encoder ({type(part).__name__}) that is no model of its own. "
            "Choose another one, such as that of M2M-100 or NLLB."
        )
    return part, commit


def last_width(encoder: PreTrainedModel) -> int:
    """How wide an encoder's last hidden state is: some project it (EmbeddingGemma 2).

    Raises:
        BaseModelError: If it has none.
    """
    ids = torch.ones(1, 8, dtype=torch.long, device=input_device(encoder))  # Funnel and CANINE read no single token
    try:
        with torch.no_grad():
            return hidden_states(encoder, [-1], input_ids=ids, attention_mask=torch.ones_like(ids))[0].shape[-1]
    except Exception as error:
        raise BaseModelError(
            f"The encoder ({type(encoder).__name__}) does not read tokens into hidden states ({_first_line(error)}). "
            "Choose a text encoder."
        ) from error


def build_base(kind: str, config: PretrainedConfig) -> PreTrainedModel:
    """Builds a base with random weights from its configuration alone."""
    auto = _auto_class(kind, config)
    build = auto.from_config if hasattr(auto, "from_config") else auto._from_config
    model = build(config, **_no_pooling_layer(auto, config))
    return _encoder_part(model) if kind == "encoder" else model


def last_positions(kept: int | Tensor, length: int, device: torch.device) -> Tensor | int:
    """The last `kept` of `length` positions, as what a decoder's `logits_to_keep` takes in place of their number.

    A decoder slices its states by a number. Of more than one row that is no contiguous tensor, and on a processor torch
    then copies the output matrix once a row before it multiplies: seconds, and gigabytes, for a vocabulary of 50,000.
    Elsewhere the number stays: a decoder may be spread over devices, and positions would lie on the wrong one.
    """
    if isinstance(kept, Tensor) or kept == 0 or device.type != "cpu":
        return kept
    return torch.arange(max(length - kept, 0), length, device=device)


def state_prefix(kind: str, config: PretrainedConfig) -> str:
    """What the names of a base's tensors begin with in a checkpoint from which [`load_base`] reads them back.

    An encoder taken out of an encoder-decoder, where transformers has no encoder class, is read as a part of the whole.
    """
    taken_out = kind == "encoder" and type(config) in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING
    return "encoder." if taken_out and type(config) not in MODEL_FOR_TEXT_ENCODING_MAPPING else ""


def _causal_class(config: PretrainedConfig) -> Any:
    """The class that reads a causal language model of this configuration; None where there is none.

    transformers lists the language models of some composite ones (Llama 3.2 Vision, Emu3) under the whole's
    configuration alone, and gives them the text's when it loads them.
    """
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return AutoModelForCausalLM
    name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type.removesuffix("_text_model"))
    found = None if name is None else getattr(transformers, name)
    return found if found is not None and found.config_class is type(config) else None


def _auto_class(kind: str, config: PretrainedConfig) -> Any:
    if kind == "decoder":
        return _causal_class(config) or AutoModelForCausalLM
    # Of an encoder-decoder only the encoder is wanted; where transformers has a class for it, the decoder stays unread.
    if type(config) in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING and type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING:
        return AutoModelForTextEncoding
    return AutoModel


def _encoder_part(model: PreTrainedModel) -> PreTrainedModel:
    """An encoder-decoder's encoder; Funnel has both parts too, and is an encoder whole."""
    both = hasattr(model, "encoder") and hasattr(model, "decoder")
    return model.get_encoder() if both and model.config.is_encoder_decoder else model


def _no_pooling_layer(auto: Any, config: PretrainedConfig) -> dict[str, bool]:
    """BERT-like encoders bring a pooler that llink never uses; without it, nothing is randomly initialised."""
    mapping = getattr(auto, "_model_mapping", {})
    model_class = mapping.get(type(config), None)
    takes = model_class is not None and "add_pooling_layer" in inspect.signature(model_class.__init__).parameters
    return {"add_pooling_layer": False} if takes else {}


def _commit(kind: str, name_or_path: str, revision: str | None, subfolder: str, hub: dict[str, Any]) -> str | None:
    """The commit that a repository's revision stands at; the revision as given for a local folder."""
    if Path(name_or_path).is_dir():
        return revision
    hub = {key: value for key, value in hub.items() if key != "trust_remote_code"}
    try:
        resolved = cached_file(name_or_path, "config.json", revision=revision, subfolder=subfolder, **hub)
    except (OSError, ValueError, HFValidationError) as error:
        raise _unreadable(kind, name_or_path, revision, error) from error
    return extract_commit_hash(resolved, None) or revision


def _unreadable(kind: str, name: str, revision: str | None, error: Exception) -> BaseModelError:
    return BaseModelError(
        f"The {kind} {name!r} (revision {revision or 'main'}) cannot be read: {remedy(name, revision, error)} A light "
        f"checkpoint's base can be replaced with {kind}_name_or_path=…."
    )


def check_pin(kind: str, name_or_path: str, pinned: str | None, commit: str | None) -> None:
    """Raises [`BaseModelError`] if a base came from another commit than the one a checkpoint was trained on."""
    if pinned is not None and commit is not None and pinned != commit:
        raise BaseModelError(
            f"The {kind} {name_or_path!r} was loaded at {commit}, but this checkpoint was trained on {pinned}. Leave "
            f"out {kind}_revision to get that one, or pass allow_other_bases=True."
        )


#: Upper ends of what a base's configuration may ask for, before anything is allocated.
_LARGEST = {"hidden_size": 65_536, "num_hidden_layers": 1_024, "vocab_size": 8_388_608, "intermediate_size": 1_048_576}


def _check_sizes(kind: str, config: PretrainedConfig, name: str) -> None:
    """Raises [`BaseModelError`] if no model of these sizes can exist."""
    config = text_config(config)
    if getattr(config, "hidden_size", None) is None:
        raise BaseModelError(
            f"The {kind} {name!r} (model_type {config.model_type!r}) does not say how wide its tokens' states are "
            f"(hidden_size): it reads a text into other pieces than tokens. Choose another {kind}."
        )
    for field, largest in _LARGEST.items():
        value = getattr(config, field, None)
        for one in value if isinstance(value, (list, tuple)) else [value]:  # of each layer, or of all
            if one is not None and not (isinstance(one, int) and 1 <= one <= largest):
                raise BaseModelError(f"The {kind} {name!r} has {field}={one!r}; models have 1 to {largest}.")


def remedy(name: str, revision: str | None, error: Exception) -> str:
    """What went wrong with a base, and what helps, in words."""
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)

    def caused_by(*types: type[BaseException]) -> bool:
        return any(isinstance(cause, types) for cause in causes)

    log_in = "log in with `hf auth login`, or pass token=…"
    status = {getattr(cause.response, "status_code", None) for cause in causes if isinstance(cause, HfHubHTTPError)}
    if caused_by(GatedRepoError):
        return f"it is gated. Ask for access at {constants.ENDPOINT}/{name}, then {log_in}."
    if caused_by(RevisionNotFoundError):
        return f"the repository has no revision {revision!r} (any more). Give another {name!r} revision."
    if caused_by(RepositoryNotFoundError):
        return f"there is no such repository, or it is private. Check the spelling; for a private one {log_in}."
    if status & {401, 403}:
        return f"the Hub refused access ({_first_line(error)}). Check that your token is valid: {log_in}."
    if caused_by(LocalEntryNotFoundError, OfflineModeIsEnabled):
        return (
            "it is not in the cache and the Hub was not asked (offline mode) or not reached. Load it once with a "
            "connection, or give a local folder or cache_dir=…."
        )
    if "trust_remote_code" in str(error):
        return "it brings code of its own. Read that code, then pass trust_remote_code=True (`--trust_remote_code`)."
    if isinstance(error, ImportError):  # a tower for images or sound that stands in a library of its own
        return f"{_first_line(error)} Install what it names."
    if "safetensors" in str(error):
        return f"{_first_line(error)} Only safetensors weights are read: convert others with save_pretrained."
    return f"{_first_line(error)} Give a folder that holds a config.json or a repository you have access to."


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
