"""Construct a network from data, without back-propagation: python -m runtime.fit SPEC [--data NAME] [key=value ...]."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from runtime import checkpoint
from runtime.data.source import Images, Splits
from runtime.errors import Parser, UserError, known, run
from runtime.log import console
from runtime.network import Compiled, Shape, compile_network
from runtime.pictures import rates
from runtime.recipe import SOURCES
from runtime.recipes import assignment
from runtime.run_folder import origin, unused
from runtime.subspaces import nearest_neighbour, nearest_subspace

COMPONENTS = 10  # of every class, for the nearest subspace


@dataclass(frozen=True)
class Vectors:
    """A split as unit vectors, one column of features per sample: values (1, samples, features), labels (samples,)."""

    values: Tensor
    labels: Tensor

    def memberships(self, classes: int) -> Tensor:
        """The labels as memberships, (1, classes, samples, 1)."""
        return F.one_hot(self.labels, classes).T[None, :, :, None].to(self.values)


def main(arguments: Sequence[str]) -> None:
    parser = Parser(prog="python -m runtime.fit", description="Construct a network from data, layer by layer.")
    parser.add_argument("spec", type=Path, help="a spec with a step that is fitted, such as specs/redunet.crate")
    parser.add_argument("sizes", nargs="*", metavar="key=value", help="sizes and reals of the spec")
    parser.add_argument("--preset", help="a preset of the spec")
    parser.add_argument("--data", default="digits", help="a data source with classes; default: digits")
    parser.add_argument("--out", type=Path, help="folder for weights and figures; default: a new one below runs/")
    options = parser.parse_intermixed_args(arguments)
    compiled = compile_network(options.spec, options.preset, dict(map(assignment, options.sizes)), dtype=torch.float64)
    if not hasattr(compiled.module, "fit"):
        raise UserError(f'{options.spec}: no step of this network is fitted; one says "inverse ~ frozen(fit)"')
    train, held_out, classes = vectors_of(open_source(options.data, compiled), compiled)
    out = options.out or unused(f"{options.spec.stem}-fit")
    started = time.perf_counter()
    curve = construct(compiled, train, classes)
    seconds = time.perf_counter() - started
    figures = evaluate(compiled, train, held_out)
    write(out, options, compiled, {"figures": figures, "seconds": seconds, "rates": curve})
    show(compiled, figures, seconds)
    print(f"folder: {out}")


# ---- data --------------------------------------------------------------------------------------------------------


def open_source(name: str, compiled: Compiled) -> Splits:
    """The data as images that make vectors of the network's length."""
    if name not in SOURCES:
        raise UserError(f'unknown data source "{name}"\n{known("data sources", name, SOURCES)}')
    side = math.isqrt(compiled.module.token_size)
    source = SOURCES[name](**({"enlarge": side // 8} if name == "digits" else {}))
    return source.open(Shape(1, side, side))


def vectors_of(splits: Splits, compiled: Compiled) -> tuple[Vectors, Vectors, int]:
    if splits.classes is None:
        raise UserError("fitting needs data with classes")
    return vectors(splits.train), vectors(splits.held_out), splits.classes


def vectors(images: Images) -> Vectors:
    batch = images.take(range(len(images)), None)
    return Vectors(F.normalize(batch.images.flatten(1).double(), dim=1)[None], batch.labels)


# ---- construction ------------------------------------------------------------------------------------------------


def construct(compiled: Compiled, train: Vectors, classes: int) -> list[float]:
    """Fit every layer; the stated energy of the training samples, memberships known, before each layer."""
    network, known_memberships = compiled.module, train.memberships(classes)
    step = next(step for layer in network.encoder for step in layer.children() if hasattr(step, "fit"))
    curve = [float(step.energy(network.tokens(train.values), known_memberships))]
    layers = network.fit(train.values, known_memberships)
    for z in track(layers, "constructing", len(network.encoder), console=console()):
        curve.append(float(step.energy(z, known_memberships)))
    return curve


@torch.no_grad()
def evaluate(compiled: Compiled, train: Vectors, held_out: Vectors) -> dict[str, float]:
    """Accuracy on the held-out samples, of the vectors as they are and of what the network makes of them."""
    found = {}
    for name, view in {"input": lambda x: x, "output": compiled.module}.items():
        samples, queries = view(train.values)[0], view(held_out.values)[0]
        subspace = nearest_subspace(samples, train.labels, queries, COMPONENTS)
        neighbour = nearest_neighbour(samples, train.labels, queries)
        found[f"{name}_nearest_subspace"] = float((subspace == held_out.labels).double().mean())
        found[f"{name}_nearest_neighbour"] = float((neighbour == held_out.labels).double().mean())
    return found
