"""torch's tensors, which go as arrays do: the bytes of large ones are not copied into a pickle."""

from __future__ import annotations

import sys
from pickle import PickleBuffer
from typing import Any


def reducers() -> dict[type, Any]:
    """How tensors are pickled, where the program has any."""
    kind = getattr(sys.modules.get("torch"), "Tensor", None)
    return {} if kind is None else {kind: _reduce}


def _reduce(tensor: Any) -> Any:
    """Reduces a tensor in memory of the processor that is its bytes and nothing else; leaves others,
    such as views of a part and those with a gradient, to torch."""
    torch = sys.modules["torch"]
    # Before 2.0 torch's own way forgets that a tensor is the conjugate of what is in memory.
    tensor = tensor.resolve_conj().resolve_neg()
    if not _is_its_bytes(tensor, torch):
        return tensor.__reduce_ex__(5)
    try:
        # All types of numbers go as bytes: numpy does not have each of them.
        data = PickleBuffer(tensor.reshape(-1).view(torch.uint8).numpy())
    except (RuntimeError, TypeError):
        # Without numpy, for example.
        return tensor.__reduce_ex__(5)
    return restored, (data, tensor.dtype, tuple(tensor.shape))


def _is_its_bytes(tensor: Any, torch: Any) -> bool:
    return (
        tensor.device.type == "cpu"
        and tensor.layout is torch.strided
        and not (tensor.requires_grad or tensor.is_quantized)
        and not vars(tensor)
        and tensor.is_contiguous()
        and 0 < tensor.numel() * tensor.element_size() == _storage(tensor).nbytes()
    )


def _storage(tensor: Any) -> Any:
    """The memory that the tensor is in; releases before 2.0 have only one that knows its type."""
    return tensor.untyped_storage() if hasattr(tensor, "untyped_storage") else tensor.storage()


def restored(data: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
    """Makes a tensor of the bytes of one."""
    import torch  # type: ignore[import-not-found,import-untyped,unused-ignore]

    return torch.frombuffer(data, dtype=dtype).reshape(shape)
