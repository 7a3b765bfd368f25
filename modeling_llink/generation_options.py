"""What may be said about generation: a checkpoint's defaults are bounded, and what cannot work is refused by name."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import GenerationConfig

from ..configuration_llink import LlinkConfigError
from .errors import LlinkCheckpointError

#: Whole numbers from 1 on, and the most that a checkpoint may ask for without its user's saying so.
_MOST = {
    **dict.fromkeys(("num_beams", "num_return_sequences", "num_beam_groups"), 64),
    **dict.fromkeys(("max_length", "max_new_tokens"), 2**20),
}
_NUMBERS = (
    *("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff", "max_time"),
    *("repetition_penalty", "encoder_repetition_penalty", "length_penalty", "diversity_penalty", "guidance_scale"),
    *("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "min_length", "min_new_tokens", "penalty_alpha"),
)

_HUB = "transformers fetches it as code from the Hub, which does not know slots"
#: Options of transformers' `generate` that cannot work where a prompt holds slots, and why.
NOT_WITH_SLOTS = {
    "prefill_chunk_size": "a chunk could end inside a passage's slots",
    "prompt_lookup_num_tokens": "it would propose reserved tokens, which can never be generated",
    "token_healing": "it writes the prompt anew from its text, in which slots cannot stand",
    "assistant_early_exit": "a part of the decoder's layers has not learned to read slots",
    "guidance_scale": "its other half would be a prompt without the text, which no slots' LoRA has learned to read",
    "use_mtp": "the heads that would draft tokens have not learned to read slots",
    "speculation_type": "what would draft tokens has not learned to read slots",
    **dict.fromkeys(("constraints", "force_words_ids", "penalty_alpha", "dola_layers", "custom_generate"), _HUB),
    **dict.fromkeys(("num_beam_groups", "diversity_penalty"), _HUB),
}


def check_options(options: dict[str, Any], config: GenerationConfig, slots: bool) -> None:
    """Refuses what `generate` was asked for where it cannot work.

    Args:
        options: Its arguments.
        config: The generation configuration beside them.
        slots: Whether the prompt holds foreign passages.

    Raises:
        LlinkConfigError: If an option cannot work, with the reason.
    """
    for option in ("num_beams", "num_return_sequences"):
        value = options.get(option)
        if value is not None and (not isinstance(value, int) or value < 1):
            raise LlinkConfigError(f"{option}={value!r} is not a whole number from 1 on.")
    for option, method in (("logits_processor", "__iter__"), ("stopping_criteria", "__iter__")):
        value = options.get(option)
        if value is not None and not hasattr(value, method):
            raise LlinkConfigError(f"{option}={value!r} is none: give one of transformers' classes, or a list of them.")
    for option, why in NOT_WITH_SLOTS.items() if slots else ():
        value = options.get(option)
        value = getattr(config, option, None) if value is None else value
        idle = value in (None, False, 0.0) or (option in ("guidance_scale", "num_beam_groups") and value == 1)
        if not idle:
            raise LlinkConfigError(f"{option} cannot be used with foreign text: {why}. Leave it out.")


def generation_defaults(fields: dict[str, Any], name: str) -> GenerationConfig:
    """The generation configuration of a checkpoint.

    Args:
        fields: What its generation_config.json holds.
        name: The checkpoint's, for errors.

    Raises:
        LlinkCheckpointError: If a field is of another type, or asks for more than any answer needs.
    """
    for option, value in fields.items():
        most = _MOST.get(option)
        whole = isinstance(value, int) and not isinstance(value, bool)
        finite = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if value is None or (option not in _NUMBERS if most is None else whole and 1 <= value <= most):
            continue
        if most is not None or not finite:
            wanted = "a finite number" if most is None else f"a whole number from 1 to {most}"
            raise LlinkCheckpointError(
                f"{name}: generation_config.json says {option}={value!r}, which is not {wanted}. Mend the "
                "file; more may be asked of generate itself."
            )
    try:
        return GenerationConfig.from_dict(fields)
    except Exception as error:  # whatever transformers makes of what a stranger wrote
        raise LlinkCheckpointError(
            f"{name}: generation_config.json is none that transformers takes: {' '.join(str(error).split())}"
        ) from error


@contextmanager
def unknown_options() -> Iterator[None]:
    """Names an option that neither transformers nor the model has, as one of llink's errors.

    Raises:
        LlinkConfigError: If transformers' generation finds one.
    """
    try:
        yield
    except ValueError as error:
        if "`model_kwargs` are not used" not in str(error):
            raise
        raise LlinkConfigError(f"generate does not know these options: {str(error).partition('[')[2]}") from error
