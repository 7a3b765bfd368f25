"""From chat messages to token ids: text stays text, and passages become slots.

User text and the chat template meet in one string, so what must not be read as control is replaced by random marks
before the template is rendered, and put back, tokenised as text, afterwards.
"""

from __future__ import annotations

import secrets

import regex
from transformers import PreTrainedTokenizerBase

from .errors import PromptError
from .foreign_text import encode, encode_literal

FOREIGN_PART = "foreign_text"


class Marks:
    """Marks of one rendering.

    Attributes:
        passages: The foreign passages found, in order.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._mark = secrets.token_hex(8)  # drawn after the text was written: no text can hold it
        self._control = [token for token in tokenizer.get_added_vocab() if not token.isspace()]
        self._literals: list[str] = []
        self.passages: list[str] = []

    def flatten(self, message: dict) -> dict:
        """One message with its content as a string: passages and control tokens are replaced by marks.

        Raises:
            PromptError: If the message or one of its parts is malformed.
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
                text += value
                continue
            pieces += [self._without_control(text), f"[{self._mark}:s]"]
            text = ""
            self.passages.append(value)
        return {**message, "content": "".join([*pieces, self._without_control(text)])}

    def tokenize(self, rendered: str, slot_ids: list[int]) -> tuple[list[int], int]:
        """The rendered template's ids, marks resolved, and the number of passages that the template kept."""
        first, *marked = rendered.split(f"[{self._mark}:")
        ids, used = self._encode(first), 0
        for piece in marked:
            kind, _, text = piece.partition("]")
            if kind == "s":
                ids += slot_ids
                used += 1
            else:
                ids += encode_literal(self._tokenizer, self._literals[int(kind)])
            ids += self._encode(text)
        return ids, used

    def _encode(self, text: str) -> list[int]:
        return encode(self._tokenizer, text) if text else []

    def _without_control(self, text: str) -> str:
        """Replaces what the tokenizer would read as a control token."""
        tokens = [token for token in self._control if token in text]
        if not tokens:
            return text

        def keep(match: regex.Match) -> str:
            self._literals.append(match.group())
            return f"[{self._mark}:{len(self._literals) - 1}]"

        return regex.sub("|".join(map(regex.escape, sorted(tokens, key=len, reverse=True))), keep, text)
