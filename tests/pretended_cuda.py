"""A CUDA device that is only pretended: real numbers, computed on the CPU, with the rules of a second device.

Tensors that were made on or moved to "cuda" are marked. A function that gets marked and unmarked ones raises as torch
does with a GPU, and so does NumPy that reads a marked one. torch's own `FakeTensorMode` knows more rules, but no
values, so it ends at the first boolean mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from flexavatar.camera import Camera
from flexavatar.gaussians import Gaussians
from flexavatar.render import Rendering, backends, cuda
from flexavatar.render.cpu import rasterize_cpu

CUDA = torch.device("cuda", 0)  # the index is part of what a tensor says, but not of what people write
_MARK = "_on_pretended_cuda"


class DevicesMix(RuntimeError):
    """What torch would raise with a GPU."""


def is_cuda(tensor: Tensor) -> bool:
    """Whether a tensor is said to lie on the GPU."""
    return getattr(tensor, _MARK, False)


class PretendedCuda(TorchFunctionMode):
    """Within it, "cuda" can be named as a device."""

    drawn = 0  # pictures, by what stands in for gsplat

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", str(func))
        if func in (Tensor.to, Tensor.cuda, Tensor.cpu):
            return _moved(name, *args, **kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if name == "__get__":
            return _attribute(func, args[0])
        if name == "__set__":
            return _set(func, *args)
        if name in ("numpy", "__array__") and is_cuda(args[0]):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
        asked = kwargs.pop("device", None)
        on_cuda = any(is_cuda(tensor) for tensor in tensors)
        if asked is not None:
            on_cuda = torch.device(asked).type == "cuda"
            if on_cuda and kwargs.get("generator") is not None:
                raise DevicesMix("Expected a 'cuda' device type for generator but found 'cpu'")
        elif on_cuda:
            _check(name, args, tensors)
        made = func(*args, **kwargs)
        if isinstance(made, Tensor) and any(made is tensor for tensor in tensors) and is_cuda(made) != on_cuda:
            if asked is None:  # changed in place: it stays where it is
                return made
            made = made.clone()
        return _marked(made, on_cuda)


def _check(name: str, args: tuple, tensors: list[Tensor]) -> None:
    if name in ("copy_", "type_as", "_has_compatible_shallow_copy_type", "__deepcopy__"):
        return
    if name in ("__getitem__", "__setitem__"):  # a tensor of the GPU may be indexed by one of the CPU, not the reverse
        tensors = [args[0], *(t for t in tree_leaves(args[1]) if isinstance(t, Tensor) and is_cuda(t)), *_values(args)]
    if any(not is_cuda(tensor) and tensor.ndim > 0 for tensor in tensors):
        shapes = ", ".join(f"{'cuda' if is_cuda(t) else 'cpu'} {list(t.shape)}" for t in tensors)
        raise DevicesMix(f"Expected all tensors to be on the same device ({name}: {shapes})")


def _values(args: tuple) -> list[Tensor]:
    return [value for value in args[2:] if isinstance(value, Tensor)]


def _moved(name: str, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """`to`, `cuda` and `cpu`. A move makes a copy, so that none of the two can see what is written to the other."""
    target, rest = is_cuda(tensor), []
    if name in ("cuda", "cpu"):
        target = name == "cuda"
        args, kwargs = (), {}
    for value in (*args, kwargs.pop("device", None), kwargs.pop("other", None)):
        if isinstance(value, Tensor):
            target = is_cuda(value)
            rest.append(value.dtype)
        elif isinstance(value, str | torch.device):
            target = torch.device(value).type == "cuda"
        elif isinstance(value, torch.dtype):
            rest.append(value)
    made = tensor.to(*rest, **kwargs) if rest or kwargs else tensor
    if target == is_cuda(tensor):
        return _marked(made, target)
    return _marked(made.clone() if made is tensor else made, target)


def _attribute(func: Any, tensor: Tensor) -> Any:
    name = func.__self__.__name__
    if name == "device":
        return CUDA if is_cuda(tensor) else torch.device("cpu")
    if name == "is_cuda":
        return is_cuda(tensor)
    return _marked(func(tensor), is_cuda(tensor))


def _set(func: Any, tensor: Tensor, value: Any) -> None:
    if func.__self__.__name__ == "data":  # how modules move their parameters
        _marked(tensor, is_cuda(value))
    elif isinstance(value, Tensor) and is_cuda(value) != is_cuda(tensor):
        raise DevicesMix(f"assigned {func.__self__.__name__} of another device")
    func(tensor, value)


def _marked(made: Any, on_cuda: bool) -> Any:
    if isinstance(made, Iterator):  # of a tensor's rows
        made = list(made)
        return iter(_marked(made, on_cuda))
    for leaf in tree_leaves(made):
        if isinstance(leaf, Tensor):
            setattr(leaf, _MARK, on_cuda)
    return made


def _rasterize(gaussians: Gaussians, set_of_image: Any, camera: Camera, backgrounds: Tensor, near: float) -> Rendering:
    if not all(is_cuda(value) for value in vars(gaussians).values()):
        raise DevicesMix("gsplat draws Gaussians of the GPU")
    camera, backgrounds = camera.to(CUDA), backgrounds.to(CUDA)
    with torch._C.DisableTorchFunction():
        drawn = rasterize_cpu(gaussians, set_of_image, camera, backgrounds, near)
    return Rendering(*(_marked(image, True) for image in (drawn.rgb, drawn.alpha, drawn.depth)))


@pytest.fixture
def pretended_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendedCuda]:
    """A GPU on which gsplat works."""
    monkeypatch.setattr("flexavatar.settings.cuda_available", lambda: True)
    monkeypatch.setattr(backends, "gsplat_problem", lambda: None)
    pretended = PretendedCuda()

    def rasterize(gaussians: Gaussians, set_of_image: Any, *others: Any) -> Rendering:
        pretended.drawn += len(set_of_image)
        return _rasterize(gaussians, set_of_image, *others)

    monkeypatch.setattr(cuda, "rasterize_gsplat", rasterize)
    with pretended:
        yield pretended
