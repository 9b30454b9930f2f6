"""Tensors of torch through pools. By hand, `python tests/tensors.py`: torch is too large for CI."""

import asyncio

import torch

import aiopool

LARGE = 8 << 20

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64, torch.bool,
          torch.uint8, torch.int8, torch.int16, torch.int64]


def same(tensor):
    return tensor


def facts(tensor):
    return tensor.dtype, tuple(tensor.shape), tuple(tensor.stride()), tensor.requires_grad


def doubled(tensor):
    return tensor * 2


def changed(tensor):
    tensor += 1
    return tensor


def tensors():
    """Tensors of each kind, by what they are."""
    for dtype in DTYPES:
        for shape in [(3, 5), (), (1 << 20,)]:
            yield f"{dtype} {shape}", (torch.rand(shape) * 100).to(dtype)
    whole = torch.arange(LARGE).reshape(1024, -1)
    yield "empty", torch.empty(0, 3)
    yield "view", whole[3:7]
    yield "transposed", whole.T
    yield "with a gradient", torch.rand(LARGE // 4, requires_grad=True)
    yield "sparse", torch.eye(100).to_sparse()
    yield "conjugate", torch.rand(100, dtype=torch.complex64).conj()
    yield "parameter", torch.nn.Parameter(torch.rand(100))
    yield "quantized", torch.quantize_per_tensor(torch.rand(100), 0.1, 10, torch.quint8)
    yield "module", torch.nn.Linear(2000, 2000).state_dict()["weight"]


def dense(tensor):
    if tensor.is_sparse:
        return tensor.to_dense()
    return tensor.dequantize() if tensor.is_quantized else tensor


async def main():
    async with aiopool.Pool(2) as pool:
        for name, tensor in tensors():
            there = await pool.apply(facts, (tensor,)) if not tensor.is_sparse else None
            back = await pool.apply(same, (tensor,))
            assert there is None or there == facts(tensor), (name, there)
            assert type(back) is type(tensor) and back.dtype == tensor.dtype, name
            assert torch.equal(dense(back), dense(tensor)), name
        ones = torch.ones(LARGE)
        back = await pool.apply(changed, (ones,))
        assert ones.sum() == LARGE and back.sum() == 2 * LARGE
        # Both are the caller's own, to be written.
        back += 1
        assert (await pool.apply(doubled, (back,))).sum() == 6 * LARGE
        many = await pool.map(doubled, [torch.full((LARGE,), float(i)) for i in range(8)])
        assert [float(one[0]) for one in many] == [2.0 * i for i in range(8)]
        both = await pool.apply(same, ({"a": ones, "b": [ones, back]},))
        assert both["a"] is both["b"][0] and torch.equal(both["b"][1], back)
    print(f"{len(list(tensors()))} kinds of tensors arrived as they were sent")


if __name__ == "__main__":
    asyncio.run(main())
