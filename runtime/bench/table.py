"""The tables of a race on the terminal: times with ratios and shares of the floor, memory and accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.table import Table

from crate_dsl.operators.cost import quantity
from runtime.bench.measure import Costs, Measured
from runtime.bench.spread import Spread, ratios

NONE = "-"
WRONG = 0.2  # relative error from which a contestant computes something else than it is timed for
FOOTNOTE = (
    "time: median (least to greatest) of the rounds; ratios are taken round by round.\n"
    "a training step is forward, loss and backward pass: the optimiser is the same for all and left out.\n"
    "floor: the compiled network's matrix products alone, at the rate of each shape on this machine; "
    "its share: floor over time."
)


def tables(measured: Measured, title: str) -> list[Table]:
    floor = measured.floor
    return [
        times(measured, f"{title}\nforward pass", lambda costs: costs.forward, floor.forward, floor.forward_flops),
        times(measured, "training step", lambda costs: costs.training, floor.training, floor.training_flops),
        others(measured),
    ]


def times(
    measured: Measured, title: str, of: Callable[[Costs], Sequence[float] | None], floor: float, flops: int
) -> Table:
    """One row per contestant that has such a time, and the floor."""
    ratio_columns = (f"times faster than {label}" for label in measured.references)
    table = Table("contestant", "ms", *ratio_columns, "share of floor", title=title, title_justify="left")
    for result in measured.results:
        values = of(result.costs)
        if values is None:
            continue
        spread = Spread.of(values)
        against = (ratio(of(measured.reference(label).costs), values) for label in measured.references)
        table.add_row(result.label, ranged(spread, 1e3), *against, f"{floor / spread.median:.0%}")
    blanks = (NONE for _ in measured.references)
    table.add_row(f"floor ({quantity(flops).strip()}FLOP)", figure(floor * 1e3), *blanks, "100%")
    return table


def others(measured: Measured) -> Table:
    """Memory, accuracy, and what every contestant is."""
    table = Table(
        "contestant", "peak MB", f"over {measured.references[0]}", "output error", "gradient error", "parameters", "is",
        title="peak memory of a training step above the weights; relative errors to float64", title_justify="left",
    )  # fmt: skip
    reference = measured.reference(measured.references[0]).costs.peak
    for result in measured.results:
        peak = result.costs.peak
        held = (figure(peak / 1e6), f"{peak / reference:.2f}") if peak and reference else (NONE, NONE)
        gradient = result.errors.gradient
        errors = (f"{result.errors.output:.1e}", NONE if gradient is None else f"{gradient:.1e}")
        table.add_row(result.label, *held, *errors, f"{result.parameters:,}", result.contestant.note)
    return table


def ratio(reference: Sequence[float] | None, values: Sequence[float]) -> str:
    """How many times faster than the reference."""
    return ranged(ratios(reference, values), 1) if reference else NONE


def ranged(spread: Spread, unit: float) -> str:
    """
    >>> ranged(Spread(0.5, 0.25, 1.0), 1)
    '0.500 (0.250 to 1.00)'
    """
    median, least, greatest = (figure(value * unit) for value in (spread.median, spread.least, spread.greatest))
    return f"{median} ({least} to {greatest})"


def figure(value: float) -> str:
    """Three significant digits, without an exponent where there is a fraction.

    >>> figure(0.01234), figure(1.234), figure(12.34), figure(1234.4)
    ('0.0123', '1.23', '12.3', '1234')
    """
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")


def doubts(measured: Measured) -> Iterator[str]:
    """The contestants whose times mean nothing: torch 2.11 once lost gradients under torch.compile, and was fast."""
    for result in measured.results:
        found = {"output": result.errors.output, "gradient": result.errors.gradient}
        for what, error in found.items():
            if error is not None and not error < WRONG:
                yield f"{result.label}: the {what} is off by {error:.1e}, relative: do not compare its times"


def verdict(difference: float | None, same: bool) -> str:
    """Whether the official form computes what the network does."""
    if difference is None:
        return "the network has other parameters than the official architecture: the two are different functions"
    if same:
        return f"official and compiled agree with the same weights: relative error {difference:.1e} in float64"
    return f"with the same weights official and compiled differ by {difference:.1e}, relative: two different functions"
