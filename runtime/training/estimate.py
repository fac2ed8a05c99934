"""What a run will cost, before it: parameters, operations, memory, and time at the speed measured on this machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import torch
from rich.table import Table
from torch import nn

from crate_dsl.operators.cost import quantity
from runtime import seeds
from runtime.bench.memory import peak
from runtime.bench.race import timed
from runtime.bench.workload import random_inputs
from runtime.network import Compiled, parameter_count
from runtime.recipe.schema import Recipe
from runtime.scoring.measure import pick_device
from runtime.storage.log import console
from runtime.training.meter import product_rate, step_flops
from runtime.training.objective import Objective
from runtime.training.penalty import Call
from runtime.training.trainer import apparatus_of

LARGEST, FLOPS = 16, 2e11  # of the measured pass on a processor, inputs and operations; elsewhere it is a whole share
REPEATS, ENOUGH = 3, 10.0  # passes, or seconds after which no further one is made


class Rehearsed:
    """A training step on random inputs, as many as are measured at a time.

    On a processor it is not compiled, which would take longer than all the rest.
    Raises UserError where recipe and network do not belong together.
    """

    def __init__(self, recipe: Recipe, compiled: Compiled) -> None:
        self.recipe, self.device = recipe, pick_device(recipe.device)
        self.network = network = compiled.module.to(self.device)
        recipe.task.check(network, network.classes or 0)  # the data are not here: their classes are taken to fit
        network.checkpointing = recipe.checkpointing
        self.share = self.count = recipe.batch // recipe.accumulate
        self.flops = step_flops(recipe, compiled, self.share)  # for one input
        self.compiled = recipe.compile
        if self.device.type == "cpu":
            self.count = max(1, min(self.share, LARGEST, int(FLOPS / self.flops)))
            self.compiled = False
        self.trained = apparatus_of(recipe, network).to(self.device).train()
        self.objective = Objective(recipe.task, Call(network, self.compiled), self.trained, recipe.precision)
        self.optimizer = recipe.optimizer.build(self.trained)
        generator = seeds.torch_generator(seeds.DRAW, recipe.seed)
        inputs, labels = random_inputs(compiled.shape, network.classes, self.count, generator)
        draw = recipe.task.draw(network, self.count, generator)
        self.arguments = [None if each is None else each.to(self.device) for each in (inputs, labels, draw)]

    def gradient(self) -> None:
        self.objective(*self.arguments)[0].backward()

    def update(self) -> None:
        self.optimizer.step()

    def seconds(self) -> tuple[float, float]:
        """Of a forward and backward pass over the measured inputs, and of the optimiser's step; the best of a few."""
        return self.best(self.gradient), self.best(self.update)

    def best(self, action: Callable[[], None]) -> float:
        times: list[float] = []
        while len(times) < REPEATS and sum(times) < ENOUGH:
            times.append(timed(action, 1, self.device))
        return min(times)


def estimate(recipe: Recipe, compiled: Compiled) -> None:
    """Print a table; needs no data, so that the time of a run is given where its recipe counts steps."""
    run = Rehearsed(recipe, compiled)
    each = peak(run.gradient, run.device) / run.count  # gradients are there already, they are counted elsewhere
    run.update()
    gradient, update = run.seconds()
    step = gradient * recipe.batch / run.count + update
    fixed = state_bytes(run)
    table = Table(title=f"{compiled.name}: estimate for one process on {run.device}", title_justify="left")
    table.add_column("quantity")
    table.add_column("value", justify="right")
    table.add_column("how")
    flops = recipe.batch * run.flops
    used = flops / step / product_rate(run.device, recipe.precision)
    learning, watching = recipe.task.passes()
    passes = f"{learning} forward and backward, {watching} forward alone" if watching else "forward and backward"
    left_out = "not compiled, data left out" if recipe.compile and not run.compiled else "data left out"
    rows = [
        *((f"parameters {name}", f"{count:,}", "") for name, count in by_symbol(compiled.module).items()),
        ("parameters", f"{parameter_count(compiled.module):,}", "all of the network"),
        ("operations of a step", quantity(flops).strip(), f"products of the network; passes per input: {passes}"),
        ("weights, gradients, optimiser", size(fixed), "counted"),
        ("activations", size(each * run.share), f"{size(each)} per input, measured; {run.share} at a time"),
        ("memory", size(fixed + each * run.share), "the two together"),
        ("time of a step", duration(step), f"{run.count} inputs measured, scaled to {recipe.batch}; {left_out}"),
        ("share of the machine's rate", f"{used:.0%}", "of a large matrix product, measured"),
    ]
    if recipe.steps:
        total = str(timedelta(seconds=round(step * recipe.steps)))
        rows.append(("time of the run", total, f"{recipe.steps:,} steps, evaluation left out"))
    for row in rows:
        table.add_row(*row)
    console().print(table)


def state_bytes(run: Rehearsed) -> int:
    """Of everything that stays between two steps, with the gradients."""
    held = [*run.trained.parameters(), *run.trained.buffers()]
    held += [value.grad for value in run.trained.parameters() if value.grad is not None]
    held += [value for entry in run.optimizer.state.values() for value in entry.values() if torch.is_tensor(value)]
    average = 2 * 4 * parameter_count(run.network) if run.recipe.ema else 0  # in float32, and the network judged
    return sum(value.numel() * value.element_size() for value in held) + average


def by_symbol(network: nn.Module) -> dict[str, int]:
    """Parameters by what the spec calls them: of all layers together, `encoder U`; elsewhere by part, `head`."""
    counts: Counter[str] = Counter()
    for name, value in network.named_parameters():
        part, *rest = name.split(".")
        layered = part in ("encoder", "decoder") and len(rest) > 2
        counts[f"{part} {'norms' if rest[2] == 'norm' else rest[2]}" if layered else part] += value.numel()
    return dict(counts)


def duration(seconds: float) -> str:
    """Seconds as such, from a minute on as hours, minutes and seconds."""
    return f"{seconds:.3g} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))


def size(count: float) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count:.0f} B"
