"""Generation from strings or tensors, on transformers' own `generate`."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationMixin, LogitsProcessorList
from transformers.utils import ModelOutput, logging

from ..arguments_llink import checked_methods
from ..configuration_llink import LlinkConfigError
from .bases import CACHE
from .continuing import NewTokens, cached_length, empty, holds_beginning, remember
from .copying import CopyNumbers, asks_for_translation
from .errors import PromptError, SlotMismatchError
from .generation_options import check_options, unknown_options
from .prompts import match_prompts

logger = logging.get_logger(__name__)

DEFAULT_MAX_NEW_TOKENS = 256


class ReservedBlindProcessors(LogitsProcessorList):
    """Logits processors that never see a reserved id.

    Repetition penalties and their like look up the prompt's ids in the scores, which have no column for reserved ids.
    """

    def __init__(self, processors: LogitsProcessorList, vocab_size: int, prompt: Tensor | None) -> None:
        super().__init__(processors)
        self.vocab_size = vocab_size
        #: The longest beginning that holds a reserved id; what is generated never is one.
        self.length = 0
        if prompt is not None and prompt.dim() == 2:
            columns = (prompt >= vocab_size).any(dim=0).nonzero()
            self.length = int(columns[-1]) + 1 if len(columns) else 0

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        if self.length:
            head = without_reserved(input_ids[:, : self.length], self.vocab_size)
            input_ids = torch.cat([head, input_ids[:, self.length :]], dim=1)
        return super().__call__(input_ids, scores, **kwargs)


def without_reserved(input_ids: Tensor, vocab_size: int) -> Tensor:
    """(B, S) ids without the reserved ones: the others move together, and the row's first one fills the left."""
    ordinary = input_ids < vocab_size  # (B, S)
    order = ordinary.long().argsort(dim=1, stable=True)  # reserved first, the others in their order
    moved = input_ids.gather(1, order)  # (B, S)
    gaps = (~ordinary).sum(dim=1, keepdim=True)  # (B, 1)
    first = moved.gather(1, gaps.clamp(max=moved.shape[1] - 1))  # (B, 1)
    positions = torch.arange(moved.shape[1], device=moved.device)
    return torch.where(positions < gaps, first, moved).clamp(max=vocab_size - 1)


@checked_methods
class LlinkGenerationMixin(GenerationMixin):
    """What a [`LlinkForCausalLM`] adds to transformers' generation."""

    @torch.no_grad()
    def generate(
        self,
        inputs: Tensor | None = None,
        *,
        foreign_text: Any = None,
        prompt: str | list[str] | None = None,
        messages: Any = None,
        foreign_slots: Any = None,
        copy_numbers: bool | None = None,
        streamer: Any = None,
        **kwargs: Any,
    ) -> Tensor | ModelOutput:
        """Generates an answer to an English prompt about foreign text, or the next turn of a conversation.

        Args:
            inputs: Token ids, as in transformers, whose conventions then hold.
            foreign_text: One passage, one a row, or a list of passages a row.
            prompt: The instruction, one for all rows or one a row; asks for a translation when not given. Passages
                stand where it says `<foreign_emb>`, or follow it where it does not.
            messages: In their place a conversation, or one a row: messages as `processor.apply_chat_template` takes
                them, with `{"type": "foreign_text", "text": …}` parts. With the same `past_key_values` at each turn
                only what is new is read; a cache that holds anything else than the conversation's beginning is emptied.
            foreign_slots: Slots from `encode_foreign`, in place of `foreign_text`: (B, K, d), (B, T, K, d), or a list
                with an entry a row: (K, d), (T, K, d), or a list of (K, d), whose K may differ.
            copy_numbers: Whether digits of an answer may only spell numbers that its prompt writes out, each as often
                as it stands there. When not given, in rows whose prompt asks for a translation, where passages have
                their numbers written out (`literals`).
            streamer: As in transformers; with strings or messages it is given only new tokens. An error ends it too.
            kwargs: Everything that transformers' `generate` takes; the cache as `past_key_values` or `cache`.

        Returns:
            With strings or messages, **only the new tokens** (B, new), or transformers' output object with its
            `sequences` cut to them; `model.processor.batch_decode(…, skip_special_tokens=True)` makes text of them.
            With token ids, what transformers returns: prompt and new tokens.

        Raises:
            ForeignTextError, PromptError: If a string is unusable, before anything is computed.
            LlinkConfigError: If one of transformers' options cannot work, or not with foreign passages; says why.
            SlotMismatchError: If passages and placeholders differ in number.
        """
        if streamer is not None and not (hasattr(streamer, "put") and hasattr(streamer, "end")):
            raise LlinkConfigError(f"streamer={streamer!r} is none: give one of transformers' streamers.")
        try:
            _check_combination(inputs, foreign_text, prompt, messages, foreign_slots, kwargs)
            for name in ("past_key_values", "cache"):
                if (given := kwargs.pop(name, None)) is not None:
                    kwargs[CACHE] = given
            # Numbers among kept slots are no tokens.
            kwargs["copy_numbers"] = False if copy_numbers is None and foreign_slots is not None else copy_numbers
            if foreign_slots is not None:
                foreign_slots, mask = self.stack_slots(foreign_slots)
                if (given := kwargs.get("foreign_mask")) is not None:
                    given = given.to(mask.device)
                    mask = mask & (given if given.dim() == 3 else given.unsqueeze(-1))
                kwargs["foreign_mask"] = mask  # (B, T, K)
            if _has_ids(inputs, kwargs):
                self._check_cache(inputs, kwargs)
                return self._generate(inputs, foreign_slots, streamer, kwargs)
            rendered, foreign_slots = self._string_inputs(prompt, foreign_text, messages, foreign_slots, kwargs)
            return self._generate_from(rendered, foreign_slots, streamer, kwargs)
        except BaseException:
            if streamer is not None:
                streamer.end()  # or whoever reads it in another thread would wait for ever
            raise

    def _generate_from(
        self, rendered: dict[str, Tensor], foreign_slots: Tensor | None, streamer: Any, kwargs: dict[str, Any]
    ) -> Tensor | ModelOutput:
        """Generates from rendered strings and gives only what is new."""
        cache, ids = kwargs.get(CACHE), rendered["input_ids"]
        if cache is not None and (not holds_beginning(cache, rendered) or self._lora_changes(cache, ids)):
            empty(cache, self.config.get_text_config())
        kwargs = kwargs | rendered
        self._string_defaults(kwargs)
        output = self._generate(None, foreign_slots, None if streamer is None else NewTokens(streamer), kwargs)
        if cache is not None:
            sequences = output.sequences if isinstance(output, ModelOutput) else output
            beams = kwargs.get("num_beams") or (kwargs.get("generation_config") or self.generation_config).num_beams
            known = len(sequences) == len(ids) and (beams or 1) == 1 and foreign_slots is None
            remember(cache, rendered, sequences if known else None)
        return _without_prompt(output, ids.shape[1])

    def _generate(
        self, inputs: Tensor | None, foreign_slots: Tensor | None, streamer: Any, kwargs: dict[str, Any]
    ) -> Tensor | ModelOutput:
        config, slots = kwargs.get("generation_config") or self.generation_config, foreign_slots is not None
        slots = slots or any(kwargs.get(name) is not None for name in ("foreign_input_ids", "foreign_features"))
        check_options(kwargs, config, slots)
        ids = kwargs.get("input_ids") if inputs is None else inputs
        unread = ids is None or bool(self._holds_slots(ids[:, cached_length(kwargs.get(CACHE)) :]).any())
        known = slots and not unread and bool(self._holds_slots(ids).any())  # every passage is in the cache
        foreign_slots = self._encode_once(kwargs, foreign_slots, encode=not known)
        if ids is not None:  # rows with slots have LoRA to the end; told once, so that no step looks for itself
            kwargs["reads_slots"] = self._holds_slots(ids).cpu()  # (B,)
        copy_numbers = kwargs.pop("copy_numbers", None)
        if copy_numbers is None and "number" not in self.config.literals:
            copy_numbers = False
        if ids is not None and (foreign_slots is not None or known) and copy_numbers is not False:
            copying = self._copying(_padded_left(ids, kwargs.get("attention_mask")), copy_numbers)
            kwargs["logits_processor"] = LogitsProcessorList([*(kwargs.get("logits_processor") or ()), copying])
        if foreign_slots is not None or known:
            self._warn_untrained()
        elif ids is not None and unread:
            raise SlotMismatchError(
                "The prompt holds slot tokens, but no foreign passages were given. Pass foreign_input_ids, "
                "foreign_features or foreign_slots with it."
            )
        with unknown_options():
            return super().generate(inputs, foreign_slots=foreign_slots, streamer=streamer, **kwargs)

    def _copying(self, ids: Tensor, asked: bool | None) -> CopyNumbers:
        """Numbers are copied in all rows (B, S), or in those that ask for a translation."""
        start, tokenizer = self.config.reserved_token_start, self.processor.tokenizer
        rows = [bool(asked) or asks_for_translation(tokenizer.decode(row[row < start])) for row in ids]
        return CopyNumbers(tokenizer, ids, start, rows)

    def _check_cache(self, inputs: Tensor | None, kwargs: dict[str, Any]) -> None:
        """Empties a cache that was filled before the first passage: with LoRA off, which is on now."""
        cache, ids = kwargs.get(CACHE), kwargs.get("input_ids") if inputs is None else inputs
        if ids is None or not cached_length(cache):
            return
        mask = kwargs.get("attention_mask")
        if mask is not None and mask.shape[1] != ids.shape[1]:
            raise SlotMismatchError(
                f"{ids.shape[1]} token ids were given for a cache and a mask of {mask.shape[1]}: give the ids of the "
                "whole conversation. The earlier ones tell whether it holds foreign passages."
            )
        if self._lora_changes(cache, ids):
            empty(cache, self.config.get_text_config())

    def _lora_changes(self, cache: Any, ids: Tensor) -> bool:
        """Whether some row of a cache was read with LoRA off, before the first passage of these ids (B, S)."""
        length = cached_length(cache)
        return bool(length) and bool((self._holds_slots(ids) != self._holds_slots(ids[:, :length])).any())

    def _string_inputs(
        self, prompt: Any, foreign_text: Any, messages: Any, foreign_slots: Tensor | None, kwargs: dict[str, Any]
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Renders strings to tensors on the decoder's device; slots of one row serve all prompts."""
        processor = self.processor
        if messages is not None:
            if not isinstance(messages, (list, tuple)) or not messages:
                raise PromptError(f"messages={messages!r} is no conversation: give a list of messages, or such lists.")
            options = dict(add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt")
            return dict(processor.apply_chat_template(messages, **options).to(self.device)), None
        if foreign_slots is None:
            return dict(processor(prompt, foreign_text).to(self.device)), None
        rows = list(range(len(foreign_slots)))
        prompts, rows = match_prompts(prompt, rows)
        foreign_slots, mask = foreign_slots[rows], kwargs["foreign_mask"][rows]
        counts = [[count for count in row if count] for row in mask.sum(dim=2).tolist()]
        messages = [[processor.user_message(p, len(row))] for p, row in zip(prompts, counts, strict=True)]
        inputs = dict(processor.render_batch(messages, counts).to(self.device))
        return {**inputs, "foreign_mask": mask}, foreign_slots

    def _string_defaults(self, kwargs: dict[str, Any]) -> None:
        """Ids that end and pad an answer, and a length that holds one, where neither the caller nor the model says."""
        given = kwargs.get("generation_config")
        config, defaults = given or self.generation_config, {}
        if kwargs.get("eos_token_id") is None and config.eos_token_id is None:
            defaults["eos_token_id"] = self.processor.tokenizer.eos_token_id
        if kwargs.get("pad_token_id") is None and config.pad_token_id is None:
            defaults["pad_token_id"] = self.processor.pad_token_id
        lengths = ("max_new_tokens", "max_length", "max_time", "stopping_criteria")
        own_length = config.max_new_tokens is not None or config.max_length not in (None, 20)
        if not own_length and not any(kwargs.get(name) is not None for name in lengths):
            defaults["max_new_tokens"] = DEFAULT_MAX_NEW_TOKENS
        if given is None:
            kwargs.update(defaults)
        else:  # transformers is against values beside a configuration
            kwargs["generation_config"] = copy.deepcopy(given)
            kwargs["generation_config"].update(**defaults)

    def _encode_once(self, kwargs: dict[str, Any], foreign_slots: Tensor | None, encode: bool) -> Tensor | None:
        """Encodes foreign ids before beams multiply the rows, so that the encoder runs once; or not at all."""
        names = ("foreign_input_ids", "foreign_attention_mask", "foreign_slot_index", "foreign_features")
        given = {name: kwargs.pop(name, None) for name in names}
        if encode and foreign_slots is None and any(value is not None for value in given.values()):
            given["foreign_mask"] = kwargs.get("foreign_mask")
            foreign_slots, kwargs["foreign_mask"] = self.resolve_slots(**given)
        return foreign_slots

    def _warn_untrained(self) -> None:
        """Says when the slots were never trained."""
        if self.config.stage != "inject":
            logger.warning_once(
                f"This model's stage is {self.config.stage!r}: its decoder has not learned to read slots, so its "
                "answers will not be about the foreign text. Train Stage B (InjectTrainer, `llink inject`)."
            )

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        foreign_slots: Tensor | None = None,
        foreign_mask: Tensor | None = None,
        is_first_iteration: bool = False,
        reads_slots: Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The decoder's own inputs, with those passages whose slot tokens are among the tokens still to be read.

        Its own: Mamba wants no mask behind its first step, GPT no cache.
        """
        own = getattr(self.decoder, "prepare_inputs_for_generation", super().prepare_inputs_for_generation)
        prepared = dict(own(input_ids, is_first_iteration=is_first_iteration, **kwargs))
        if reads_slots is not None:
            prepared["reads_slots"] = reads_slots.tolist()
        read = prepared.get("input_ids")
        # A step that reads one token reads its own: nothing on the device is asked.
        if foreign_slots is None or read is None or not (is_first_iteration or read.shape[1] > 1):
            return prepared
        found = (read >= self.config.reserved_token_start).sum(dim=1)  # (B,)
        if not found.any():
            return prepared
        if cached_length(kwargs.get(CACHE)):  # earlier turns are in the cache: a row's last slots are the new ones
            flat = foreign_mask.flatten(1)  # (B, T·K)
            new = flat.cumsum(dim=1) > (flat.sum(dim=1) - found).unsqueeze(1)
            foreign_mask = (flat & new).view_as(foreign_mask)
        return prepared | {"foreign_slots": foreign_slots, "foreign_mask": foreign_mask}

    def _supports_default_dynamic_cache(self) -> bool:
        """As the decoder: some have caches of their own (MiniMax)."""
        return type(self.decoder)._supports_default_dynamic_cache()

    def _get_logits_processor(self, *args: Any, **kwargs: Any) -> LogitsProcessorList:
        start, prompt = self.config.reserved_token_start, kwargs.get("encoder_input_ids")
        if prompt is not None and prompt.dim() == 2:
            kwargs["encoder_input_ids"] = without_reserved(prompt, start)
        return ReservedBlindProcessors(super()._get_logits_processor(*args, **kwargs), start, prompt)

    def stack_slots(self, slots: Any) -> tuple[Tensor, Tensor]:
        """Slots as the caller kept them → (B, T, K, d) and which of them are real (B, T, K).

        Args:
            slots: As `generate` takes them.

        Raises:
            SlotMismatchError: If K or d are not the model's.
        """
        if isinstance(slots, Tensor):
            slots = slots.unsqueeze(1) if slots.dim() == 3 else slots
        try:
            rows = [_passages_of(row) for row in slots]
        except (TypeError, ValueError, RuntimeError) as error:
            raise SlotMismatchError(
                f"foreign_slots={slots!r:.60} are none ({error}): give what encode_foreign gave, a tensor or a list."
            ) from error
        if not any(rows):
            raise SlotMismatchError("foreign_slots is empty: give the slots of at least one passage.")
        fixed, d = self.config.num_slots, self.config.hidden_size
        for passage in (passage for row in rows for passage in row):
            if passage.dim() != 2 or passage.shape[1] != d or not len(passage) or len(passage) % (fixed or 1):
                raise SlotMismatchError(
                    f"foreign_slots hold passages of shape {tuple(passage.shape)}; this model's are "
                    f"({fixed or 'slots'}, {d}). Make them with this model's encode_foreign."
                )
        longest = max(len(passage) for row in rows for passage in row)
        shape = len(rows), max(map(len, rows)), longest
        stacked, mask = next(filter(None, rows))[0].new_zeros(*shape, d), torch.zeros(shape, dtype=torch.bool)
        for index, row in enumerate(rows):
            for place, passage in enumerate(row):
                stacked[index, place, : len(passage)] = passage
                mask[index, place, : len(passage)] = True
        return stacked.to(self.device), mask.to(self.device)


def _padded_left(ids: Tensor, mask: Tensor | None) -> Tensor:
    """(B, S) ids with those that a mask hides on the left: behind a kept beginning they may stand within a word."""
    return ids if mask is None or mask.shape != ids.shape else ids.gather(1, mask.long().argsort(dim=1, stable=True))


def _passages_of(row: Any) -> list[Tensor]:
    """One row of slots, however it was kept, as the slots (K, d) of each of its passages."""
    if isinstance(row, (list, tuple)):
        return [torch.as_tensor(passage) for passage in row]
    row = torch.as_tensor(row)
    return list(row) if row.dim() == 3 else [row]


def _has_ids(inputs: Tensor | None, kwargs: dict[str, Any]) -> bool:
    return any(x is not None for x in (inputs, kwargs.get("input_ids"), kwargs.get("inputs_embeds")))


def _check_combination(
    inputs: Tensor | None, foreign_text: Any, prompt: Any, messages: Any, foreign_slots: Any, kwargs: dict[str, Any]
) -> None:
    """Raises [`PromptError`] unless the input is given in one form only."""
    if _has_ids(inputs, kwargs) and any(x is not None for x in (foreign_text, prompt, messages)):
        raise PromptError("Give either strings (foreign_text, prompt, messages) or token ids (input_ids), not both.")
    if messages is not None and any(x is not None for x in (foreign_text, prompt, foreign_slots)):
        raise PromptError("Give either messages or foreign_text, foreign_slots and prompt, not both.")
    if foreign_text is not None and foreign_slots is not None:
        raise PromptError("Give either foreign_text or foreign_slots, not both.")


def _without_prompt(output: Tensor | ModelOutput, length: int) -> Tensor | ModelOutput:
    if isinstance(output, ModelOutput):
        output.sequences = output.sequences[:, length:]
        return output
    return output[:, length:]
