"""The decoder of a model as a checkpoint of its own, for servers that know nothing of llink."""

from __future__ import annotations

import copy
import os
import tempfile
from pathlib import Path

import torch

from ..configuration_llink import LlinkConfigError
from ..modeling_llink import LlinkForCausalLM
from ..modeling_llink.checkpoint import save_base
from ..modeling_llink.errors import LlinkCheckpointError
from ..modeling_llink.prompts import PLAIN_CHAT_TEMPLATE, refusing
from .reading import embedded

#: Difference of logits, as a share of their spread, beyond which two passes are not the same.
CLOSE = 0.05


def check_empty(folder: Path) -> None:
    """Refuses a folder that holds something.

    Raises:
        LlinkConfigError: If it does, or is a file.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise LlinkConfigError(f"output_dir={folder} is there already: give a new or an empty folder.")


def export_decoder(model: LlinkForCausalLM, folder: str | os.PathLike) -> None:
    """Writes the decoder with LoRA merged: weights, configuration, tokenizer and chat template, whole or not at all.

    Stock vLLM and `AutoModelForCausalLM` load it. Given a prompt's embeddings, slots among them, as `inputs_embeds`, it
    has the model's logits. LoRA is merged into `model` itself, as by `merge_and_unload`.

    Args:
        model: A model that Stage B trained.
        folder: New, or empty.

    Raises:
        LlinkConfigError: If the folder holds something.
        LlinkCheckpointError: If the model has not learned to read slots, is quantised, or has a decoder that reads
            embeddings otherwise than the tokens that they belong to.
    """
    folder = Path(folder)
    check_empty(folder)
    if model.config.stage != "inject":
        raise LlinkCheckpointError(
            f"This model's stage is {model.config.stage!r}: its decoder has not learned to read foreign text, and is "
            "the base as it was. Train Stage B first (`llink inject`)."
        )
    tokenizer = copy.deepcopy(model.processor.tokenizer)
    template = model.processor.chat_template or PLAIN_CHAT_TEMPLATE
    tokenizer.chat_template = template.removeprefix(refusing("") or "")  # which foreign parts are not for anyway
    _check_embeddings(model)
    if not model.config.lora_merged:
        model.merge_and_unload()
    settings = copy.deepcopy(model.generation_config)
    if settings.eos_token_id is None:
        settings.eos_token_id = tokenizer.eos_token_id
    model.decoder.generation_config = settings
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent, ignore_cleanup_errors=True) as place:
        made = Path(place) / "decoder"
        save_base(model.decoder, made, "5GB")
        tokenizer.save_pretrained(made)
        os.replace(made, folder)  # an empty folder makes room


@torch.no_grad()
def _check_embeddings(model: LlinkForCausalLM) -> None:
    """Some decoders do more with tokens than look them up (Falcon-H1, Gemma 4): embeddings would miss that.

    Tried with a slot that is no token's embedding.
    """
    embed, config = model.get_input_embeddings(), model.config
    ids = torch.linspace(config.vocab_size // 3, 2 * config.vocab_size // 3, 7).long()[None].to(model.device)  # (1, S)
    slot = -embed(ids[:, 2])  # (1, d)
    ids[0, 2] = config.reserved_token_start
    wanted = model(input_ids=ids, foreign_slots=slot[None, None]).logits.float()
    try:
        found = model.decoder(inputs_embeds=embedded(model, ids, slot)[None]).logits.float()
    except Exception as error:  # whatever a decoder makes of what it does not know
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise LlinkCheckpointError(
            f"{type(model.decoder).__name__} does not take embeddings in place of tokens ({reason:.200}): use `llink "
            "serve` without another engine."
        ) from error
    if not bool((found - wanted).abs().max() <= CLOSE * wanted.std()):
        raise LlinkCheckpointError(
            f"{type(model.decoder).__name__} reads embeddings otherwise than the tokens that they belong to, so a "
            "prompt that is given as embeddings would be another one: use `llink serve` without another engine."
        )
