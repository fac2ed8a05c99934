"""Attention with one tensor on a processor: in half precision with a backward pass of its own."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.pytorch.running import written
from tests.steps import CASES, program_of

HALF = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}  # relative rounding
SHAPES = [(2, 3, 17, 8), (1, 2, 700, 4), (5, 3, 300, 4)]  # one share; one head a share; shares of unequal size


@pytest.fixture(scope="module")
def official() -> ModuleType:
    return written(program_of(CASES["official"]))


def leaves(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Heads that lie side by side in the tokens, as in a network, and a gradient of their answer."""
    torch.manual_seed(shape[2])
    batch, heads, tokens, width = shape
    w, upon = (torch.randn(batch, tokens, heads * width).unflatten(-1, (heads, -1)).transpose(1, 2) for _ in range(2))
    return w.to(dtype).requires_grad_(), upon.to(dtype)


def softmax_attention(w: Tensor, scale: float, is_causal: bool) -> Tensor:
    scores = scale * w @ w.mT
    if is_causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), -torch.inf)
    return scores.softmax(-1) @ w


def exact(w: Tensor, upon: Tensor, is_causal: bool) -> tuple[Tensor, Tensor]:
    w = w.detach().double().requires_grad_()
    value = softmax_attention(w, 0.7, is_causal)
    return value, *torch.autograd.grad(value, w, upon.double())


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_backward_pass_is_the_derivative(official: ModuleType, shape: tuple[int, ...], is_causal: bool) -> None:
    w, upon = leaves(shape, torch.float64)
    value = official.SharedAttention.apply(w, 0.7, is_causal)
    found = value, *torch.autograd.grad(value, w, upon)
    torch.testing.assert_close(found, exact(w, upon, is_causal), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("dtype", HALF)
def test_in_half_precision(official: ModuleType, dtype: torch.dtype, is_causal: bool) -> None:
    """Taken there, and as near to float64 as rounding lets it be."""
    w, upon = leaves(SHAPES[0], dtype)
    value = official.shared_attention(w, 0.7, is_causal)
    assert type(value.grad_fn).__name__ == "SharedAttentionBackward" and value.dtype == dtype
    (gradient,) = torch.autograd.grad(value, w, upon)
    wanted_value, wanted = exact(w, upon, is_causal)
    assert (value.double() - wanted_value).norm() < 2 * HALF[dtype] * wanted_value.norm()
    assert gradient.dtype == dtype and (gradient.double() - wanted).norm() < 4 * HALF[dtype] * wanted.norm()


def test_elsewhere_it_is_the_fused_attention(official: ModuleType) -> None:
    """In full precision, without gradients, and where a matrix of scores would be large."""
    half, long = (leaves((1, 1, tokens, 1), torch.bfloat16)[0] for tokens in (5, 2049))
    for w in (leaves(SHAPES[0], torch.float32)[0], long):
        assert "SharedAttention" not in type(official.shared_attention(w, 0.7).grad_fn).__name__
    with torch.no_grad():
        torch.testing.assert_close(
            official.shared_attention(half, 0.7), F.scaled_dot_product_attention(half, half, half, scale=0.7)
        )


@pytest.mark.parametrize("dynamic", [False, True])
def test_under_torch_compile(official: ModuleType, dynamic: bool) -> None:
    """One graph, the same gradient; the number of tokens may be a symbol."""
    torch._dynamo.reset()
    call = torch.compile(official.shared_attention, backend="aot_eager", fullgraph=True, dynamic=dynamic or None)
    for shape in (SHAPES[0], (2, 3, 19, 8)):
        w, upon = leaves(shape, torch.bfloat16)
        found, wanted = (torch.autograd.grad(f(w, 0.7), w, upon) for f in (call, official.shared_attention))
        torch.testing.assert_close(found, wanted, rtol=2e-2, atol=2e-2)
