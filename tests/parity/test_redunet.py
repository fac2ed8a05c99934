"""ReduNet constructed from data against the official code: goldens of one layer and of a network, in float64."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import crate_dsl

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "specs" / "redunet.crate"
Golden = Mapping[str, np.ndarray]


def golden(name: str) -> Golden:
    return np.load(ROOT / "tests" / "data" / f"{name}.npz")


def network(**sizes: float) -> nn.Module:
    return crate_dsl.load(SPEC, preset="golden", **sizes).double()


def samples(values: np.ndarray) -> Tensor:
    """Rows on the unit sphere, as the official code prepares them."""
    return F.normalize(torch.from_numpy(values), dim=1)[None]


def memberships(labels: np.ndarray, classes: int = 3) -> Tensor:
    return F.one_hot(torch.from_numpy(labels), classes).T[None, :, :, None].double()


def agree(found: Tensor, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-10, atol=1e-10)


@pytest.fixture(scope="module")
def layer() -> nn.Module:
    """The first layer, fitted to the golden's training data; a small lambda makes its memberships soft."""
    data, net = golden("redunet_layer"), network(**{"lambda": 0.3})
    net.encoder[0].fit(samples(data["in/X"]), memberships(data["in/y"]))
    return net.encoder[0]


def test_fitted_factors(layer: nn.Module) -> None:
    """E is the official one; ours of the classes hold the share gamma of the class, which cancels in the step."""
    data, step = golden("redunet_layer"), layer.ascend
    agree(step.E, data["out/E"])
    agree(step.gamma, data["out/gam"])
    ours = step.C.unflatten(0, (3, -1)).mT / step.gamma[:, None, None]
    agree(ours, data["out/C"])


def test_estimated_memberships(layer: nn.Module) -> None:
    data = golden("redunet_layer")
    agree(layer.ascend.estimated_Pi(samples(data["in/X"]))[0, :, :, 0], data["out/soft/pi"])


@pytest.mark.parametrize(("kind", "place"), [("soft", "in/X"), ("test", "in/X_test")])
def test_a_layer_with_estimated_memberships(layer: nn.Module, kind: str, place: str) -> None:
    data = golden("redunet_layer")
    agree(layer(samples(data[place]))[0], data[f"out/{kind}/Z"])


def test_a_layer_with_known_memberships(layer: nn.Module) -> None:
    data = golden("redunet_layer")
    known = layer.ascend(samples(data["in/X"]), memberships(data["in/y"]))
    agree(layer.project(known)[0], data["out/known/Z"])


def test_the_rate_reduction(layer: nn.Module) -> None:
    """The stated energy of the samples, and after a step with known memberships."""
    data, pi = golden("redunet_layer"), memberships(golden("redunet_layer")["in/y"])
    agree(layer.ascend.energy(samples(data["in/X"]), pi), data["out/loss_in_true"][:1])
    agree(layer.ascend.energy(torch.from_numpy(data["out/known/Z"])[None], pi), data["out/loss_known_true"][:1])


def test_a_network() -> None:
    """Three layers constructed one after the other, each on what the layers before it make of the data."""
    data, net = golden("redunet_net"), network()
    agree(net.fit(samples(data["in/X"]), memberships(data["in/y"]))[0], data["out/init/Z"])
    found = net.features(samples(data["in/X_test"]))
    for number, wanted in enumerate(data["out/test/layers"]):
        agree(found[f"encoder.{number}.project"][0], wanted)
    agree(net(samples(data["in/X_test"]))[0], data["out/test/Z"])
    last = net.encoder[-1].ascend.estimated_Pi(found["encoder.1.project"])[0, :, :, 0]
    assert (last.argmax(0).numpy() == data["out/test/y_hat_last"][:, 0]).all()


def test_the_ascent_is_the_gradient_of_the_rate_reduction() -> None:
    """At the data that a layer is fitted to, its step is that of autograd on the stated energy."""
    data, net = golden("redunet_layer"), network()
    pi, z = memberships(data["in/y"]), samples(data["in/X"]).requires_grad_()
    step = net.encoder[0].ascend
    step.fit(z.detach(), pi)
    (slope,) = torch.autograd.grad(step.energy(z, pi).sum(), z)
    agree(step(z, pi) - z, 0.5 * slope.numpy())


def test_one_set_of_data_at_a_time() -> None:
    with pytest.raises(ValueError, match="one set of data"):
        network().fit(torch.ones(2, 5, 16).double(), torch.ones(2, 3, 5, 1).double())
