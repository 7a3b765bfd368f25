"""Texts in, vectors out: pooled features, teacher states, slots to keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ..arguments_llink import checked_methods
from ..configuration_llink import LlinkConfigError
from .errors import LlinkCheckpointError, PromptError
from .layers import device_of, hidden_states, input_device, pool, read_teacher_state
from .lora import lora_rows, text_part
from .passages import SLOT, Piece, single_passages
from .processing_llink import LlinkProcessor
from .slots import injected
from .tokenizing import adds_bos, encode, encode_literal

#: What reads a text: the encoder and the projector, or the decoder.
SIDES = ("foreign", "english")


@checked_methods
class LlinkEncodingMixin:
    """What a [`LlinkForCausalLM`] makes of texts outside generation."""

    def get_pooled_features(
        self, texts: str | Sequence[str], batch_size: int = 32, show_progress: bool = False
    ) -> Tensor:
        """Foreign texts → z_F (N, d_e), float32 on the CPU; of a long text the mean over its pieces.

        Raises:
            ForeignTextError: If a text is empty, not a string, or holds NUL.
        """

        def compute(_: Any, foreign_input_ids: Tensor, foreign_attention_mask: Tensor, **__: Tensor) -> Tensor:
            real = foreign_attention_mask.any(dim=-1)  # (n, T)
            pooled = self.pool_passages(foreign_input_ids[real], foreign_attention_mask[real])  # (pieces, d_e)
            sums = pooled.new_zeros(len(real), pooled.shape[1])  # (n, d_e)
            sums = sums.index_add(0, real.nonzero()[:, 0].to(pooled.device), pooled)
            return sums / real.sum(dim=1, keepdim=True).to(pooled.device)

        return torch.stack(self._over_passages(compute, texts, batch_size, show_progress, "encoder"))

    def get_foreign_features(
        self, texts: str | Sequence[str], batch_size: int = 32, show_progress: bool = False
    ) -> Tensor:
        """Foreign texts → p_F (N, d), the Stage A embedding (paper 4.1); float32 on the CPU.

        Raises:
            ForeignTextError: If a text is unusable.
        """
        return self.project(self.get_pooled_features(texts, batch_size, show_progress))

    def get_piece_features(
        self, texts: str | Sequence[str], batch_size: int = 32
    ) -> tuple[Tensor, list[tuple[int, str]]]:
        """Foreign texts of any length → p_F of each of their pieces (P, d), and the text's number and the piece itself.

        Raises:
            ForeignTextError: If a text is unusable.
        """
        read = self.processor.read_passages(single_passages(texts))
        pieces = [(number, piece.text) for number, of_text in enumerate(read) for piece in of_text]
        return self.get_foreign_features([text for _, text in pieces], batch_size), pieces

    def encode(
        self,
        sentences: str | Sequence[str],
        side: str = "foreign",
        batch_size: int = 32,
        show_progress_bar: bool = False,
        convert_to_tensor: bool = False,
    ) -> Any:
        """Texts → vectors of length one by which foreign texts and English ones are found, as in sentence-transformers.

        Args:
            sentences: One text, or N.
            side: `foreign`, or `english` for texts that the decoder reads itself, such as questions; both are in one
                space.
            batch_size: Texts in one forward pass.
            show_progress_bar: Whether to show a bar.
            convert_to_tensor: Whether to return a tensor in place of a NumPy array.

        Returns:
            (N, d) float32, or (d,) of one text.

        Raises:
            PromptError: If there is no such side.
            ForeignTextError: If a text is unusable.
            NotFittedError: If the model is not trained.
        """
        if side not in SIDES:
            raise PromptError(f"side={side!r} is not one of {', '.join(SIDES)}.")
        texts = single_passages(sentences)
        if side == "english":
            vectors = self.get_teacher_features(texts, batch_size, show_progress_bar)
        else:
            vectors = self.get_foreign_features(texts, batch_size, show_progress_bar)
        vectors = F.normalize(vectors, dim=-1)  # (N, d)
        vectors = vectors[0] if isinstance(sentences, str) else vectors
        return vectors if convert_to_tensor else vectors.numpy()

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Vectors (N, d) and (M, d), arrays or tensors → their cosines (N, M); a single vector (d,) is one row."""
        try:
            rows = [torch.atleast_2d(torch.as_tensor(one)).float() for one in (embeddings1, embeddings2)]
        except (TypeError, ValueError, RuntimeError) as error:
            raise LlinkConfigError(f"Of these embeddings no tensor can be made: {error}. Give (N, d).") from error
        shapes = [tuple(one.shape) for one in rows]
        if any(len(shape) != 2 for shape in shapes) or shapes[0][1] != shapes[1][1]:
            raise LlinkConfigError(f"Embeddings of shapes {shapes[0]} and {shapes[1]}: give (N, d) and (M, d).")
        first, second = (F.normalize(one, dim=-1) for one in rows)
        return first @ second.T

    @torch.no_grad()
    def encode_pieces(
        self, pieces: Sequence[Piece], batch_size: int = 32, show_progress: bool = False
    ) -> list[tuple[Tensor, Tensor]]:
        """N pieces of passages → of each p_F (d,) and its slots (M, d), by one pass of the encoder; float32 on the CPU.

        What is written out of a piece is in its `tokens` and not among the slots.
        """
        config, reads_states = self.config, self.slot_embedder.reads_states
        layers = [*(config.slot_layers if reads_states else ()), config.encoder_layer]

        def compute(chosen: list[int]) -> list[Tensor]:
            passages = self.processor.pad_passages([[pieces[i]] for i in chosen])
            ids, attention = passages["foreign_input_ids"][:, 0], passages["foreign_attention_mask"][:, 0]  # (n, L)
            states = self.passage_states(ids, attention, layers)  # (n, L, C + d_e)
            read, last = states.split([states.shape[-1] - config.encoder_hidden_size, config.encoder_hidden_size], -1)
            pooled = pool(last, attention.to(last.device), config.pooling, config.encoder_normalized)  # (n, d_e)
            vectors = self.project(pooled).to(states.device)  # (n, d)
            if reads_states:
                slots, mask = self.slot_embedder(read, passages["foreign_slot_index"][:, 0].to(read.device))
            else:
                slots, mask = self.slot_embedder(vectors)  # (n, K, d), (n, K)
            return [torch.cat([v[None].to(s), s[m]]) for v, s, m in zip(vectors, slots, mask, strict=True)]

        lengths = [len(piece.ids) for piece in pieces]
        rows = self._in_batches(compute, lengths, batch_size, show_progress, "encoder")
        return [(row[0], row[1:]) for row in rows]

    @torch.no_grad()
    def project(self, pooled: Tensor) -> Tensor:
        """z_F (N, d_e) → p_F (N, d) without dropout, on the CPU."""
        was_training = self.projector.training
        self.projector.eval()
        try:
            return self.projector(pooled.to(device_of(self.projector))).float().cpu()
        finally:
            self.projector.train(was_training)

    def encode_foreign(
        self, texts: str | Sequence[str], batch_size: int = 32, show_progress: bool = False
    ) -> Tensor | list[Tensor]:
        """Foreign texts → what stands for them in a prompt, to be kept and given back as `generate(foreign_slots=…)`.

        These are the slots, and at their places the decoder's embeddings of what is written out.

        Returns:
            (N, K, d); where passages may differ in K a list of (K, d).

        Raises:
            ForeignTextError: If a text is unusable.
        """

        def compute(read: list[list[Piece]], **passages: Tensor) -> list[Tensor]:
            slots, mask = self.resolve_slots(**passages)
            found = zip(slots, mask, strict=True)
            tokens = [[token for piece in pieces for token in piece.tokens] for pieces in read]
            return [self.with_literals(row, slots[kept]) for row, (slots, kept) in zip(tokens, found, strict=True)]

        rows = self._over_passages(compute, texts, batch_size, show_progress, "slots")
        rows = [row.to(device_of(self.slot_embedder)) for row in rows]
        alike = self.config.num_slots is not None and len({len(row) for row in rows}) == 1
        return torch.stack(rows) if alike else rows

    def with_literals(self, tokens: Sequence[int], slots: Tensor) -> Tensor:
        """Slots (M, d) → (K, d) with the embeddings of what is written out between them.

        Args:
            tokens: K decoder tokens, or `SLOT` at the M slots.
            slots: (M, d).
        """
        ids = torch.tensor(tokens, dtype=torch.long)  # (K,)
        embed, here = self.get_input_embeddings(), (ids == SLOT).unsqueeze(-1)
        written = embed(ids.clamp(min=0).to(input_device(embed)))  # (K, d)
        return written.to(slots).masked_scatter(here.to(slots.device), slots)

    def get_teacher_states(self, english: Sequence[str], batch_size: int = 32, show_progress: bool = False) -> Tensor:
        """English texts → raw h_E (N, d) float32 on the CPU: the base decoder's states, LoRA off (paper 4.1).

        Raises:
            LlinkCheckpointError: If LoRA is merged: the decoder's states are others.
        """
        if self.config.lora_merged:
            raise LlinkCheckpointError(
                "LoRA is merged into this model's decoder, whose vectors of English texts are no longer those that "
                "passages were aligned with: use the model as it was before merging."
            )
        with lora_rows(False):
            return self.read_states(self.decoder, english, self.config.teacher_max_tokens, batch_size, show_progress)

    @torch.no_grad()
    def read_states(
        self,
        decoder: PreTrainedModel,
        texts: Sequence[str],
        max_tokens: int,
        batch_size: int = 32,
        show_progress: bool = False,
    ) -> Tensor:
        """Texts → a decoder's states where the teacher's are read: in its template, state and layer (paper 4.1).

        Args:
            decoder: The model's own, or another of the same architecture; LoRA is used as it is set.
            texts: N texts.
            max_tokens: Tokens at which a text is cut.
            batch_size: Texts in one forward pass.
            show_progress: Whether to show a bar.

        Returns:
            (N, d) float32 on the CPU.

        Raises:
            ForeignTextError: If a text is empty, not a string, or holds NUL.
        """
        texts = single_passages(texts)
        config, device = self.config, device_of(decoder)

        def compute(chosen: list[int]) -> Tensor:
            own = [texts[i] for i in chosen]
            inputs = teacher_inputs(self.processor, own, config.teacher_template, max_tokens, config.teacher_state)
            inputs = {key: value.to(device) for key, value in inputs.items()}  # (B, S)
            ids = inputs["input_ids"]
            reserved = ids >= config.reserved_token_start  # (B, S)
            nothing = torch.zeros(1, config.hidden_size)  # (paper 4.1: zero-initialised, neutral)
            with injected(decoder.get_input_embeddings(), reserved, nothing):
                hidden = hidden_states(
                    text_part(decoder),
                    [config.teacher_layer],
                    input_ids=ids.masked_fill(reserved, config.filler_token_id),
                    attention_mask=inputs["attention_mask"],
                    use_cache=False,
                )[0].to(device)  # (B, S, d); a decoder that is spread over devices ends on another one
            return read_teacher_state(
                hidden, inputs["text_mask"].bool(), inputs["attention_mask"], config.teacher_state
            )  # (B, d)

        was_training = decoder.training
        decoder.eval()
        try:
            rows = self._in_batches(compute, [len(text) for text in texts], batch_size, show_progress, "decoder")
            return torch.stack(rows)
        finally:
            decoder.train(was_training)

    def get_teacher_features(self, english: Sequence[str], batch_size: int = 32, show_progress: bool = False) -> Tensor:
        """English texts → h_E (N, d) in the conditioned space, comparable with `get_foreign_features` by cosine.

        Raises:
            NotFittedError: If the space's statistics were never fitted.
        """
        states = self.get_teacher_states(english, batch_size, show_progress)
        return self.teacher_space(states.to(device_of(self.projector))).cpu()

    @torch.no_grad()
    def _over_passages(
        self,
        compute: Callable[..., Tensor | list[Tensor]],
        texts: str | Sequence[str],
        batch_size: int,
        show_progress: bool,
        name: str,
    ) -> list[Tensor]:
        """`compute` of the pieces of texts, and of what the processor makes of them (n, T, L), without dropout."""
        read = self.processor.read_passages(single_passages(texts))
        was_training = self.projector.training
        self.projector.eval()

        def of_chosen(chosen: list[int]) -> Tensor | list[Tensor]:
            pieces = [read[i] for i in chosen]
            return compute(pieces, **self.processor.pad_passages(pieces))

        lengths = [sum(len(piece.ids) for piece in pieces) for pieces in read]
        try:
            return self._in_batches(of_chosen, lengths, batch_size, show_progress, name)
        finally:
            self.projector.train(was_training)

    def _in_batches(
        self,
        compute: Callable[[list[int]], Tensor | list[Tensor]],
        lengths: list[int],
        batch_size: int,
        show_progress: bool,
        name: str,
    ) -> list[Tensor]:
        """Runs `compute` on batches of similar length and returns rows in the caller's order, float32 on the CPU."""
        order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
        batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        rows: dict[int, Tensor] = {}
        for batch in tqdm(batches, desc=name, disable=not show_progress):
            found = compute(batch)
            found = found.float().cpu() if isinstance(found, Tensor) else [row.float().cpu() for row in found]
            rows |= zip(batch, found, strict=True)
        return [rows[index] for index in range(len(lengths))]


def teacher_inputs(
    processor: LlinkProcessor, english: Sequence[str], template: str, max_tokens: int, state: str = "placeholder"
) -> dict[str, Tensor]:
    """The teacher's prompts: the template around each sentence, then `<foreign_emb>` (paper 4.1).

    Args:
        processor: The model's.
        english: English sentences.
        template: Holds `{text}` once.
        max_tokens: Tokens at which a sentence is cut.
        state: What is read. For `mean` a prompt ends with its sentence, whose tokens see nothing of what follows them.

    Returns:
        `input_ids`, `attention_mask` and `text_mask` (the sentence's own tokens), each (B, S), padded on the right.
    """
    before, after = template.split("{text}")
    glue = before[len(before.rstrip(" ")) :]  # byte-level tokenizers keep a space with the word that follows it
    bos = [processor.tokenizer.bos_token_id] if adds_bos(processor.tokenizer) else []
    head = bos + encode(processor.tokenizer, before.rstrip(" "))
    tail = [] if state == "mean" else [*encode(processor.tokenizer, after), processor.foreign_token_id]
    rows, masks = [], []
    for sentence in english:
        body = encode_literal(processor.tokenizer, glue + sentence)[:max_tokens]
        rows.append(head + body + tail)
        masks.append([0] * len(head) + [1] * len(body) + [0] * len(tail))
    length = max(map(len, rows))
    pad = processor.pad_token_id
    return {
        "input_ids": torch.tensor([r + [pad] * (length - len(r)) for r in rows]),
        "attention_mask": torch.tensor([[1] * len(r) + [0] * (length - len(r)) for r in rows]),
        "text_mask": torch.tensor([m + [0] * (length - len(m)) for m in masks]),
    }
