"""Every optimiser against its published formula, and its state kept exactly."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from torch import nn

from runtime.errors import UserError
from runtime.optimisers.adamw import AdamW
from runtime.optimisers.muon import Muon
from runtime.optimisers.optimiser import Optimiser
from runtime.optimisers.sgd import SGD
from runtime.recipe import recipes
from runtime.recipe.schema import OPTIMISERS
from runtime.training.groups import hidden
from runtime.training.rates import Rates
from tests.runtime import optimising
from tests.runtime.conftest import Train
from tests.runtime.optimising import CASES, network_of, options_of, put_gradients

BFLOAT = 2.0**-8  # relative rounding of bfloat16, in which torch orthogonalises


def test_what_lies_there_is_offered() -> None:
    assert set(OPTIMISERS) == {"adamw", "lion", "muon", "sgd"} == set(optimising.OPTIONS)


def formula(options: Optimiser, of_muon: bool) -> optimising.Adam | optimising.Lion | optimising.Momentum:
    if of_muon:
        return optimising.Orthogonal(options.momentum, options.nesterov, options.adjust)
    if options.name == "sgd":
        return optimising.Momentum(options.momentum, options.nesterov)
    return optimising.Lion(options.betas) if options.name == "lion" else optimising.Adam(options.betas, options.eps)


@pytest.mark.parametrize(("name", "number"), CASES)
def test_steps_are_the_published_ones(name: str, number: int) -> None:
    options, network = options_of(name, number), network_of()
    optimizer = options.build(network)
    matrices = hidden(network) if name == "muon" else set()
    group_of = {id(value): group for group in optimizer.param_groups for value in group["params"]}
    names = [name for name, _ in network.named_parameters()]
    formulas = [formula(options, name in matrices) for name in names]
    expected = [value.detach().numpy().copy() for value in network.parameters()]
    for step in range(5):
        rate = options.lr * (1 - 0.1 * step)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        put_gradients(network, step)
        for place, (value, gradient) in enumerate(
            zip(network.parameters(), optimising.gradients(network), strict=True)
        ):
            group = group_of[id(value)]
            update = formulas[place]
            expected[place] = update(expected[place], gradient, rate * group["scale"], group["weight_decay"])
        optimizer.step()
    for label, value, wanted in zip(names, network.parameters(), expected, strict=True):
        tolerance = 10 * BFLOAT * options.lr if label in matrices else 1e-10
        assert np.abs(value.detach().numpy() - wanted).max() < tolerance, label


def test_muon_steps_along_nearly_orthogonal_matrices() -> None:
    """Against the singular value decomposition: the same singular vectors, all singular values near one."""
    network = network_of()
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    options = Muon(lr=1.0, weight_decay=0, adjust="original", nesterov=False)
    optimizer = options.build(network)
    put_gradients(network, 0)
    optimizer.step()
    chosen = hidden(network)
    assert {name.split(".")[-1] for name in chosen} == {"U", "U_out", "D"}
    for name, value in network.named_parameters():
        if name in chosen:
            left, _, right = torch.linalg.svd(value.grad, full_matrices=False)
            values = left.T @ (before[name] - value.detach()) @ right.T
            assert (values - values.diag().diag()).abs().max() < 0.03, name
            assert 0.6 < values.diag().min() and values.diag().max() < 1.3, name  # 0.68 to 1.13 without rounding


def trained(options: Optimiser, network: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    recipe = recipes.load(recipes.find("mae_digits"), ["steps=8", "schedule={warmup: 3}"])
    rates = Rates.of(recipe.model_copy(update={"optimizer": options}), 1)
    for step in steps:
        rates.apply(optimizer, step)
        put_gradients(network, step)
        optimizer.step()


@pytest.mark.parametrize(("name", "number"), CASES)
def test_kept_and_continued_is_the_same_bit_for_bit(name: str, number: int) -> None:
    """N steps, and N/2, a file without pickled objects, and N/2."""
    options = options_of(name, number).model_copy(update={"weight_decay_end": 0.7})
    straight, halves = network_of(dtype=torch.float32), network_of(dtype=torch.float32)
    trained(options, straight, options.build(straight), range(8))
    first = options.build(halves)
    trained(options, halves, first, range(4))
    file = io.BytesIO()
    torch.save({"network": halves.state_dict(), "optimizer": first.state_dict()}, file)
    file.seek(0)
    kept = torch.load(file, weights_only=True)
    fresh = network_of(dtype=torch.float32)
    fresh.load_state_dict(kept["network"])
    second = options.build(fresh)
    second.load_state_dict(kept["optimizer"])
    trained(options, fresh, second, range(4, 8))
    for one, other in zip(straight.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(next(fresh.parameters()), next(network_of(dtype=torch.float32).parameters()))


def test_a_state_of_before_there_were_scales_is_continued() -> None:
    network = network_of()
    optimizer = AdamW(lr=1e-2).build(network)
    put_gradients(network, 0)
    optimizer.step()
    state = optimizer.state_dict()
    old = [{k: v for k, v in group.items() if k not in ("scale", "decays")} for group in state["param_groups"]]
    again = AdamW(lr=1e-2).build(network)
    again.load_state_dict({**state, "param_groups": old})
    trained(AdamW(lr=1e-2), network, again, range(1))
    assert again.param_groups[0]["lr"] == 1e-2 / 3


def test_the_joint_optimiser_is_one() -> None:
    """Rates set on its groups reach its parts, gradients are cleared, every parameter is in one group."""
    network = network_of()
    optimizer = Muon().build(network)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = [value.detach().clone() for value in network.parameters()]
    put_gradients(network, 0)
    optimizer.step()
    assert all(torch.equal(one, other) for one, other in zip(before, network.parameters(), strict=True))
    optimizer.zero_grad()
    assert all(value.grad is None for value in network.parameters())
    members = [id(value) for group in optimizer.param_groups for value in group["params"]]
    assert sorted(members) == sorted(id(value) for value in network.parameters())
    state = optimizer.state_dict()["state"]
    assert len(state) == len(members) and any("momentum_buffer" in entry for entry in state.values())


def test_an_older_torch_has_no_muon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(UserError, match="muon needs torch 2.9 or later, this is 2"):
        Muon().build(network_of())


def test_muon_needs_matrices() -> None:
    with pytest.raises(UserError, match="no matrices; take adamw"):
        Muon().build(nn.Linear(3, 2))


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(ValueError, match="nesterov needs a momentum above 0"):
        SGD(momentum=0, nesterov=True)


@pytest.mark.parametrize("name", optimising.OPTIONS)
def test_training_by_each(name: str, tiny_run: Train) -> None:
    run = tiny_run("crate", f"optimizer={name}", "optimizer.layer_decay=0.8", steps=3)
    assert f"name: {name}" in (run / "recipe.yaml").read_text(encoding="utf-8")
