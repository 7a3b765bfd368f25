"""Passages read once: their vectors and slots on disk, found by a question, and asked without reading them again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from tqdm.auto import tqdm

from ..arguments_llink import checked_methods
from ..configuration_llink import FOREIGN_TOKEN
from ..data.collection import CollectedPassage, collect
from ..modeling_llink import LlinkForCausalLM
from ..modeling_llink.passages import Passage, Piece, ReadingOptions, read_passage
from .binding import binding_of, check_binding
from .errors import StoreError
from .index import VectorIndex
from .shards import INDEX, MANIFEST, Manifest, Shards
from .slot_codec import pack_slots, unpack_slots

#: Pieces in a file: what a run that is stopped has to read again at most.
SHARD = 512
#: Characters of a question at most.
MAX_QUESTION = 2000


@dataclass(frozen=True)
class Found:
    """A piece of a passage that a question found.

    Attributes:
        score: Cosine of its vector and the question's.
        id, document: The passage's.
        piece: The piece's number in it, from 0 on.
        text: The piece's.
        row: Its row in the store.
    """

    score: float
    id: str
    document: str
    piece: int
    text: str
    row: int


@dataclass(frozen=True)
class Answer:
    """An answer, and what it was read from: the nearest first."""

    text: str
    passages: list[Found]


@dataclass(frozen=True)
class StoreReading:
    """What a question is answered from.

    Attributes:
        found: The nearest first.
        prompt: What the decoder is asked, with places for them.
        slots: Those of each (K, d).
        input_ids: The prompt as the decoder reads it (1, S).
    """

    found: list[Found]
    prompt: str
    slots: list[Tensor]
    input_ids: Tensor


@checked_methods
class SlotStore:
    """Foreign passages with the vectors by which questions find them, and the slots that the decoder reads.

    ```python
    store = SlotStore.build(model, ["…", "…"], "store")
    for found in store.search("How do I insert a chart?", k=5):
        print(found.score, found.document, found.text)
    print(store.ask("How do I insert a chart?").text)
    ```

    A row is a piece of a passage, as long as the encoder reads at once; `rows` is a memory-mapped [`datasets.Dataset`].

    Args:
        shards, manifest, model: As `build` and `load` make them.
    """

    def __init__(self, shards: Shards, manifest: Manifest, model: LlinkForCausalLM) -> None:
        self.folder, self.model, self.manifest = shards.folder, model, manifest
        self._shards = shards
        self.rows: Dataset = shards.rows(manifest)

    # ------------------------------------------------------------------ making and opening

    @classmethod
    def build(
        cls,
        model: LlinkForCausalLM,
        passages: Iterable[Any],
        folder: str | os.PathLike,
        batch_size: int = 32,
        show_progress: bool = False,
    ) -> Self:
        """Reads passages into a store, new or there already; those that it holds are not read again.

        So the same call adds to a store, and goes on after a run that was stopped.

        Args:
            model: A trained model. Before Stage B a store can be searched and not asked.
            passages: Texts, or rows with `text` and perhaps `id` and `document`: a list, a dataset, a generator.
            folder: Where the store is or will be.
            batch_size: Pieces in one forward pass of the encoder.
            show_progress: Whether to show a bar.

        Raises:
            DataError: If a passage is unusable, or its id is another's; nothing is then written.
            StoreError: If the model is not trained, or the folder holds something else, another model's store, or one
                that is being written.
        """
        collected = collect(passages)
        if model.config.stage == "untrained":
            raise StoreError(
                "This model is not trained: its vectors find nothing. Train Stage A first (`llink align`)."
            )
        model.teacher_space.check_fitted()
        shards = Shards(Path(folder))
        with shards.locked():
            manifest = shards.read()
            if manifest is None:
                manifest = Manifest(_name(model), binding_of(model), model.config.hidden_size, model.config.stage)
                shards.write(manifest)
            else:
                check_binding(manifest.binding, model, str(folder), manifest.model)
            shards.clear(manifest)
            store = cls(shards, manifest, model.eval())
            with tqdm(total=len(collected), desc="passages", disable=not show_progress) as bar:
                missing = store._missing(collected)
                bar.update(len(collected) - len(missing))
                store._add(missing, batch_size, bar)
        return cls(shards, manifest, model)

    @classmethod
    def load(cls, folder: str | os.PathLike, model: LlinkForCausalLM | str | None = None, **loading: Any) -> Self:
        """Opens a store, of this machine or a dataset repository of the Hub.

        Args:
            folder: Where it is.
            model: The model that made it, or its folder or repository; the one that the store names when not given.
            loading: As `LlinkForCausalLM.from_pretrained` takes it.

        Raises:
            StoreError: If there is no store, it is torn, another model's, or told how to load a model that is loaded.
        """
        from .hub import fetched

        place = Path(folder) if Path(folder).is_dir() else fetched(str(folder))
        shards = Shards(place)
        manifest = shards.read() if (place / MANIFEST).is_file() else None
        if manifest is None:
            raise StoreError(f"{folder} holds no store: make one with SlotStore.build or `llink index`.")
        name = manifest.model if model is None else model
        if name is None:
            raise StoreError(f"The store {folder} does not name its model: give it (model=…, --model).")
        if isinstance(name, str | os.PathLike):
            name = LlinkForCausalLM.from_pretrained(name, **loading)
        elif loading:
            raise StoreError(f"{', '.join(loading)}: the model is loaded already; leave these out, or give its name.")
        check_binding(manifest.binding, name, str(folder), manifest.model)
        return cls(shards, manifest, name.eval())

    def __len__(self) -> int:
        """How many pieces it holds."""
        return len(self.rows)

    # ------------------------------------------------------------------ finding and asking

    @cached_property
    def index(self) -> VectorIndex:
        """What finds rows, made or read when it is first needed."""
        return VectorIndex(self.rows, self.folder / INDEX if os.access(self.folder, os.W_OK) else None)

    def search(self, question: str, k: int = 5, side: str = "english") -> list[Found]:
        """The k pieces nearest to a question.

        Args:
            question: English; best a statement like what it looks for, or a heading.
            k: How many.
            side: `foreign` for a question in the passages' language.

        Raises:
            StoreError: If the question is empty or too long, or the store holds fewer pieces.
            PromptError: If there is no such side.
        """
        if not isinstance(question, str) or not question.strip():
            raise StoreError(f"The question {question!r} is empty: ask something.")
        if len(question) > MAX_QUESTION:
            raise StoreError(f"The question has {len(question)} characters: shorten it to {MAX_QUESTION}.")
        if not 1 <= k <= len(self):
            raise StoreError(f"k={k}, and the store holds {len(self)} pieces: give a k from 1 to {len(self)}.")
        found = self.index.search(self.model.encode(question.replace("\0", " "), side), k)
        columns = [name.name for name in fields(Found) if name.name not in ("score", "row")]
        read = self.rows.select_columns(columns)
        return [Found(score=score, row=row, **read[row]) for score, row in found]

    def slots(self, rows: Sequence[int]) -> list[Tensor]:
        """What stands in a prompt for some rows, each (K, d), as `model.encode_foreign` gives it.

        Raises:
            StoreError: If the store was made before Stage B.
        """
        if self.manifest.stage != "inject":
            raise StoreError(
                f"The store was made when its model's stage was {self.manifest.stage!r}, so it holds no slots: train "
                "Stage B (`llink inject`) and index the passages with that model."
            )
        kept = self.rows.select_columns(["tokens", "slots", "vector"])
        return [self._slots_of(**kept[int(row)]) for row in rows]

    @torch.no_grad()
    def _slots_of(self, tokens: list[int], slots: bytes, vector: list[float]) -> Tensor:
        embedder = self.model.slot_embedder
        if embedder.reads_states:
            return self.model.with_literals(tokens, unpack_slots(slots, self.manifest.width))
        return embedder(torch.tensor([vector], device=embedder.scale.device))[0][0].float()  # p_F: its direction counts

    def ask(
        self, question: str, k: int = 3, side: str = "english", prompt: str | None = None, **generation: Any
    ) -> Answer:
        """Finds passages and answers from what they say, all in one prompt.

        Args:
            question, k, side: As in `search`.
            prompt: What the decoder is asked about the passages, such as "Summarize in English."; the question itself
                when not given. Passages stand where it says `<foreign_emb>`, k times, or below it.
            generation: As `model.generate` takes it, such as `max_new_tokens`.

        Raises:
            StoreError: As `search`; if the model has not learned to read slots, or the pieces do not fit the decoder.
        """
        reading = self.reading(question, k, side, prompt)
        options = {"do_sample": False, **generation}
        tokens = self.model.generate(foreign_slots=[reading.slots], prompt=reading.prompt, **options)
        text = self.model.processor.batch_decode(tokens, skip_special_tokens=True)[0].strip()
        return Answer(text, reading.found)

    def reading(self, question: str, k: int = 3, side: str = "english", prompt: str | None = None) -> StoreReading:
        """What `ask` gives the decoder to read.

        Args:
            question, k, side, prompt: As in `ask`.

        Raises:
            StoreError: As `ask`.
        """
        if prompt is not None and not prompt.strip():
            raise StoreError("The prompt is empty: say what is wanted of the passages, or leave it out.")
        found = self.search(question, k, side)
        slots = self.slots([one.row for one in found])
        prompt = question.strip() if prompt is None else prompt
        prompt = prompt if FOREIGN_TOKEN in prompt else "\n".join([prompt, *[FOREIGN_TOKEN] * k])
        processor, counts = self.model.processor, [len(one) for one in slots]
        ids = processor.render_batch([[processor.user_message(prompt, len(slots))]], [counts])["input_ids"]  # (1, S)
        most = getattr(self.model.decoder.config.get_text_config(), "max_position_embeddings", None)
        if most is not None and ids.shape[1] >= most:
            raise StoreError(
                f"The question and {len(slots)} pieces take {ids.shape[1]} tokens, and the decoder reads {most}: ask "
                "with a smaller k."
            )
        return StoreReading(found, prompt, slots, ids)

    def push_to_hub(self, repo_id: str, **hub: Any) -> Any:
        """Puts the store on the Hub as a dataset with a card, in one commit; `load` takes its name.

        Args:
            repo_id: `user/name`; created when missing.
            hub: `private`, `token`, `revision`, `create_pr`, `commit_message`.

        Raises:
            LlinkPushError: If the upload fails.
        """
        from .hub import push

        return push(self._shards, self.manifest, self.rows, repo_id, **hub)

    # ------------------------------------------------------------------ reading passages in

    def _missing(self, collected: list[CollectedPassage]) -> list[CollectedPassage]:
        """Those that are not there yet.

        Raises:
            StoreError: If an id stands for another text.
        """
        there = dict[str, str]()
        for batch in self.rows.select_columns(["id", "digest"]).with_format("arrow").iter(65536):
            there |= zip(batch["id"].to_pylist(), batch["digest"].to_pylist(), strict=True)
        for passage in collected:
            if there.get(passage.id, passage.digest) != passage.digest:
                raise StoreError(
                    f"The store holds another text with the id {passage.id!r}: give the new one an id of its own."
                )
        return [passage for passage in collected if passage.id not in there]

    def _add(self, passages: list[CollectedPassage], batch_size: int, bar: Any) -> None:
        """Reads passages and writes them, file by file; a passage's pieces are in one."""
        waiting: list[tuple[CollectedPassage, list[Piece]]] = []
        for passage, pieces in self._read(passages):
            waiting.append((passage, pieces))
            if sum(len(of_one) for _, of_one in waiting) >= SHARD:
                self._write(waiting, batch_size)
                bar.update(len(waiting))
                waiting = []
        if waiting:
            self._write(waiting, batch_size)
            bar.update(len(waiting))

    def _read(self, passages: list[CollectedPassage]) -> Iterator[tuple[CollectedPassage, list[Piece]]]:
        """Each passage in pieces, however long it is."""
        processor = self.model.processor
        own = {one.name: getattr(processor, one.name) for one in fields(ReadingOptions)}
        options = ReadingOptions(
            **{**own, "literals": tuple(processor.literals), "long_passages": "split", "max_pieces": 1 << 20}
        )
        for passage in passages:
            text = Passage(passage.text)
            yield passage, read_passage(text, processor.tokenizer, processor.encoder_tokenizer, options).pieces

    def _write(self, read: list[tuple[CollectedPassage, list[Piece]]], batch_size: int) -> None:
        pieces = [piece for _, of_one in read for piece in of_one]
        encoded = self.model.encode_pieces(pieces, batch_size)
        if not all(bool(torch.isfinite(vector).all()) for vector, _ in encoded):
            raise StoreError("The model gives vectors that are not finite: load it in float32 or bfloat16.")
        with_slots = self.manifest.stage == "inject" and self.model.slot_embedder.reads_states
        rows, place = [], 0
        for passage, of_one in read:
            for number, piece in enumerate(of_one):
                vector, slots = encoded[place]
                place += 1
                rows.append(
                    {
                        "id": passage.id,
                        "document": passage.document,
                        "piece": number,
                        "text": piece.text,
                        "digest": passage.digest,
                        "vector": torch.nn.functional.normalize(vector, dim=-1).numpy().astype(np.float16),
                        "tokens": piece.tokens if with_slots else [],
                        "slots": pack_slots(slots) if with_slots else b"",
                    }
                )
        self._shards.add(self.manifest, rows)


def _name(model: LlinkForCausalLM) -> str | None:
    """Folder or repository that a model was loaded from."""
    source = getattr(model, "source", None)
    if source is None:
        return None
    return str(Path(source.name).resolve()) if Path(source.name).is_dir() else source.name
