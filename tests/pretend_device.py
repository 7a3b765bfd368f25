"""A GPU that is none: tensors on the CPU, told apart as a GPU's and the CPU's would be.

Under [`PretendDevice`] a tensor that was sent to `cuda` says so, what is made of it lies there too, and an operation on
tensors of both places fails as it would with a GPU. So code that forgets to move a tensor fails here, without one.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any
from unittest import mock

import torch
from accelerate import Accelerator
from torch.overrides import TorchFunctionMode, _pop_mode_temporarily
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map_only
from transformers import PreTrainedModel, TrainingArguments

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
_aten = torch.ops.aten
#: Operations that may read a tensor of one place into a tensor of the other.
_MOVING = {_aten.copy_.default}
#: Operations whose index may lie on the CPU whatever they index.
_INDEXING = {_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default, _aten._index_put_impl_.default}


class DeviceMismatchError(RuntimeError):
    """Tensors of two places in one operation."""


class _Places:
    """Which storages lie on the GPU that is none."""

    def __init__(self) -> None:
        self._marked: dict[int, torch.UntypedStorage] = {}  # kept alive, so that no other takes the place of one

    def of(self, tensor: torch.Tensor) -> torch.device:
        return GPU if tensor.untyped_storage()._cdata in self._marked else CPU

    def put(self, tensor: torch.Tensor, place: torch.device) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if place.type == "cuda":
            self._marked[storage._cdata] = storage
        else:
            self._marked.pop(storage._cdata, None)
        return tensor


class _Calls(TorchFunctionMode):
    """What Python code asks of a tensor: where it lies, to lie elsewhere, its numbers as an array."""

    def __init__(self, places: _Places) -> None:
        super().__init__()
        self.places = places

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function == torch.Tensor.device.__get__:
            return self.places.of(args[0])
        if function == torch.Tensor.is_cuda.__get__:
            return self.places.of(args[0]) == GPU
        if function in (torch.Tensor.numpy, torch.Tensor.__array__) and self.places.of(args[0]) == GPU:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
        asked = self._place(kwargs.get("device"))
        if function is torch.Tensor.cpu:
            asked = CPU
        elif function is torch.Tensor.to:
            asked = next(filter(None, map(self._place, args[1:])), asked)
            places = (str, torch.device)
            args = tuple(CPU if isinstance(one, places) and self._place(one) == GPU else one for one in args)
        if asked is None or asked.type == "meta":
            return function(*args, **kwargs)
        if asked == GPU and "device" in kwargs:
            kwargs["device"] = CPU
        made = function(*args, **kwargs)
        if self.places.of(made) == asked:
            return made
        moved = made.clone() if any(isinstance(one, torch.Tensor) for one in args) else made
        return self.places.put(moved, asked)

    def _place(self, value):
        if isinstance(value, torch.Tensor):
            return self.places.of(value)
        if isinstance(value, (str, torch.device)):
            found = torch.device(value)
            return GPU if found.type == "cuda" else found
        return None


class _Operations(TorchDispatchMode):
    """Runs every operation on the CPU, refuses mixtures, and puts what comes of the GPU's tensors there too."""

    def __init__(self, places: _Places) -> None:
        super().__init__()
        self.places = places

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, torch.Tensor)]
        checked = tensors
        if function in _INDEXING:  # an index may lie on the CPU; what is put must lie with what it is put into
            index = [one for one in args[1] if one is not None and self.places.of(one) == GPU]
            checked = [args[0], *index, *args[2:3]]
        places = {self.places.of(one) for one in checked if one.dim() or self.places.of(one) == GPU}
        if len(places) > 1 and function not in _MOVING:
            shapes = ", ".join(f"{tuple(one.shape)} on {self.places.of(one)}" for one in tensors)
            raise DeviceMismatchError(f"{function} of {shapes}")
        made = function(*args, **kwargs)
        if function in _MOVING or GPU not in places:
            return made
        return tree_map_only(torch.Tensor, lambda one: self.places.put(one, GPU), made)


class PretendDevice(ExitStack):
    """`with PretendDevice():` has a GPU, `cuda:0`, that is none: for commands, for `from_pretrained`, for Trainers."""

    def __enter__(self) -> PretendDevice:
        super().__enter__()
        places = _Places()
        self.enter_context(mock.patch("llink.cli.loading.accelerator", return_value=str(GPU)))
        self.enter_context(mock.patch.object(TrainingArguments, "_setup_devices", property(_device_of_training)))
        self.enter_context(mock.patch.object(Accelerator, "device", GPU))
        self.enter_context(mock.patch.object(PreTrainedModel, "from_pretrained", classmethod(_load_then_move)))
        self.enter_context(_Operations(places))
        self.enter_context(_Calls(places))
        return self


_setup_devices = vars(TrainingArguments)["_setup_devices"].func
_from_pretrained = PreTrainedModel.from_pretrained.__func__


def _device_of_training(args: TrainingArguments) -> torch.device:
    if "distributed_state" not in vars(args):
        _setup_devices(args)
    return GPU


def _load_then_move(cls: type, *args: Any, device_map: Any = None, **kwargs: Any) -> Any:
    """Loads as on a machine without a GPU (transformers loads in threads of its own), then moves."""
    with _disable_current_modes(), _pop_mode_temporarily():
        loaded = _from_pretrained(cls, *args, **kwargs)
    model = loaded[0] if isinstance(loaded, tuple) else loaded
    if device_map is not None:
        model.to(device_map)
    return loaded
