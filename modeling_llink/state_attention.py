"""How slots read the encoder's states of all tokens."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class StateAttention(nn.Module):
    """Slots attend to the encoder's states of their passage's tokens."""

    def __init__(self, width: int, state_width: int) -> None:
        super().__init__()
        self.num_heads = max(heads for heads in range(1, max(1, width // 64) + 1) if width % heads == 0)
        self.slot_norm = nn.LayerNorm(width)
        self.state_norm = nn.LayerNorm(state_width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(state_width, width, bias=False)  # it would add the same to all of a slot's scores
        self.value = nn.Linear(state_width, width)
        self.out = nn.Linear(width, width)

    def forward(self, slots: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        """(N, K, d), (N, L, d_e), (N, L) true at tokens → (N, K, d)."""
        states = self.state_norm(states.to(self.key.weight.dtype))  # (N, L, d_e)
        heads = lambda x: x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # noqa: E731 - (N, ·, d) → (N, H, ·, d/H)
        read = F.scaled_dot_product_attention(
            heads(self.query(self.slot_norm(slots))),
            heads(self.key(states)),
            heads(self.value(states)),
            attn_mask=mask.bool()[:, None, None, :],
        )  # (N, H, K, d/H)
        return self.out(read.transpose(1, 2).flatten(2))  # (N, K, d)
