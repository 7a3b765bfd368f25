"""Foreign passages: checked at the door, tokenised as nothing but text, read in pieces.

Of a piece's encoder tokens some make slots, and some stand for what is written out in the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import regex
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..arguments_llink import plain
from ..characters_llink import SHAPELESS, half_character
from ..configuration_llink import LITERAL_KINDS
from .errors import ForeignTextError
from .literals import Literal, find_literals
from .pieces import cut_text, split_passage
from .tokenizing import encode_literal, encode_spans, frame

#: In a piece's `tokens`: here stands a slot.
SLOT = -1


class Passage(str):
    """Foreign text that has been checked: made by [`check_passage`] alone, at the door by which the text came in.

    Attributes:
        read: How it was last read, and what came of it; see [`read_passage`].
    """

    read: tuple[Any, Any, Any, Any] | None = None

    def __reduce__(self) -> tuple:  # a copy, in another process too, is the text alone
        return Passage, (str(self),)


def check_passage(text: Any, row: int = 0) -> Passage:
    """A passage that can be encoded, without what has neither shape nor meaning; one that was checked before as it is.

    Raises:
        ForeignTextError: If it is not a string, is empty or only white space, or holds NUL or half a character; names
            the row.
    """
    if isinstance(text, Passage):
        return text
    if not isinstance(text, str):
        raise ForeignTextError(f"Foreign text of row {row} is {text!r} ({type(text).__name__}): give a string.")
    text = SHAPELESS.sub("", text)
    if not text.strip():
        raise ForeignTextError(f"Foreign text of row {row} is empty or only white space ({text!r}): drop the row.")
    if "\0" in text:
        raise ForeignTextError(
            f"Foreign text of row {row} holds a NUL character at position {text.index(chr(0))}: remove it."
        )
    if (place := half_character(text)) is not None:
        raise ForeignTextError(
            f"Foreign text of row {row} holds half a character, {text[place]!a}, at position {place}: it was decoded "
            "wrongly; read it anew as UTF-8."
        )
    return Passage(text)


def check_passages(foreign_text: Any) -> list[list[Passage]]:
    """A passage, a list of passages, or a list of lists of passages → one list of checked passages a row.

    Raises:
        ForeignTextError: If it is none of these, or a passage cannot be encoded.
    """
    rows = [foreign_text] if isinstance(foreign_text, str) or foreign_text is None else plain(foreign_text)
    if not isinstance(rows, (list, tuple)) or not rows:
        raise ForeignTextError(
            f"Foreign text is {foreign_text!r}: give a string, a list of strings, or a list of lists of strings."
        )
    lists = [list(row) if isinstance(row, (list, tuple)) else [row] for row in rows]
    return [[check_passage(text, index) for text in row] for index, row in enumerate(lists)]


def single_passages(texts: Any) -> list[Passage]:
    """A text or a list of texts → one checked passage each.

    Raises:
        ForeignTextError: If there are none, one cannot be encoded, or one is a list.
    """
    rows = check_passages(texts)
    if any(len(row) != 1 for row in rows):
        raise ForeignTextError(
            "Give a list of texts, one passage and one vector each; rows of several passages are for generation."
        )
    return [row[0] for row in rows]


# ---------------------------------------------------------------------- nothing but text

#: Scripts that are several of Unicode's.
_SCRIPTS = {"Jpan": ("Hira", "Kana", "Hani"), "Kore": ("Hang", "Hani"), "Hang": ("Hang", "Hani")}
_SCRIPTS |= dict.fromkeys(("Hans", "Hant"), ("Hani",))


def other_script(texts: Iterable[str], script: str) -> str | None:
    """What to warn of if most letters of one of these texts are of another script than this one (ISO 15924)."""
    own = "".join(rf"\p{{Script={one}}}" for one in _SCRIPTS.get(script, (script,)))
    for text in texts:
        letters = "".join(regex.findall(r"\p{L}", text))
        if letters and 2 * len(regex.findall(f"[{own}]", letters)) < len(letters):
            return (
                f"The foreign text {text[:40]!r} is mostly not in {script}, the script of the language that this model "
                "was trained on: what it answers may be made up."
            )
    return None


# ---------------------------------------------------------------------- reading


@dataclass(frozen=True)
class ReadingOptions:
    """How passages are read, as [`LlinkConfig`] describes the fields of the same names.

    Attributes:
        num_slots: K of a piece; None where slots are made of its tokens.
        encoder_prefix: What the encoder reads before each piece; its tokens are of no slot.
    """

    num_slots: int | None = None
    tokens_per_slot: int = 1
    min_slots: int = 1
    max_slots: int = 256
    literals: tuple[str, ...] = ()
    long_passages: str = "cut"
    max_pieces: int = 64
    max_foreign_chars: int = 256
    max_foreign_tokens: int = 256
    encoder_prefix: str = ""


@dataclass(frozen=True)
class Piece:
    """What the encoder reads at once, and what stands for it in the prompt.

    Attributes:
        text: The passage's stretch.
        ids: L encoder tokens, framed by its special tokens, the prefix first.
        spans: (L, 2) which characters of the passage, without the white space around it, each stands for.
        slots: (L,) the number, from 1 on, of the slot that a token is a part of; 0 where it is of none.
        tokens: What stands in the prompt, in reading order: [`SLOT`], or a decoder token of what is written out.
    """

    text: str
    ids: list[int]
    spans: list[tuple[int, int]]
    slots: list[int]
    tokens: list[int]


@dataclass(frozen=True)
class Reading:
    """A passage's pieces, and whether something of it was cut off."""

    pieces: list[Piece]
    cut: bool


def read_passage(
    passage: Passage,
    tokenizer: PreTrainedTokenizerBase,
    encoder_tokenizer: PreTrainedTokenizerBase,
    options: ReadingOptions,
) -> Reading:
    """Reads a passage, once: the passage keeps what came of it.

    Args:
        passage: Checked text.
        tokenizer: The decoder's, for what is written out.
        encoder_tokenizer: The encoder's.
        options: How.

    Raises:
        ForeignTextError: If it has more pieces than `max_pieces`.
    """
    known = passage.read
    if known and known[0] is tokenizer and known[1] is encoder_tokenizer and known[2] == options:
        return known[3]
    text = passage.strip()
    literals = find_literals(text, options.literals) if options.literals else []
    before, after = frame(encoder_tokenizer)
    prefix = options.encoder_prefix
    encoded: dict[str, tuple[list[int], list[tuple[int, int]], int]] = {}

    def framed(part: str) -> tuple[list[int], list[tuple[int, int]], int]:
        """Ids, which characters of the part each stands for, and how many stand before it."""
        if part not in encoded:
            ids, spans = _encoded(encoder_tokenizer, prefix + part, options.literals, len(prefix))
            leading = len(before) + sum(end <= len(prefix) for _, end in spans if prefix)
            spans = [(max(first - len(prefix), 0), max(last - len(prefix), 0)) for first, last in spans]
            ends = [(len(part), len(part))] * len(after)
            encoded[part] = [*before, *ids, *after], [(0, 0)] * len(before) + spans + ends, leading
        return encoded[part]

    def fits(part: str) -> bool:
        if len(part) > options.max_foreign_chars:
            return False
        return len(framed(part)[0]) <= options.max_foreign_tokens

    parts = [text] if fits(text) else _parts(text, literals, options, fits)
    if len(parts) > options.max_pieces:
        raise ForeignTextError(
            f"A foreign text of {len(text)} characters has {len(parts)} pieces of at most {options.max_foreign_chars} "
            f"characters; max_pieces={options.max_pieces}. Give it in several parts, or raise max_pieces."
        )
    pieces, end = [], 0
    for part in parts:
        start = text.index(part, end)
        end = start + len(part)
        ids, spans, leading = framed(part)
        if len(ids) > options.max_foreign_tokens:  # a single cluster of more tokens
            cut = options.max_foreign_tokens - 1
            ids, spans = ids[:cut] + ids[-1:], spans[:cut] + spans[-1:]
        spans = [(start + first, start + last) for first, last in spans]
        own = [literal for literal in literals if start <= literal.start and literal.end <= end]
        first = min(leading, len(ids) - 1)
        body = range(first, max(len(ids) - len(after), first + 1))
        slots, tokens = _layout(text, spans, body, own, tokenizer, options)
        pieces.append(Piece(part, ids, spans, slots, tokens))
    reading = Reading(pieces, cut=options.long_passages == "cut" and parts != [text])
    passage.read = tokenizer, encoder_tokenizer, options, reading
    return reading


def _encoded(
    tokenizer: PreTrainedTokenizerBase, text: str, kinds: Sequence[str], start: int = 0
) -> tuple[list[int], list[tuple[int, int]]]:
    """Ids of a text, which begins at `start` behind its prefix, without special tokens, and where each stands."""
    edges = [] if tokenizer.is_fast or not kinds else find_literals(text[start:], kinds)
    places = [start + place for one in edges for place in (one.start, one.end)]
    return encode_spans(tokenizer, text, [start, *places])


def _parts(text: str, literals: Sequence[Literal], options: ReadingOptions, fits: Callable[[str], bool]) -> list[str]:
    """A text that is too long as parts that are not; its beginning alone where it is to be cut."""
    if options.long_passages == "split":  # between literals, those too that are not to be written out
        whole = literals if set(options.literals) == set(LITERAL_KINDS) else find_literals(text)
        return split_passage(text, fits, whole)
    part = cut_text(text, options.max_foreign_chars).rstrip() if len(text) > options.max_foreign_chars else text
    while not fits(part) and len(part) > 1:
        part = cut_text(part, max(1, len(part) * 7 // 8))
    torn = next((literal.start for literal in literals if literal.start < len(part) < literal.end), len(part))
    return [text[:torn].rstrip() or part]


def _layout(
    text: str,
    spans: Sequence[tuple[int, int]],
    body: range,
    literals: Sequence[Literal],
    tokenizer: PreTrainedTokenizerBase,
    options: ReadingOptions,
) -> tuple[list[int], list[int]]:
    """Of a piece's tokens: the slot that each is a part of, and what stands in the prompt, in reading order.

    A token whose characters are all written out has no slot. Slots do not reach across what is written out.
    """
    slots = [0] * len(spans)
    if options.num_slots is not None:
        return slots, [SLOT] * options.num_slots
    written = {place for literal in literals for place in range(literal.start, literal.end)}
    free = [place for place in body if not _is_written(text, spans[place], written)]
    share = _tokens_per_slot(len(free), options)
    tokens: list[int] = []
    waiting, makes_slot = list(literals), set(free)
    count = filled = 0

    def write_out(until: int) -> None:
        nonlocal filled
        while waiting and waiting[0].start < until:
            literal = waiting.pop(0)
            apart = literal.text[0].isalpha() or bool(tokens and tokens[-1] != SLOT)
            tokens.extend(encode_literal(tokenizer, " " * apart + literal.text))
            filled = 0

    for place in body:
        start, end = spans[place]
        write_out(start + 1)
        if place in makes_slot:
            if filled in (0, share):
                count, filled = count + 1, 0
                tokens.append(SLOT)
            slots[place], filled = count, filled + 1
        write_out(end)
    write_out(len(text) + 1)
    if not count:  # where a row has no slot, nothing says that it holds a passage
        slots[body.start] = 1
        tokens.insert(0, SLOT)
    return slots, tokens


def _is_written(text: str, span: tuple[int, int], written: set[int]) -> bool:
    """Whether all that a token stands for is written out; white space is with what follows it."""
    shown = [place for place in range(*span) if not text[place].isspace()]
    return all(place in written for place in shown or [span[1]])


def _tokens_per_slot(count: int, options: ReadingOptions) -> int:
    """How many of `count` tokens share a slot, so that there are neither too few slots nor too many."""
    share = max(options.tokens_per_slot, -(-count // options.max_slots))
    return max(1, min(share, count // options.min_slots))


def pad_pieces(rows: Sequence[Sequence[Piece]], pad_token_id: int) -> dict[str, Tensor]:
    """Rows of pieces → `foreign_input_ids`, `foreign_attention_mask`, `foreign_slot_index` (B, T, L), padded."""
    if not any(rows):
        raise ForeignTextError("There are no pieces to pad: give those of at least one passage.")
    length = max(len(piece.ids) for row in rows for piece in row)
    ids = torch.full((len(rows), max(map(len, rows)), length), pad_token_id)
    mask, index = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, pieces in enumerate(rows):
        for column, piece in enumerate(pieces):
            ids[row, column, : len(piece.ids)] = torch.tensor(piece.ids)
            mask[row, column, : len(piece.ids)] = 1
            index[row, column, : len(piece.ids)] = torch.tensor(piece.slots)
    return {"foreign_input_ids": ids, "foreign_attention_mask": mask, "foreign_slot_index": index}
