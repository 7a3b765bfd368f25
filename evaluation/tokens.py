"""What text costs a decoder in tokens (paper section 3, figure 2), and what a prompt with slots saves."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

from ..baselines.direct import text_read
from ..building import is_empty
from ..data.errors import DataError
from ..modeling_llink.passages import check_passages
from ..modeling_llink.processing_llink import LlinkProcessor
from ..modeling_llink.prompts import DEFAULT_PROMPT, user_message

#: How Llama-3 splits text before merging; a tiktoken file holds only the tokens.
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TIKTOKEN_NAMES = ("tokenizer.model", "tiktoken.model")


# ------------------------------------------------------------------ tokenizers


class _TiktokenConverter(TikTokenConverter):
    """transformers' converter, reading the file without the tiktoken package."""

    @staticmethod
    def load_tiktoken_bpe(tiktoken_url: str) -> dict[bytes, int]:
        lines = Path(tiktoken_url).read_bytes().splitlines()
        pairs = (line.split() for line in lines if line)
        return {base64.b64decode(token, validate=True): int(rank) for token, rank in pairs}


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Loads any tokenizer.

    Args:
        name: A repository on the Hub or a folder, a `tokenizer.json`, or a tiktoken file such as Llama-3's
            `tokenizer.model` (also a folder that holds nothing else), which is read with Llama-3's pattern.

    Raises:
        DataError: If it is none of these, or damaged.
    """
    path = Path(name)
    if path.is_dir() and not any((path / file).is_file() for file in ("tokenizer.json", "tokenizer_config.json")):
        path = next((path / file for file in _TIKTOKEN_NAMES if (path / file).is_file()), path)
    try:
        if path.is_file() and path.suffix == ".json":
            return PreTrainedTokenizerFast(tokenizer_file=str(path), unk_token=_unknown_token(path))
        if path.is_file():
            converter = _TiktokenConverter(str(path), pattern=LLAMA3_PATTERN)
            return PreTrainedTokenizerFast(tokenizer_object=converter.converted())
        tokenizer = AutoTokenizer.from_pretrained(name)
        if is_empty(tokenizer):
            raise ValueError("its vocabulary would be empty")
        return tokenizer
    except (OSError, ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise _unreadable(name, error) from error
    except Exception as error:
        if type(error) is not Exception:  # the tokenizers library raises nothing more specific
            raise
        raise _unreadable(name, error) from error


def _unknown_token(path: Path) -> str | None:
    """The unknown token of a tokenizer.json, whose name stands in a file of its own elsewhere."""
    model = json.loads(path.read_text("utf-8"))["model"]
    number = model.get("unk_id")  # Unigram's
    return model.get("unk_token") if number is None else model["vocab"][number][0]


def _unreadable(name: str, error: Exception) -> DataError:
    first = str(error).strip().partition("\n")[0]
    return DataError(
        f"{name!r} is no tokenizer that can be read ({first}). Give a repository or folder with tokenizer files, a "
        "tokenizer.json, or a tiktoken file such as Llama-3's tokenizer.model."
    )


# ------------------------------------------------------------------ tokens of texts


def token_pieces(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[tuple[list[int], list[bool]]]:
    """The tokens of each text, without special ones.

    Returns:
        A text: its ids, and for each whether it is a *fragment*, a further piece of the character that the token before
        it began (figure 2's dividers). A tokenizer without offsets has no fragments.
    """
    fast = tokenizer.is_fast
    encoded = tokenizer(
        list(texts), add_special_tokens=False, return_attention_mask=False, return_offsets_mapping=fast, verbose=False
    )
    spans = encoded["offset_mapping"] if fast else [[(0, 0)] * len(ids) for ids in encoded["input_ids"]]
    mark = tokenizer.get_vocab().get("▁", -1)
    return [(ids, _fragments(ids, row, mark)) for ids, row in zip(encoded["input_ids"], spans, strict=True)]


def _fragments(ids: list[int], spans: list[tuple[int, int]], mark: int) -> list[bool]:
    flags, end = [], 0
    for token, (start, stop) in zip(ids, spans, strict=True):
        flags.append(start < end)
        if token != mark:  # SentencePiece's mark of a word's beginning claims the character after it
            end = max(end, stop)
    return flags


def tokenization(
    tokenizer: PreTrainedTokenizerBase, texts: Mapping[str, Sequence[str]], english: str
) -> dict[str, dict[str, float | int]]:
    """What one tokenizer makes of the same sentences in several languages or scripts (paper figure 2).

    Args:
        tokenizer: Any.
        texts: Name → N line-aligned sentences.
        english: The name that the premium is over.

    Returns:
        Name → `tokens` (a sentence, the mean), `median_tokens`, `tokens_per_char` (Unicode code points),
        `tokens_per_byte` (UTF-8), `premium` (tokens over those of the English), `fragments` (share of tokens that are
        further pieces of a character), `unknown` (share of unknown tokens; above zero, the counts say little), `chars`
        (a sentence), `n`. Special tokens are not counted.

    Raises:
        DataError: If the English is missing or without tokens, there are no sentences, numbers of sentences
            differ, or one is blank.
    """
    check_aligned(texts, english)
    pieces = {name: token_pieces(tokenizer, lines) for name, lines in texts.items()}
    totals = {name: sum(len(ids) for ids, _ in rows) for name, rows in pieces.items()}
    if not totals[english]:
        raise DataError(f"The tokenizer makes no tokens of the English sentences ({english!r}).")
    found = {}
    for name, lines in texts.items():
        rows, total = pieces[name], max(totals[name], 1)
        unknown = tokenizer.unk_token_id
        found[name] = {
            "tokens": totals[name] / len(lines),
            "median_tokens": float(np.median([len(ids) for ids, _ in rows])),
            "tokens_per_char": totals[name] / sum(map(len, lines)),
            "tokens_per_byte": totals[name] / sum(len(line.encode("utf-8", "surrogatepass")) for line in lines),
            "premium": totals[name] / totals[english],
            "fragments": sum(sum(flags) for _, flags in rows) / total,
            "unknown": 0.0 if unknown is None else sum(ids.count(unknown) for ids, _ in rows) / total,
            "chars": sum(map(len, lines)) / len(lines),
            "n": len(lines),
        }
    return found


def check_aligned(texts: Mapping[str, Sequence[str]], english: str) -> None:
    """Raises [`DataError`] unless the texts are line-aligned sentences, English among them."""
    if english not in texts:
        raise DataError(f"The English texts {english!r} are not among {', '.join(texts) or 'no texts'}.")
    counts = {name: len(lines) for name, lines in texts.items()}
    if len(set(counts.values())) != 1 or not counts[english]:
        raise DataError(f"The texts are not line-aligned sentences: their numbers are {counts}.")
    for name, lines in texts.items():
        blank = [number for number, line in enumerate(lines) if not line.strip()]
        if blank:
            raise DataError(f"Sentence {blank[0]} of {name!r} is blank: leave it out of all texts.")


def example_strips(
    tokenizers: Mapping[str, PreTrainedTokenizerBase], texts: Mapping[str, Sequence[str]], english: str
) -> dict[str, Any]:
    """One sentence as figure 2 shows it: a typical one, whose English has the median number of characters.

    Returns:
        `texts` (name → the sentence) and `strips`: tokenizer → name → a digit a token, 1 at fragments and 0 elsewhere.
    """
    order = sorted(range(len(texts[english])), key=lambda number: len(texts[english][number]))
    chosen = order[len(order) // 2]
    sentence = {name: lines[chosen] for name, lines in texts.items()}
    strips = {}
    for tokenizer_name, tokenizer in tokenizers.items():
        rows = token_pieces(tokenizer, list(sentence.values()))
        strips[tokenizer_name] = {
            name: "".join(str(int(flag)) for flag in flags) for name, (_, flags) in zip(sentence, rows, strict=True)
        }
    return {"texts": sentence, "strips": strips}


# ------------------------------------------------------------------ tokens of prompts


def prompt_lengths(
    processor: LlinkProcessor, foreign: Sequence[str], prompt: str = DEFAULT_PROMPT
) -> dict[str, list[int]]:
    """Tokens of each prompt with the foreign text written out, and with slots in its place, chat template included.

    Args:
        processor: The model's processor.
        foreign: N passages.
        prompt: The instruction.

    Returns:
        N numbers each: `raw`, with what slots and baselines hold of a passage: all of it, or where long ones are cut
        its first `max_foreign_chars` characters; `slotted`; `raw_uncut`, with all of the passage.

    Raises:
        DataError: If there are no passages.
        ForeignTextError: If a passage is unusable.
    """
    if not foreign:
        raise DataError("There are no passages whose prompts could be counted.")
    passages = [passage for (passage,) in check_passages(list(foreign))]
    whole = [passage.strip() for passage in passages]
    read = [text_read(text, processor.long_passages, processor.max_foreign_chars) for text in whole]
    counts = [len(processor.prompt_tokens(passage)) for passage in passages]
    one = len(processor.slot_token_ids)
    bare = len(processor.render([processor.user_message(prompt, 1)], slots=[one])[0]) - one
    return {
        "raw": [_raw_length(processor, prompt, text) for text in read],
        "slotted": [bare + count for count in counts],
        "raw_uncut": [_raw_length(processor, prompt, text) for text in whole],
    }


def _raw_length(processor: LlinkProcessor, prompt: str, text: str) -> int:
    return len(processor.render([raw_message(prompt, text)])[0])


def prompt_tokens(
    processor: LlinkProcessor, foreign: Sequence[str], prompt: str = DEFAULT_PROMPT
) -> dict[str, float | int]:
    """Mean prompt tokens with the foreign text written out, and with slots in its place, chat template included.

    Args:
        processor: The model's processor.
        foreign: N passages.
        prompt: The instruction.

    Returns:
        `raw`, `slotted`, `raw_uncut` (tokens a prompt, means over the passages, see [`prompt_lengths`]), `ratio` (raw /
        slotted), `n`.

    Raises:
        DataError: If there are no passages.
        ForeignTextError: If a passage is unusable.
    """
    lengths = prompt_lengths(processor, foreign, prompt)
    means = {name: sum(counts) / len(counts) for name, counts in lengths.items()}
    return {**means, "ratio": means["raw"] / means["slotted"], "n": len(foreign)}


def raw_message(prompt: str, text: str) -> dict[str, Any]:
    """The same prompt for a decoder without llink: the foreign text stands where the slots would."""
    return {"role": "user", "content": "".join(part["text"] for part in user_message(prompt, [text])["content"])}
