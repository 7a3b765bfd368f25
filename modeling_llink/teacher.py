"""The teacher: which decoder state an English sentence is represented by, and the space it lives in (paper 4.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .errors import NotFittedError
from .passages import adds_bos, encode, encode_literal
from .processing_llink import LlinkProcessor


def teacher_inputs(
    processor: LlinkProcessor, english: Sequence[str], template: str, max_tokens: int
) -> dict[str, Tensor]:
    """The teacher's prompts: the template around each sentence, then `<foreign_emb>` (paper 4.1).

    Args:
        processor: The model's.
        english: English sentences.
        template: Holds `{text}` once.
        max_tokens: Tokens at which a sentence is cut.

    Returns:
        `input_ids`, `attention_mask` and `text_mask` (the sentence's own tokens), each (B, S), padded on the right.
    """
    before, after = template.split("{text}")
    glue = before[len(before.rstrip(" ")) :]  # byte-level tokenizers keep a space with the word that follows it
    bos = [processor.tokenizer.bos_token_id] if adds_bos(processor.tokenizer) else []
    head = bos + encode(processor.tokenizer, before.rstrip(" "))
    tail = [*encode(processor.tokenizer, after), processor.foreign_token_id]
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


def read_teacher_state(hidden: Tensor, text_mask: Tensor, attention_mask: Tensor, state: str) -> Tensor:
    """Reads h_E from one layer's hidden states.

    Args:
        hidden: (B, S, d) hidden states of a right-padded batch whose rows end in `<foreign_emb>`.
        text_mask: (B, S) true on the sentence's own tokens.
        attention_mask: (B, S), 0 at padding.
        state: `placeholder`, the state at `<foreign_emb>` (paper 4.1), or `mean`, the average over the sentence.

    Returns:
        (B, d) float32.
    """
    hidden = hidden.float()
    if state == "placeholder":
        last = attention_mask.sum(dim=1) - 1  # (B,)
        return hidden[torch.arange(len(hidden), device=hidden.device), last]
    weights = text_mask.unsqueeze(-1).float()  # (B, S, 1)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


class TeacherSpace(nn.Module):
    """Conditions teacher states so that cosine means something.

    Decoder states are strongly anisotropic: unrelated sentences have cosines near 0.9. `center` removes the mean;
    `whiten` also rescales the principal components and drops the small ones, staying in R^d (ZCA form), so that the
    projector's width never depends on the choice. Statistics are buffers and travel in the checkpoint.

    Args:
        width: d.
        conditioning: `none`, `center` or `whiten`.
        components: r, principal components that `whiten` keeps.
        power: Exponent on the singular values that are divided out.
    """

    fitted: Tensor
    mean: Tensor
    basis: Tensor
    deviation: Tensor

    def __init__(self, width: int, conditioning: str, components: int, power: float) -> None:
        super().__init__()
        self.conditioning, self.power = conditioning, power
        self.register_buffer("fitted", torch.tensor(conditioning == "none"))
        if conditioning != "none":
            self.register_buffer("mean", torch.zeros(width))
        if conditioning == "whiten":
            self.register_buffer("basis", torch.zeros(width, components))  # orthonormal columns
            self.register_buffer("deviation", torch.ones(components))  # of the data along each column

    def forward(self, states: Tensor) -> Tensor:
        """Raw states (…, d) → conditioned states (…, d).

        Raises:
            NotFittedError: If the statistics were never fitted.
        """
        self.check_fitted()
        if self.conditioning == "none":
            return states
        states = states.to(self.mean) - self.mean
        if self.conditioning == "center":
            return states
        gain = self._gain()
        return (states @ self.basis * gain) @ self.basis.T

    def _gain(self) -> Tensor:
        """(r,) factors on the components; directions without variance carry nothing and get 0."""
        floor = 1e-5 * self.deviation.max()
        return torch.where(self.deviation > floor, self.deviation.clamp(min=1e-30) ** -self.power, 0.0)

    def check_fitted(self) -> None:
        """Raises [`NotFittedError`] if the conditioning has no statistics yet."""
        if not self.fitted:
            raise NotFittedError(
                f"teacher_conditioning={self.conditioning!r} needs statistics of the training pairs' teacher states. "
                "Train Stage A (AlignTrainer fits them), call `llink.building.fit_teacher_space`, or set "
                "teacher_conditioning='none'."
            )
