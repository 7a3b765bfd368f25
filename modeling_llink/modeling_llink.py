"""LLINK: a frozen encoder, a bridge of soft slots, and a frozen decoder with LoRA (arXiv 2510.27254, section 4).

Shapes: B rows, T passages a row, N passages in all, L encoder tokens, S decoder tokens, K slots, d_e, C and d
widths: of the encoder, of several of its layers side by side, of the decoder.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import ModelOutput

from ..arguments_llink import checked_methods
from ..configuration_llink import LlinkConfig
from .bases import CACHE, build_base, check_kind, last_positions
from .encoding import LlinkEncodingMixin
from .errors import LlinkCheckpointError, SlotMismatchError
from .generation import LlinkGenerationMixin
from .layers import LlinkProjector, TeacherSpace, device_of, encoder_states, input_device, pool
from .lora import add_lora, lora_rows, merge_lora
from .persistence import LlinkPersistenceMixin
from .processing_llink import LlinkProcessor
from .slots import SLOTS, check_counts, default_mask, init_bridge, injected, median_embedding_norm


@dataclass
class LlinkOutput(CausalLMOutputWithPast):
    """The decoder's output, and the slots that it read.

    Attributes:
        foreign_slots: (B, T, K, d), when passages were given.
        foreign_mask: (B, T, K) true at slots: passages may differ in number, and in how many slots they have.
        aux_loss, router_logits: Of decoders of several experts.
    """

    foreign_slots: Tensor | None = None
    foreign_mask: Tensor | None = None
    aux_loss: Tensor | None = None
    router_logits: tuple[Tensor, ...] | None = None

    @classmethod
    def of(cls, output: Any, foreign_slots: Tensor | None, foreign_mask: Tensor | None) -> Any:
        """A decoder's output with the slots beside it; a tuple (`return_dict=False`) as it is."""
        if not isinstance(output, ModelOutput):
            return output
        own = {name: output[name] for name in cls.__dataclass_fields__ if name in output}
        return cls(**own, foreign_slots=foreign_slots, foreign_mask=foreign_mask)


@checked_methods
class LlinkForCausalLM(LlinkGenerationMixin, LlinkEncodingMixin, LlinkPersistenceMixin):
    """A decoder that reads foreign passages through soft slots.

    A row's answer depends on that row: a row without foreign text runs with LoRA off and has exactly the base decoder's
    logits, whatever else is in its batch.

    Args:
        config: A [`LlinkConfig`].
        encoder: The frozen encoder; built from the configuration when not given.
        decoder: The frozen decoder; built from the configuration when not given.
    """

    config_class = LlinkConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(
        self,
        config: LlinkConfig,
        encoder: PreTrainedModel | None = None,
        decoder: PreTrainedModel | None = None,
    ) -> None:
        super().__init__(config)
        check_kind("encoder", config.encoder_config, config.encoder_name_or_path or "", config.encoder_is_causal)
        check_kind("decoder", config.decoder_config, config.decoder_name_or_path or "")
        self.encoder = encoder if encoder is not None else build_base("encoder", config.encoder_config)
        self.decoder = decoder if decoder is not None else build_base("decoder", config.decoder_config)
        # One configuration object a base: a second copy would miss the chosen attention implementation.
        config.encoder_config, config.decoder_config = self.encoder.config, self.decoder.config
        config.settle()  # what could not be asked of a base before it was read
        self._check_widths()
        d, d_e = config.hidden_size, config.encoder_hidden_size
        self.projector = LlinkProjector(d_e, config.projector_hidden_size, d, config.projector_dropout)
        self.teacher_space = TeacherSpace(
            d, config.teacher_conditioning, config.teacher_components, config.teacher_whitening_power
        )
        self.slot_embedder = SLOTS[config.slot_expander](config)
        self._processor: LlinkProcessor | None = None
        self.post_init()
        self.encoder.requires_grad_(False)
        self.decoder.requires_grad_(False)
        if not config.lora_merged:
            add_lora(self.decoder, config)  # after post_init, which would overwrite LoRA's own initialisation
        if self.decoder.generation_config is not None:
            self.generation_config = GenerationConfig.from_dict(self.decoder.generation_config.to_dict())
        if decoder is not None:
            self.start_scale()

    @classmethod
    def from_encoder_decoder_pretrained(
        cls, encoder: str | os.PathLike, decoder: str | os.PathLike, **options: Any
    ) -> Self:
        """Builds an untrained model on two pre-trained bases, as `llink.building.build_model` says.

        Raises:
            LlinkCheckpointError: Where llink itself is not installed.
        """
        return _building().build_model(encoder, decoder, model_class=cls, **options)

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

    @torch.no_grad()
    def start_scale(self) -> None:
        """Untrained slots are as long as the decoder's own embeddings (paper 4.2)."""
        self.slot_embedder.scale.fill_(median_embedding_norm(self.get_input_embeddings(), self.config.vocab_size))

    def _check_widths(self) -> None:
        rows = self.decoder.get_input_embeddings().weight.shape[0]
        if self.config.reserved_token_start < rows:
            raise LlinkCheckpointError(
                f"reserved_token_start={self.config.reserved_token_start}, but the decoder has {rows} embedding rows: "
                f"reserved tokens must lie above all of them. Give reserved_token_start={rows}."
            )

    def _init_weights(self, module: nn.Module) -> None:
        """Initialises the bridge; the bases come with weights of their own."""
        init_bridge(module)

    def train(self, mode: bool = True) -> Self:
        """As in torch, but what is frozen stays in evaluation mode: the encoder always, the projector when frozen."""
        super().train(mode)
        self.encoder.eval()
        self.projector.train(mode and any(p.requires_grad for p in self.projector.parameters()))
        return self

    # ------------------------------------------------------------------ the processor

    @property
    def processor(self) -> LlinkProcessor:
        """The processor, loaded on first use from where the model came from.

        Raises:
            LlinkCheckpointError: If neither the checkpoint nor the bases name tokenizers.
        """
        processor = self._processor
        if processor is None:
            self.processor = processor = self._load_processor()
        return processor

    @processor.setter
    def processor(self, processor: LlinkProcessor) -> None:
        for name, field in (("K", "num_slots"), ("reserved_token_start", "reserved_token_start")):
            theirs, own = getattr(processor, field), getattr(self.config, field)
            if theirs != own:
                raise LlinkCheckpointError(f"The processor's {name}={theirs} is not the model's {own}.")
        self._processor = processor

    def _load_processor(self) -> LlinkProcessor:
        if self._processor_place is not None:
            try:
                return LlinkProcessor.from_pretrained(**self._processor_place)
            except Exception as error:  # whatever transformers makes of what a stranger wrote
                reason = " ".join(str(error).split()).rstrip(".")
                raise LlinkCheckpointError(
                    f"The processor of {self.source.name} cannot be loaded: {reason}. Save the model again with its "
                    "processor, or load it once with a connection."
                ) from error
        if None in (self.config.encoder_name_or_path, self.config.decoder_name_or_path):
            raise LlinkCheckpointError(
                "This model was built from modules without names, so its tokenizers are unknown. "
                "Set model.processor = LlinkProcessor(tokenizer, encoder_tokenizer, …)."
            )
        return _building().processor_of_bases(self.config, **self.built_with)

    # ------------------------------------------------------------------ from encoder tokens to slots

    def passage_states(
        self, foreign_input_ids: Tensor, foreign_attention_mask: Tensor, layers: Sequence[int] | None = None
    ) -> Tensor:
        """Encoder tokens (N, L) → their states (N, L, C) in some layers, side by side, without gradient.

        The encoder runs once, and may lie on a device of its own: the states come to the bridge's.

        Args:
            foreign_input_ids, foreign_attention_mask: (N, L).
            layers: Numbers of its hidden states; that which is pooled, when not given.
        """
        layers = layers or [self.config.encoder_layer]
        states = encoder_states(self.encoder, layers, foreign_input_ids, foreign_attention_mask)
        return torch.cat(states, dim=-1).to(device_of(self.projector))

    def pool_passages(self, foreign_input_ids: Tensor, foreign_attention_mask: Tensor) -> Tensor:
        """Encoder tokens (N, L) → z_F (N, d_e), without gradient (paper 4.1)."""
        states = self.passage_states(foreign_input_ids, foreign_attention_mask)  # (N, L, d_e)
        config = self.config
        return pool(states, foreign_attention_mask.to(states.device), config.pooling, config.encoder_normalized)

    def resolve_slots(
        self,
        foreign_input_ids: Tensor | None = None,
        foreign_attention_mask: Tensor | None = None,
        foreign_slot_index: Tensor | None = None,
        foreign_features: Tensor | None = None,
        foreign_slots: Tensor | None = None,
        foreign_mask: Tensor | None = None,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Whatever form the passages are given in → slots (B, T, K, d) and which of them are real (B, T, K).

        Args:
            foreign_input_ids, foreign_attention_mask: (B, T, L) encoder tokens.
            foreign_slot_index: (B, T, L) the number, from 1 on, of the slot that a token is a part of, 0 where it is of
                none; where slots are made of tokens.
            foreign_features: (B, T, d) p_F, where slots are made of it.
            foreign_slots: (B, T, K, d) finished slots.
            foreign_mask: True at real passages (B, T), or at real slots (B, T, K); all, or those with tokens, when not
                given.

        Raises:
            SlotMismatchError: If a mask is missing, or p_F is given to slots that are made of tokens.
        """
        if foreign_slots is not None:
            mask = default_mask(foreign_slots, foreign_mask)
            mask = mask if mask.dim() == 3 else mask.unsqueeze(-1).expand(foreign_slots.shape[:3])
            return (foreign_slots, mask) if mask.any() else (None, None)
        if foreign_features is None and foreign_input_ids is None:
            return None, None
        if foreign_features is not None:
            if self.slot_embedder.reads_states:
                raise SlotMismatchError(
                    "These slots are made of the encoder's states of all tokens: p_F (foreign_features) is not enough. "
                    "Pass what the processor makes of the passages, or finished foreign_slots."
                )
            real = default_mask(foreign_features, foreign_mask)  # (B, T)
        elif foreign_attention_mask is None or foreign_attention_mask.dim() != 3:
            raise SlotMismatchError("foreign_input_ids (B, T, L) need their foreign_attention_mask (B, T, L).")
        elif foreign_slot_index is None and self.slot_embedder.reads_states:
            raise SlotMismatchError("foreign_input_ids need foreign_slot_index (B, T, L), which the processor makes.")
        else:
            real = foreign_attention_mask.any(dim=-1)  # (B, T)
        if not real.any():
            return None, None
        if self.slot_embedder.reads_states:
            ids, attention = foreign_input_ids[real], foreign_attention_mask[real]  # (N, L)
            states = self.passage_states(ids, attention, self.config.slot_layers)  # (N, L, C)
            slots, mask = self.slot_embedder(states, foreign_slot_index[real].to(states.device))  # (N, K, d), (N, K)
        elif foreign_features is not None:
            slots, mask = self.slot_embedder(foreign_features[real])  # (N, K, d), (N, K)
        else:
            pooled = self.pool_passages(foreign_input_ids[real], foreign_attention_mask[real])  # (N, d_e)
            slots, mask = self.slot_embedder(self.projector(pooled))  # (N, K, d), (N, K)
        real = real.to(slots.device)
        padded = slots.new_zeros(*real.shape, *slots.shape[1:])  # (B, T, K, d)
        kept = mask.new_zeros(padded.shape[:3])  # (B, T, K)
        return padded.masked_scatter(real[..., None, None], slots), kept.masked_scatter(real.unsqueeze(-1), mask)

    # ------------------------------------------------------------------ forward

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | dict | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        foreign_input_ids: Tensor | None = None,
        foreign_attention_mask: Tensor | None = None,
        foreign_slot_index: Tensor | None = None,
        foreign_features: Tensor | None = None,
        foreign_slots: Tensor | None = None,
        foreign_mask: Tensor | None = None,
        reads_slots: Tensor | Sequence[bool] | None = None,
        cache: Any = None,
        **kwargs: Any,
    ) -> LlinkOutput:
        """Decodes prompts whose slot tokens stand for foreign passages.

        Args:
            input_ids: (B, S) with a slot id for each slot of each passage.
            attention_mask: (B, S).
            labels: (B, S), -100 where no loss is taken; none is taken on slot tokens.
            foreign_input_ids, foreign_attention_mask: (B, T, L) encoder tokens; rows with fewer passages, or none, are
                masked whole at the end.
            foreign_slot_index, foreign_features, foreign_slots, foreign_mask: As `resolve_slots` takes them.
            reads_slots: (B,) true at rows with LoRA, whose slots may be in the cache; if not given, those with slots.
            past_key_values, cache: The cache, under either of transformers' names for it.
            position_ids, inputs_embeds, use_cache, logits_to_keep, kwargs: As the decoder takes them.

        Raises:
            SlotMismatchError: If a row's slot tokens do not fit its passages.
        """
        slots, mask = self.resolve_slots(
            foreign_input_ids, foreign_attention_mask, foreign_slot_index, foreign_features, foreign_slots, foreign_mask
        )  # (B, T, K, d), (B, T, K)
        length = (inputs_embeds if input_ids is None else input_ids).shape[1]  # S
        told = reads_slots is not None
        rows = reads_slots if told else self._holds_slots(input_ids)  # B, or one for all
        rows = rows.tolist() if isinstance(rows, Tensor) else list(rows)
        placed: AbstractContextManager = nullcontext()
        if slots is not None or (any(rows) and not told):
            positions = self._slot_places(input_ids, slots, mask)  # (B, S)
            input_ids = input_ids.masked_fill(positions, self.config.filler_token_id)  # (B, S)
            placed = injected(self.get_input_embeddings(), positions, slots[mask])  # (slots, d)
        labels = None if labels is None else labels.masked_fill(labels >= self.config.reserved_token_start, -100)
        known = {CACHE: past_key_values if cache is None else cache, "labels": labels, "use_cache": use_cache}
        with lora_rows(rows, length), placed:
            output = self.decoder(
                input_ids=input_ids,  # (B, S), or
                inputs_embeds=inputs_embeds,  # (B, S, d)
                attention_mask=attention_mask,
                position_ids=position_ids,
                logits_to_keep=last_positions(logits_to_keep, length, self.device),
                **kwargs | {name: value for name, value in known.items() if value is not None},
            )  # logits (B, S, vocabulary)
        return LlinkOutput.of(output, slots, mask)

    def _holds_slots(self, input_ids: Tensor | None) -> Tensor:
        """(B, S) ids → (B,) true at rows that hold slot tokens; without ids no row does."""
        start = self.config.reserved_token_start
        return torch.tensor([False]) if input_ids is None else (input_ids >= start).any(dim=1)

    def _slot_places(self, input_ids: Tensor | None, slots: Tensor | None, mask: Tensor | None) -> Tensor:
        """(B, S) ids and (B, T, K, d) slots → (B, S) true where a slot stands: as many as there are."""
        if input_ids is None:
            raise SlotMismatchError("Foreign passages need input_ids, whose slot tokens say where they stand.")
        positions = input_ids >= self.config.reserved_token_start  # (B, S)
        if slots is None:
            raise SlotMismatchError(
                f"The prompt holds {int(positions.sum())} slot tokens, but no foreign passages were given. Pass "
                "foreign_input_ids, foreign_features or foreign_slots with it."
            )
        check_counts(positions, slots, mask)
        return positions

    @property
    def device(self) -> torch.device:
        """Where the inputs belong: with the decoder's embeddings."""
        return input_device(self.get_input_embeddings())

    def get_input_embeddings(self) -> nn.Module:
        return self.decoder.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        return self.decoder.get_output_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.decoder.set_input_embeddings(value)

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Module:
        """Refused: an LLINK model never changes its decoder's vocabulary.

        Raises:
            LlinkCheckpointError: Always.
        """
        raise LlinkCheckpointError(
            "LLINK never resizes its decoder: reserved tokens need no rows. Resize the decoder before building on it."
        )


def _building() -> Any:
    """What builds models; it does not travel with a checkpoint."""
    try:
        return importlib.import_module("llink.building")
    except ImportError as error:
        raise LlinkCheckpointError(
            "Only the code that runs a checkpoint is here. To build a model on two bases, install llink."
        ) from error
