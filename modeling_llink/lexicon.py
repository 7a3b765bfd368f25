"""Slots made of words: each is a mixture of the decoder's own token embeddings."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import NotFittedError
from .pooling import pool_segments
from .state_attention import StateAttention

#: Before training, a token's logit is this many times its cosine.
SHARPNESS = 16.0
#: Added to the counts of tokens: one that no reference holds is unlikely, not impossible.
SMOOTHING = 0.1


class Lexicon(nn.Module):
    """For each slot, how likely each token of the decoder's vocabulary is the word that the slot stands for.

    A decoder reads its own embeddings and what lies between them from the start, so a slot is their weighted mean (as
    in the connector of AlignVLM, arXiv 2502.01341). Each slot reads its own K-th of the passage and attends to all
    of it. Which words stand for what is learned from parallel text alone, without the decoder's layers.

    Args:
        width: d, the decoder's width.
        hidden: Inner width of the MLP.
        num_slots: K, slots that stand for words.
        state_width: d_e, the encoder's width.
        size: V', tokens that slots are mixed from: the most frequent of the training references.
    """

    vocabulary: Tensor
    fitted: Tensor

    def __init__(self, width: int, hidden: int, num_slots: int, state_width: int, size: int) -> None:
        super().__init__()
        self.num_slots = num_slots
        self.register_buffer("vocabulary", torch.arange(size))
        self.register_buffer("fitted", torch.tensor(False))
        self.state_norm = nn.LayerNorm(state_width)
        self.read = nn.Linear(state_width, width)
        self.places = nn.Embedding(num_slots, width)
        self.attention = StateAttention(width, state_width)
        self.mlp_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, width)
        self.sharpness = nn.Parameter(torch.tensor(math.log(SHARPNESS)))
        self.prior = nn.Parameter(torch.zeros(size))

    @torch.no_grad()
    def fit(self, counts: Tensor) -> None:
        """Chooses the vocabulary, and starts the prior, from how often each token stands in the references.

        Args:
            counts: (V,) over the decoder's whole vocabulary.
        """
        size = len(self.vocabulary)
        ordered = counts.cpu().sort(descending=True, stable=True)  # of equal counts the lower id, on every machine
        chosen = ordered.values[:size] + SMOOTHING  # (V',)
        self.vocabulary.copy_(ordered.indices[:size])
        self.prior.copy_((chosen / chosen.sum()).log())
        self.fitted.fill_(True)

    def check_fitted(self) -> None:
        """Raises [`NotFittedError`] if the vocabulary was never chosen."""
        if not self.fitted:
            raise NotFittedError(
                "slot_expander='lexicon' needs its words first: train them with LexiconTrainer (`llink lexicon`) "
                "between Stage A and Stage B, or choose other slots."
            )

    def forward(self, states: Tensor, mask: Tensor, embeddings: Tensor) -> Tensor:
        """The encoder's states (N, L, d_e), mask (N, L), embeddings of the vocabulary (V', d) → log p (N, K, V')."""
        own = pool_segments(states, mask, self.num_slots).to(self.read.weight.dtype)  # (N, K, d_e)
        slots = self.read(self.state_norm(own)) + self.places.weight  # (N, K, d)
        slots = slots + self.attention(slots, states, mask)  # (N, K, d)
        slots = slots + self.down(F.gelu(self.up(self.mlp_norm(slots))))  # (N, K, d)
        slots = self.out(self.norm(slots))  # (N, K, d)
        with torch.autocast(slots.device.type, enabled=False):  # half precision would mix other words than inference
            cosines = F.normalize(slots.float(), dim=-1) @ F.normalize(embeddings.float(), dim=-1).T  # (N, K, V')
            return (self.sharpness.exp() * cosines + self.prior).log_softmax(dim=-1)
