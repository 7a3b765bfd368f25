"""From one projected vector to K slot embeddings: scale, adapter, expander (paper 4.2). One class a kind of slots.

A kind is chosen by `slot_expander` and found in [`SLOTS`]; nothing outside this file asks which one it is.

Shapes: N passages, L encoder tokens, K slots, V' words of a lexicon, d_e and d widths.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..configuration_llink import LlinkConfig
from .errors import NotFittedError, SlotMismatchError
from .layers import GatedAdapter, StateAttention, pool_segments

#: The learned weight of what all slots have in common starts here; what tells them apart has weight one.
RESIDUAL = 0.25
#: Before training, the logit of a lexicon's word is this many times its cosine.
SHARPNESS = 16.0
#: Added to the counts of tokens: one that no reference holds is unlikely, not impossible.
SMOOTHING = 0.1


@dataclass(frozen=True)
class Reading:
    """What else than p_F slots can be made of.

    Attributes:
        states: (N, L, d_e) the encoder's states; None where only p_F is known.
        mask: (N, L), 1 where a token stands.
        project: The projector, (…, d_e) → (…, d).
        embed: The decoder's embedding layer, (…) ids → (…, d).
    """

    states: Tensor | None
    mask: Tensor | None
    project: Callable[[Tensor], Tensor]
    embed: Callable[[Tensor], Tensor]


class SlotEmbedder(nn.Module):
    """p_F → unit norm → LayerNorm → × scale → adapter → K slots whose norm is the scale.

    The learned scale starts at the median L2 norm of the base embedding rows, and the last step normalises every slot
    to it: a LayerNorm alone would give a norm of √d, many times that of any token (authors' post: "a final
    normalization matches slot norms to the median embedding norm").

    A kind of slots is a subclass: it makes an `expander` and says how slots come from it.
    """

    #: Whether slots are made of the encoder's states of all tokens, and not of p_F alone.
    reads_states = False
    #: What a passage's slots keep of it, for people; `{words}` is K - 1.
    described = "A passage reaches the decoder as one pooled vector. It keeps the topic and loses details"
    expander: Any
    #: The lexicon, where slots are made of words.
    lexicon: Lexicon | None = None

    def __init__(self, config: LlinkConfig) -> None:
        super().__init__()
        self.width = config.hidden_size
        self.scale = nn.Parameter(torch.tensor(1.0))
        gated = config.slot_adapter == "gated"
        self.adapter = GatedAdapter(self.width, config.slot_adapter_hidden_size) if gated else nn.Identity()
        self.residual: nn.Parameter | None = None

    def expand(self, x: Tensor, read: Reading) -> Tensor:
        """What the adapter gives (N, d) → slots (N, K, d) of any norm."""
        raise NotImplementedError(f"{type(self).__name__} does not say how its slots are made.")

    def forward(self, features: Tensor, read: Reading) -> Tensor:
        """p_F (N, d) → slots (N, K, d).

        Raises:
            SlotMismatchError: If these slots read the encoder's states and are given none.
        """
        if self.reads_states and read.states is None:
            raise SlotMismatchError(
                "These slots are made of the encoder's states too: p_F alone (foreign_features) is not enough. "
                "Pass foreign_input_ids and foreign_attention_mask, or finished foreign_slots."
            )
        x = F.normalize(features.to(self.scale.dtype), dim=-1)  # (N, d)
        # The unit vector's variance is 1/d: LayerNorm's default eps would swallow it at large d.
        x = F.layer_norm(x, (self.width,), eps=1e-12) * self.scale  # (N, d)
        x = self.adapter(x)  # (N, d)
        slots = self.expand(x, read)  # (N, K, d)
        if self.residual is not None:
            common = F.layer_norm(x, (self.width,), eps=1e-12).unsqueeze(1)  # (N, 1, d)
            if slots.shape[1] > 1:  # a single slot has none to be told apart from
                slots = slots - slots.mean(dim=1, keepdim=True)  # (N, K, d)
            slots = self.residual * common + slots  # (N, K, d)
        return F.normalize(slots, dim=-1) * self.scale  # (N, K, d)

    def sentences(self, slots: Tensor) -> Tensor:
        """Slots (…, K, d) → the vectors (…, d) that stand for whole passages, which Stage B holds near the teacher."""
        return slots.mean(dim=-2)

    def check_fitted(self) -> None:
        """Raises [`NotFittedError`] if something of these slots must be trained before Stage B, and was not."""

    def _share(self, config: LlinkConfig) -> None:
        """Gives the slots a common part, the adapter's output, if they are configured to have one."""
        if config.slot_residual:
            self.residual = nn.Parameter(torch.tensor(RESIDUAL))
            self.expander.norm = nn.LayerNorm(self.width, bias=False)  # a bias would be taken out with the mean


class SlotExpander(nn.Module):
    """One vector to K: d → hidden → K·d, then LayerNorm a slot."""

    def __init__(self, width: int, hidden: int, num_slots: int, activation: nn.Module) -> None:
        super().__init__()
        self.num_slots = num_slots
        self.up = nn.Linear(width, hidden)
        self.activation = activation
        self.down = nn.Linear(hidden, num_slots * width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, d) → (N, K, d)."""
        slots = self.down(self.activation(self.up(x)))  # (N, K·d)
        return self.norm(slots.unflatten(-1, (self.num_slots, -1)))  # (N, K, d)


class MlpSlots(SlotEmbedder):
    """The released code's expander: d → 2·d → GELU → K·d, 75.5 M parameters at d = 2048."""

    activation: type[nn.Module] = nn.GELU

    def __init__(self, config: LlinkConfig) -> None:
        super().__init__(config)
        hidden = config.slot_expander_hidden_size
        self.expander = SlotExpander(self.width, hidden, config.num_slots, self.activation())
        self._share(config)

    def expand(self, x: Tensor, read: Reading) -> Tensor:
        return self.expander(x)  # (N, K, d)


class LowRankSlots(MlpSlots):
    """A low-rank linear map d → d/4 → K·d, the "minimal adapter" that the paper asks for."""

    activation = nn.Identity


class SlotQueries(nn.Module):
    """K learned queries are added to what a slot is made of, and one MLP with a residual serves them all."""

    def __init__(self, width: int, hidden: int, num_slots: int, state_width: int | None = None) -> None:
        super().__init__()
        self.queries = nn.Embedding(num_slots, width)
        self.attention = None if state_width is None else StateAttention(width, state_width)
        self.mlp_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, own: Tensor, states: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """(N, 1 or K, d), with attention also the states (N, L, d_e) and (N, L) → (N, K, d)."""
        slots = own + self.queries.weight  # (N, K, d)
        if self.attention is not None:
            slots = slots + self.attention(slots, states, mask)  # (N, K, d)
        slots = slots + self.down(F.gelu(self.up(self.mlp_norm(slots))))  # (N, K, d)
        return self.norm(slots)


class QuerySlots(SlotEmbedder):
    """K learned queries, each added to the one vector."""

    attends = False

    def __init__(self, config: LlinkConfig) -> None:
        super().__init__(config)
        state_width = config.encoder_hidden_size if self.attends else None
        self.expander = SlotQueries(self.width, config.slot_expander_hidden_size, config.num_slots, state_width)
        self._share(config)

    def expand(self, x: Tensor, read: Reading) -> Tensor:
        return self.expander(F.layer_norm(x, x.shape[-1:]).unsqueeze(1), read.states, read.mask)  # (N, K, d)


class ResamplerSlots(QuerySlots):
    """Learned queries that attend to the encoder's states of all tokens, as in a Perceiver resampler."""

    reads_states = attends = True
    described = "A passage reaches the decoder as {slots} vectors, which lose details"


class SegmentSlots(QuerySlots):
    """Learned queries, each also given the projection of its own K-th of the passage."""

    reads_states = True
    described = ResamplerSlots.described

    def expand(self, x: Tensor, read: Reading) -> Tensor:
        own = read.project(pool_segments(read.states, read.mask, self.expander.queries.num_embeddings)).to(
            x.dtype
        )  # (N, K, d)
        own = F.layer_norm(x, x.shape[-1:]).unsqueeze(1) + F.layer_norm(own, x.shape[-1:])  # (N, K, d)
        return self.expander(own)  # (N, K, d)


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

    def embeddings(self, embed: Callable[[Tensor], Tensor]) -> Tensor:
        """The decoder's embeddings (V', d) of the vocabulary, where this lexicon is; `embed` may lie elsewhere."""
        place = getattr(embed, "weight", self.prior).device
        return embed(self.vocabulary.to(place)).detach().to(self.prior.device)

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
        place = slots.device.type
        exact = torch.autocast(place, enabled=False) if torch.amp.is_autocast_available(place) else nullcontext()
        with exact:  # half precision would mix other words than inference
            cosines = F.normalize(slots.float(), dim=-1) @ F.normalize(embeddings.float(), dim=-1).T  # (N, K, V')
            return (self.sharpness.exp() * cosines + self.prior).log_softmax(dim=-1)


class LexiconSlots(SlotEmbedder):
    """The first slot is the adapter's output, which stands for the whole passage; the others are mixtures of words."""

    reads_states = True
    described = "A passage reaches the decoder as one pooled vector and {words} mixtures of words, which lose details"

    def __init__(self, config: LlinkConfig) -> None:
        super().__init__(config)
        hidden, words = config.slot_expander_hidden_size, config.num_slots - 1
        self.expander = Lexicon(self.width, hidden, words, config.encoder_hidden_size, config.slot_vocabulary_size)

    @property
    def lexicon(self) -> Lexicon:
        """Which words the slots stand for."""
        return self.expander

    def expand(self, x: Tensor, read: Reading) -> Tensor:
        embeddings = self.expander.embeddings(read.embed).to(x.dtype)  # (V', d)
        words = self.expander(read.states, read.mask, embeddings).exp() @ embeddings  # (N, K-1, d)
        return torch.cat([x.unsqueeze(1), words], dim=1)  # (N, K, d)

    def sentences(self, slots: Tensor) -> Tensor:
        return slots[..., 0, :]

    def check_fitted(self) -> None:
        self.expander.check_fitted()


#: `slot_expander` → the class of its slots.
SLOTS: dict[str, type[SlotEmbedder]] = {
    "mlp": MlpSlots,
    "low_rank": LowRankSlots,
    "queries": QuerySlots,
    "resampler": ResamplerSlots,
    "segments": SegmentSlots,
    "lexicon": LexiconSlots,
}


@torch.no_grad()
def median_embedding_norm(embedding: nn.Module, vocab_size: int, chunk_size: int = 8192) -> float:
    """The median L2 norm of the vectors that the decoder's embedding layer gives for its vocabulary (paper 4.2).

    Args:
        embedding: The decoder's input embedding module; called, so that decoders that scale embeddings are honoured.
        vocab_size: Number of ids to look up.
        chunk_size: Ids a look-up.
    """
    device = next(embedding.parameters()).device
    ids = torch.arange(vocab_size, device=device)
    norms = [embedding(chunk).float().norm(dim=-1).cpu() for chunk in ids.split(chunk_size)]
    return torch.cat(norms).median().item()
