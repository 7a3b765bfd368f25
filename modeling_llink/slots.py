"""From what the encoder says of a passage to its slots, and into the prompt (paper 4.2). One class a kind of slots.

A kind is chosen by `slot_expander` and found in [`SLOTS`]; nothing outside this file asks which one it is.

Shapes: N passages, L encoder tokens, K slots, M slots of all passages, C states of several layers side by side, d the
decoder's width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init

from ..configuration_llink import LlinkConfig
from .errors import BaseModelError, NotFittedError, SlotMismatchError

#: The learned weight of what all slots have in common starts here; what tells them apart has weight one.
RESIDUAL = 0.25


class SlotEmbedder(nn.Module):
    """Slots whose norm is a learned scale, which starts at the median L2 norm of the decoder's embedding rows.

    A LayerNorm alone would give a norm of √d, many times that of any token (authors' post: "a final normalization
    matches slot norms to the median embedding norm").
    """

    #: Whether slots are made of the encoder's states of all tokens, and not of p_F.
    reads_states = False
    #: What a passage's slots keep of it, for people.
    described = "A passage reaches the decoder as one pooled vector. It keeps the topic and loses details"

    def __init__(self, config: LlinkConfig) -> None:
        super().__init__()
        self.width = config.hidden_size
        self.scale = nn.Parameter(torch.tensor(1.0))

    @property
    def learned(self) -> bool:
        """Whether something of these slots was trained before Stage B."""
        return False

    def check_fitted(self) -> None:
        """Raises [`NotFittedError`] if something of these slots must be trained before Stage B, and was not."""


class SlotExpander(nn.Module):
    """One vector to K: d → hidden → K·d, then LayerNorm a slot."""

    def __init__(self, width: int, hidden: int, num_slots: int) -> None:
        super().__init__()
        self.num_slots = num_slots
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, num_slots * width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, d) → (N, K, d)."""
        slots = self.down(F.gelu(self.up(x)))  # (N, K·d)
        return self.norm(slots.unflatten(-1, (self.num_slots, -1)))  # (N, K, d)


class GatedAdapter(nn.Module):
    """A gated residual: x + tanh(g)·W2·GELU(W1·LN(x)), with g₀ = 0.5 (released code)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        self.gate = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        """(N, d) → (N, d)."""
        return x + torch.tanh(self.gate) * self.down(F.gelu(self.up(self.norm(x))))


class MlpSlots(SlotEmbedder):
    """p_F → unit norm → LayerNorm → × scale → adapter → expander → K slots (paper 4.2).

    The expander is the released code's: d → 2·d → GELU → K·d, 75.5 M parameters at d = 2048.
    """

    def __init__(self, config: LlinkConfig) -> None:
        super().__init__(config)
        gated = config.slot_adapter == "gated"
        self.adapter = GatedAdapter(self.width, config.slot_adapter_hidden_size) if gated else nn.Identity()
        self.expander = SlotExpander(self.width, config.slot_expander_hidden_size, config.num_slots)
        self.residual: nn.Parameter | None = None
        if config.slot_residual:
            self.residual = nn.Parameter(torch.tensor(RESIDUAL))
            self.expander.norm = nn.LayerNorm(self.width, bias=False)  # a bias would be taken out with the mean

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """p_F (N, d) → slots (N, K, d) and their mask (N, K), true everywhere."""
        x = F.normalize(features.to(self.scale.dtype), dim=-1)  # (N, d)
        # The unit vector's variance is 1/d: LayerNorm's default eps would swallow it at large d.
        x = F.layer_norm(x, (self.width,), eps=1e-12) * self.scale  # (N, d)
        x = self.adapter(x)  # (N, d)
        slots = self.expander(x)  # (N, K, d)
        if self.residual is not None:
            common = F.layer_norm(x, (self.width,), eps=1e-12).unsqueeze(1)  # (N, 1, d)
            if slots.shape[1] > 1:  # a single slot has none to be told apart from
                slots = slots - slots.mean(dim=1, keepdim=True)  # (N, K, d)
            slots = self.residual * common + slots  # (N, K, d)
        slots = F.normalize(slots, dim=-1) * self.scale  # (N, K, d)
        return slots, torch.ones(slots.shape[:2], dtype=torch.bool, device=slots.device)


class ZeroLinear(nn.Linear):
    """A linear map that starts at zero."""


class TokenSlots(SlotEmbedder):
    """One slot for each of a passage's encoder tokens, or a few: y = W·x + b + D·GELU(U·x), slot = scale · y/|y|.

    x is the mean of its tokens' states of several encoder layers side by side, normalised without parameters. D starts
    at zero, so learning starts from a linear map; which of the decoder's embeddings y points at is learned from
    parallel text, without the decoder's layers (a dictionary), before Stage B.
    """

    reads_states = True
    described = "A passage reaches the decoder as one vector for each token that the encoder cuts it into"
    fitted: Tensor

    def __init__(self, config: LlinkConfig) -> None:
        super().__init__(config)
        self.state_width = config.states_width  # C
        self.map = nn.Linear(self.state_width, self.width)
        self.up = nn.Linear(self.state_width, config.slot_expander_hidden_size)
        self.down = ZeroLinear(config.slot_expander_hidden_size, self.width)
        self.register_buffer("fitted", torch.tensor(False))

    @property
    def learned(self) -> bool:
        return bool(self.fitted)

    def check_fitted(self) -> None:
        if not self.fitted:
            raise NotFittedError(
                "slot_expander='tokens' needs its dictionary first: train it with LexiconTrainer (`llink lexicon`) "
                "between Stage A and Stage B, or choose other slots."
            )

    def directions(self, states: Tensor) -> Tensor:
        """A token's states (…, C) → y (…, d), of any norm."""
        x = F.layer_norm(states.to(self.map.weight.dtype), (self.state_width,))  # (…, C)
        return self.map(x) + self.down(F.gelu(self.up(x)))  # (…, d)

    def forward(self, states: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """States (N, L, C), the slots that they are a part of (N, L) → slots (N, K, d), their mask (N, K).

        A passage's slots stand first in its row; K is the longest passage's number of them.
        """
        means, kept = slot_means(states, index)  # (N, K, C), (N, K)
        slots = F.normalize(self.directions(means[kept]), dim=-1) * self.scale  # (M, d)
        padded = slots.new_zeros(*kept.shape, self.width)  # (N, K, d)
        return padded.masked_scatter(kept.unsqueeze(-1), slots), kept


def slot_means(states: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """The mean state of the tokens of each slot.

    Args:
        states: (N, L, C).
        index: (N, L) the number, from 1 on, of the slot that a token is a part of; 0 where it is of none.

    Returns:
        (N, K, C), and (N, K) true at slots; K is the greatest number of them.
    """
    index = index.to(states.device)
    counts = index.amax(dim=1, keepdim=True)  # (N, 1)
    most = int(counts.max())
    sums = states.new_zeros(len(states), most + 1, states.shape[2])  # (N, 1 + K, C)
    sums = sums.scatter_add(1, index.unsqueeze(-1).expand_as(states), states)[:, 1:]  # (N, K, C)
    ones = states.new_ones(index.shape)  # (N, L)
    parts = states.new_zeros(len(states), most + 1).scatter_add(1, index, ones)[:, 1:]  # (N, K)
    return sums / parts.clamp(min=1).unsqueeze(-1), torch.arange(most, device=states.device) < counts


#: `slot_expander` → the class of its slots.
SLOTS: dict[str, type[SlotEmbedder]] = {"mlp": MlpSlots, "tokens": TokenSlots}


@torch.no_grad()
def init_bridge(module: nn.Module) -> None:
    """Draws a new module of the bridge: what keeps a vector's length, but what is to start at zero."""
    if isinstance(module, ZeroLinear):
        init.zeros_(module.weight)
        init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        init.normal_(module.weight, std=module.in_features**-0.5)
        if module.bias is not None:
            init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        init.ones_(module.weight)
        if module.bias is not None:
            init.zeros_(module.bias)


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


# ---------------------------------------------------------------------- into the prompt: count first, then scatter

#: What the embedding layer of this thread's forward pass gives at reserved ids, until it has.
_waiting: ContextVar[list[tuple[Tensor, Tensor]] | None] = ContextVar("waiting_slots", default=None)


@contextmanager
def injected(embedding: nn.Module, positions: Tensor, rows: Tensor) -> Iterator[None]:
    """Runs the block's pass of a decoder with other embeddings at some positions of its `input_ids`.

    They are put where its embedding layer gives its own, so that whatever it does with embeddings, or with ids beside
    them, happens as with text: scaling (Falcon-H1), embeddings for each layer (Gemma 3n and 4).

    Args:
        embedding: The decoder's input embeddings.
        positions: (B, S) true where a row is put.
        rows: (M, d) as many as positions, in their order, or (1, d) for all.

    Raises:
        BaseModelError: If the pass never called the embedding layer with these (B, S) ids.
    """
    hook = embedding.register_forward_hook(_inject)
    waiting = [(positions, rows)]
    token = _waiting.set(waiting)
    try:
        yield
        if waiting:
            raise BaseModelError(
                f"This decoder does not read its prompt through its own {type(embedding).__name__}, so nothing can be "
                "put there. Choose another decoder."
            )
    finally:
        _waiting.reset(token)
        hook.remove()


def _inject(embedding: nn.Module, inputs: tuple, embeds: Tensor) -> Tensor | None:
    waiting = _waiting.get()
    if not waiting or embeds.shape[:2] != waiting[0][0].shape:  # another thread's, or another table's
        return None
    positions, rows = waiting.pop()
    positions = positions.unsqueeze(-1).to(embeds.device)  # (B, S, 1)
    if len(rows) == 1:
        return torch.where(positions, rows.to(embeds), embeds)
    return embeds.masked_scatter(positions, rows.to(embeds))


def check_counts(positions: Tensor, slots: Tensor, mask: Tensor) -> None:
    """Refuses slots that are not as many as their places: count first, then scatter.

    Args:
        positions: (B, S) true where a slot token stands.
        slots: (B, T, K, d) slots of up to T passages a row.
        mask: (B, T, K) true at slots, false where a passage pads its row, or nothing pads a shorter passage.

    Raises:
        SlotMismatchError: If a row's number of slot tokens is not that of its passages' slots.
    """
    if slots.shape[:3] != mask.shape or len(slots) != len(positions):
        raise SlotMismatchError(
            f"Slots of shape {tuple(slots.shape)} do not fit {len(positions)} prompt rows: "
            "give one row of passages for each prompt."
        )
    found = positions.sum(dim=1)  # (B,)
    needed = mask.sum(dim=(1, 2)).to(found)  # (B,)
    if not torch.equal(found, needed):
        row = int((found != needed).nonzero()[0])
        counts = [int(count) for count in mask[row].sum(dim=1) if count]
        raise SlotMismatchError(
            f"Row {row} holds {int(found[row])} slot tokens, but its {len(counts)} passage(s) of "
            f"{' + '.join(map(str, counts))} slots need {int(needed[row])}. Give exactly one passage for each "
            "placeholder, do not cut a prompt inside its slots, and do not use prefill_chunk_size."
        )


def default_mask(passages: Tensor, mask: Tensor | None) -> Tensor:
    """(B, T) true everywhere unless a mask is given."""
    if mask is not None:
        return mask.to(passages.device)
    return torch.ones(passages.shape[:2], dtype=torch.bool, device=passages.device)
