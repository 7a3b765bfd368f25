"""What a model's configuration asks of those of its bases."""

from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig

from .errors_llink import LlinkConfigError


class OwnCodeConfig(PretrainedConfig):
    """Stands for a configuration whose class comes with the base, until the base itself is read; asked for nothing."""

    stands_in = True


def stands_in(config: PretrainedConfig | None) -> bool:
    """Whether it is an [`OwnCodeConfig`], of this module or of the copy that travels with a checkpoint."""
    return getattr(config, "stands_in", False)


def is_read(config: PretrainedConfig | None) -> bool:
    """Whether there is a configuration of a base that can be asked."""
    return config is not None and not stands_in(config)


def text_config(config: PretrainedConfig) -> PretrainedConfig:
    """The part of a base's configuration that is about text; of an encoder-decoder its encoder's (T5Gemma)."""
    own = getattr(config, "encoder", None)
    return (own if isinstance(own, PretrainedConfig) else config).get_text_config()


def layer_number(name: str, value: Any, base: PretrainedConfig | None) -> int | float:
    """A layer, or a share of a base's layers, as the layer's number; a share stays one as long as there is no base.

    Raises:
        LlinkConfigError: If it is neither, or the base has no such layer.
    """
    layers = getattr(text_config(base) if is_read(base) else None, "num_hidden_layers", None)
    if isinstance(value, float) and value.is_integer() and value != 1:
        value = int(value)
    if isinstance(value, float) and 0 < value <= 1:
        if not is_read(base):  # counted once there is one
            return value
        if layers is None:
            raise LlinkConfigError(
                f"{name}={value}: {base.model_type} does not say how many layers it has. Give the layer's number."
            )
        value = round(value * layers)
    if not isinstance(value, int) or isinstance(value, bool):
        raise LlinkConfigError(f"{name}={value!r} is not a whole number, nor a share between 0 and 1.")
    if layers is not None and not -layers - 1 <= value <= layers:
        raise LlinkConfigError(
            f"{name}={value} is outside [{-layers - 1}, {layers}]: the base has {layers} layers; 0 is its "
            "embeddings and -1 its last layer."
        )
    return value


def encoder_positions(config: PretrainedConfig) -> int:
    """Tokens that the encoder's position table holds; RoBERTa-like encoders start counting after the padding id."""
    config = text_config(config)
    positions = getattr(config, "max_position_embeddings", None) or 1_000_000
    offset = config.pad_token_id + 1 if "roberta" in config.model_type else 0
    return positions - offset


def as_config(value: dict | PretrainedConfig | None) -> PretrainedConfig | None:
    """Turns a base's configuration as read from JSON into an object of its own class.

    Raises:
        LlinkConfigError: If its `model_type` is missing or unknown to the installed transformers.
    """
    if value is None or not isinstance(value, dict):
        return value
    fields = dict(value)
    model_type = fields.pop("model_type", None)
    if "AutoConfig" in (fields.get("auto_map") or {}):
        return type("OwnCodeConfig", (OwnCodeConfig,), {"model_type": model_type})(**fields)
    if model_type not in CONFIG_MAPPING:
        raise LlinkConfigError(
            f"A base has model_type={model_type!r}, which the installed transformers does not know. "
            "Upgrade transformers, or choose another base."
        )
    return AutoConfig.for_model(model_type, **fields)
