"""Prompts as users give them, around foreign passages: the default, the template, the marks that keep text text."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import regex
from transformers import PreTrainedTokenizerBase

from ..characters_llink import half_character
from ..configuration_llink import FOREIGN_TOKEN
from .errors import PromptError
from .passages import Passage, check_passage
from .tokenizing import control_spans, encode, encode_literal

DEFAULT_PROMPT = "Translate to English."
#: The paper's own format (4.1), for decoders that bring no chat template.
PLAIN_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role == 'assistant' %} Assistant:{{ ' ' + message.content + eos_token }}"
    "{% elif message.role == 'system' %}{{ message.content + '\\n' }}"
    "{% else %}User:{{ message.content }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %} Assistant:{% endif %}"
)
#: What may stand where a template writes who speaks.
_ROLE = regex.compile(r"[A-Za-z][\w-]{0,31}")
#: The type of a content part that holds a foreign passage.
FOREIGN_PART = "foreign_text"
#: Before a saved template: transformers' text-generation would print such a part into the prompt, as Python writes it.
_REFUSAL = (
    "{%- for message in messages %}{%- if message.content is iterable and message.content is not string %}"
    "{%- for part in message.content %}{%- if part.type == '" + FOREIGN_PART + "' %}"
    "{{- raise_exception('Parts of type " + FOREIGN_PART + " are not for text-generation. Use pipeline(\\'llink\\', "
    "model=…, trust_remote_code=True), or model.generate(messages=…).') }}"
    "{%- endif %}{%- endfor %}{%- endif %}{%- endfor %}"
)


def refusing(chat_template: str | None) -> str | None:
    """A chat template that raises at foreign parts, which llink's own rendering has replaced before."""
    if not isinstance(chat_template, str) or chat_template.startswith(_REFUSAL):
        return chat_template
    return _REFUSAL + chat_template


def match_prompts(prompt: Any, rows: list) -> tuple[list[str], list]:
    """One prompt a row: a single prompt serves all rows, and a single row all prompts.

    Raises:
        PromptError: If a prompt is no text, or the numbers do not fit.
    """
    prompts = [prompt] if isinstance(prompt, str) else [DEFAULT_PROMPT] if prompt is None else prompt
    fine = isinstance(prompts, (list, tuple)) and prompts
    if not fine or not all(isinstance(p, str) and p.strip() for p in prompts):
        raise PromptError(f"The prompt {prompt!r} is not a non-empty string or a list of them.")
    for text in prompts:
        check_characters(text)
    if 1 not in (len(prompts), len(rows)) and len(prompts) != len(rows):
        raise PromptError(
            f"{len(prompts)} prompts were given for {len(rows)} rows of foreign text: give one prompt for all "
            "rows, or one a row."
        )
    total = max(len(prompts), len(rows))
    return list(prompts) * (total // len(prompts)), list(rows) * (total // len(rows))


def check_characters(text: str) -> None:
    """Refuses a text that no tokenizer takes.

    Raises:
        PromptError: If it holds half of a surrogate pair.
    """
    if (place := half_character(text)) is not None:
        raise PromptError(
            f"The text {text[:40]!a} holds half a character, {text[place]!a}, at position {place}: it was decoded "
            "wrongly; read it anew as UTF-8."
        )


def user_message(prompt: str, passages: Sequence[str]) -> dict[str, Any]:
    """A user's message: the passages stand where the prompt says `<foreign_emb>`, or follow it on a line of their own.

    Training rows, `generate`, the pipeline and the page all mean this by a prompt.

    Raises:
        PromptError: If the prompt has placeholders, and not one for each passage, or these are no list.
    """
    if not isinstance(passages, (list, tuple)):
        raise PromptError(f"passages={passages!r:.60}: give a list of passages.")
    texts = prompt.split(FOREIGN_TOKEN)
    if len(texts) == 1 and passages:
        texts = [f"{prompt}\n", *[""] * len(passages)]  # paper 4.2
    if len(texts) - 1 != len(passages):
        raise PromptError(
            f"The prompt {prompt!r} holds {len(texts) - 1} {FOREIGN_TOKEN} placeholder(s) for {len(passages)} "
            "passage(s). Give exactly one passage for each placeholder, or leave all placeholders out: passages then "
            "follow the prompt. As literal text a placeholder comes through messages."
        )
    content = [{"type": "text", "text": texts[0]}]
    for passage, text in zip(passages, texts[1:], strict=True):
        content += [{"type": FOREIGN_PART, "text": passage}, {"type": "text", "text": text}]
    return {"role": "user", "content": [part for part in content if part["type"] == FOREIGN_PART or part["text"]]}


class PromptMarks:
    """Random marks in one rendering of a conversation, for what the chat template must not read.

    User text and the template meet in one string. So passages, and whatever the tokenizer would read as a control
    token, are replaced by marks before the template is rendered, and resolved, tokenised as text, afterwards.

    Attributes:
        passages: The foreign passages found, in order.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, row: int = 0) -> None:
        self._tokenizer, self._row = tokenizer, row
        self._mark = secrets.token_hex(8)  # drawn after the text was written: no text can hold it
        self._control = [token for token in tokenizer.get_added_vocab() if not token.isspace()]
        self._literals: list[str] = []
        self.passages: list[Passage] = []

    def flatten(self, message: dict) -> dict:
        """One message with its content as a string: passages and control tokens are replaced by marks.

        Raises:
            PromptError: If the message or one of its parts is malformed.
            ForeignTextError: If a passage cannot be encoded.
        """
        content = message.get("content") if isinstance(message, dict) else None
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not isinstance(parts, (list, tuple)):
            raise PromptError(f"The message {message!r} is not a dict whose content is a string or a list of parts.")
        pieces: list[str] = []  # adjacent texts are joined first, or a control token could be put together from two
        text = ""
        for part in parts:
            kind = part.get("type") if isinstance(part, dict) else None
            value = part.get("text") if isinstance(part, dict) else None
            if kind not in ("text", FOREIGN_PART) or not isinstance(value, str):
                raise PromptError(
                    f"The content part {part!r} is not one of {{'type': 'text', 'text': str}} and "
                    f"{{'type': '{FOREIGN_PART}', 'text': str}}."
                )
            if kind == "text":
                check_characters(value)
                text += value
                continue
            pieces += [self._without_control(text), f"[{self._mark}:s]"]
            text = ""
            self.passages.append(check_passage(value, self._row))
        if not isinstance(message.get("role"), str) or not _ROLE.fullmatch(message["role"]):
            raise PromptError(
                f"The role {message.get('role')!r} is not a word such as user, assistant or system: it goes into the "
                "chat template as it is."
            )
        others = {key: self._cleaned(value) for key, value in message.items() if key not in ("role", "content")}
        content = "".join([*pieces, self._without_control(text)])
        return {"role": message["role"], **others, "content": content}

    def tokenize(self, rendered: str, slot_ids: list[list[int]]) -> tuple[list[int], int]:
        """The rendered template's ids, marks resolved, and the number of passages that the template kept.

        Args:
            rendered: What the chat template made of the flattened messages.
            slot_ids: The ids that stand for each passage.
        """
        first, *marked = rendered.split(f"[{self._mark}:")
        ids, used = self._encode(first), 0
        for piece in marked:
            kind, _, text = piece.partition("]")
            if kind == "s":
                ids += slot_ids[used] if used < len(slot_ids) else []
                used += 1
            else:
                ids += encode_literal(self._tokenizer, self._literals[int(kind)])
            ids += self._encode(text)
        return ids, used

    def _encode(self, text: str) -> list[int]:
        return encode(self._tokenizer, text) if text else []

    def _cleaned(self, value: Any) -> Any:
        """What a message holds beside its content (a name, calls of tools), its texts without control tokens."""
        if isinstance(value, dict):
            return {self._cleaned(key): self._cleaned(inner) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._cleaned(inner) for inner in value]
        return self._without_control(value) if isinstance(value, str) else value

    def _without_control(self, text: str) -> str:
        """Replaces what the tokenizer would read as a control token, or normalises into one."""
        tokens = [token for token in self._control if token in text]
        if tokens:
            pattern = "|".join(map(regex.escape, sorted(tokens, key=len, reverse=True)))
            text = regex.sub(pattern, lambda match: self._kept(match.group()), text)
        if text.isascii():
            return text
        while spans := control_spans(self._tokenizer, text):
            for start, end in reversed(spans):
                text = text[:start] + self._kept(text[start:end]) + text[end:]
        return text

    def _kept(self, text: str) -> str:
        self._literals.append(text)
        return f"[{self._mark}:{len(self._literals) - 1}]"
