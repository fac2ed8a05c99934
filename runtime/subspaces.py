"""Noisy subspaces through an attention-only network: python -m runtime.subspaces SPEC [--noise 0.1] [--out DIR].

The data model of Wang et al. 2025 (arXiv 2506.03790): a token of subspace k is `U_k a + sum_{j != k} U_j e_j`, `a`
standard normal, `e_j` normal with standard deviation `noise`. The known orthonormal U are put into every layer, and
the ratio of signal to noise is measured after each. The theory says that it grows by `1 + eta tau` in every layer, as
long as every token attends to itself alone within its subspace; norms grow with the signal, so this ends some time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from rich.table import Table
from torch import Tensor, nn

import crate_dsl
from crate_dsl.language.model import axis_size
from crate_dsl.library.scalars import base_name
from runtime import seeds
from runtime.command import Parser, run, settings
from runtime.errors import UserError
from runtime.images.pictures import save
from runtime.images.scale import logarithmic
from runtime.storage.log import console


@dataclass(frozen=True)
class Subspaces:
    """Tokens (N, d), their subspaces (N,), and the bases (K, d, p), orthonormal together."""

    tokens: Tensor
    labels: Tensor
    bases: Tensor


@dataclass(frozen=True)
class Outcome:
    """Mean ratio of signal to noise at the input and after every layer, and the growth per layer that is predicted."""

    ratios: tuple[float, ...]
    growth: float | None  # None: the operator is not one that the theory speaks of

    def predicted(self, layer: int) -> float | None:
        return None if self.growth is None else self.ratios[0] * self.growth**layer


def draw(count: int, bases: Tensor, noise: float, generator: torch.Generator) -> Subspaces:
    """`count` tokens of the data model, the same number in every subspace up to one."""
    families, _, rank = bases.shape
    labels = torch.arange(count) % families
    codes = torch.randn(count, families, rank, generator=generator, dtype=bases.dtype)
    own = nn.functional.one_hot(labels, families).unsqueeze(-1).bool()
    return Subspaces(torch.einsum("kdp,nkp->nd", bases, torch.where(own, codes, noise * codes)), labels, bases)


def orthonormal(families: int, rows: int, rank: int, generator: torch.Generator) -> Tensor:
    """Bases (families, rows, rank) whose columns are orthonormal together; raises UserError where they do not fit."""
    if families * rank > rows:
        raise UserError(f"{families} subspaces of dimension {rank} do not fit into {rows} dimensions at right angles")
    whole = torch.linalg.qr(torch.randn(rows, families * rank, generator=generator, dtype=torch.float64)).Q
    return whole.unflatten(1, (families, rank)).permute(1, 0, 2)


def signal_to_noise(tokens: Tensor, data: Subspaces) -> float:
    """The norm of the part inside the right subspace over that of the rest, by subspace, then averaged."""
    ratios = []
    for number, basis in enumerate(data.bases):
        own = tokens[data.labels == number]
        signal = own @ basis @ basis.T
        ratios.append(signal.norm() / (own - signal).norm())
    return float(torch.stack(ratios).mean())


def families_of(compilation: crate_dsl.Compilation) -> tuple[int, int, int]:
    """(K, d, p) of the subspaces that a network of vectors learns; raises UserError where it has others or none."""
    model = compilation.model
    block = model.blocks[0]
    families = [p.shape for p in block.parameters if p.shape.family and p.shape.rows == model.tokens.rows]
    stages = len(model.stages) == 1 and len(block.steps) == 1 and len(model.tokens.words) == 1
    if not (stages and len(families) == 1 and model.input.name == "vectors" and model.head.word.name == "tokens"):
        wanted = "bare vectors in, tokens out, and layers of one step with one family of subspaces (specs/aot.crate)"
        raise UserError(f"{compilation.source.name}: this needs another network: {wanted}")
    shape = families[0]
    return tuple(axis_size(axis, block.sizes) for axis in (shape.family, shape.rows, shape.cols))


def growth_of(compilation: crate_dsl.Compilation) -> float | None:
    """`1 + eta tau` from the derived step: what a token at most gives to itself, weighted, over what stays of it.

    None where a norm stands between, or where a word is neither the tokens nor attention that the bases map back.
    """
    (step,) = compilation.derivation.blocks[0].steps
    bases = {parameter.name for parameter in step.parameters if parameter.stored}  # where `put` puts them
    kept, gained = 0.0, 0.0
    for word in step.assignments[-1].value.words:
        attention = next((f for f in word.factors if getattr(f, "name", "") in ("softmax", "threshold")), None)
        weight = number(word.coefficient, compilation)
        if word.factors == (step.raw,):
            kept += weight
        elif attention is not None and word.factors[0].name in bases:
            gained += weight * (number(attention.parameters[0], compilation) if attention.name == "threshold" else 1.0)
        else:
            return None
    return 1 + gained / kept if kept and gained and step.read == step.raw else None


def number(value: object, compilation: crate_dsl.Compilation) -> float:
    """A coefficient at the start of training."""
    model = compilation.model
    learned = {s.name: s.start for s in (*model.scalars, *(s for block in model.blocks for s in block.scalars))}
    known: Mapping[str, object] = {**model.sizes, **model.reals, **learned}
    return float(value.xreplace({s: float(known[base_name(s)]) for s in value.free_symbols}))


def measure(compilation: crate_dsl.Compilation, network: nn.Module, noise: float, draws: int, seed: int) -> Outcome:
    """The network on `draws` independent data sets, each with bases of its own put into all layers."""
    families, rows, rank = families_of(compilation)
    totals: Tensor | None = None
    for n in range(draws):
        generator = seeds.torch_generator(seed, n)
        data = draw(compilation.model.tokens.count, orthonormal(families, rows, rank, generator), noise, generator)
        put(network, data.bases)
        with torch.no_grad():
            layers = network.features(data.tokens.unsqueeze(0)).values()
        ratios = torch.tensor([signal_to_noise(tokens[0], data) for tokens in layers])
        totals = ratios if totals is None else totals + ratios
    return Outcome(tuple((totals / draws).tolist()), growth_of(compilation))


def put(network: nn.Module, bases: Tensor) -> None:
    """The bases as the family of every layer, stored as its members transposed and stacked."""
    stacked = bases.permute(0, 2, 1).flatten(0, 1)
    with torch.no_grad():
        for parameter in (p for p in network.parameters() if p.shape == stacked.shape):
            parameter.copy_(stacked)


def show(outcome: Outcome, title: str) -> None:
    table = Table("layer", "signal / noise", "growth", "predicted", "predicted growth", title=title,
                  title_justify="left")  # fmt: skip
    for layer, ratio in enumerate(outcome.ratios):
        growth = ratio / outcome.ratios[layer - 1] if layer else None
        values = (ratio, growth, outcome.predicted(layer), outcome.growth if layer else None)
        table.add_row(str(layer), *("" if value is None else f"{value:.3f}" for value in values))
    console().print(table)


def plot(outcome: Outcome, path: Path) -> Path:
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axis, layers = figure.subplots(), range(len(outcome.ratios))
    axis.plot(layers, outcome.ratios, "o-", label="measured")
    if outcome.growth is not None:
        axis.plot(layers, [outcome.predicted(n) for n in layers], "--", label=f"{outcome.growth:.3g} per layer")
    logarithmic(axis)
    axis.set_xlabel("layer")
    axis.set_ylabel("signal / noise")
    axis.legend()
    return save(figure, path)


def main(arguments: Sequence[str]) -> None:
    about = "Signal and noise of vectors from known subspaces, layer by layer."
    parser = Parser(prog="python -m runtime.subspaces", description=about)
    parser.add_argument("spec", type=Path, metavar="SPEC")
    parser.add_argument("--preset")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="name=value", dest="sizes")
    parser.add_argument("--noise", type=float, default=0.1, help="standard deviation in the other subspaces")
    parser.add_argument("--draws", type=int, default=10, help="data sets to average over")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/subspaces"), metavar="DIR")
    options = parser.parse_args(arguments)
    if options.draws < 1 or not 0 < options.noise < math.inf:
        raise UserError("--draws is at least 1 and --noise greater than 0, and finite")
    sizes = settings(options.sizes)
    compilation = crate_dsl.compile_spec(options.spec, preset=options.preset, overrides=sizes)
    families, count = families_of(compilation)[0], compilation.model.tokens.count
    if families < 2:
        raise UserError("one subspace has no others for the noise to lie in: at least 2 are needed")
    if count < families:
        raise UserError(f"{count} tokens are fewer than the {families} subspaces: each needs one at least")
    network = crate_dsl.load(options.spec, preset=options.preset, **sizes).double()
    outcome = measure(compilation, network, options.noise, options.draws, options.seed)
    show(outcome, f"{options.spec}: noise {options.noise:g}, {options.draws} draws")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{options.out}: cannot be made a folder: {error.strerror}") from None
    print(f"picture: {plot(outcome, options.out / 'signal_to_noise.png')}")


if __name__ == "__main__":
    run(main)
