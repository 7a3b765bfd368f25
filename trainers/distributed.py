"""Rows of all processes in one batch, with the gradient of one process."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def gather_rows(rows: Tensor) -> Tensor:
    """Gathers each process's rows, in rank order; differentiable.

    Args:
        rows: (b, …), of the same shape on each of the W processes.

    Returns:
        (W·b, …), the same on all of them; `rows` itself when there is one process.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return rows
    return _GatherRows.apply(rows)


class _GatherRows(torch.autograd.Function):
    """All processes' rows. Each process's own rows keep their gradient.

    Every process computes the same loss of the same gathered rows, and DistributedDataParallel then averages the
    parameters' gradients; multiplying the own rows' gradient by the number of processes makes that average the sum,
    the gradient of one process with the whole batch.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        ctx.own = slice(dist.get_rank() * len(rows), (dist.get_rank() + 1) * len(rows))
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient[ctx.own] * dist.get_world_size()
