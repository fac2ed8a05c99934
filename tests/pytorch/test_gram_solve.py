"""The solve over tokens with its own backward pass, against torch's general solve and autograd of that."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import Tensor

from tests.pytorch.running import written
from tests.steps import CASES, program_of

CLOSE = {"rtol": 1e-10, "atol": 1e-10}


@pytest.fixture(scope="module")
def exact() -> ModuleType:
    return written(program_of(CASES["exact"]))


def vectors(*shape: int, seed: int = 0) -> Tensor:
    numbers = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return numbers.requires_grad_()


def solved(w: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.linalg.solve(shift * torch.eye(w.shape[-1], dtype=w.dtype) + scale * w.mT @ w, w.mT).mT


def gradients(value: Tensor, *leaves: Tensor) -> tuple[Tensor, ...]:
    weights = vectors(*value.shape, seed=9).detach()
    return torch.autograd.grad((value * weights).sum(), leaves)


@pytest.mark.parametrize("front", [(2, 3), (2,)])
@pytest.mark.parametrize("per_head", [False, True])
def test_values_and_gradients(exact: ModuleType, front: tuple[int, ...], per_head: bool) -> None:
    w = vectors(*front, 17, 5)
    shape = (front[1] if len(front) > 1 else 1, 1, 1) if per_head else ()
    shift, scale = (torch.full(shape, x, dtype=torch.float64, requires_grad=True) for x in (0.7, 0.3))
    found, wanted = exact.gram_solve(w, shift, scale), solved(w, shift, scale)
    torch.testing.assert_close(found, wanted, **CLOSE)
    torch.testing.assert_close(gradients(found, w, shift, scale), gradients(wanted, w, shift, scale), **CLOSE)


def test_the_heads_may_be_a_view(exact: ModuleType) -> None:
    """Heads that were split off one projection are not contiguous."""
    whole = vectors(2, 17, 3 * 5)
    w = whole.unflatten(-1, (3, 5)).transpose(1, 2)
    scale = torch.tensor(0.3, dtype=torch.float64)
    found, wanted = exact.gram_solve(w, 1, scale), solved(w, torch.ones(()), scale)
    torch.testing.assert_close(gradients(found, whole), gradients(wanted, whole), **CLOSE)


@pytest.mark.parametrize(("condition", "error"), [(1e2, 4e-6), (1e4, 4e-4)])
def test_single_precision(exact: ModuleType, condition: float, error: float) -> None:
    """As accurate as a Cholesky solve: the error grows with the condition number of `shift I + scale w'w`."""
    w = vectors(2, 3, 197, 64).detach()
    scale = condition / torch.linalg.matrix_norm(w, 2).square().max()
    w.requires_grad_()
    wanted = exact.gram_solve(w, 1, scale)
    (slope,) = gradients(wanted, w)
    single = w.detach().float().requires_grad_()
    found = exact.gram_solve(single, 1, scale.float())
    assert (found - wanted).norm() < error * wanted.norm()
    assert (gradients(found, single)[0] - slope).norm() < error * slope.norm()
