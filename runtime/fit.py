"""Construct a network from data, without back-propagation: python -m runtime.fit SPEC [--preset P] [key=value ...]."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from runtime.command import Parser, run, settings
from runtime.data.digits import Digits
from runtime.data.source import Images
from runtime.errors import UserError
from runtime.images.pictures import save
from runtime.network import Compiled, Shape, compile_network
from runtime.recipe import recipes
from runtime.scoring.neighbours import Neighbours
from runtime.storage import checkpoint
from runtime.storage.log import console
from runtime.storage.run_folder import origin, unused

COMPONENTS = 10  # of the subspace that stands for a class
EXPLANATIONS = {
    "nearest_subspace": f"share of samples nearest to the first {COMPONENTS} principal directions of their class",
    "nearest_neighbours": "share of samples that their 20 nearest training samples classify rightly",
    "membership": "share of samples whose largest estimated membership in the last layer is that of their class",
}


@dataclass(frozen=True)
class Samples:
    """Samples as unit vectors (1, samples, length) with their classes (samples,)."""

    vectors: Tensor
    labels: Tensor

    def memberships(self, classes: int) -> Tensor:
        """1 for the class of a sample and 0 for others, (1, classes, samples, 1)."""
        return F.one_hot(self.labels, classes).T[None, :, :, None].to(self.vectors)


def main(arguments: Sequence[str]) -> None:
    parser = Parser(
        prog="python -m runtime.fit", description="Construct a network from labelled digits, layer by layer."
    )
    parser.add_argument("spec", type=Path, help="a spec with a step that is fitted, such as specs/redunet.crate")
    parser.add_argument("sizes", nargs="*", metavar="key=value", help="sizes and reals of the spec, L=50 for instance")
    parser.add_argument("--preset", default="digits", help="a preset of the spec; default: digits")
    parser.add_argument("--out", type=Path, help="folder for weights, figures and plot; default: a new one below runs/")
    options = parser.parse_intermixed_args(arguments)
    sizes = settings(options.sizes)
    compiled = compile_network(options.spec, options.preset, sizes, dtype=torch.float64)
    network = compiled.module.eval()
    if not hasattr(network, "fit"):
        raise UserError(f'{options.spec}: no step of this network is fitted; one that is says "inverse ~ frozen(fit)"')
    if network.task != "tokens":
        raise UserError(f'{options.spec}: figures are taken of what the layers make of every sample: "head tokens"')
    train, held_out, classes = digits(network.vector_length)
    started = time.perf_counter()
    curve = construct(network, train, classes)
    seconds = time.perf_counter() - started
    figures = {"input": judge(train.vectors, train, held_out.vectors, held_out)}
    figures["output"] = judge(network(train.vectors), train, network(held_out.vectors), held_out)
    figures["output"]["membership"] = estimated(network, held_out)
    out = options.out or unused(f"{options.spec.stem}-fit")
    content = {"figures": figures, "seconds": seconds, "rate_reduction": curve}
    write(out, compiled, options.preset, sizes, content)
    show(f"{compiled.name}: {len(network.encoder)} layers from {len(train.labels)} samples, {seconds:.0f} s", figures)
    print(f"folder: {out}")
    if network.task not in recipes.DEFAULTS:
        print("weights.safetensors is for runtime.export: evaluate, probe and report ask for a head that has a loss")


def digits(length: int) -> tuple[Samples, Samples, int]:
    """Training and held-out digits as vectors of a length that is a square: 64 as they are, 256 and 1024 enlarged.

    Raises:
        UserError: where the vectors of the network have another length.
    """
    side = math.isqrt(length)
    if side * side != length or side not in (8, 16, 32):
        raise UserError(f"the network reads vectors of {length} entries; digits have 64, 256 or 1024: set d=64")
    splits = Digits(enlarge=side // 8).open(Shape(1, side, side))
    return vectors(splits.train), vectors(splits.held_out), splits.classes or 0


def vectors(images: Images) -> Samples:
    batch = images.take(range(len(images)), None)
    return Samples(F.normalize(batch.images.flatten(1).double(), dim=1)[None], batch.labels)


# ---- construction --------------------------------------------------------------------------------------------------


@torch.no_grad()
def construct(network: nn.Module, train: Samples, classes: int) -> list[float]:
    """Fit every layer; the stated energy of the training samples, memberships known, before and after each."""
    known, step = train.memberships(classes), fitted_step(network.encoder[0])
    z = network.tokens(train.vectors)
    curve = [float(step.energy(z, known))]
    for layer in track(network.encoder, "constructing", console=console()):
        try:
            z = layer.fit(z, known)
        except RuntimeError as error:
            raise UserError(f"the data have {classes} classes, and the network is not made for them: {error}") from None
        curve.append(float(step.energy(z, known)))
    return curve


def fitted_step(layer: nn.Module) -> nn.Module:
    """The step of a layer that is computed from data."""
    return next(step for step in layer.children() if hasattr(step, "fit"))


@torch.no_grad()
def judge(known: Tensor, train: Samples, asked: Tensor, held_out: Samples) -> dict[str, float]:
    """Accuracy on held-out samples of two rules that nothing is trained for."""
    neighbours = Neighbours(known[0], train.labels).right(asked[0], held_out.labels)
    subspaces = nearest_subspace(known[0], train.labels, asked[0]).eq(held_out.labels)
    return {
        "nearest_subspace": float(subspaces.double().mean()),
        "nearest_neighbours": float(neighbours.double().mean()),
    }


def nearest_subspace(known: Tensor, labels: Tensor, asked: Tensor) -> Tensor:
    """The class whose principal directions leave the least of a vector, (asked,)."""
    left = []
    for label in range(int(labels.max()) + 1):
        basis = torch.linalg.svd(known[labels == label], full_matrices=False).Vh[:COMPONENTS]
        left.append((asked - asked @ basis.T @ basis).norm(dim=1))
    return torch.stack(left).argmin(0)


@torch.no_grad()
def estimated(network: nn.Module, held_out: Samples) -> float:
    """How often the last layer's own estimate of the memberships is right."""
    z, step = network.tokens(held_out.vectors), fitted_step(network.encoder[-1])
    for layer in network.encoder[:-1]:
        z = layer(z)
    estimate = next(getattr(step, name) for name in dir(step) if name.startswith("estimated_"))
    guesses = estimate(z)[0, :, :, 0].argmax(0)
    return float(guesses.eq(held_out.labels).double().mean())


# ---- what is left --------------------------------------------------------------------------------------------------


def write(
    out: Path, compiled: Compiled, preset: str, sizes: Mapping[str, int | float], content: Mapping[str, object]
) -> None:
    """Weights, spec, written network, figures and the plot."""
    out.mkdir(parents=True, exist_ok=True)
    checkpoint.save_weights(out / "weights.safetensors", compiled.module.state_dict(), origin(preset, sizes, compiled))
    checkpoint.replace_text(out / "spec.crate", compiled.spec)
    checkpoint.replace_text(out / "network.py", compiled.text)
    checkpoint.replace_text(out / "figures.json", json.dumps(content, indent=1) + "\n")
    save(drawn(content["rate_reduction"]), out / "rate_reduction.png")


def drawn(curve: Sequence[float]) -> Figure:
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axis = figure.subplots()
    axis.plot(curve, "o-", markersize=3, color="#0072B2")
    axis.set_xlabel("layer")
    axis.set_ylabel("rate reduction of training samples, nats")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def show(title: str, figures: Mapping[str, Mapping[str, float]]) -> None:
    table = Table("figure", "input", "output", "what it is", title=title, title_justify="left")
    for name, explanation in EXPLANATIONS.items():
        cells = (f"{figures[kind][name]:.4f}" if name in figures[kind] else "" for kind in ("input", "output"))
        table.add_row(name, *cells, explanation)
    console().print(table)


if __name__ == "__main__":
    run(main)
