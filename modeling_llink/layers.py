"""What Stage A aligns: the projector, the teacher's space, and the hidden states of a base that both are made of.

Shapes: N passages, L encoder tokens, K slots, d_e and d widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..configuration_bases import text_config
from .errors import NotFittedError


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


def pool(states: Tensor, mask: Tensor, pooling: str, normalized: bool = False) -> Tensor:
    """Pools the encoder's states over the tokens of each passage (paper 4.1: the masked mean).

    Args:
        states: (N, L, d_e) hidden states of one layer.
        mask: (N, L), 1 where a token stands, 0 at padding.
        pooling: `mean`, `cls` (the first token), `max` or `last` (the last token).
        normalized: Whether the vectors are brought to the length √d_e.

    Returns:
        (N, d_e) float32: sums over long texts lose digits in half precision.
    """
    pooled = _pooled(states.float(), mask.bool(), pooling)
    return F.normalize(pooled, dim=-1) * pooled.shape[1] ** 0.5 if normalized else pooled


def _pooled(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        places = torch.arange(mask.shape[1], device=mask.device)  # (L,)
        return states[torch.arange(len(states)), (mask * places).amax(dim=1)]
    keep = mask.unsqueeze(-1)  # (N, L, 1)
    if pooling == "max":
        return states.masked_fill(~keep, torch.finfo(states.dtype).min).amax(dim=1)
    if pooling == "mean":
        return (states * keep).sum(dim=1) / keep.sum(dim=1).clamp(min=1)
    raise ValueError(f"pooling={pooling!r} is not one of mean, cls, max, last.")


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


def device_of(module: nn.Module) -> torch.device:
    """Where a module's first parameter lives."""
    return next(module.parameters()).device


def input_device(module: nn.Module) -> torch.device:
    """Where a module's inputs belong: with its first weights; on the CPU where those are offloaded."""
    device = device_of(module)
    return torch.device("cpu") if device.type == "meta" else device


class _ReachedError(Exception):
    """Ends a forward pass: all that was asked for is known."""


#: What this thread's forward pass has read so far, by layer, and the number of the last that it is to read.
_reading: ContextVar[tuple[dict[int, Tensor], int] | None] = ContextVar("reading", default=None)


def _one_stream(state: Tensor | tuple[Tensor, ...], length: int, width: int | None) -> Tensor:
    """A hidden state as (B, L, d); of one that runs in several streams (Gemma 3n, hyper-connections) their mean.

    Streams stand in a dimension of their own, or side by side (Qwen 4): then a state is several `width`s wide. What
    stands beside the tokens is left out: PEGASUS-X's states of the whole text, and what it fills its blocks with.
    """
    tokens = state[0] if isinstance(state, tuple) else state
    tokens = tokens if tokens.dim() == 3 else tokens.mean(dim=2 if tokens.shape[1] == length else 0)
    if width and tokens.shape[-1] > width and tokens.shape[-1] % width == 0:
        tokens = tokens.unflatten(-1, (-1, width)).mean(dim=-2)
    return tokens[:, :length]


def hidden_states(model: PreTrainedModel, layers: Sequence[int], **inputs: Any) -> list[Tensor]:
    """The hidden states (B, L, d) of some layers, as `output_hidden_states=True` numbers them, in one pass.

    The pass ends at the highest of them: layer 8 of 12 costs two thirds. A model whose blocks are not found is run
    whole.

    Args:
        model: A base without its head.
        layers: Of each, 0 is the embeddings, -1 the last layer with its final norm.
        inputs: As the model takes them, `input_ids` (B, L) among them.

    Raises:
        RuntimeError: If the model runs without one of its blocks.
    """
    if set(layers) == {-1}:
        return [model(**inputs).last_hidden_state] * len(layers)
    blocks = _blocks(model)
    numbers = [layer % (len(blocks) + 1) for layer in layers]  # what the block of this number reads is the layer's
    length, width = inputs["input_ids"].shape[1], getattr(text_config(model.config), "hidden_size", None)
    if max(numbers) == len(blocks):
        output = model(**inputs, output_hidden_states=True)
        last = len(output.hidden_states) - 1
        return [
            output.last_hidden_state[:, :length]  # normed, one stream, and as wide as the model makes it
            if layer in (-1, last)
            else _one_stream(output.hidden_states[layer], length, width)
            for layer in layers
        ]
    hooks = [blocks[n].register_forward_pre_hook(partial(_read, n), with_kwargs=True) for n in set(numbers)]
    read: dict[int, Tensor] = {}
    before = _reading.set((read, max(numbers)))
    try:
        model(**inputs)
    except _ReachedError:
        return [_one_stream(read[number], length, width) for number in numbers]
    finally:
        _reading.reset(before)
        for hook in hooks:
            hook.remove()
    raise RuntimeError(f"{type(model).__name__} never ran its block {max(numbers)}.")


@torch.no_grad()
def encoder_states(
    encoder: PreTrainedModel, layers: Sequence[int], input_ids: Tensor, attention_mask: Tensor
) -> list[Tensor]:
    """Encoder tokens (N, L) of any device → a frozen encoder's states (N, L, d_e) of some layers, without gradient."""
    place = input_device(encoder)
    return hidden_states(encoder, layers, input_ids=input_ids.to(place), attention_mask=attention_mask.to(place))


def _read(number: int, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    reading = _reading.get()
    if reading is None:  # another thread is running the whole model
        return
    read, last = reading
    read[number] = args[0] if args else kwargs["hidden_states"]
    if number == last:
        raise _ReachedError


def _blocks(model: PreTrainedModel) -> list[nn.Module]:
    """The model's transformer blocks, in order: its one list of as many modules as it has layers; none if unclear."""
    count = getattr(text_config(model.config), "num_hidden_layers", None)
    found = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == count]
    return list(found[0]) if len(found) == 1 else []
