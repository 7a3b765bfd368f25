"""Foreign passages and prompts as users give them: checked, cut between graphemes, tokenised as nothing but text."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import regex
from transformers import PreTrainedTokenizerBase

from .errors import ForeignTextError, PromptError

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
#: The type of a content part that holds a foreign passage.
FOREIGN_PART = "foreign_text"
#: Unicode ends a grapheme cluster after the sign that stacks the next consonant in Khmer and Burmese; readers do not.
_SYLLABLE = r"\X(?:(?<=[\u17D2\u1039])\X)*"


class Passage(str):
    """Foreign text that has been checked: made by [`check_passage`] alone, at the door by which the text came in.

    Attributes:
        read: How it was last read, and what came of it; see [`read_passage`].
    """

    read: tuple[Any, Any, Any, Any] | None = None

    def __reduce__(self) -> tuple:  # a copy, in another process too, is the text alone
        return Passage, (str(self),)


def check_passage(text: Any, row: int = 0) -> Passage:
    """A passage that can be encoded; one that was checked before is given back as it is.

    Raises:
        ForeignTextError: If it is not a string, is empty or only white space, or holds NUL; names the row.
    """
    if isinstance(text, Passage):
        return text
    if not isinstance(text, str):
        raise ForeignTextError(f"Foreign text of row {row} is {text!r} ({type(text).__name__}): give a string.")
    if not text.strip():
        raise ForeignTextError(f"Foreign text of row {row} is empty or only white space ({text!r}): drop the row.")
    if "\0" in text:
        raise ForeignTextError(
            f"Foreign text of row {row} holds a NUL character at position {text.index(chr(0))}: remove it."
        )
    return Passage(text)


def check_passages(foreign_text: Any) -> list[list[Passage]]:
    """A passage, a list of passages, or a list of lists of passages → one list of checked passages a row.

    Raises:
        ForeignTextError: If it is none of these, or a passage cannot be encoded.
    """
    rows = [foreign_text] if isinstance(foreign_text, str) or foreign_text is None else foreign_text
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


def match_prompts(prompt: Any, rows: list) -> tuple[list[str], list]:
    """One prompt a row: a single prompt serves all rows, and a single row all prompts.

    Raises:
        PromptError: If a prompt is no text, or the numbers do not fit.
    """
    prompts = [prompt] if isinstance(prompt, str) else [DEFAULT_PROMPT] if prompt is None else prompt
    fine = isinstance(prompts, (list, tuple)) and prompts
    if not fine or not all(isinstance(p, str) and p.strip() for p in prompts):
        raise PromptError(f"The prompt {prompt!r} is not a non-empty string or a list of them.")
    if 1 not in (len(prompts), len(rows)) and len(prompts) != len(rows):
        raise PromptError(
            f"{len(prompts)} prompts were given for {len(rows)} rows of foreign text: give one prompt for all "
            "rows, or one a row."
        )
    total = max(len(prompts), len(rows))
    return list(prompts) * (total // len(prompts)), list(rows) * (total // len(rows))


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


def template_parts(template: str, passages: Sequence[str], placeholder: str) -> list[dict[str, str]]:
    """The parts of a message in which `placeholder` marks where each passage stands.

    Raises:
        PromptError: If the number of placeholders is not the number of passages.
    """
    pieces = template.split(placeholder)
    if len(pieces) - 1 != len(passages):
        raise PromptError(
            f"The prompt {template!r} holds {len(pieces) - 1} {placeholder} placeholder(s) for {len(passages)} "
            "passage(s). Give exactly one passage for each placeholder."
        )
    content: list[dict[str, str]] = []
    for index, piece in enumerate(pieces):
        content += [{"type": FOREIGN_PART, "text": passages[index - 1]}] if index else []
        content += [{"type": "text", "text": piece}] if piece else []
    return content


#: A tokenizer keeps what its last call asked for, such as to split special tokens, and all threads share it.
_TOKENIZING = threading.Lock()


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
    return encode_spans(tokenizer, text)[0]


def encode_spans(
    tokenizer: PreTrainedTokenizerBase, text: str, borders: Iterable[int] = ()
) -> tuple[list[int], list[tuple[int, int]]]:
    """As [`encode_literal`], and which characters each token stands for.

    A token that the tokenizer would recognise is cut after its first character, and both halves are tokenised as text:
    this also holds for added tokens that are not marked special, which `split_special_tokens` lets through. A
    tokenizer that does not say what its tokens stand for reads the text between two `borders` by itself.
    """
    added = [token for token in tokenizer.get_added_vocab() if not token.isspace() and token in text]
    cuts: set[int] = set()
    if added:
        pattern = "|".join(map(regex.escape, sorted(added, key=len, reverse=True)))
        cuts = {match.start() + 1 for match in regex.finditer(pattern, text, overlapped=True)}
    options: dict[str, Any] = {"split_special_tokens": True} if added else {}
    if not tokenizer.is_fast:
        cuts |= set(borders)
    edges = [0, *sorted(cuts - {0, len(text)}), len(text)]
    ids: list[int] = []
    spans: list[tuple[int, int]] = []
    for start, end in pairwise(edges):
        with _TOKENIZING:
            found = tokenizer(
                text[start:end],
                add_special_tokens=False,
                return_offsets_mapping=tokenizer.is_fast,
                verbose=False,  # of a length that is ours to look after
                **options,
            )
        ids += found["input_ids"]
        own = found["offset_mapping"] if tokenizer.is_fast else [(0, end - start)] * len(found["input_ids"])
        spans += [(start + first, start + last) for first, last in own]
    return ids, spans


def frame(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The special tokens that a tokenizer puts before and after a text."""
    framed, bare = encode(tokenizer, "a", special=True), encode(tokenizer, "a")
    start = next(i for i in range(len(framed)) if framed[i : i + len(bare)] == bare)
    return framed[:start], framed[start + len(bare) :]


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
                text += value
                continue
            pieces += [self._without_control(text), f"[{self._mark}:s]"]
            text = ""
            self.passages.append(check_passage(value, self._row))
        return {**message, "content": "".join([*pieces, self._without_control(text)])}

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

    def _without_control(self, text: str) -> str:
        """Replaces what the tokenizer would read as a control token."""
        tokens = [token for token in self._control if token in text]
        if not tokens:
            return text

        def keep(match: regex.Match) -> str:
            self._literals.append(match.group())
            return f"[{self._mark}:{len(self._literals) - 1}]"

        return regex.sub("|".join(map(regex.escape, sorted(tokens, key=len, reverse=True))), keep, text)
