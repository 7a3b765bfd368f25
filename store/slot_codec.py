"""Slots in about half of float16's bytes: eight-bit numbers, and a scale for every 32 of them.

A slot is no mixture of few of the decoder's embeddings: `benchmarks/store.py` measures what such ones cost and change,
beside this.

Shapes: M slots, d the decoder's width, G groups of 32 numbers, the last filled up with zeros.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_GROUP, _MOST = 32, 127


def bytes_of_slot(width: int) -> int:
    """Bytes that one slot of d numbers takes."""
    groups = -(-width // _GROUP)
    return 2 * groups + _GROUP * groups


def pack_slots(slots: Tensor) -> bytes:
    """(M, d) → M · G scales (float16), then M · G · 32 numbers (int8)."""
    slots = F.pad(slots.float().cpu(), (0, -slots.shape[1] % _GROUP)).unflatten(1, (-1, _GROUP))  # (M, G, 32)
    scales = (slots.abs().amax(dim=2, keepdim=True) / _MOST).clamp(min=torch.finfo(torch.float16).tiny).half()
    numbers = (slots / scales.float()).round().clamp(-_MOST, _MOST).to(torch.int8)
    return scales.numpy().astype("<f2").tobytes() + numbers.numpy().tobytes()


def unpack_slots(packed: bytes, width: int) -> Tensor:
    """What `pack_slots` made of slots of this width → (M, d) float32."""
    count, groups = len(packed) // bytes_of_slot(width), -(-width // _GROUP)
    scales = np.frombuffer(packed, dtype="<f2", count=count * groups).astype(np.float32)
    numbers = np.frombuffer(packed, dtype=np.int8, offset=2 * count * groups).reshape(count, groups, _GROUP)
    return torch.from_numpy((numbers * scales.reshape(count, groups, 1)).reshape(count, -1)[:, :width])
