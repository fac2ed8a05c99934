"""The learning rate, the groups of AdamW, and the averaged weights."""

from __future__ import annotations

import torch
from torch import nn

import crate_dsl
from runtime.recipe.schema import Optimizer, Schedule
from runtime.training.optimiser import Average, adamw, learning_rate
from tests.runtime.conftest import SPECS


def test_warm_up_and_cosine_per_step() -> None:
    schedule = Schedule(warmup=4, final=0.1)
    rates = [learning_rate(2.0, schedule, step, 12) for step in range(13)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[4] == 2.0
    assert abs(rates[8] - 2.0 * (0.1 + 0.9 / 2)) < 1e-12
    assert abs(rates[12] - 0.2) < 1e-12
    assert sorted(rates[4:], reverse=True) == rates[4:]


def test_a_warm_up_longer_than_the_run() -> None:
    assert learning_rate(1.0, Schedule(warmup=10), 3, 4) == 0.4


def test_only_matrices_decay() -> None:
    network = crate_dsl.load(SPECS / "crate_mae.crate", preset="digits", d=8, K=2, L=1)
    names = {value: name for name, value in network.named_parameters()}
    decayed, others = adamw(network, Optimizer(weight_decay=0.3)).param_groups
    assert decayed["weight_decay"] == 0.3 and others["weight_decay"] == 0.0
    assert {names[value].split(".")[-1] for value in decayed["params"]} <= {"U", "U_out", "D", "weight"}
    assert {"class_token", "mask_token", "head.bias"} <= {names[value] for value in others["params"]}
    assert len(decayed["params"]) + len(others["params"]) == len(names)
    assert len(adamw(network, Optimizer(decay_all=True)).param_groups) == 1


def test_the_average_follows_and_forgets_its_start() -> None:
    network = nn.Linear(2, 1)
    average = Average(network, 0.5)
    expected = network.weight.detach().clone()
    for update in range(4):
        with torch.no_grad():
            network.weight.add_(1.0)
        average.update(network)
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * network.weight.detach()
    assert torch.allclose(average.values["weight"], expected)
    other = Average(nn.Linear(2, 1), 0.5)
    other.load_state_dict(average.state_dict())
    assert other.updates == 4 and torch.equal(other.values["bias"], average.values["bias"])
