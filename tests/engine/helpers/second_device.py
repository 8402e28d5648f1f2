"""A device that is none: tensors that say they lie on ``elsewhere:0`` and are computed on the CPU.

What a GPU would refuse is refused: operations on tensors of two devices, and ``numpy()`` of a tensor on the device. So
the paths and transfers of code for a GPU are tested where there is no GPU; values are those of the same path on a CPU.
"""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, library
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "elsewhere"  # torch gives modules and tensors a method of this name
_COPIES = "aten::_to_copy", "aten::copy_"
_INDEXED = "aten::index", "aten::index_put_", "aten::index_put", "aten::_index_put_impl_"
_GENERATOR = torch.Generator
_is_registered = False


class Far(Tensor):
    """A tensor on the device; ``near`` is where it really lies."""

    near: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, near: Tensor) -> Far:
        return torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, near.shape, strides=near.stride(), storage_offset=near.storage_offset(), dtype=near.dtype,
            device=torch.device(NAME, 0))

    def __init__(self, near: Tensor) -> None:
        self.near = near

    @classmethod
    def __torch_dispatch__(cls, op: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _run(op, args, kwargs or {})

    def tolist(self) -> Any:
        """As of any device: numbers of Python."""
        return self.near.tolist()

    def __repr__(self, **_: Any) -> str:
        return f"Far({self.near})"


class NearGenerator(_GENERATOR):
    """Random numbers of the device are drawn on the CPU."""

    def __new__(cls, device: str | torch.device = "cpu") -> torch.Generator:  # type: ignore[misc]
        return _GENERATOR("cpu" if torch.device(device).type == NAME else device)


class SecondDevice(TorchDispatchMode):
    """While it is entered, in this thread, ``device="elsewhere"`` can be used."""

    def __init__(self) -> None:
        global _is_registered
        if not _is_registered:
            _setup_privateuseone_for_python_backend(NAME)
            library.impl("aten::empty_strided", "PrivateUse1")(_empty_strided)
            library.impl("aten::copy_", "PrivateUse1")(_copy)
            _is_registered = True
        super().__init__()

    def __enter__(self) -> SecondDevice:
        torch.Generator = NearGenerator  # type: ignore[misc]
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        torch.Generator = _GENERATOR  # type: ignore[misc]
        super().__exit__(*error)

    def __torch_dispatch__(self, op: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _run(op, args, kwargs or {})


def _empty_strided(size: Any, stride: Any, **kwargs: Any) -> Far:
    """For torch's own lists of indices, which it moves to the device unseen by ``SecondDevice``."""
    return Far(torch.empty_strided(size, stride, dtype=kwargs.get("dtype")))


def _copy(target: Far, source: Tensor, _: bool = False) -> Far:
    target.near.copy_(source.near if isinstance(source, Far) else source)
    return target


def _run(op: Any, args: tuple, kwargs: dict) -> Any:
    """One operation on the tensors behind; its result is on the device where an argument is."""
    name, tensors = op._schema.name, []
    tree_map(lambda x: tensors.append(x) if isinstance(x, Tensor) else None, (args, kwargs))
    device = kwargs.get("device")
    is_to_device = device is not None and torch.device(device).type == NAME
    if name not in _COPIES:
        _refuse_two_devices(name, args, tensors)
    kwargs = {**kwargs, "device": torch.device("cpu")} if device is not None else kwargs
    near_args, near_kwargs = tree_map(lambda x: x.near if isinstance(x, Far) else x, (args, kwargs))
    if name == "aten::_to_copy":
        near_kwargs.pop("non_blocking", None)
    if name == "aten::_conj":  # a conjugate that is only marked is not seen below this level
        op = torch.ops.aten.conj_physical.default
    made = op(*near_args, **near_kwargs)
    if name == "aten::copy_":
        return args[0]
    if not (is_to_device or (device is None and any(isinstance(x, Far) for x in tensors))):
        return made
    known = {id(x.near): x for x in tensors if isinstance(x, Far)}  # of operations in place

    def far(x: Any) -> Any:
        return known.get(id(x)) or Far(x) if isinstance(x, Tensor) else x

    return tree_map(lambda x: (known[id(x)] if id(x) in known else far(x)) if isinstance(x, Tensor) else x, made)


def _refuse_two_devices(name: str, args: tuple, tensors: list[Tensor]) -> None:
    """Raise RuntimeError as CUDA does; a single number on the CPU, and indices on it, may stand beside a GPU's."""
    if not any(isinstance(x, Far) for x in tensors):
        return
    if name in _INDEXED:
        tensors = [args[0], *args[2:3]]
        if not isinstance(args[0], Far):
            raise RuntimeError(f"{name}: a tensor on the CPU is indexed by one on the device")
    near = [x for x in tensors if isinstance(x, Tensor) and not isinstance(x, Far) and x.dim() > 0]
    if near:
        raise RuntimeError(f"{name}: a tensor {tuple(near[0].shape)} on the CPU among tensors on the device")
