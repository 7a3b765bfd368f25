"""What a dictionary from encoder tokens to the decoder's words learns by: pure functions of tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: In place of a word's index: no word, and a word that the vocabulary does not hold.
PADDING, UNKNOWN = -1, -2
#: Before training, a word's logit is e to this power times its cosine.
SHARPNESS = 3.0
#: Added to the counts of tokens: one that no reference holds is unlikely, not impossible.
SMOOTHING = 0.1


class Dictionary(nn.Module):
    """Slots of tokens while they learn which of the decoder's words they stand for: logits exp(t)·cos(y, E_v) + b_v.

    t and b serve learning alone, and are no part of the model.

    Args:
        slots: [`TokenSlots`]; all but their scale is trained.
        counts: (V,) how often each token of the decoder stands in the references; None gives every token the same
            start.
        size: V', the most frequent tokens, among which a token's word is sought.
    """

    vocabulary: Tensor

    def __init__(self, slots: nn.Module, counts: Tensor, size: int) -> None:
        super().__init__()
        self.slots = slots
        ordered = counts.sort(descending=True, stable=True)  # of equal counts the lower id, on every machine
        chosen = ordered.values[:size].float() + SMOOTHING  # (V',)
        self.register_buffer("vocabulary", ordered.indices[:size])
        self.prior = nn.Parameter(0.5 * (chosen / chosen.sum()).log())
        self.sharpness = nn.Parameter(torch.tensor(SHARPNESS))

    def embeddings(self, embed: Callable[[Tensor], Tensor]) -> Tensor:
        """The decoder's embeddings (V', d) of the vocabulary, of norm one; `embed` may lie elsewhere."""
        place = getattr(embed, "weight", self.prior).device
        return F.normalize(embed(self.vocabulary.to(place)).detach().float(), dim=-1).to(self.prior.device)

    def forward(self, states: Tensor, embeddings: Tensor) -> Tensor:
        """Tokens' states (M, C), embeddings of the vocabulary (V', d) → logits (M, V')."""
        directions = F.normalize(self.slots.directions(states).float(), dim=-1)  # (M, d)
        return self.sharpness.exp() * (directions @ embeddings.T) + self.prior


def covering_tokens(
    text: str, spans: Sequence[tuple[int, int]], tokens: Sequence[int], token_spans: Sequence[tuple[int, int]]
) -> list[int]:
    """For each span, the other tokenizer's token that covers its first character that is no space; -1 without one.

    Args:
        text: What both tokenizers cut.
        spans: Where the first tokenizer's tokens stand in it.
        tokens, token_spans: The second tokenizer's ids, and where they stand.
    """
    cover: dict[int, int] = {}
    for token, (start, end) in zip(tokens, token_spans, strict=True):
        for place in range(start, end):
            cover.setdefault(place, token)
    firsts = (next((p for p in range(start, end) if not text[p].isspace()), -1) for start, end in spans)
    return [cover.get(first, -1) for first in firsts]


def bag_of_words_losses(logits: Tensor, counts: Sequence[int], words: Tensor) -> Tensor:
    r"""How badly a passage's tokens foretell the words of its reference, in whatever order.

    −1/|W| Σ_{w∈W} log(1 − Π_j (1 − p_j(w))): each word comes from at least one of the tokens, no matter which.

    Args:
        logits: (M, V') of all passages' tokens, one passage after the other.
        counts: B numbers of tokens, whose sum is M.
        words: (B, R) indices of each reference's distinct words in the vocabulary; below 0 where there is none.

    Returns:
        (B,) nats a word; 0 where a reference has no word of the vocabulary.
    """
    known = words >= 0  # (B, R)
    normalisers = logits.logsumexp(dim=-1, keepdim=True)  # (M, 1)
    longest, device = max(counts), logits.device
    lengths = torch.tensor(list(counts), device=device).unsqueeze(1)  # (B, 1)
    places = torch.arange(longest, device=device)  # (L,)
    real = places < lengths  # (B, L)
    tokens = torch.where(real, lengths.cumsum(dim=0) - lengths + places, 0)  # (B, L)
    chosen = logits[tokens.unsqueeze(2), words.clamp(min=0).unsqueeze(1)] - normalisers[tokens]  # (B, L, R)
    absent = torch.log1p(-chosen.exp().clamp(max=1 - 1e-6)) * real.unsqueeze(2)  # (B, L, R)
    present = (-torch.expm1(absent.sum(dim=1).clamp(max=-1e-9))).log()  # (B, R)
    return -(present * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)


def found_words(logits: Tensor, counts: Sequence[int], words: Tensor) -> tuple[Tensor, Tensor]:
    """How many of the reference's words are some token's first choice, and of how many.

    Args:
        logits, counts: As in [`bag_of_words_losses`].
        words: (B, R) likewise; [`PADDING`] is no word, [`UNKNOWN`] one outside the vocabulary.

    Returns:
        (B,) found, (B,) all.
    """
    firsts = logits.argmax(dim=-1).split(list(counts))  # (L_b,) each
    found = [torch.isin(row, first).sum() for row, first in zip(words, firsts, strict=True)]
    return torch.stack(found), (words != PADDING).sum(dim=1)
