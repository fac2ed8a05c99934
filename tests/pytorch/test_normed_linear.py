"""The norm and the linear map that reads it, as one function with its own backward pass."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from tests.pytorch.running import written
from tests.steps import CASES, program_of

CLOSE = {"rtol": 1e-10, "atol": 1e-10}
Map = Callable[..., Tensor]


@pytest.fixture(scope="module")
def official() -> ModuleType:
    return written(program_of(CASES["official"]))


def plain(z: Tensor, norm: nn.LayerNorm, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    result = F.linear(norm(z), weight, bias)
    return F.relu(result) if relu else result


def leaves(dtype: torch.dtype = torch.float64) -> tuple[Tensor, nn.LayerNorm, Tensor, Tensor]:
    torch.manual_seed(0)
    norm = nn.LayerNorm(7, eps=1e-3, dtype=dtype)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    z, weight, bias = (torch.randn(*shape, dtype=dtype, requires_grad=True) for shape in ((2, 5, 7), (3, 7), (3,)))
    return z, norm, weight, bias


def gradients(apply: Map, biased: bool, relu: bool = False) -> tuple[Tensor, ...]:
    z, norm, weight, bias = leaves()
    given = (z, norm.weight, norm.bias, weight, *([bias] if biased else []))
    value = apply(z, norm, weight, bias if biased else None, relu)
    return value, *torch.autograd.grad((value * torch.linspace(-1, 1, value.numel()).view_as(value)).sum(), given)


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("biased", [True, False])
def test_values_and_gradients(official: ModuleType, biased: bool, relu: bool) -> None:
    found, wanted = (gradients(apply, biased, relu) for apply in (official.normed_linear, plain))
    torch.testing.assert_close(found, wanted, **CLOSE)
    assert not relu or (found[0] == 0).any()


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("biased", [True, False])
def test_of_what_needs_no_gradient_none_is_computed(official: ModuleType, biased: bool, relu: bool) -> None:
    """The gradients of gain and shift come from those of weight and bias, as of patches."""

    def of_weights(apply: Map) -> tuple[list[Tensor], list[str]]:
        z, norm, weight, bias = leaves()
        given = (norm.weight, norm.bias, weight, *([bias] if biased else []))
        value = apply(z.detach(), norm, weight, bias if biased else None, relu)
        loss = (value * torch.linspace(-1, 1, value.numel()).view_as(value)).sum()
        with profile(activities=[ProfilerActivity.CPU]) as calls:
            found = torch.autograd.grad(loss, given)
        return [value, *found], [event.key for event in calls.key_averages()]

    (found, calls), (wanted, usual) = of_weights(official.normed_linear), of_weights(plain)
    torch.testing.assert_close(found, wanted, **CLOSE)
    assert ["aten::native_layer_norm_backward" in names for names in (calls, usual)] == [False, True]


def test_second_derivatives(official: ModuleType) -> None:
    z, norm, weight, bias = leaves()
    assert torch.autograd.gradgradcheck(lambda z, w: official.normed_linear(z, norm, w, bias), (z, weight))


@pytest.mark.parametrize("tokens", [torch.float32, torch.bfloat16])
def test_half_precision(official: ModuleType, tokens: torch.dtype) -> None:
    """Under autocast the gradients are as near to those in full precision as autograd's."""
    wanted = gradients(plain, True)

    def half(apply: Map) -> tuple[Tensor, ...]:
        z, norm, weight, bias = leaves(torch.float32)
        with torch.autocast("cpu", torch.bfloat16):
            value = apply(z.to(tokens), norm, weight, bias)
        assert value.dtype == torch.bfloat16
        scale = torch.linspace(-1, 1, value.numel()).view_as(value)
        return value, *torch.autograd.grad((value * scale).sum(), (z, norm.weight, norm.bias, weight, bias))

    for found, usual, exact in zip(half(official.normed_linear), half(plain), wanted, strict=True):
        assert found.dtype == usual.dtype
        assert (found - exact).norm() < 1.5 * (usual - exact).norm() + 1e-3 * exact.norm()


def test_the_normed_tokens_are_not_kept(official: ModuleType) -> None:
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        z, norm, weight, bias = leaves()
        official.normed_linear(z, norm, weight, bias)
        assert kept.count(z.numel()) == 1
        kept.clear()
        plain(z, norm, weight, bias)
        assert kept.count(z.numel()) == 2


def test_another_norm_may_take_its_place(official: ModuleType) -> None:
    z, _, weight, bias = leaves()
    torch.testing.assert_close(official.normed_linear(z, nn.Identity(), weight, bias), F.linear(z, weight, bias))
