"""The processor: both tokenizers, the only prompt template, and foreign text as a part of a chat message."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import warnings
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import CommitInfo
from jinja2 import TemplateError
from transformers import AutoTokenizer, BatchFeature, PreTrainedTokenizerBase
from transformers.processing_utils import ProcessorMixin

from ..arguments_llink import checked_methods, held
from ..configuration_llink import FOREIGN_TOKEN, LITERAL_KINDS, LlinkConfigError
from .errors import LlinkCheckpointError, PromptError
from .passages import (
    SLOT,
    Passage,
    Piece,
    Reading,
    ReadingOptions,
    check_passage,
    check_passages,
    other_script,
    pad_pieces,
    read_passage,
    single_passages,
)
from .prompts import DEFAULT_PROMPT, PLAIN_CHAT_TEMPLATE, PromptMarks, match_prompts, refusing, user_message
from .remote_code import PROCESSOR_AUTO_MAP, check_push, upload_folder, write_code
from .templates import check_template
from .tokenizing import adds_bos, check_ids


@checked_methods
class LlinkProcessor(ProcessorMixin):
    """Turns prompts and foreign passages into a model's inputs.

    Reserved tokens are ids at and above the decoder's vocabulary. Neither tokenizer knows them, so no text can ever be
    tokenised into one and no output row can emit one.

    Args:
        tokenizer: The decoder's tokenizer.
        encoder_tokenizer: The encoder's tokenizer.
        chat_template: Overrides the decoder's own chat template.
        reserved_token_start: The id of `<f0>`; the decoder's vocabulary size.
        num_slots and the others: How passages are read, as in [`LlinkConfig`]. When not given, as before they were
            options: a slot a token, nothing written out, long passages cut.
        encoder_language: The foreign text's language, in the code of an encoder's tokenizer that tags it.
        source_script: Its script (ISO 15924); the first passage that is mostly in another one is warned of.
    """

    default_prompt = DEFAULT_PROMPT

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        encoder_tokenizer: PreTrainedTokenizerBase,
        chat_template: str | None = None,
        num_slots: int | None = None,
        reserved_token_start: int | None = None,
        max_foreign_chars: int = 256,
        max_foreign_tokens: int = 256,
        tokens_per_slot: int = 1,
        min_slots: int = 1,
        max_slots: int = 256,
        literals: Collection[str] = (),
        long_passages: str = "cut",
        max_pieces: int = 64,
        encoder_prefix: str = "",
        encoder_language: str | None = None,
        source_script: str | None = None,
    ) -> None:
        held(LlinkProcessor.__init__, locals())
        if unknown := set(literals) - set(LITERAL_KINDS):
            raise LlinkConfigError(f"literals={sorted(unknown)} are none of {', '.join(LITERAL_KINDS)}.")
        super().__init__(tokenizer, encoder_tokenizer, chat_template=refusing(chat_template or tokenizer.chat_template))
        self.num_slots = num_slots
        self.reserved_token_start = len(tokenizer) if reserved_token_start is None else reserved_token_start
        self.max_foreign_chars, self.max_foreign_tokens = max_foreign_chars, max_foreign_tokens
        self.tokens_per_slot, self.min_slots, self.max_slots = tokens_per_slot, min_slots, max_slots
        self.literals = list(literals)
        self.long_passages, self.max_pieces, self.encoder_prefix = long_passages, max_pieces, encoder_prefix
        self.encoder_language, self.source_script = encoder_language, source_script
        self._script_is_known = source_script is None
        if encoder_language is not None:
            encoder_tokenizer.src_lang = encoder_language

    @property
    def slot_token_ids(self) -> list[int]:
        """The ids of `<f0>` … `<f{K-1}>`; `<f0>` alone, repeated, where K is not fixed."""
        return list(range(self.reserved_token_start, self.foreign_token_id))

    @property
    def foreign_token_id(self) -> int:
        """The id of `<foreign_emb>`."""
        return self.reserved_token_start + (self.num_slots or 1)

    @property
    def pad_token_id(self) -> int:
        """The id that pads prompts: the tokenizer's own, or its end-of-sequence id; always masked."""
        ids = self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, 0
        return next(token_id for token_id in ids if token_id is not None)

    @property
    def model_input_names(self) -> list[str]:
        return ["input_ids", "attention_mask", "foreign_input_ids", "foreign_attention_mask", "foreign_slot_index"]

    def user_message(self, prompt: str, passages: int | Sequence[str]) -> dict[str, Any]:
        """The one layout of a prompt about passages, or about so many of them; see [`prompts.user_message`]."""
        return user_message(prompt, [Passage()] * passages if isinstance(passages, int) else passages)

    def render(
        self,
        messages: Sequence[Any],
        add_generation_prompt: bool = True,
        row: int = 0,
        slots: Sequence[int] | None = None,
        **template_kwargs: Any,
    ) -> tuple[list[int], list[Passage]]:
        """Renders a conversation on the decoder's chat template.

        Args:
            messages: Chat messages whose `content` is a string or a list of `text` and `foreign_text` parts.
            add_generation_prompt: Whether the assistant's turn is opened at the end.
            row: The conversation's number in its batch, for errors.
            slots: How many slots each passage has; counted when not given.
            template_kwargs: Further variables of the chat template.

        Returns:
            The token ids, with a slot id for each slot of each passage and what is written out of it at its place, and
            the passages in order.

        Raises:
            PromptError: If a message or part is malformed.
            ForeignTextError: If a passage cannot be encoded.
        """
        marks = PromptMarks(self.tokenizer, row)
        flat = [marks.flatten(message) for message in messages]
        text = self.rendered_text(flat, add_generation_prompt, **template_kwargs)
        if not self.chat_template and adds_bos(self.tokenizer):
            text = self.tokenizer.bos_token + text
        passages = marks.passages
        stand_ins = [self.prompt_tokens(p) for p in passages] if slots is None else map(self._slot_ids, slots)
        ids, used = marks.tokenize(text, list(stand_ins))
        if used != len(passages):
            raise PromptError(
                f"The chat template kept {used} of {len(passages)} foreign passages. Put foreign text into roles that "
                "the decoder's chat template renders (user, assistant)."
            )
        return ids, passages

    def read(self, passage: Passage) -> Reading:
        """The pieces of a checked passage, and whether it was cut; see [`read_passage`].

        Raises:
            ForeignTextError: If it has more pieces than `max_pieces`.
        """
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(ReadingOptions)}
        options = ReadingOptions(**{**fields, "literals": tuple(self.literals)})
        return read_passage(passage, self.tokenizer, self.encoder_tokenizer, options)

    def prompt_tokens(self, passage: str) -> list[int]:
        """What stands for a passage in a prompt: slot ids, and the ids of what is written out between them."""
        ids: list[int] = []
        for piece in self.read(check_passage(passage)).pieces:
            slots = iter(self._slot_ids(piece.tokens.count(SLOT)))
            ids += [next(slots) if token == SLOT else token for token in piece.tokens]
        return ids

    def _slot_ids(self, count: int) -> list[int]:
        return self.slot_token_ids * (count // (self.num_slots or 1))

    def rendered_text(self, messages: Sequence[dict], add_generation_prompt: bool, **template_kwargs: Any) -> str:
        """A conversation on the decoder's chat template, or in the paper's format where it has none.

        Raises:
            PromptError: If the template cannot be rendered, refuses the conversation, or takes too much; it is tried
                first in a process of its own.
        """
        template = self.chat_template or PLAIN_CHAT_TEMPLATE
        check_template(template)
        try:
            return self.tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                chat_template=template,
                add_generation_prompt=add_generation_prompt,
                **{"eos_token": self.tokenizer.eos_token or "", **template_kwargs},
            )
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise PromptError(f"The chat template does not take this conversation: {error}") from error

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        foreign_text: str | Sequence[str] | Sequence[Sequence[str]] | None = None,
        padding_side: str = "left",
        return_tensors: str | None = "pt",
        **kwargs: Any,
    ) -> BatchFeature:
        """Prompts with the passages they are about.

        Args:
            text: One prompt for all rows or one a row; asks for a translation when not given. Where it says
                `<foreign_emb>`, a passage stands; without any, passages follow it. `<f0>` and control tokens stay text.
            foreign_text: One passage, one a row, or a list of passages a row.
            padding_side: `left` for generation, `right` for training.
            return_tensors: `pt`, or None for lists.
            kwargs: Further variables of the chat template.

        Returns:
            `input_ids`, `attention_mask` (B, S); with passages also what `pad_passages` makes of them (B, T, L).

        Raises:
            ForeignTextError: If a passage is not usable text.
            PromptError: If the numbers of prompts and rows of passages differ, or of placeholders and passages.
        """
        rendered = [self.render(m, **kwargs) for m in self.conversations(text, foreign_text)]
        return self._batch(rendered, padding_side, return_tensors)

    def conversations(self, text: Any, foreign_text: Any) -> list[list[dict]]:
        """One single-turn conversation a row, from prompts and passages as the user gave them.

        Raises:
            ForeignTextError, PromptError: As `__call__`.
        """
        rows = [[]] if foreign_text is None else check_passages(foreign_text)
        prompts, rows = match_prompts(text, rows)
        return [[self.user_message(p, row)] for p, row in zip(prompts, rows, strict=True)]

    def apply_chat_template(
        self,
        conversation: Any,
        chat_template: str | None = None,
        add_generation_prompt: bool = False,
        tokenize: bool = False,
        return_tensors: str | None = None,
        return_dict: bool = False,
        padding_side: str = "left",
        **kwargs: Any,
    ) -> Any:
        """Chat messages, with `{"type": "foreign_text", "text": …}` parts, to text or to a model's inputs.

        Args:
            conversation: One conversation or a list of them.
            chat_template: Not supported here; set `processor.chat_template`.
            add_generation_prompt: Whether to open the assistant's turn.
            tokenize: Whether to return token ids; else the rendered text, slots written as `<f0>` ….
            return_tensors, return_dict, padding_side, kwargs: As in transformers.

        Raises:
            PromptError: If a message is malformed.
        """
        if chat_template is not None:
            raise PromptError("Set processor.chat_template instead of passing chat_template.")
        for ignored in ("padding", "truncation", "max_length", "processor_kwargs", "continue_final_message"):
            if kwargs.pop(ignored, None) and ignored in ("truncation", "continue_final_message"):
                raise PromptError(f"{ignored}=True is not supported: it could cut a prompt inside its slots.")
        if not isinstance(conversation, (list, tuple)):
            raise PromptError(f"{conversation!r:.80} is no conversation: give a list of messages, or such lists.")
        batched = bool(conversation) and not isinstance(conversation[0], dict)
        conversations = conversation if batched else [conversation]
        if not all(isinstance(messages, (list, tuple)) for messages in conversations):
            raise PromptError(f"{conversation!r:.80} is no conversation: give a list of messages, or such lists.")
        rendered = [self.render(m, add_generation_prompt, row, **kwargs) for row, m in enumerate(conversations)]
        if not tokenize:
            texts = [self.decode(ids) for ids, _ in rendered]
            return texts if batched else texts[0]
        batch = self._batch(rendered, padding_side, return_tensors)
        return batch if return_dict else batch["input_ids"]

    def render_batch(self, conversations: Sequence[Sequence[dict]], slots: Sequence[Sequence[int]]) -> BatchFeature:
        """`input_ids` and `attention_mask` (B, S) of conversations whose passages are already so many slots each."""
        if not conversations or len(conversations) != len(slots):
            raise PromptError(f"{len(conversations)} conversations with {len(slots)} rows of slots: give one for each.")
        rows = zip(conversations, slots, strict=True)
        return self._batch([(self.render(m, slots=counts)[0], []) for m, counts in rows], "left", "pt")

    def _batch(
        self, rendered: Sequence[tuple[list[int], list[Passage]]], padding_side: str, return_tensors: str | None
    ) -> BatchFeature:
        if padding_side not in ("left", "right"):
            raise PromptError(f"padding_side={padding_side!r} is not one of left, right.")
        rows = [ids for ids, _ in rendered]
        longest = max(map(len, rows))
        left = padding_side == "left"
        gaps = [longest - len(ids) for ids in rows]
        pads = [[self.pad_token_id] * g for g in gaps]
        data: dict[str, Any] = {
            "input_ids": [p + ids if left else ids + p for p, ids in zip(pads, rows, strict=True)],
            "attention_mask": [[0] * g * left + [1] * (longest - g) + [0] * g * (not left) for g in gaps],
        }
        tensors = {name: torch.tensor(value) for name, value in data.items()} if return_tensors == "pt" else data
        if any(passages := [p for _, p in rendered]):
            tensors |= self._passage_inputs(passages)
        return BatchFeature(tensors)

    def _passage_inputs(self, passages: Sequence[Sequence[Passage]]) -> dict[str, torch.Tensor]:
        read = iter(self.read_passages([text for row in passages for text in row]))
        return self.pad_passages([[piece for _ in row for piece in next(read)] for row in passages])

    def read_passages(self, texts: Sequence[str]) -> list[list[Piece]]:
        """The pieces of each of N passages; one warning counts those that were cut.

        Raises:
            ForeignTextError: If a text is unusable, or has too many pieces.
        """
        nothing = isinstance(texts, (list, tuple)) and not texts
        readings = [] if nothing else [self.read(text) for text in single_passages(texts)]
        if not self._script_is_known and (warning := other_script(texts, self.source_script)):
            self._script_is_known = True
            warnings.warn(warning, stacklevel=2)
        cut = sum(reading.cut for reading in readings)
        if cut:
            warnings.warn(
                f"{cut} of {len(texts)} foreign texts are longer than max_foreign_chars={self.max_foreign_chars} "
                f"characters or max_foreign_tokens={self.max_foreign_tokens} encoder tokens and were cut there. Set "
                "processor.long_passages='split' to read all of them.",
                stacklevel=2,
            )
        return [reading.pieces for reading in readings]

    def pad_passages(self, rows: Sequence[Sequence[Piece]]) -> dict[str, torch.Tensor]:
        """The pieces of each row's passages → `foreign_input_ids`, `foreign_attention_mask` (B, T, L).

        Where slots are made of tokens, also `foreign_slot_index` (B, T, L), as in [`pad_pieces`].
        """
        inputs = pad_pieces(rows, self.encoder_tokenizer.pad_token_id or 0)
        return {name: inputs[name] for name in inputs if self.num_slots is None or name != "foreign_slot_index"}

    @classmethod
    def _load_tokenizer_from_pretrained(
        cls, sub_processor_type: str, pretrained_model_name_or_path: str, subfolder: str = "", **kwargs: Any
    ) -> Any:
        """As in transformers, which takes the decoder's tokenizer for an encoder's that does not load; this raises."""
        parts = [subfolder, "" if sub_processor_type == "tokenizer" else sub_processor_type]
        place = "/".join(part for part in parts if part)
        return AutoTokenizer.from_pretrained(pretrained_model_name_or_path, subfolder=place, **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs: Any) -> list[str]:
        """As in transformers, with the code and with a configuration beside the encoder's tokenizer."""
        check_push(save_directory, kwargs)
        written = super().save_pretrained(save_directory, **kwargs)
        folder = Path(save_directory)
        config = folder / "encoder_tokenizer" / "config.json"
        if not config.is_file():
            # Offline, without it, this tokenizer would silently be taken from the folder above.
            config.write_text("{}\n", "utf-8")
        if PROCESSOR_AUTO_MAP["AutoProcessor"].endswith(f".{type(self).__name__}"):  # the baselines' do not travel
            write_code(folder)
        if push_to_hub:
            self.push_to_hub(kwargs.get("repo_id") or folder.name)
        return written

    def push_to_hub(self, repo_id: str, *, commit_message: str = "Upload llink processor", **hub: Any) -> CommitInfo:
        """Puts both tokenizers, the template and the code on the Hub, in one commit; other files there stay.

        Args:
            repo_id, commit_message: As in transformers.
            hub: `private`, `token`, `revision`, `create_pr`, `commit_description`.

        Raises:
            LlinkCheckpointError: If the saved tokenizers load as other ones.
        """
        with tempfile.TemporaryDirectory(prefix="llink-push-") as folder:
            self.save_pretrained(folder)
            again = type(self).from_pretrained(folder)
            for name in ("tokenizer", "encoder_tokenizer"):
                if getattr(again, name).get_vocab() != getattr(self, name).get_vocab():
                    raise LlinkCheckpointError(f"The {name} loads as another one when it is saved: nothing was pushed.")
            return upload_folder(folder, repo_id, commit_message, **hub)

    def decode(self, token_ids: Any, skip_special_tokens: bool = False, **kwargs: Any) -> str:
        """Ids to text; slot ids are written as `<f0>` …, or left out with `skip_special_tokens`."""
        ids = check_ids(token_ids)
        names = {token_id: f"<f{k}>" for k, token_id in enumerate(self.slot_token_ids)}  # paper 4.2
        names[self.foreign_token_id] = FOREIGN_TOKEN
        if skip_special_tokens:
            return self.tokenizer.decode([i for i in ids if i not in names], skip_special_tokens=True, **kwargs)
        text, run = "", []
        for token_id in [*ids, None]:
            if token_id is not None and token_id not in names:
                run.append(token_id)
                continue
            text += self.tokenizer.decode(run, **kwargs) if run else ""
            text += names.get(token_id, "")
            run = []
        return text

    def batch_decode(self, sequences: Any, skip_special_tokens: bool = False, **kwargs: Any) -> list[str]:
        rows = [check_ids(row) for row in sequences] if isinstance(sequences, Iterable) else [check_ids(sequences)]
        return [self.decode(row, skip_special_tokens=skip_special_tokens, **kwargs) for row in rows]
