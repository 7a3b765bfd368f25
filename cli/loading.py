"""How commands load models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from ..base_checks import is_slow_on_processor


@dataclass(kw_only=True)
class BaseLoading:
    """How the bases of a training run are loaded; the Trainer chooses where it runs."""

    dtype: str = field(
        default="auto",
        metadata={
            "help": "dtype of the bases: float32, bfloat16, float16, or auto: as they are stored, but float32 on a "
            "processor that has no instructions for half precision."
        },
    )
    attn_implementation: str | None = field(
        default=None, metadata={"help": "The bases' attention: sdpa, eager, flash_attention_2, … ."}
    )

    trust_remote_code: bool = field(
        default=False, metadata={"help": "Run the code that a base brings of its own; read it first."}
    )

    def loading(self) -> dict[str, Any]:
        """Arguments of `from_pretrained`."""
        trust = {"trust_remote_code": True} if self.trust_remote_code else {}
        dtype = dtype_on(self.device(), self.dtype)
        return {"dtype": dtype, "attn_implementation": self.attn_implementation, **trust}

    def device(self) -> str | None:
        """Where models run; None is the processor."""
        return accelerator()


@dataclass(kw_only=True)
class ModelLoading(BaseLoading):
    """How finished models are loaded, and where they run."""

    device_map: str | None = field(
        default=None,
        metadata={"help": "Where models run: cpu, cuda:1, …, or auto, spread over all GPUs; a GPU where there is one."},
    )

    def loading(self) -> dict[str, Any]:
        """Arguments of `from_pretrained`."""
        return super().loading() | {"device_map": self.device()}

    def device(self) -> str | None:
        """As `--device_map` says."""
        return self.device_map or accelerator()


def dtype_on(device: str | None, dtype: str) -> str:
    """What `--dtype` means on a device; None and `cpu` are the processor."""
    on_processor = (accelerator() if device == "auto" else device) in (None, "cpu")
    return "float32" if dtype == "auto" and on_processor and is_slow_on_processor(torch.bfloat16) else dtype


def accelerator() -> str | None:
    """The machine's accelerator, such as `cuda`; None where there is none."""
    return str(torch.accelerator.current_accelerator()) if torch.accelerator.is_available() else None
