"""Numbers of an answer are copied from the prompt: whole, as often as they stand there, and none that does not.

A number of the prompt is an entry of parts. What groups its thousands or begins its fraction joins (1,000 and 3.5 are
one part), any other sign divides (2021-03-04, 7:30 and 04.03.2021 are three, two and three), and a part may be answered
alone: "4 March 2021"; but what stands behind a colon only with or after what stands before it, so that 7:30 is never
30:7. In an answer, points and commas are one sign, thousands are grouped or not (1000, 1,000, 1.000),
and days and hours may lose a zero in front (04, 4); but no fraction loses its point: 3.5 is never 35.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedTokenizerBase

#: A number of the prompt with its parts, as "1.000" or "3.5", in their order; one that waits for the part before it
#: begins with a colon.
Entry = tuple[str, ...]
DIGITS = "0123456789"
#: Signs that go on with a number if digits follow; a colon does so only if the number would not be whole before it.
JOINTS = ".,:"
#: Signs that do something else to a number than any other sign that is no digit: ")" ends a list's item.
ENDS = JOINTS + ")"
#: Texts without digits by what they do to a number: one that begins with no such sign, each sign alone, or with more.
KINDS = ("x", *(sign + more for sign in ENDS for more in ("", "x")))
#: Masks of a vocabulary's length that are kept.
MAX_MASKS = 256
#: Signs of a prompt that only group thousands.
_GROUPING = re.compile(r"(?<=[0-9])['’\u00a0\u2009\u202f](?=[0-9]{3}(?![0-9]))")
_NUMBER = re.compile(r"(?<![0-9])[0-9]{1,3}(?: [0-9]{3})+(?![0-9])(?:[.,][0-9]+)?|[0-9]+(?:[.,:/-][0-9]+)*")
_GROUPED = re.compile(r"([0-9]{1,3}(?:\.[0-9]{3})+)(\.[0-9]+)?")
_UNGROUPED = re.compile(r"([0-9]+)(\.[0-9]+)?")
_DIGIT = re.compile("[0-9]")
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_TRANSLATION = re.compile(r"\btranslat", re.IGNORECASE)


def asks_for_translation(prompt_text: str) -> bool:
    """Whether an instruction asks for a translation: it holds translate, translation, or a word like them."""
    return _TRANSLATION.search(prompt_text) is not None


def numbers_of(text: str) -> Iterator[Entry]:
    """The numbers of a text, in their order."""
    for found in _NUMBER.findall(_GROUPING.sub(".", text)):
        parts: list[str] = []
        for part in re.split("[ /-]|(?=:)", found.replace(",", ".")):
            number = part.removeprefix(":")
            first, *more = [number] if _GROUPED.fullmatch(number) or _UNGROUPED.fullmatch(number) else number.split(".")
            parts += [":" + first if number != part else first, *more]
        yield tuple(parts)


@lru_cache(maxsize=4096)
def spellings(entry: Entry) -> dict[str, tuple[int, int]]:
    """How an answer may spell up to six neighbouring parts of an entry, all signs as points → which parts these are."""
    found: dict[str, tuple[int, int]] = {}
    ends = range(1, len(entry) + 1)
    for first, end in sorted(((i, j) for j in ends for i in range(max(0, j - 6), j)), key=lambda ij: ij[1] - ij[0]):
        if entry[first][0] == ":":
            continue
        number = ".".join(part.removeprefix(":") for part in entry[first:end])
        forms = [number]
        if match := _GROUPED.fullmatch(number):
            forms.append(match[1].replace(".", "") + (match[2] or ""))
        elif (match := _UNGROUPED.fullmatch(number)) and 3 < len(match[1]) < 16 and number[0] != "0":
            forms.append(f"{int(match[1]):,}".replace(",", ".") + (match[2] or ""))
        elif len(number) == 2 and number[0] == "0":
            forms.append(number[1])
        for form in forms:
            found.setdefault(form, (first, end))
    return found


@lru_cache(maxsize=4096)
def _all_spellings(stock: tuple[Entry, ...]) -> list[str]:
    return sorted({form for entry in stock for form in spellings(entry)})


def _begins_one(stock: tuple[Entry, ...], spelled: str) -> bool:
    """Whether some number of the stock begins so."""
    forms = _all_spellings(stock)
    place = bisect_left(forms, spelled)
    return place < len(forms) and forms[place].startswith(spelled)


@lru_cache(maxsize=4096)
def _without(stock: tuple[Entry, ...], spelled: str) -> tuple[Entry, ...] | None:
    """The stock when a number was taken, from the shortest entry that has it, whose other parts stay; None if none."""
    having = [entry for entry in stock if spelled in spellings(entry)]
    if not having:
        return None
    entry, left = min(having, key=len), list(stock)
    left.remove(entry)
    first, end = spellings(entry)[spelled]
    rest = tuple(part.removeprefix(":") if place == 0 else part for place, part in enumerate(entry[end:]))
    return tuple(sorted([*left, *filter(None, (entry[:first], rest))]))


class Answer(NamedTuple):
    """What of an answer matters to the numbers that may follow.

    Attributes:
        stock: The prompt's numbers that are not used up.
        spelled: The number that the answer ends in, perhaps unfinished; empty outside.
        line_start: Whether the line holds no letter, and no digit before that number: a list's item may begin.
        item: The number of the list's next item.
    """

    stock: tuple[Entry, ...]
    spelled: str = ""
    line_start: bool = True
    item: int = 1

    def after(self, text: str) -> Answer | None:
        """The answer with more text, None if it must not go on so."""
        answer: Answer | None = self
        for sign in text:
            answer = answer._then(sign)
            if answer is None:
                return None
        return answer

    def _then(self, sign: str) -> Answer | None:
        stock, spelled, line_start, item = self
        if sign in DIGITS:
            spelled += sign
            fine = _begins_one(stock, _points(spelled)) or (line_start and str(item).startswith(spelled))
            return Answer(stock, spelled, line_start, item) if fine else None
        if not spelled:
            line_start = sign == "\n" or (line_start and sign.isascii() and not sign.isalnum())
            return Answer(stock, "", line_start, item)
        ended = self._ended(sign)
        if sign in JOINTS and spelled[-1] in DIGITS:
            goes_on = _begins_one(stock, _points(spelled + sign))
            if (goes_on and not ended) if sign == ":" else (goes_on or ended):
                return Answer(stock, spelled + sign, line_start, item)
        return ended

    def _ended(self, sign: str) -> Answer | None:
        """The answer with its number ended by a sign; None if that is not whole."""
        number, new_line = self.spelled.rstrip(JOINTS), sign == "\n"
        if self.line_start and number == str(self.item) and (self.spelled[-1] == "." or sign in ".)"):
            return Answer(self.stock, "", new_line, self.item + 1)
        stock = _without(self.stock, _points(number))
        return None if stock is None else Answer(stock, "", new_line, self.item)


def _points(spelled: str) -> str:
    return spelled.replace(",", ".").replace(":", ".")


class Vocabulary:
    """A tokenizer's tokens as text, sorted by what they do to numbers; made once a tokenizer by `of`.

    Attributes:
        pieces: The text of each token; NUL where it has none. Bytes that are no ASCII are some letter.
        special: Ids of tokens that are no text.
        kinds: (V,) places in `KINDS`, and `len(KINDS)` for tokens with digits.
        with_digits: Those with digits as a tree: sign → what may follow it, and "" → ids that end there.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        vocab = tokenizer.get_vocab()
        # Byte-level vocabularies hold no ▁, whose bytes they spell otherwise; their own signs are letters elsewhere.
        white = {"▁": " "} if "▁" in vocab else {"Ġ": " ", "Ċ": "\n", "ĉ": "\t", "č": "\r"}
        table = str.maketrans(white)
        self.size = len(vocab)
        self.pieces = ["\0"] * (max(vocab.values()) + 1)
        for token, index in vocab.items():
            byte = _BYTE.fullmatch(token) if token[0] == "<" else None
            self.pieces[index] = chr(int(byte[1], 16)) if byte else token.translate(table)
        added = tokenizer.added_tokens_decoder
        self.special = frozenset(tokenizer.all_special_ids).union(i for i, token in added.items() if token.special)
        for index in self.special.union(added):
            self.pieces[index] = "\0" if index in self.special else added[index].content
        places, kinds = {kind: place for place, kind in enumerate(KINDS)}, [0] * len(self.pieces)
        self.with_digits: dict[str, Any] = {}
        for index, piece in enumerate(self.pieces):
            if _DIGIT.search(piece):
                kinds[index], node = len(KINDS), self.with_digits
                for sign in piece:
                    node = node.setdefault(sign, {})
                node.setdefault("", []).append(index)
            elif piece and piece[0] in ENDS:
                kinds[index] = places[piece[0] + "x" * (len(piece) > 1)]
        self.kinds = torch.tensor(kinds, dtype=torch.uint8)

    @staticmethod
    def of(tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
        """The tokenizer's, anew if tokens were added to it."""
        known = _VOCABULARIES.get(tokenizer)
        if known is None or known.size != len(tokenizer):
            known = _VOCABULARIES[tokenizer] = Vocabulary(tokenizer)
        return known


_VOCABULARIES: WeakKeyDictionary[PreTrainedTokenizerBase, Vocabulary] = WeakKeyDictionary()


class CopyNumbers(LogitsProcessor):
    """Lets digits in an answer only spell numbers of its prompt, and the items of a list: "1. ", "2) ".

    Rows whose prompt holds no slots are left alone. A row that could not go on at all keeps its scores.

    Args:
        tokenizer: The decoder's.
        input_ids: Prompts (B, S), padded on the left; an answer is what stands behind these S ids.
        reserved_start: The first id that is a slot and no text.
        rows: Which of the B prompts to constrain; all with slots, unless given.

    Raises:
        ValueError: If `rows` are not B.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        input_ids: Tensor,
        reserved_start: int,
        rows: Sequence[bool] | None = None,
    ) -> None:
        self.vocabulary = Vocabulary.of(tokenizer)
        self.length = input_ids.shape[1]
        chosen = [True] * len(input_ids) if rows is None else rows
        #: Each prompt's numbers; None where nothing is constrained.
        self.stocks: list[tuple[Entry, ...] | None] = []
        for ids, wanted in zip(input_ids.tolist(), chosen, strict=True):
            constrained = wanted and max(ids, default=0) >= reserved_start
            self.stocks.append(self._numbers(tokenizer, ids, reserved_start) if constrained else None)
        self._answers: dict[tuple[int, tuple[int, ...]], Answer] = {}
        self._masks: dict[Answer, Tensor] = {}

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (R, V) of the R = B · beams rows of `input_ids` (R, S + answer), -inf for tokens that may not follow.

        Raises:
            ValueError: If R is no multiple of B.
        """
        prompts, (rows, width) = len(self.stocks), scores.shape
        if rows % prompts:
            raise ValueError(
                f"{rows} rows of scores do not come from {prompts} prompts: give CopyNumbers these rows' own."
            )
        if all(stock is None for stock in self.stocks):
            return scores
        masks, answers = [], {}
        for row, new in enumerate(input_ids[:, self.length :].tolist()):
            prompt = row * prompts // rows
            if self.stocks[prompt] is None:
                masks.append(torch.ones(width, dtype=torch.bool, device=scores.device))
                continue
            answer = answers[prompt, tuple(new)] = self._answer(prompt, tuple(new))
            masks.append(self._mask(answer, scores))
        self._answers = answers
        masked = scores.where(torch.stack(masks), -torch.inf)  # (R, V)
        return masked.where(masked.amax(dim=1, keepdim=True) > -torch.inf, scores)

    @staticmethod
    def _numbers(tokenizer: PreTrainedTokenizerBase, ids: list[int], reserved_start: int) -> tuple[Entry, ...]:
        """The numbers of a prompt, between its slots and special tokens."""
        special, stock = Vocabulary.of(tokenizer).special, list[Entry]()
        for text, run in groupby(ids, key=lambda index: index < reserved_start and index not in special):
            stock += numbers_of(tokenizer.decode(list(run), clean_up_tokenization_spaces=False)) if text else []
        return tuple(sorted(stock))

    def _answer(self, prompt: int, new: tuple[int, ...]) -> Answer:
        """What new tokens come to; those that were not allowed use up nothing."""
        known, pieces = self._answers.get((prompt, new[:-1])), self.vocabulary.pieces
        answer = known or Answer(self.stocks[prompt] or ())
        for index in new[-1:] if known else new:
            piece = pieces[index] if index < len(pieces) else "\0"
            answer = answer.after(piece) or Answer(answer.stock, "", False, answer.item)
        return answer

    def _mask(self, answer: Answer, scores: Tensor) -> Tensor:
        """Which of the V tokens may follow (V,)."""
        if answer not in self._masks:
            if len(self._masks) == MAX_MASKS:
                del self._masks[next(iter(self._masks))]
            self._masks[answer] = self._may_follow(answer, scores.shape[1]).to(scores.device)
        return self._masks[answer]

    def _may_follow(self, answer: Answer, width: int) -> Tensor:
        may = torch.tensor([*(answer.after(kind) is not None for kind in KINDS), False])
        kinds = self.vocabulary.kinds[:width].long()
        mask = torch.cat([may[kinds], may[:1].expand(width - len(kinds))])  # beyond the tokenizer there is no text
        mask[[index for index in _allowed(self.vocabulary.with_digits, answer) if index < width]] = True
        return mask


def _allowed(node: dict[str, Any], answer: Answer) -> Iterator[int]:
    """The ids in a tree of tokens that may follow an answer."""
    yield from node.get("", ())
    for sign, child in node.items():
        after = answer.after(sign) if sign else None
        if after is not None:
            yield from _allowed(child, after)
