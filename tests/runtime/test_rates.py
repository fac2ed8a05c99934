"""The learning rate and the weight decay of every step, and what is said of them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from runtime.errors import UserError
from runtime.recipe import recipes
from runtime.recipe.schedule import Schedule
from runtime.recipe.schema import Recipe
from runtime.training.rates import Rates


def recipe_of(*overrides: str) -> Recipe:
    return recipes.load(recipes.find("mae_digits"), overrides)


def rates_of(schedule: Schedule, warmup: int, total: int) -> list[float]:
    return [schedule.rate(2.0, step, warmup, total) for step in range(total + 1)]


def test_warm_up_and_cosine_per_step() -> None:
    rates = rates_of(Schedule(final=0.1), 4, 12)
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[4] == 2.0
    assert abs(rates[8] - 2.0 * (0.1 + 0.9 / 2)) < 1e-12
    assert abs(rates[12] - 0.2) < 1e-12
    assert sorted(rates[4:], reverse=True) == rates[4:]


def test_a_line_and_a_constant() -> None:
    assert rates_of(Schedule(name="linear", final=0.5), 2, 6) == pytest.approx([1, 2, 2, 1.75, 1.5, 1.25, 1])
    assert rates_of(Schedule(name="constant"), 2, 5) == [1, 2, 2, 2, 2, 2]


def test_the_cosine_is_that_of_torch() -> None:
    """CosineAnnealingLR stepped once per step, eta_min the final rate."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=2.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 9, eta_min=0.4)
    for ours in rates_of(Schedule(final=0.2), 0, 9):
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        scheduler.step()


def test_a_warm_up_longer_than_the_run() -> None:
    assert Schedule().rate(1.0, 3, 10, 4) == 0.4


def test_a_warm_up_in_epochs() -> None:
    assert Schedule(warmup_epochs=2.5).warmup_steps(11) == 28
    assert Schedule(warmup=7).warmup_steps(11) == 7
    rates = Rates.of(recipe_of("steps=null", "epochs=4", "schedule={warmup_epochs: 2}", "optimizer.lr=1"), 5)
    assert (rates.warmup, rates.total) == (10, 20)
    assert rates.learning_rate(4) == 0.5 and rates.learning_rate(10) == 1.0


def test_the_scaling_rule_and_its_words() -> None:
    words = ["optimizer.lr=3e-5", "optimizer.lr_per=256", "batch=4096", "schedule={warmup: 12480}"]
    rates = Rates.of(recipe_of(*words, "steps=null", "epochs=20000"), 1)
    assert rates.learning_rate(12479) == 3e-5 * 4096 / 256
    assert rates.in_words() == "lr 4.8e-04 = 3e-05 x 4096 / 256 by adamw, warm-up 12,480 steps, then cosine"
    short = Rates.of(recipe_of(*words, "steps=null", "epochs=100"), 1)
    assert "warm-up 12,480 steps (of 100: it does not end), then cosine" in short.in_words()
    plain = Rates.of(recipe_of("optimizer=lion", "optimizer.lr=2.4e-4", "schedule=constant"), 1)
    assert plain.in_words() == "lr 2.4e-04 by lion, constant"


def test_the_rates_reach_every_group() -> None:
    """The learning rate times the group's scale; the scheduled decay only where there is decay."""
    rates = Rates.of(recipe_of("optimizer.lr=0.5", "optimizer.weight_decay_end=0.45", "schedule={}", "steps=4"), 1)
    values = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [
        {"params": values[:1], "scale": 1.0, "decays": True, "weight_decay": 0.05},
        {"params": values[1:], "scale": 0.25, "decays": False, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=9.0)
    assert rates.apply(optimizer, 0) == 0.5
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.125]
    decays = []
    for step in range(5):
        rates.apply(optimizer, step)
        decays.append(optimizer.param_groups[0]["weight_decay"])
        assert optimizer.param_groups[1]["weight_decay"] == 0.0
    # cosine_scheduler of the official DINO (utils.py): final + (base - final) (1 + cos(pi i / len)) / 2
    assert decays == pytest.approx([0.45 + 0.5 * (0.05 - 0.45) * (1 + math.cos(math.pi * i / 4)) for i in range(5)])


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("schedule={warmup: 3, warmup_epochs: 1}", "at most one of warmup"),
        ("schedule={name: constant, final: 0.1}", "has no final one"),
        ("schedule=cosines", "schedule.name: .*'cosine', 'linear' or 'constant'"),
        ("schedule.warm=3", 'unknown key "schedule.warm"\n.*Did you mean "warmup"'),
    ],
)
def test_mistakes_are_named(override: str, complaint: str) -> None:
    with pytest.raises(UserError, match=f"(?s){complaint}"):
        recipe_of(override)
