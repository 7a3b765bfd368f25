"""Foreign passages as users give them: checked, cut between graphemes, and tokenised as nothing but text."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import regex
from transformers import PreTrainedTokenizerBase

from .errors import ForeignTextError

Passages = Sequence[Sequence[str]]

#: Unicode ends a grapheme cluster after the sign that stacks the next consonant in Khmer and Burmese; readers do not.
_SYLLABLE = r"\X(?:(?<=[\u17D2\u1039])\X)*"


def check_passages(foreign_text: Any) -> list[list[str]]:
    """Normalises a passage, a list of passages, or a list of lists of passages to one list of passages a row.

    Raises:
        ForeignTextError: If a passage is None, not a string, empty, only white space, or holds NUL; the error names it.
    """
    rows = [foreign_text] if isinstance(foreign_text, str) or foreign_text is None else foreign_text
    if not isinstance(rows, (list, tuple)) or not rows:
        raise ForeignTextError(
            f"Foreign text is {foreign_text!r}: give a string, a list of strings, or a list of lists of strings."
        )
    checked = [list(row) if isinstance(row, (list, tuple)) else [row] for row in rows]
    for index, row in enumerate(checked):
        for text in row:
            _check_passage(text, index)
    return checked


def _check_passage(text: Any, index: int) -> None:
    if not isinstance(text, str):
        raise ForeignTextError(f"Foreign text of row {index} is {text!r} ({type(text).__name__}): give a string.")
    if not text.strip():
        raise ForeignTextError(f"Foreign text of row {index} is empty or only white space ({text!r}): drop the row.")
    if "\0" in text:
        raise ForeignTextError(
            f"Foreign text of row {index} holds a NUL character at position {text.index(chr(0))}: remove it."
        )


def cut_text(text: str, max_chars: int) -> str:
    """The longest beginning of at most `max_chars` characters that ends between grapheme clusters.

    A Khmer syllable stays whole. A first cluster that is longer than the limit is cut, as nothing would be left of it.
    """
    end = 0
    for cluster in regex.finditer(_SYLLABLE, text[: max_chars + 64]):
        if cluster.end() > max_chars:
            break
        end = cluster.end()
    return text[: end or max_chars]


def fit_passage(
    tokenizer: PreTrainedTokenizerBase, text: str, max_chars: int, max_tokens: int
) -> tuple[list[int], bool]:
    """Tokenises a passage, cut between grapheme clusters to at most `max_chars` characters and `max_tokens` tokens.

    Returns:
        The encoder's token ids, framed by its special tokens, and whether the passage was cut.
    """
    text = text.strip()
    whole = text
    if len(text) > max_chars:
        text = cut_text(text, max_chars).rstrip()
    ids = encode_literal(tokenizer, text, special=True)
    while len(ids) > max_tokens and len(text) > 1:
        shorter = min(len(text) - 1, len(text) * max_tokens // len(ids))
        text = cut_text(text, max(1, shorter))
        ids = encode_literal(tokenizer, text, special=True)
    return ids[: max_tokens - 1] + ids[-1:] if len(ids) > max_tokens else ids, text != whole


#: A tokenizer keeps what its last call asked for, such as to split special tokens, and all threads share it.
_TOKENIZING = threading.Lock()


def encode(tokenizer: PreTrainedTokenizerBase, text: str, special: bool = False, **options: Any) -> list[int]:
    """Token ids of a text, one thread at a time; `special` frames it with the tokenizer's own special tokens."""
    with _TOKENIZING:
        return list(tokenizer.encode(text, add_special_tokens=special, **options))


def encode_literal(tokenizer: PreTrainedTokenizerBase, text: str, special: bool = False) -> list[int]:
    """Tokenises text so that nothing in it becomes a control token.

    A token that the tokenizer would recognise is cut after its first character, and both halves are tokenised as text:
    this also holds for added tokens that are not marked special, which `split_special_tokens` lets through.

    Args:
        tokenizer: Either tokenizer.
        text: Any text.
        special: Whether to frame the text with the tokenizer's own special tokens.

    Returns:
        Token ids.
    """
    added = [token for token in tokenizer.get_added_vocab() if not token.isspace() and token in text]
    if not added:
        return encode(tokenizer, text, special)
    pattern = "|".join(map(regex.escape, sorted(added, key=len, reverse=True)))
    cuts = sorted({match.start() + 1 for match in regex.finditer(pattern, text, overlapped=True)})
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    ids = [i for piece in pieces for i in encode(tokenizer, piece, split_special_tokens=True)]
    if not special:
        return ids
    frame = encode(tokenizer, "a", special=True)
    bare = encode(tokenizer, "a")
    before = next(i for i in range(len(frame)) if frame[i : i + len(bare)] == bare)
    return [*frame[:before], *ids, *frame[before + len(bare) :]]
