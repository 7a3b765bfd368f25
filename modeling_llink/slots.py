"""From one projected vector to K slot embeddings: scale, adapter, expander (paper 4.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..configuration_llink import LlinkConfig
from .errors import SlotMismatchError
from .lexicon import Lexicon
from .state_attention import StateAttention

#: The learned weight of what all slots have in common starts here; what tells them apart has weight one.
RESIDUAL = 0.25


class GatedAdapter(nn.Module):
    """A gated residual: x + tanh(g)·W2·GELU(W1·LN(x)), with g₀ = 0.5."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        self.gate = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        """(N, d) → (N, d)."""
        return x + torch.tanh(self.gate) * self.down(F.gelu(self.up(self.norm(x))))


class SlotExpander(nn.Module):
    """One vector to K: d → hidden → K·d, then LayerNorm a slot.

    With `hidden` = 2·d and a GELU it is the released code's MLP (75.5 M parameters at d = 2048); with a small `hidden`
    and no GELU it is a low-rank linear map, the "minimal adapter" that the paper asks for.
    """

    def __init__(self, width: int, hidden: int, num_slots: int, linear: bool) -> None:
        super().__init__()
        self.num_slots = num_slots
        self.up = nn.Linear(width, hidden)
        self.activation = nn.Identity() if linear else nn.GELU()
        self.down = nn.Linear(hidden, num_slots * width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, states: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """(N, d) → (N, K, d); the tokens' states are not read."""
        slots = self.down(self.activation(self.up(x)))  # (N, K·d)
        return self.norm(slots.unflatten(-1, (self.num_slots, -1)))  # (N, K, d)


class SlotQueries(nn.Module):
    """One vector to K: K learned queries are added to it, and one MLP with a residual serves them all.

    What the pooled vector has lost, such as a number, can still reach a slot in two ways. With `state_width` the
    queries attend to the encoder's states of all tokens before the MLP, as in a Perceiver resampler. With `segments`
    each slot is also given the projection of its own K-th of the passage.
    """

    def __init__(
        self, width: int, hidden: int, num_slots: int, state_width: int | None = None, segments: bool = False
    ) -> None:
        super().__init__()
        self.segments = segments
        self.queries = nn.Embedding(num_slots, width)
        self.attention = None if state_width is None else StateAttention(width, state_width)
        self.mlp_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, states: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """(N, d), with attention (N, L, d_e) and (N, L), with segments (N, K, d) → (N, K, d)."""
        slots = F.layer_norm(x, x.shape[-1:]).unsqueeze(1) + self.queries.weight  # (N, K, d)
        if self.segments:
            slots = slots + F.layer_norm(states.to(x.dtype), x.shape[-1:])  # (N, K, d)
        if self.attention is not None:
            slots = slots + self.attention(slots, states, mask)  # (N, K, d)
        slots = slots + self.down(F.gelu(self.up(self.mlp_norm(slots))))  # (N, K, d)
        return self.norm(slots)


class SlotEmbedder(nn.Module):
    """p_F → unit norm → LayerNorm → × scale → adapter → expander → K slots whose norm is the scale.

    The learned scale starts at the median L2 norm of the base embedding rows, and the last step normalises every slot
    to it: a LayerNorm alone would give a norm of √d, many times that of any token (authors' post: "a final
    normalization matches slot norms to the median embedding norm").

    With a lexicon the first slot is the adapter's output, and the others are mixtures of the decoder's embeddings.
    """

    def __init__(self, config: LlinkConfig) -> None:
        super().__init__()
        d, hidden, kind = config.hidden_size, config.slot_expander_hidden_size, config.slot_expander
        self.width = d
        #: Whether slots are made of the encoder's states of all tokens, and not of p_F alone.
        self.reads_states = kind in ("resampler", "segments", "lexicon")
        self.scale = nn.Parameter(torch.tensor(1.0))
        gated = config.slot_adapter == "gated"
        self.adapter = GatedAdapter(d, config.slot_adapter_hidden_size) if gated else nn.Identity()
        self.residual: nn.Parameter | None = None
        self.expander: SlotQueries | SlotExpander | Lexicon
        if kind == "lexicon":
            words = config.num_slots - 1
            self.expander = Lexicon(d, hidden, words, config.encoder_hidden_size, config.slot_vocabulary_size)
            return
        if kind in ("queries", "resampler", "segments"):
            state_width = config.encoder_hidden_size if kind == "resampler" else None
            self.expander = SlotQueries(d, hidden, config.num_slots, state_width, segments=kind == "segments")
        else:
            self.expander = SlotExpander(d, hidden, config.num_slots, linear=kind == "low_rank")
        if config.slot_residual:
            self.residual = nn.Parameter(torch.tensor(RESIDUAL))
            self.expander.norm = nn.LayerNorm(d, bias=False)  # a bias would be taken out with the slots' mean

    @property
    def lexicon(self) -> Lexicon | None:
        """The lexicon, where slots are made of words."""
        return self.expander if isinstance(self.expander, Lexicon) else None

    def forward(
        self,
        features: Tensor,
        states: Tensor | None = None,
        mask: Tensor | None = None,
        embeddings: Tensor | None = None,
    ) -> Tensor:
        """p_F (N, d) → slots (N, K, d).

        Args:
            features: (N, d) p_F.
            states: (N, L, d_e) the encoder's states, which a resampler and a lexicon read, or (N, K, d) the projected
                segments.
            mask: (N, L), 1 where a token stands.
            embeddings: (V', d) the decoder's embeddings of a lexicon's vocabulary.

        Raises:
            SlotMismatchError: If a resampler or a lexicon is given no states, segments are missing, or the lexicon's
                embeddings are.
        """
        if self.reads_states and states is None:
            raise SlotMismatchError(
                "These slots are made of the encoder's states too: p_F alone (foreign_features) is not enough. "
                "Pass foreign_input_ids and foreign_attention_mask, or finished foreign_slots."
            )
        x = F.normalize(features.to(self.scale.dtype), dim=-1)  # (N, d)
        # The unit vector's variance is 1/d: LayerNorm's default eps would swallow it at large d.
        x = F.layer_norm(x, (self.width,), eps=1e-12) * self.scale  # (N, d)
        x = self.adapter(x)  # (N, d)
        if self.lexicon is not None:
            if embeddings is None:
                raise SlotMismatchError(
                    "Slots made of words need the decoder's embeddings of the lexicon's vocabulary."
                )
            embeddings = embeddings.to(x.dtype)
            words = self.lexicon(states, mask, embeddings).exp() @ embeddings  # (N, K-1, d)
            slots = torch.cat([x.unsqueeze(1), words], dim=1)  # (N, K, d)
        else:
            slots = self.expander(x, states, mask)  # (N, K, d)
        if self.residual is not None:
            common = F.layer_norm(x, (self.width,), eps=1e-12).unsqueeze(1)  # (N, 1, d)
            if slots.shape[1] > 1:  # a single slot has none to be told apart from
                slots = slots - slots.mean(dim=1, keepdim=True)  # (N, K, d)
            slots = self.residual * common + slots  # (N, K, d)
        return F.normalize(slots, dim=-1) * self.scale  # (N, K, d)

    def sentences(self, slots: Tensor) -> Tensor:
        """Slots (…, K, d) → the vectors (…, d) that stand for whole passages: the first with a lexicon, else the mean.

        Stage B's auxiliaries hold them near the teacher (paper 4.2).
        """
        return slots[..., 0, :] if self.lexicon is not None else slots.mean(dim=-2)


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
