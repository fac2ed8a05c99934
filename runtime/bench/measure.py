"""The race of a network against its baselines: time, memory and accuracy of every contestant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from runtime.bench import memory
from runtime.bench.accuracy import Errors, errors, truth
from runtime.bench.case import Case
from runtime.bench.contestants import Contestant, Field
from runtime.bench.floor import Floor, calls, floor
from runtime.bench.progress import Bar
from runtime.bench.race import race
from runtime.bench.workload import Workload
from runtime.network import parameter_count
from runtime.products import products

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Costs:
    """Seconds of every round, bytes at the peak of a training step; None for what does not train."""

    forward: list[float]
    training: list[float] | None
    peak: int | None


@dataclass(frozen=True)
class Result:
    """Of one contestant, with relative errors."""

    contestant: Contestant
    parameters: int
    costs: Costs
    errors: Errors

    @property
    def label(self) -> str:
        return self.contestant.label


@dataclass(frozen=True)
class Measured:
    """All results, the labels that ratios are taken to, the difference of functions and the floor."""

    results: tuple[Result, ...]
    references: tuple[str, ...]
    difference: float | None
    floor: Floor

    def reference(self, label: str) -> Result:
        return next(result for result in self.results if result.label == label)


def measure(case: Case, field: Field, work: Workload, rounds: int, bar: Bar) -> Measured:
    """Accuracy, times in turns, memory, and the rates of products."""
    rows = field.contestants
    found = accuracies(case, rows, work, bar)
    costs = costs_of(rows, work, rounds, bar)
    results = (
        Result(row, parameter_count(row.module), costs[row.label], errors)
        for row, errors in zip(rows, found, strict=True)
    )
    return Measured(tuple(results), field.references, field.difference, floor_of(case, work, rounds, bar))


def costs_of(rows: Sequence[Contestant], work: Workload, rounds: int, bar: Bar) -> dict[str, Costs]:
    """Time and memory of all contestants, by label; gradients are dropped in the end."""
    trained = [row for row in rows if row.trains]
    for row in rows:
        row.module.eval()
    forward = times(rows, work.forward, "forward pass", rounds, work, bar)
    for row in rows:
        row.module.train()
    training = times(trained, work.training_step, "training step", rounds, work, bar)
    for row in rows:
        row.module.zero_grad(set_to_none=True)
    bar.stage("peak memory", len(trained))
    peaks = {row.label: peak(row, work, bar) for row in trained}
    return {row.label: Costs(forward[row.label], training.get(row.label), peaks.get(row.label)) for row in rows}


def accuracies(case: Case, rows: Sequence[Contestant], work: Workload, bar: Bar) -> list[Errors]:
    """Of every contestant to the network in float64 whose function it computes, or to itself in float64."""
    bar.stage("accuracy", len(rows))
    truths = {row.label: truth(row.module, work) for row in rows if row.weights_of is None}
    found = []
    for row in rows:
        exact = truths[row.weights_of or row.label]
        if row.weights_of == "official":
            exact = exact.named_as(case.network)
        found.append(errors(row.module, row.call, exact, work, row.trains))
        bar.tick()
    return found


def times(
    rows: Sequence[Contestant], action: Callable[..., None], name: str, rounds: int, work: Workload, bar: Bar
) -> dict[str, list[float]]:
    bar.stage(name, rounds * len(rows))
    actions = {row.label: partial(action, row.module, row.call) for row in rows}
    return race(actions, rounds, work.device, bar.tick)


def peak(row: Contestant, work: Workload, bar: Bar) -> int:
    """Of one training step above the weights, its gradients included."""
    found = memory.peak(partial(work.training_step, row.module, row.call), work.device, row.module.zero_grad)
    bar.tick()
    return found


def floor_of(case: Case, work: Workload, rounds: int, bar: Bar) -> Floor:
    found = products(case.compilation, case.network, len(work.batch))
    actions = calls([product.shape for product in found], DTYPES[work.precision], work.device)
    bar.stage("products alone", rounds * len(actions))
    return floor(found, race(actions, rounds, work.device, bar.tick))
