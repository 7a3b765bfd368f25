"""Text into ids, one thread at a time, so that text stays text: nothing in it becomes a control token."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from weakref import WeakKeyDictionary

import regex
from transformers import PreTrainedTokenizerBase

from ..configuration_llink import LlinkConfigError

#: A tokenizer keeps what its last call asked for, such as to split special tokens, and all threads share it.
_TOKENIZING = threading.Lock()
#: How many texts of so many characters a tokenizer's ids are kept of.
_SHORT_TEXTS, _SHORT_CHARS = 8192, 16


@dataclass
class _Vocabulary:
    """What a tokenizer says whatever the text, until it is changed.

    Attributes:
        state: By it a change shows: tokens added, special ones set, another language's code put before a text.
        added: Added tokens that are no blanks, the longest first.
        control: Ids that no text may be read into; see [`control_ids`].
        frame: The special tokens that it puts before and after a text, once they were asked for.
        short: Ids of short texts, such as numbers, which stand in many passages.
    """

    state: tuple[Any, ...]
    added: tuple[str, ...]
    control: frozenset[int]
    frame: tuple[list[int], list[int]] | None = None
    short: dict[str, list[int]] = field(default_factory=dict)


_VOCABULARIES: WeakKeyDictionary[PreTrainedTokenizerBase, _Vocabulary] = WeakKeyDictionary()


def _vocabulary(tokenizer: PreTrainedTokenizerBase) -> _Vocabulary:
    """Asked once of a fast tokenizer: for every text it would take as long as to tokenise a sentence."""
    state: tuple[Any, ...] = ()
    if tokenizer.is_fast:
        framed_by = repr(tokenizer.backend_tokenizer.post_processor)
        state = len(tokenizer), dict(tokenizer.special_tokens_map), framed_by
        known = _VOCABULARIES.get(tokenizer)
        if known is not None and known.state == state:
            return known
    added = sorted((one for one in tokenizer.get_added_vocab() if not one.isspace()), key=len, reverse=True)
    known = _Vocabulary(state, tuple(added), _control_ids(tokenizer))
    if tokenizer.is_fast:
        _VOCABULARIES[tokenizer] = known
    return known


def encode(tokenizer: PreTrainedTokenizerBase, text: str, special: bool = False, **options: Any) -> list[int]:
    """Token ids of a text, one thread at a time; `special` frames it with the tokenizer's own special tokens."""
    with _TOKENIZING:
        return list(tokenizer.encode(text, add_special_tokens=special, verbose=False, **options))


def adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer opens a text with its beginning-of-sequence token."""
    bos = tokenizer.bos_token_id
    return bos is not None and encode(tokenizer, "a", special=True)[:1] == [bos]


def encode_literal(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokenises text, without special tokens around it, so that nothing in it becomes a control token."""
    vocabulary = _vocabulary(tokenizer)
    if (known := vocabulary.short.get(text)) is not None:
        return [*known]
    ids = _spans(tokenizer, vocabulary, text)[0]
    if len(text) <= _SHORT_CHARS and len(vocabulary.short) < _SHORT_TEXTS:
        vocabulary.short[text] = ids
    return [*ids]


def encode_spans(
    tokenizer: PreTrainedTokenizerBase, text: str, borders: Iterable[int] = ()
) -> tuple[list[int], list[tuple[int, int]]]:
    """As [`encode_literal`], and which characters each token stands for.

    A token that the tokenizer would recognise is cut after its first character, and both halves are tokenised as text:
    this also holds for added tokens that are not marked special, which `split_special_tokens` lets through, and for
    characters that the tokenizer normalises into one (`＜/s＞`), which only the ids show. A tokenizer that does not say
    what its tokens stand for reads the text between two `borders` by itself.
    """
    return _spans(tokenizer, _vocabulary(tokenizer), text, borders)


def _spans(
    tokenizer: PreTrainedTokenizerBase, vocabulary: _Vocabulary, text: str, borders: Iterable[int] = ()
) -> tuple[list[int], list[tuple[int, int]]]:
    cuts: set[int] = set()
    if added := [token for token in vocabulary.added if token in text]:
        pattern = "|".join(map(regex.escape, added))
        cuts = {match.start() + 1 for match in regex.finditer(pattern, text, overlapped=True)}
    if not tokenizer.is_fast:
        cuts |= set(borders)
    control = vocabulary.control
    while True:
        edges = [0, *sorted(cuts - {0, len(text)}), len(text)]
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        for start, end in pairwise(edges):
            own_ids, own_spans = _tokens(tokenizer, text[start:end], split_special_tokens=bool(cuts))
            ids += own_ids
            spans += [(start + first, start + last) for first, last in own_spans]
        made = [place for place, token in enumerate(ids) if token in control]
        more = {spans[place][0] + 1 for place in made} - cuts
        if not more - {len(text)}:  # a single character that means a control token means nothing
            unknown = -1 if tokenizer.unk_token_id in control else tokenizer.unk_token_id
            kept = [place for place in range(len(ids)) if place not in made or unknown not in (None, -1)]
            return [unknown if place in made else ids[place] for place in kept], [spans[place] for place in kept]
        cuts |= more


def _tokens(tokenizer: PreTrainedTokenizerBase, text: str, **options: Any) -> tuple[list[int], list[tuple[int, int]]]:
    """Ids of a text alone, and which characters each stands for: all of them where the tokenizer does not say."""
    options = {name: value for name, value in options.items() if value}
    with _TOKENIZING:
        found = tokenizer(
            text,
            add_special_tokens=False,
            return_offsets_mapping=tokenizer.is_fast,
            verbose=False,  # of a length that is ours to look after
            **options,
        )
    ids = list(found["input_ids"])
    return ids, list(found["offset_mapping"]) if tokenizer.is_fast else [(0, len(text))] * len(ids)


def control_spans(tokenizer: PreTrainedTokenizerBase, text: str) -> list[tuple[int, int]]:
    """The characters that a tokenizer reads as control tokens, in order; all of them where it does not say which."""
    control = control_ids(tokenizer)
    found = zip(*_tokens(tokenizer, text), strict=True)
    return sorted({(start, end) for token, (start, end) in found if token in control and end > start})


def control_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids that no text may be read into: special and added tokens, but for blanks and what is merely unknown."""
    return _vocabulary(tokenizer).control


def _control_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    ids = {number for token, number in tokenizer.get_added_vocab().items() if not token.isspace()}
    ids |= set(tokenizer.all_special_ids)
    framing = {getattr(tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "pad", "cls", "sep", "mask")}
    return frozenset(ids if tokenizer.unk_token_id in framing else ids - {tokenizer.unk_token_id})


def frame(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The special tokens that a tokenizer puts before and after a text."""
    vocabulary = _vocabulary(tokenizer)
    if vocabulary.frame is None:
        vocabulary.frame = _frame(tokenizer)
    return vocabulary.frame


def _frame(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    framed, bare = encode(tokenizer, "a", special=True), encode(tokenizer, "a")
    start = next(i for i in range(len(framed)) if framed[i : i + len(bare)] == bare)
    return framed[:start], framed[start + len(bare) :]


def check_ids(token_ids: Any) -> list[int]:
    """One row of token ids (S,), of a tensor, an array or a list; a single one is a row of its own.

    Raises:
        LlinkConfigError: If it is none.
    """
    ids = token_ids.tolist() if hasattr(token_ids, "tolist") else token_ids
    ids = [ids] if isinstance(ids, int) else ids
    if not isinstance(ids, (list, tuple, range)) or not all(isinstance(one, int) and one >= 0 for one in ids):
        raise LlinkConfigError(f"{token_ids!r:.60} are no token ids: give a list or tensor (S,) of whole numbers.")
    return list(ids)
