"""What may stand for the outer map of a step (Hu, Zou and Xu 2024, arXiv 2411.17182), against torch written by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import crate_dsl
from crate_dsl.errors import CrateError
from tests.pytorch.running import network_of
from tests.runtime.conftest import SPECS
from tests.steps import program_of

STEP = """compress Z by square(Z, U) {{ norm layer; inverse ~ neumann(1); frame ~ identity; gram ~ softmax(1/sqrt(q))
    coefficients ~ absorbed{adjoint} }}"""


def step_with(adjoint: str) -> nn.Module:
    line = f"; adjoint ~ {adjoint}" if adjoint else ""
    return network_of(program_of(STEP.format(adjoint=line))).encoder[0].compress


def heads(step: nn.Module, z: Tensor) -> Tensor:
    """softmax attention of three heads of width 4 with q = k = v = U_k' V, beside each other: (batch, N, 12)."""
    v = F.layer_norm(z, (12,), step.norm.weight, step.norm.bias)
    w = torch.stack([v @ member.T for member in step.U.split(4)], dim=1)
    attention = (w @ w.mT / 2).softmax(-1) @ w
    return torch.cat(list(attention.unbind(1)), dim=-1)


@pytest.mark.parametrize("adjoint", ["", "free", "fixed", "transposed", "identity"])
def test_the_outer_maps_by_hand(adjoint: str) -> None:
    step = step_with(adjoint)
    stacked = torch.cat([member.T for member in step.U.split(4)], dim=1)  # [U_1 U_2 U_3], 12 x 12
    outer = {
        "": lambda: stacked,
        "free": lambda: step.U_out.T,
        "fixed": lambda: step.U_out.T,
        "transposed": lambda: stacked.T,
        "identity": lambda: torch.eye(12, dtype=torch.float64),
    }[adjoint]()
    z = torch.randn(2, 17, 12, dtype=torch.float64)
    torch.testing.assert_close(step(z), z + heads(step, z) @ outer.T, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("adjoint", "stored", "trained"),
    [("free", True, True), ("fixed", True, False), ("transposed", False, False), ("identity", False, False)],
)
def test_what_is_stored_and_trained(adjoint: str, stored: bool, trained: bool) -> None:
    parameters = dict(step_with(adjoint).named_parameters())
    assert ("U_out" in parameters) == stored
    assert not stored or parameters["U_out"].requires_grad == trained


def test_a_shared_map_gets_its_gradient_from_both_uses() -> None:
    step = step_with("transposed")
    z = torch.randn(2, 17, 12, dtype=torch.float64)
    step(z).square().sum().backward()
    found = step.U.grad.clone()
    step.U.grad = None
    (z + heads(step, z) @ step.U.T.mT.T).square().sum().backward()  # the stacked map, transposed, is U as it is stored
    torch.testing.assert_close(found, step.U.grad, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("adjoint", ["transposed", "identity"])
def test_maps_that_make_no_square_are_refused(adjoint: str) -> None:
    with pytest.raises(CrateError, match="beside each other are 12 x 15, not square: K p = d is needed"):
        program_of(f"compress Z by rate(Z, U) {{ adjoint ~ {adjoint} }}")
    with pytest.raises(CrateError, match="it needs a family of matrices"):
        program_of(f"compress Z by whitened(Z, W) {{ adjoint ~ {adjoint} }}")


def test_the_negative_sign_is_one_word() -> None:
    """`ascend` in the place of `compress` gives Z - MSSA(Z), with the same parameters."""
    text = (SPECS / "crate.crate").read_text()
    plain, negative = text, crate_dsl.vary(text, {"compress.verb": "ascend"}).text
    assert sum(a != b for a, b in zip(plain.splitlines(), negative.splitlines(), strict=True)) == 1
    steps = []
    for spec in (plain, negative):
        sizes = {"image": 8, "patch": 2, "channels": 1, "d": 12, "K": 3, "L": 1}
        compilation = crate_dsl.Compilation(crate_dsl.errors.Source("spec", spec), None, sizes)
        module = crate_dsl.module_of(compilation.text, compilation.class_name)
        steps.append(next(getattr(module, compilation.class_name)().double().encoder[0].children()))
    steps[1].load_state_dict(steps[0].state_dict())
    z = torch.randn(2, 17, 12, dtype=torch.float64)
    torch.testing.assert_close(steps[1](z) - z, z - steps[0](z), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("adjoint", ["fixed", "transposed", "identity"])
def test_costs_count_what_is_learned_and_multiplied(adjoint: str) -> None:
    """Beside the freed map: nothing more to learn, and for the identity no product with d x d."""
    text = (SPECS / "crate.crate").read_text()

    def costs(value: str) -> crate_dsl.Summary:
        varied = crate_dsl.vary(text, {"adjoint": value}).text
        return crate_dsl.Compilation(crate_dsl.errors.Source("spec", varied), "digits", {}).costs

    free, other = costs("free"), costs(adjoint)
    d, tokens = 96, 17
    if adjoint != "fixed":
        assert free.parameters - other.parameters == 4 * d * d
    saved = free.flops - other.flops
    # four layers, the last of which has one token
    assert saved == (2 * d * d * (3 * tokens + 1) if adjoint == "identity" else 0)
