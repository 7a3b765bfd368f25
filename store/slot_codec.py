"""Slots in half of float16's bytes: each as eight-bit numbers and one scale.

A slot is no mixture of few of the decoder's embeddings: `benchmarks/store.py` measures what such ones cost and change,
beside this.

Shapes: M slots, d the decoder's width.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_MOST = 127


def pack_slots(slots: Tensor) -> bytes:
    """(M, d) → M scales (float32), then M · d numbers (int8): M · (4 + d) bytes."""
    slots = slots.float().cpu()
    scales = (slots.abs().amax(dim=1, keepdim=True) / _MOST).clamp(min=torch.finfo(torch.float32).tiny)  # (M, 1)
    numbers = (slots / scales).round().to(torch.int8)
    return scales.numpy().astype("<f4").tobytes() + numbers.numpy().tobytes()


def unpack_slots(packed: bytes, width: int) -> Tensor:
    """What `pack_slots` made of slots of this width → (M, d) float32."""
    count = len(packed) // (4 + width)
    scales = np.frombuffer(packed, dtype="<f4", count=count)
    numbers = np.frombuffer(packed, dtype=np.int8, offset=4 * count).reshape(count, width)
    return torch.from_numpy(numbers * scales[:, None])
