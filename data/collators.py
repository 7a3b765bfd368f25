"""Stage B's batches: tokenised prompts and answers, with the frozen features of their passages."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..modeling_llink import LlinkForCausalLM
from ..modeling_llink.passages import Passage, check_passage
from ..modeling_llink.processing_llink import LlinkProcessor
from .errors import DataError
from .examples import training_example
from .shapes import row_messages

logger = logging.getLogger(__name__)


class FeatureBank:
    """Distinct passages as frozen vectors: the encoder and the projector have read them once.

    Args:
        passages: U passages.
        pieces: (U,) how many pieces each of them has.
        features: (P, d) p_F of all pieces, one passage after the other.
    """

    def __init__(self, passages: Sequence[str], pieces: Sequence[int], features: Tensor) -> None:
        self.passages, self.features = passages, features.split(list(pieces))

    def __len__(self) -> int:
        return len(self.features)

    def batch(self, rows: list[list[int]]) -> dict[str, Tensor]:
        """Indices of each row's passages → `foreign_features` (B, T, d), `foreign_mask` (B, T)."""
        found = [torch.cat([self.features[index] for index in chosen]) for chosen in rows]  # (T_b, d) each
        features = pad_sequence(found, batch_first=True)  # (B, T, d)
        mask = torch.arange(features.shape[1]) < torch.tensor([len(row) for row in found]).unsqueeze(1)
        return {"foreign_features": features, "foreign_mask": mask}


class PassageBank:
    """Distinct passages as encoder tokens: for slots that read the encoder's states, too large to be kept.

    Args:
        processor: The model's.
        passages: U texts.
    """

    def __init__(self, processor: LlinkProcessor, passages: Sequence[str]) -> None:
        self.processor, self.passages = processor, [check_passage(text) for text in passages]
        self.pieces = processor.read_passages(self.passages)

    def __len__(self) -> int:
        return len(self.passages)

    def batch(self, rows: list[list[int]]) -> dict[str, Tensor]:
        """Indices of each row's passages → what the processor's `pad_passages` makes of them (B, T, L)."""
        return self.processor.pad_passages([[p for index in chosen for p in self.pieces[index]] for chosen in rows])


def passage_bank(
    model: LlinkForCausalLM, passages: Sequence[str], features: Callable[[Sequence[str]], Tensor]
) -> FeatureBank | PassageBank:
    """The bank that a model's slots are made of.

    Args:
        model: Its slots read the encoder's states, or p_F alone.
        passages: U texts.
        features: Maps P texts to p_F (P, d); called only where that is enough.
    """
    if model.slot_embedder.reads_states:
        return PassageBank(model.processor, passages)
    read = model.processor.read_passages(passages)
    texts = [piece.text for pieces in read for piece in pieces]
    return FeatureBank(passages, [len(pieces) for pieces in read], features(texts))


class InstructionTensors(torch.utils.data.Dataset):
    """Tokenised instruction rows over a bank of passages and one of frozen teachers.

    Args:
        examples: What `tokenize_instructions` made of N rows.
        bank: The U distinct passages.
        passages: For each row, the indices of its passages in `bank`.
        teachers: (N, d) conditioned h_E of the rows' references; zeros where a row has none.
        references: (N,) an index that two rows share exactly if they share the reference; -1 without a reference.
        pad_token_id: Pads `input_ids`; masked.
        render: Makes a row's example anew with other passages in place of its own.
        tasks: (N) the rows' tasks, for measures by task; empty where a row names none.
    """

    def __init__(
        self,
        examples: list[dict[str, list[int]]],
        bank: FeatureBank | PassageBank,
        passages: list[list[int]],
        teachers: Tensor,
        references: Tensor,
        pad_token_id: int,
        render: Callable[[int, Sequence[str]], dict[str, list[int]]],
        tasks: Sequence[str] | None = None,
    ) -> None:
        self.examples, self.bank, self.passages, self.render = examples, bank, passages, render
        #: Whether batches hold other passages too, which costs time.
        self.shuffles = True
        self.teachers, self.references, self.pad_token_id = teachers, references, pad_token_id
        #: Tokens of each row.
        self.lengths = [len(example["input_ids"]) for example in examples]
        self.tasks = [""] * len(examples) if tasks is None else list(tasks)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, row: int) -> int:
        return row

    def collate(self, rows: list[int]) -> dict[str, Any]:
        """Row numbers → a batch, padded on the right.

        Returns:
            `input_ids`, `attention_mask`, `labels` (B, S); `foreign`, `shuffled`: the rows' own passages, and other
            passages in their place, as the model takes them, the latter with prompts and labels of their own;
            `teachers` (B, d); `references`, `rows` (B,).
        """
        batch: dict[str, Any] = self._padded([self.examples[row] for row in rows])
        batch["foreign"] = self.bank.batch([self.passages[row] for row in rows])
        if self.shuffles:
            others = [self._others(row) for row in rows]
            named = ([self.bank.passages[index] for index in chosen] for chosen in others)
            prompts = self._padded([self.render(row, texts) for row, texts in zip(rows, named, strict=True)])
            batch["shuffled"] = self.bank.batch(others) | prompts
        index = torch.tensor(rows)
        return batch | {"teachers": self.teachers[index], "references": self.references[index], "rows": index}

    def _padded(self, examples: list[dict[str, list[int]]]) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask`, `labels` (B, S), padded on the right."""
        shape = len(examples), max(len(example["input_ids"]) for example in examples)
        ids, labels = torch.full(shape, self.pad_token_id), torch.full(shape, -100)
        mask = torch.zeros(shape, dtype=torch.long)
        for row, example in enumerate(examples):
            length = len(example["input_ids"])
            ids[row, :length] = torch.tensor(example["input_ids"])
            labels[row, :length] = torch.tensor(example["labels"])
            mask[row, :length] = 1
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    def _others(self, row: int) -> list[int]:
        """Other passages than the row's own, the same at every visit: a resumed run must see what it would have."""
        own, total = self.passages[row], len(self.bank)
        start = own[0] + 1 + row * 7919 % max(total - 1, 1)
        others: list[int] = []
        for step in range(total):
            if len(others) == len(own):
                break
            if (start + step) % total not in own:
                others.append((start + step) % total)
        if not others:
            raise DataError(f"Row {row} holds all {total} passages there are: none is left to shuffle in.")
        return [others[index % len(others)] for index in range(len(own))]


def tokenize_instructions(
    processor: LlinkProcessor, dataset: Dataset, max_length: int, passages: dict[str, Passage] | None = None
) -> tuple[list[dict[str, list[int]]], int]:
    """Renders instruction rows exactly as inference does, and masks everything but the answers by length.

    Args:
        processor: The model's processor.
        dataset: Rows of `read_instructions`.
        max_length: Tokens at which prompt and answer together are cut; only answers are cut.
        passages: Distinct texts as passages, which keep how they were read; those of these rows are added.

    Returns:
        A list of `input_ids` and `labels`, and the number of answers that were cut.

    Raises:
        DataError: If a prompt alone fills `max_length`.
    """
    examples, cut, known = [], 0, {} if passages is None else passages
    for row in dataset:
        own = [known.setdefault(text, check_passage(text)) for text in row["foreign"]]
        example = row_example(processor, row, own)
        ids, labels = example["input_ids"], example["labels"]
        if labels[:max_length].count(-100) == len(labels[:max_length]):
            raise DataError(
                f"The prompt of example {row['id']!r} fills max_length={max_length} tokens. Shorten it, or raise "
                "max_length."
            )
        cut += len(ids) > max_length
        examples.append({"input_ids": ids[:max_length], "labels": labels[:max_length]})
    if cut:
        logger.warning("%d of %d answers were cut at max_length=%d tokens.", cut, len(examples), max_length)
    return examples, cut


def row_example(processor: LlinkProcessor, row: dict[str, Any], passages: Sequence[str]) -> dict[str, Any]:
    """An instruction row about these passages as a [`training_example`]."""
    return training_example(processor, row_messages(row, passages), row["completion"])


def instruction_tensors(
    dataset: Dataset,
    examples: list[dict[str, list[int]]],
    processor: LlinkProcessor,
    encode: Callable[[list[str]], FeatureBank | PassageBank],
    teach: Callable[[list[str]], Tensor] | None = None,
) -> InstructionTensors:
    """Joins tokenised rows with the frozen features of their distinct passages and references.

    Args:
        dataset: N rows of `read_instructions`.
        examples: What `tokenize_instructions` made of them.
        processor: The model's.
        encode: Makes a bank of U distinct passages.
        teach: Maps R distinct references to conditioned h_E (R, d); when not given, teachers are zero.

    Raises:
        DataError: If there is no other passage to shuffle into a row; nothing has been encoded then.
    """
    texts, places = shuffled_passages(dataset)
    bank = encode(texts)
    references = dataset["english"][:]
    known, reference_places = distinct([text for text in references if text])
    ids = torch.tensor([reference_places.get(text, -1) for text in references])  # (N,)
    teachers = torch.zeros(len(references), 1)  # (N, d)
    if known and teach is not None:
        conditioned = teach(known)  # (R, d)
        teachers = conditioned.new_zeros(len(references), conditioned.shape[1])
        teachers[ids >= 0] = conditioned[ids[ids >= 0]]
    passages = [[places[text] for text in row] for row in dataset["foreign"][:]]

    def render(number: int, others: Sequence[str]) -> dict[str, list[int]]:
        example = row_example(processor, dataset[number], others)
        # Other passages may be longer: the answer is kept as it is, so that losses are of the same tokens.
        own = examples[number]["labels"]
        end = example["labels"].count(-100) + len(own) - own.count(-100)
        return {name: example[name][:end] for name in ("input_ids", "labels")}

    pad, tasks = processor.pad_token_id, dataset["task"][:]
    return InstructionTensors(examples, bank, passages, teachers, ids, pad, render, tasks)


def shuffled_passages(dataset: Dataset) -> tuple[list[str], dict[str, int]]:
    """The distinct passages of instruction rows and the place of each.

    Raises:
        DataError: If a row holds all of them: none is left for the shuffled control.
    """
    rows = dataset["foreign"][:]
    texts, places = distinct([text for row in rows for text in row])
    for row_id, row in zip(dataset["id"][:], rows, strict=True):
        if len(set(row)) == len(texts):
            raise DataError(
                f"Row {row_id} holds all {len(texts)} passages there are (do all rows hold the same passage?): the "
                "shuffled control needs another one. Give more rows."
            )
    return texts, places


def distinct(texts: Sequence[str]) -> tuple[list[str], dict[str, int]]:
    """The distinct texts in order of appearance, and the place of each."""
    places: dict[str, Any] = {}
    for text in texts:
        places.setdefault(text, len(places))
    return list(places), places
