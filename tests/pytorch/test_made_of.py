"""Matrices collected from weights: in evaluation made once, and again after any change of the weights."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import crate_dsl

SPEC = Path(__file__).parents[2] / "specs" / "crate_mae.crate"
LAYERS = 2


class Products(TorchDispatchMode):
    """Counts products that give a matrix of d x d."""

    def __init__(self) -> None:
        super().__init__()
        self.found = 0

    def __torch_dispatch__(
        self, function: object, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        result = function(*args, **(kwargs or {}))
        self.found += "mm" in str(function) and tuple(result.shape) == (64, 64)
        return result


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return crate_dsl.load(SPEC, "digits", L=LAYERS).double().eval()


def outputs(network: nn.Module, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(8, 1, 8, 8, dtype=torch.float64, generator=generator).to(dtype)
    return network(images, torch.rand(8, 16, generator=generator))[0]


def made(network: nn.Module, dtype: torch.dtype = torch.float64) -> int:
    """How many matrices a pass makes."""
    with Products() as products:
        outputs(network, dtype)
    return products.found


def fresh(network: nn.Module) -> nn.Module:
    """Another network with the same weights, which has made nothing yet."""
    other = crate_dsl.load(SPEC, "digits", L=LAYERS).double()
    other.load_state_dict(network.state_dict())
    return other.eval()


@torch.no_grad()
def test_evaluation_makes_them_once(network: nn.Module) -> None:
    assert made(network) == LAYERS
    wanted = outputs(network)
    assert made(network) == 0
    assert torch.equal(outputs(network), wanted)


def test_training_makes_them_every_time(network: nn.Module) -> None:
    with torch.no_grad():
        outputs(network)
    assert made(network) == LAYERS
    outputs(network).square().mean().backward()
    assert all(layer.sparsify.D.grad is not None for layer in network.encoder)


def _in_place(network: nn.Module) -> None:
    network.encoder[0].sparsify.D[3, 5] += 1e-7


def _behind_autograd(network: nn.Module) -> None:
    network.encoder[0].sparsify.D.data.mul_(1.5)  # no version counter sees this


def _replaced(network: nn.Module) -> None:
    network.encoder[0].sparsify.D.data = torch.randn(64, 64, dtype=torch.float64)


def _another_parameter(network: nn.Module) -> None:
    network.encoder[0].sparsify.D = nn.Parameter(torch.randn(64, 64, dtype=torch.float64))


def _loaded(network: nn.Module) -> None:
    state = {name: value + 0.01 for name, value in network.state_dict().items()}
    network.load_state_dict(state)


def _trained(network: nn.Module) -> None:
    with torch.enable_grad():
        outputs(network).square().mean().backward()
    torch.optim.SGD(network.parameters(), lr=0.1).step()


@pytest.mark.parametrize(
    "change", [_in_place, _behind_autograd, _replaced, _another_parameter, _loaded, _trained], ids=lambda f: f.__name__
)
@torch.no_grad()
def test_no_change_is_missed(network: nn.Module, change: Callable[[nn.Module], None]) -> None:
    before = outputs(network)
    change(network)
    after = outputs(network)
    assert not torch.equal(after, before)
    assert torch.equal(after, outputs(fresh(network)))


@torch.no_grad()
def test_another_precision_is_made_again(network: nn.Module) -> None:
    wanted = outputs(network)
    found = outputs(network.float(), torch.float32)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert made(network, torch.float32) == LAYERS


def test_training_goes_on_after_inference_mode(network: nn.Module) -> None:
    wanted = outputs(network)
    with torch.inference_mode():
        outputs(network)
    found = outputs(network)
    found.square().mean().backward()
    assert torch.equal(found, wanted)
    with torch.no_grad():
        assert torch.equal(outputs(network), wanted)


@torch.no_grad()
def test_copies_and_files_hold_the_weights_alone(network: nn.Module) -> None:
    names, size = list(network.state_dict()), len(pickle.dumps(network))
    outputs(network)
    assert (list(network.state_dict()), len(pickle.dumps(network))) == (names, size)
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert made(other) == LAYERS
        assert torch.equal(outputs(other), outputs(network))
