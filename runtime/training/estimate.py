"""What a run will cost, before it: parameters, operations, memory, and time at the speed measured on this machine."""

from __future__ import annotations

import time
from collections import Counter
from datetime import timedelta

import torch
from rich.table import Table
from torch import nn

from runtime import seeds
from runtime.bench.memory import peak
from runtime.bench.workload import random_inputs
from runtime.network import Compiled, parameter_count
from runtime.products import training_flops
from runtime.recipe.schema import Recipe
from runtime.scoring.measure import pick_device
from runtime.storage.log import console
from runtime.training.meter import product_rate
from runtime.training.objective import Objective
from runtime.training.penalty import Call
from runtime.training.trainer import apparatus_of
from runtime.variants.results import quantity

LARGEST = {"cpu": 16}  # inputs of the measured pass; on an accelerator a whole share
REPEATS = 3


class Rehearsed:
    """A training step on random inputs, as many as are measured at a time."""

    def __init__(self, recipe: Recipe, compiled: Compiled) -> None:
        self.recipe, self.device = recipe, pick_device(recipe.device)
        share = recipe.batch // recipe.accumulate
        self.count = min(share, LARGEST.get(self.device.type, share))
        self.network = network = compiled.module.to(self.device)
        network.checkpointing = recipe.checkpointing
        self.trained = apparatus_of(recipe, network).to(self.device).train()
        self.objective = Objective(recipe.task, Call(network, recipe.compile), self.trained, recipe.precision)
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
        return min(self.timed(self.gradient) for _ in range(REPEATS)), min(
            self.timed(self.update) for _ in range(REPEATS)
        )

    def timed(self, action: object) -> float:
        self.synchronise()
        started = time.perf_counter()
        action()
        self.synchronise()
        return time.perf_counter() - started

    def synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def estimate(recipe: Recipe, compiled: Compiled) -> None:
    """Print a table; needs no data, so that the time of a run is given where its recipe counts steps."""
    run = Rehearsed(recipe, compiled)
    activations = peak(run.gradient, run.device) / run.count  # gradients are there already, they are counted elsewhere
    run.update()
    gradient, update = run.seconds()
    step = gradient * recipe.batch / run.count + update
    share = recipe.batch // recipe.accumulate
    fixed = state_bytes(run)
    table = Table(title=f"{compiled.name}: estimate for one process on {run.device}", title_justify="left")
    table.add_column("quantity")
    table.add_column("value", justify="right")
    table.add_column("how")
    flops = training_flops(compiled.compilation, compiled.module)
    used = recipe.batch * flops / step / product_rate(run.device, recipe.precision)
    rows = [
        *((f"parameters {name}", f"{count:,}", "") for name, count in by_symbol(compiled.module).items()),
        ("parameters", f"{parameter_count(compiled.module):,}", "all of the network"),
        ("operations of a step", quantity(recipe.batch * flops), "products, forward and backward, one pass per input"),
        ("weights, gradients, optimiser", size(fixed), "counted"),
        ("activations", size(activations * share), f"{size(activations)} per input, measured; {share} at a time"),
        ("memory", size(fixed + activations * share), "the two together"),
        ("time of a step", f"{step:.3g} s", f"{run.count} inputs measured, scaled to {recipe.batch}; data left out"),
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


def size(count: float) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count:.0f} B"
