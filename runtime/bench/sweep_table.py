"""The tables of a sweep: operators against the tokens with softmax over exact, networks against width and depth."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.table import Table

from runtime.bench.measure import Costs
from runtime.bench.spread import Spread, ratios
from runtime.bench.sweep import Axis, Point
from runtime.bench.table import figure

QUANTITIES: dict[str, Callable[[Costs], Sequence[float]]] = {
    "forward, ms": lambda costs: [1e3 * value for value in costs.forward],
    "forward and backward, ms": lambda costs: [1e3 * value for value in costs.training or ()],
    "peak memory of forward and backward, MB": lambda costs: [costs.peak / 1e6] if costs.peak else [],
}
PAIRS = (("softmax", "exact"), ("causal softmax", "causal exact"))
FOOTNOTE = (
    "tokens: median over the batch of so many inputs; networks: the whole batch. "
    "softmax/exact: median of the ratios of each round; above 1 the exact operator costs less."
)


def tables(axes: Sequence[Axis]) -> list[Table]:
    costs = [
        (operators if axis.name == "tokens" else networks)(axis, name, of)
        for axis in axes
        for name, of in QUANTITIES.items()
    ]
    return [*costs, *(accuracy(axis) for axis in axes if axis.name == "tokens")]


def accuracy(axis: Axis) -> Table:
    """One row per number of tokens: the relative errors of every operator's value and gradient."""
    title = f"operators, {axis.fixed}: relative error to float64, of value and gradient"
    table = Table("tokens", *axis.labels, title=title, title_justify="left")
    for at in axis.places:
        found = (axis.point(label, at).errors for label in axis.labels)
        table.add_row(str(at), *(f"{errors.output:.0e}, {errors.gradient:.0e}" if errors else "-" for errors in found))
    return table


def operators(axis: Axis, name: str, of: Callable[[Costs], Sequence[float]]) -> Table:
    """One row per number of tokens: three operators and the ratio, then their causal forms."""
    columns = ("softmax", "exact", "TSSA", "softmax/exact", "causal softmax", "causal exact", "causal TSSA", "ratio")
    table = Table("tokens", "batch", *columns, title=f"operators, {axis.fixed}: {name}", title_justify="left")
    for at in axis.places:
        cells = []
        for pair, third in zip(PAIRS, ("TSSA", "causal TSSA"), strict=True):
            cells += [median(axis.point(label, at), of) for label in (*pair, third)]
            cells.append(over(axis.point(pair[0], at), axis.point(pair[1], at), of))
        table.add_row(str(at), str(axis.batch(at)), *cells)
    return table


def networks(axis: Axis, name: str, of: Callable[[Costs], Sequence[float]]) -> Table:
    """One row per width or depth: the compiled network, and every baseline with its ratio to that."""
    first, *others = axis.labels
    columns = [column for label in others for column in (label, f"{label}/{first}")]
    name = name.replace("forward and backward", "training step")
    table = Table(axis.name, first, *columns, title=f"network, {axis.fixed}: {name}", title_justify="left")
    for at in axis.places:
        own = axis.point(first, at)
        pairs = ((median(other, of), over(other, own, of)) for other in (axis.point(label, at) for label in others))
        table.add_row(str(at), median(own, of), *(cell for pair in pairs for cell in pair))
    return table


def median(point: Point, of: Callable[[Costs], Sequence[float]]) -> str:
    values = of(point.costs)
    return figure(Spread.of(values).median) if values else "-"


def over(one: Point, other: Point, of: Callable[[Costs], Sequence[float]]) -> str:
    values, reference = of(one.costs), of(other.costs)
    return figure(ratios(values, reference).median) if values and reference else "-"
