"""From one projected vector to K slot embeddings: scale, adapter, expander (paper 4.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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

    def forward(self, x: Tensor) -> Tensor:
        """(N, d) → (N, K, d)."""
        slots = self.down(self.activation(self.up(x)))  # (N, K·d)
        return self.norm(slots.unflatten(-1, (self.num_slots, -1)))  # (N, K, d)


class SlotEmbedder(nn.Module):
    """p_F → unit norm → LayerNorm → × scale → adapter → expander → K slots whose norm is the scale.

    The learned scale starts at the median L2 norm of the base embedding rows, and the last step normalises every slot
    to it: a LayerNorm alone would give a norm of √d, many times that of any token (authors' post: "a final
    normalization matches slot norms to the median embedding norm").
    """

    def __init__(
        self, width: int, num_slots: int, adapter: str, adapter_hidden: int, expander: str, expander_hidden: int
    ) -> None:
        super().__init__()
        self.width = width
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.adapter = GatedAdapter(width, adapter_hidden) if adapter == "gated" else nn.Identity()
        self.expander = SlotExpander(width, expander_hidden, num_slots, linear=expander == "low_rank")

    def forward(self, features: Tensor) -> Tensor:
        """p_F (N, d) → slots (N, K, d)."""
        x = F.normalize(features.to(self.scale.dtype), dim=-1)  # (N, d)
        # The unit vector's variance is 1/d: LayerNorm's default eps would swallow it at large d.
        x = F.layer_norm(x, (self.width,), eps=1e-12) * self.scale  # (N, d)
        slots = self.expander(self.adapter(x))  # (N, K, d)
        return F.normalize(slots, dim=-1) * self.scale  # (N, K, d)


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
