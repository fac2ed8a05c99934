"""The chunked algorithms of causal steps against brute force: every prefix by itself, gradients by autograd of that."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import Tensor

from tests.pytorch.running import written
from tests.steps import CASES, program_of

CLOSE = {"rtol": 1e-10, "atol": 1e-10}
LENGTHS = [1, 63, 64, 65, 150]  # around the chunk of 64
HEADS, WIDTH = 3, 5


@pytest.fixture(scope="module")
def exact() -> ModuleType:
    return written(program_of(CASES["causal_exact"]))


def vectors(*shape: int, seed: int = 0) -> Tensor:
    numbers = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return numbers.requires_grad_()


def solved_by_prefix(a: Tensor, b: Tensor, v: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    identity = torch.eye(a.shape[-1], dtype=a.dtype)
    grams = ((t, a[..., :t, :].mT @ b[..., :t, :]) for t in range(1, a.shape[-2] + 1))
    solutions = (torch.linalg.solve(shift * identity + scale * gram, v[..., t - 1, :, None]) for t, gram in grams)
    return torch.cat(list(solutions), dim=-1).mT


def gradients(value: Tensor, *leaves: Tensor) -> tuple[Tensor, ...]:
    weights = vectors(*value.shape, seed=9).detach()
    return torch.autograd.grad((value * weights).sum(), leaves)


@pytest.mark.parametrize("per_head", [False, True])
@pytest.mark.parametrize("length", LENGTHS)
def test_prefix_solve(exact: ModuleType, length: int, per_head: bool) -> None:
    w = vectors(2, HEADS, length, WIDTH)
    shape = (HEADS, 1, 1) if per_head else ()
    shift, scale = (torch.full(shape, x, dtype=torch.float64, requires_grad=True) for x in (0.7, 0.3))
    found, wanted = exact.prefix_solve(w, shift, scale), solved_by_prefix(w, w, w, shift, scale)
    torch.testing.assert_close(found, wanted, **CLOSE)
    torch.testing.assert_close(gradients(found, w, shift, scale), gradients(wanted, w, shift, scale), **CLOSE)


@pytest.mark.parametrize("length", LENGTHS)
def test_prefix_solve_of_other_vectors(exact: ModuleType, length: int) -> None:
    w, v = vectors(2, length, WIDTH), vectors(2, length, WIDTH, seed=1)
    scale = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    found, wanted = exact.prefix_solve(w, 1.0, scale, v), solved_by_prefix(w, w, v, torch.tensor(1.0), scale)
    torch.testing.assert_close(found, wanted, **CLOSE)
    torch.testing.assert_close(gradients(found, w, v, scale), gradients(wanted, w, v, scale), **CLOSE)


@pytest.mark.parametrize(("beta", "error"), [(0.1, 2e-6), (10.0, 1e-4), (100.0, 1e-3)])
def test_prefix_solve_in_single_precision(exact: ModuleType, beta: float, error: float) -> None:
    w = vectors(1, 2, 512, 16)
    wanted = exact.prefix_solve(w, 1, beta)
    (slope,) = gradients(wanted, w)
    single = w.detach().float().requires_grad_()
    found = exact.prefix_solve(single, 1, beta)
    assert (found - wanted).norm() < error * wanted.norm()
    assert (gradients(found, single)[0] - slope).norm() < error * slope.norm()


@pytest.mark.parametrize("length", LENGTHS)
def test_a_system_for_every_token(length: int) -> None:
    solve = written(program_of(CASES["causal_unknown_sign"])).solve_per_token
    a, b, v = (0.1 * vectors(2, HEADS, length, WIDTH, seed=seed) for seed in range(3))
    scale = torch.tensor(-0.3, dtype=torch.float64, requires_grad=True)
    found, wanted = solve(a, b, v, 1, scale), solved_by_prefix(a, b, v, torch.tensor(1.0), scale)
    torch.testing.assert_close(found, wanted, **CLOSE)
    torch.testing.assert_close(gradients(found, scale), gradients(wanted, scale), **CLOSE)


@pytest.mark.parametrize("parts", [(25,), (3, 22)], ids=str)
def test_systems_for_further_tokens_are_solved_in_shares(parts: tuple[int, ...]) -> None:
    """Eleven matrices of 600 rows at a time, with a scale of its own for every token."""
    solve, memory = written(program_of(CASES["causal_unknown_sign"])).solve_now, {}
    a, b, v = (0.02 * vectors(1, 25, 600, seed=seed).detach() for seed in range(3))
    scale = torch.linspace(0.1, 0.5, 25, dtype=torch.float64).unsqueeze(-1)
    shares = zip(*(x.split(parts, dim=-2) for x in (a, b, v, scale)), strict=True)
    found = torch.cat([solve(*share[:3], 1, share[3], memory, 0) for share in shares], dim=-2)
    singles = [solved_by_prefix(a[:, :t], b[:, :t], v[:, :t], torch.tensor(1.0), scale[t - 1]) for t in (1, 11, 12, 25)]
    torch.testing.assert_close(found[:, [0, 10, 11, 24]], torch.stack([s[:, -1] for s in singles], 1), **CLOSE)


@pytest.mark.parametrize("length", LENGTHS)
def test_causal_product(length: int) -> None:
    product = written(program_of(CASES["causal_neumann_2"])).causal_product
    a, b, v = vectors(2, length, 4), vectors(2, length, WIDTH, seed=1), vectors(2, length, WIDTH, seed=2)
    found, wanted = product(a, b, v), (v @ b.mT).tril() @ a
    torch.testing.assert_close(found, wanted, **CLOSE)
    torch.testing.assert_close(gradients(found, a, b, v), gradients(wanted, a, b, v), **CLOSE)


@pytest.mark.parametrize("length", LENGTHS)
def test_both_ways_to_the_inverses(exact: ModuleType, length: int) -> None:
    """Processors go from chunk to chunk, other devices and compiled code take all chunks at once."""
    w = exact.chunks(vectors(2, HEADS, length, WIDTH).detach())
    shift, scale = (torch.full((HEADS, 1, 1), x, dtype=torch.float64) for x in (0.7, 0.3))
    ways = (exact.PrefixSolve.one_by_one, exact.PrefixSolve.all_at_once)
    torch.testing.assert_close(*(way(w, shift, scale) for way in ways), **CLOSE)
