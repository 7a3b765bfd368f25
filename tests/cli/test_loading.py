"""`--dtype auto`: as stored, except where the processor would take dozens of times longer."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest
import torch

from llink import base_checks
from llink.cli import loading
from llink.cli.loading import BaseLoading, ModelLoading


@pytest.fixture
def processor(monkeypatch):
    """Makes the machine one without an accelerator whose processor has no half precision, or one that differs."""

    def make(slow=True, accelerator=None):
        monkeypatch.setattr(loading, "accelerator", lambda: accelerator)
        monkeypatch.setattr(loading, "is_slow_on_processor", lambda dtype: slow)

    return make


def test_auto_is_float32_only_where_half_precision_is_slow(processor):
    processor()
    assert BaseLoading().loading()["dtype"] == "float32"
    assert ModelLoading(device_map="auto").loading()["dtype"] == "float32"
    assert BaseLoading(dtype="bfloat16").loading()["dtype"] == "bfloat16", "what was asked for"
    processor(slow=False)
    assert BaseLoading().loading()["dtype"] == "auto"
    processor(accelerator="cuda")
    assert BaseLoading().loading()["dtype"] == "auto"
    assert ModelLoading().loading() == {"dtype": "auto", "attn_implementation": None, "device_map": "cuda"}
    assert ModelLoading(device_map="auto").loading()["dtype"] == "auto"
    assert ModelLoading(device_map="cpu").loading()["dtype"] == "float32"


def test_float32_is_never_slow():
    assert not base_checks.is_slow_on_processor(torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_slow_is_what_torch_says_of_the_processor(dtype, monkeypatch):
    name = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}[dtype]
    for supported in (True, False):
        monkeypatch.setattr(torch.ops.mkldnn, name, lambda answer=supported: answer)
        assert base_checks.is_slow_on_processor(dtype) is not supported
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not base_checks.is_slow_on_processor(dtype), "without oneDNN nobody knows"


def test_a_trainer_warns_of_bases_that_are_slow(monkeypatch):
    monkeypatch.setattr(base_checks, "is_slow_on_processor", lambda dtype: dtype == torch.float16)
    base = lambda dtype, device="cpu": torch.nn.Linear(1, 1, dtype=dtype, device=device)  # noqa: E731
    with pytest.warns(UserWarning, match=r"float16, for which .* dtype='float32'"):
        base_checks.warn_of_slow_dtypes(SimpleNamespace(encoder=base(torch.float32), decoder=base(torch.float16)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        elsewhere = base(torch.float16, "meta")
        base_checks.warn_of_slow_dtypes(SimpleNamespace(encoder=elsewhere, decoder=base(torch.float32)))
