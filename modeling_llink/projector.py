"""The projector g: pooled encoder vectors into the decoder's hidden space (paper 4.1)."""

from __future__ import annotations

from torch import Tensor, nn


class LlinkProjector(nn.Module):
    """g: Linear d_e → h, GELU, dropout, Linear h → d, LayerNorm (paper 4.1: 768 → 3072 → 2048, 8,659,968 parameters).

    Args:
        in_features: d_e, the encoder's width.
        hidden_features: h, the hidden layer's width.
        out_features: d, the decoder's width.
        dropout: Probability of dropping a hidden unit in training.
    """

    def __init__(self, in_features: int, hidden_features: int, out_features: int, dropout: float) -> None:
        super().__init__()
        self.up = nn.Linear(in_features, hidden_features)
        self.activation = nn.GELU()
        self.dropout = nn.Dropout(dropout)
        self.down = nn.Linear(hidden_features, out_features)
        self.norm = nn.LayerNorm(out_features)

    def forward(self, pooled: Tensor) -> Tensor:
        """z_F (…, d_e) → p_F (…, d)."""
        hidden = self.dropout(self.activation(self.up(pooled.to(self.up.weight.dtype))))  # (…, h)
        return self.norm(self.down(hidden))  # (…, d)
