"""A LangBridge-style bridge (arXiv 2401.10695): one soft token for each encoder token, through one linear map.

A small re-implementation from the paper's description, for comparison. As there: a linear map from the encoder's
states to the decoder's embedding space, a learned end-of-source embedding after each text, the language-modelling loss
alone, both models frozen. Other than there, it is trained on the same rows, prompts and foreign text as llink.

Shapes: B rows, T passages a row, N passages in all, L encoder tokens, S decoder tokens, d_e and d widths.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_NAME

from ..arguments_llink import checked_methods
from ..configuration_bases import text_config
from ..modeling_llink import LlinkForCausalLM, LlinkProcessor
from ..modeling_llink.bases import load_base
from ..modeling_llink.checkpoint import read_bridge, staged
from ..modeling_llink.errors import LlinkCheckpointError, SlotMismatchError
from ..modeling_llink.generation_options import unknown_options
from ..modeling_llink.layers import encoder_states, input_device
from ..modeling_llink.passages import Passage
from ..modeling_llink.slots import median_embedding_norm
from .direct import add_saved_adapter, base_of, like, load_adapter, new_direct, save_adapter

LORA_FOLDER = "lora"


class LangBridgeProcessor(LlinkProcessor):
    """llink's processor with as many soft tokens for a passage as it has encoder tokens, and one for its end.

    Args:
        As [`LlinkProcessor`], with `num_slots` = 1: every soft token has the same id.
    """

    def render(
        self, messages: Sequence[dict], add_generation_prompt: bool = True, row: int = 0, **template_kwargs: Any
    ) -> tuple[list[int], list[Passage]]:
        """As [`LlinkProcessor.render`], each passage's one slot spread to the passage's length."""
        ids, passages = super().render(messages, add_generation_prompt, row, **template_kwargs)
        lengths = iter([len(piece.ids) + 1 for pieces in self.read_passages(passages) for piece in pieces])
        (slot,) = self.slot_token_ids
        return [i for token in ids for i in ([slot] * next(lengths) if token == slot else [token])], passages


class LangBridgeModelConfig(PretrainedConfig):
    """Configuration of a [`LangBridgeForCausalLM`].

    Args:
        encoder_name_or_path, encoder_revision, decoder_name_or_path, decoder_revision: The frozen bases.
        encoder_layer: The hidden state that is mapped; -1 is the last.
        reserved_token_start: The id that stands for soft tokens; at or above the decoder's vocabulary.
        lora: Whether the decoder has LoRA, which LangBridge itself has not.
    """

    model_type = "llink-langbridge"

    encoder_name_or_path: str | None = None
    encoder_revision: str | None = None
    decoder_name_or_path: str | None = None
    decoder_revision: str | None = None
    encoder_layer: int = -1
    reserved_token_start: int = 0
    lora: bool = False


@checked_methods
class LangBridgeForCausalLM(PreTrainedModel):
    """A frozen decoder that reads a frozen encoder's states through a linear map.

    Args:
        config: A [`LangBridgeModelConfig`].
        encoder, decoder: The bases; a LoRA adapter that the decoder has stays trainable.
        processor: A [`LangBridgeProcessor`].
    """

    config_class = LangBridgeModelConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(
        self,
        config: LangBridgeModelConfig,
        encoder: PreTrainedModel,
        decoder: PreTrainedModel,
        processor: LangBridgeProcessor,
    ) -> None:
        super().__init__(config)
        self.encoder, self.decoder, self.processor = encoder, decoder, processor
        self.generation_config = decoder.generation_config
        d_e, d = (text_config(base.config).hidden_size for base in (encoder, decoder))
        self.bridge = nn.Linear(d_e, d)
        self.end_of_source = nn.Parameter(torch.zeros(d))
        self.bridge.to(self.device)
        self.end_of_source.data = self.end_of_source.data.to(self.device)
        encoder.requires_grad_(False)
        if not config.lora:
            decoder.requires_grad_(False)

    @torch.no_grad()
    def start_at_embedding_norm(self) -> None:
        """Draws the bridge so that states of unit variance become as long as the decoder's own embeddings."""
        d, d_e = self.bridge.weight.shape
        vocab_size = self.decoder.config.get_text_config().vocab_size
        norm = median_embedding_norm(self.decoder.get_input_embeddings(), vocab_size)
        nn.init.normal_(self.bridge.weight, std=norm * (d_e * d) ** -0.5)
        nn.init.zeros_(self.bridge.bias)
        nn.init.normal_(self.end_of_source, std=norm * d**-0.5)

    def train(self, mode: bool = True) -> LangBridgeForCausalLM:
        """As in torch, but what is frozen stays in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        self.decoder.train(mode and self.config.lora)
        return self

    @property
    def device(self) -> torch.device:
        """Where the inputs belong: with the decoder's embeddings."""
        return input_device(self.decoder.get_input_embeddings())

    # ------------------------------------------------------------------ from text to answers

    def soft_tokens(self, foreign_input_ids: Tensor, foreign_attention_mask: Tensor) -> Tensor:
        """Encoder tokens (N, L), padded on the right → the soft tokens of all N passages, one after the other (M, d).

        Each passage gives one for each of its tokens and the end-of-source embedding: M = Σ (length + 1).
        """
        layer = self.config.encoder_layer
        (states,) = encoder_states(self.encoder, [layer], foreign_input_ids, foreign_attention_mask)  # (N, L, d_e)
        soft = self.bridge(states.to(self.bridge.weight))  # (N, L, d)
        soft = torch.cat([soft, soft.new_zeros(len(soft), 1, soft.shape[2])], dim=1)  # (N, L+1, d)
        lengths = foreign_attention_mask.to(soft.device).sum(dim=1, keepdim=True)  # (N, 1)
        places = torch.arange(soft.shape[1], device=soft.device)  # (L+1,)
        soft = torch.where((places == lengths).unsqueeze(-1), self.end_of_source, soft)  # (N, L+1, d)
        return soft[places <= lengths]  # (M, d)

    def embed(
        self, input_ids: Tensor, foreign_input_ids: Tensor | None, foreign_attention_mask: Tensor | None
    ) -> Tensor:
        """(B, S) ids and (B, T, L) encoder tokens → (B, S, d), soft tokens where their id stands.

        Raises:
            SlotMismatchError: If a row holds another number of soft tokens than its passages need.
        """
        positions = input_ids >= self.config.reserved_token_start  # (B, S)
        embeds = self.decoder.get_input_embeddings()(input_ids.masked_fill(positions, 0))  # (B, S, d)
        found = positions.sum(dim=1)  # (B,)
        if foreign_input_ids is None:
            needed = torch.zeros_like(found)
        else:
            if foreign_attention_mask is None:
                raise SlotMismatchError("foreign_input_ids (B, T, L) need their foreign_attention_mask (B, T, L).")
            lengths = foreign_attention_mask.sum(dim=2)  # (B, T)
            needed = (lengths + (lengths > 0)).sum(dim=1)  # (B,)
        if not torch.equal(found, needed):
            row = int((found != needed).nonzero()[0])
            raise SlotMismatchError(
                f"Row {row} holds {int(found[row])} soft tokens, but its passages need {int(needed[row])}. Render "
                "prompts with this model's processor, and do not cut them."
            )
        if not found.any():
            return embeds
        real = lengths > 0  # (B, T)
        soft = self.soft_tokens(foreign_input_ids[real], foreign_attention_mask[real])  # (M, d)
        return embeds.masked_scatter(positions.unsqueeze(-1), soft.to(embeds))

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        foreign_input_ids: Tensor | None = None,
        foreign_attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """The decoder's output for prompts (B, S) about passages (B, T, L).

        Raises:
            SlotMismatchError: As `embed`.
        """
        embeds = self.embed(input_ids, foreign_input_ids, foreign_attention_mask)  # (B, S, d)
        return self.decoder(inputs_embeds=embeds, attention_mask=attention_mask, **kwargs)

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        foreign_input_ids: Tensor | None = None,
        foreign_attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """As transformers' `generate` with token ids: prompt and new tokens (B, S + new).

        Raises:
            SlotMismatchError: As `embed`.
        """
        embeds = self.embed(input_ids, foreign_input_ids, foreign_attention_mask)
        with unknown_options():
            new = self.decoder.generate(inputs_embeds=embeds, attention_mask=attention_mask, **kwargs)
        return torch.cat([input_ids, new], dim=1)

    # ------------------------------------------------------------------ made, saved, loaded

    @classmethod
    def from_llink(
        cls, folder: str | os.PathLike, lora: bool = False, dtype: str | torch.dtype = "auto", **loading: Any
    ) -> LangBridgeForCausalLM:
        """An untrained bridge between the bases of an llink model, reading the same encoder layer.

        Args:
            folder: A folder or repository of an llink model, of any stage.
            lora: Whether the decoder gets LoRA too, with the llink model's settings.
            dtype: Of the bases; the bridge is in float32.
            loading: As `from_pretrained` takes it: `attn_implementation`, `device_map`, … .

        Raises:
            LlinkCheckpointError, BaseModelError: If there is no llink model, or a base is missing.
        """
        loading |= {"dtype": dtype}
        model = LlinkForCausalLM.from_pretrained(folder, **loading)
        bases = {kind: base_of(folder, model.config, kind) for kind in ("encoder", "decoder")}
        config = LangBridgeModelConfig(
            **{f"{kind}_name_or_path": name for kind, (name, _) in bases.items()},
            **{f"{kind}_revision": revision for kind, (_, revision) in bases.items()},
            encoder_layer=model.config.encoder_layer,
            reserved_token_start=model.config.reserved_token_start,
            lora=lora,
        )
        processor = like(LangBridgeProcessor, model.processor, num_slots=1)
        if lora:
            decoder, _ = new_direct(folder, **loading)
        else:
            decoder, _ = load_base("decoder", *bases["decoder"], **loading)
        bridge = cls(config, model.encoder, decoder, processor)
        bridge.start_at_embedding_norm()
        return bridge.eval()

    @classmethod
    def from_pretrained(
        cls, folder: str | os.PathLike, *, dtype: str | torch.dtype = "auto", **loading: Any
    ) -> LangBridgeForCausalLM:
        """Loads what `save_pretrained` wrote, with the bases that it names.

        Args:
            folder: A local folder; of a repository, what `huggingface_hub.snapshot_download` returns.
            dtype: Of the bases; the bridge is in float32.
            loading: As `from_pretrained` takes it for both bases: `attn_implementation`, `device_map`, … .

        Raises:
            LlinkCheckpointError: If the folder holds no such model, or it is damaged or does not fit its bases.
            BaseModelError: If a base cannot be loaded.
        """
        if not is_langbridge(folder):
            raise LlinkCheckpointError(
                f"{folder} holds no LangBridge model: give a local folder of `llink langbridge`."
            )
        loading |= {"dtype": dtype}
        config = LangBridgeModelConfig.from_pretrained(folder)
        state = read_bridge(Path(folder) / SAFE_WEIGHTS_NAME)  # damaged weights show before the bases load
        encoder, _ = load_base("encoder", config.encoder_name_or_path, config.encoder_revision, **loading)
        decoder, _ = load_base("decoder", config.decoder_name_or_path, config.decoder_revision, **loading)
        if config.lora:
            add_saved_adapter(decoder, Path(folder) / LORA_FOLDER)
        model = cls(config, encoder, decoder, LangBridgeProcessor.from_pretrained(folder))
        model._load_bridge(state, folder)
        return model.eval()

    def load_weights(self, folder: str | os.PathLike) -> None:
        """Loads the bridge, and LoRA where there is one, of a saved model into this one, in place.

        Raises:
            LlinkCheckpointError: If the weights are missing, damaged or do not fit.
        """
        self._load_bridge(read_bridge(Path(folder) / SAFE_WEIGHTS_NAME), folder)
        if self.config.lora:
            load_adapter(self.decoder, Path(folder) / LORA_FOLDER)

    @torch.no_grad()
    def _load_bridge(self, state: dict[str, Tensor], folder: str | os.PathLike) -> None:
        own = self._bridge_state()
        shapes, saved = ({k: tuple(v.shape) for k, v in tensors.items()} for tensors in (own, state))
        if shapes != saved:
            raise LlinkCheckpointError(f"{folder} holds {saved}, but its bases need {shapes}: they are other ones.")
        for key, value in own.items():
            value.copy_(state[key])

    def _bridge_state(self) -> dict[str, Tensor]:
        state = {f"bridge.{key}": value for key, value in self.bridge.state_dict().items()}
        return {**state, "end_of_source": self.end_of_source.detach()}

    def save_pretrained(
        self,
        save_directory: str | os.PathLike,
        is_main_process: bool = True,
        state_dict: dict[str, Tensor] | None = None,
        **unsupported: Any,
    ) -> None:
        """Writes what is trained, the names and revisions of the bases, and the processor.

        Args:
            save_directory: The folder; made when missing.
            is_main_process: Whether this process writes.
            state_dict: Not read: transformers' Trainer passes one.

        Raises:
            TypeError: If anything else is given, such as `push_to_hub`.
        """
        if unsupported:
            raise TypeError(
                f"save_pretrained cannot take {', '.join(unsupported)}: give save_directory and is_main_process, and "
                "upload the folder with `hf upload`."
            )
        if not is_main_process:
            return
        with staged(save_directory) as stage:
            self.config.save_pretrained(stage)
            save_file(self._bridge_state(), stage / SAFE_WEIGHTS_NAME, metadata={"format": "pt"})
            self.processor.save_pretrained(stage)
            # Without a config.json of its own, this tokenizer could be taken from the folder above.
            self.encoder.config.save_pretrained(stage / "encoder_tokenizer")
            if self.config.lora:
                save_adapter(self.decoder, stage / LORA_FOLDER)


def is_langbridge(folder: str | os.PathLike) -> bool:
    """Whether a folder holds a model of this kind."""
    path = Path(folder) / CONFIG_NAME
    if not path.is_file():
        return False
    fields, _ = PretrainedConfig.get_config_dict(folder)
    return fields.get("model_type") == LangBridgeModelConfig.model_type
