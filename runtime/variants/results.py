"""What a grid of variants has given: one table, printed and written as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.table import Table

from runtime.storage import checkpoint
from runtime.variants.grid import Candidate
from runtime.variants.side_by_side import Outcome


@dataclass
class Row:
    """One variant: its runs by seed, those that failed with the reason."""

    candidate: Candidate
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)

    def values(self, metric: str) -> list[float]:
        return [outcome.figures[metric] for outcome in self.outcomes.values()]

    def mean(self, metric: str) -> float:
        values = self.values(metric)
        return sum(values) / len(values)

    @property
    def seconds(self) -> float:
        return sum(outcome.seconds for outcome in self.outcomes.values()) / len(self.outcomes)

    @property
    def falls(self) -> str:
        """`compress 4/4, sparsify 3/4`: layers of all seeds whose stated energy falls; the block too where needed."""
        counts: dict[str, tuple[int, int]] = {}
        for outcome in self.outcomes.values():
            for name, (falls, layers) in outcome.falls.items():
                counts[name] = tuple(a + b for a, b in zip(counts.get(name, (0, 0)), (falls, layers), strict=True))
        blocks = {name.split(".")[0] for name in counts}
        short = {name: name if len(blocks) > 1 else name.split(".")[1] for name in counts}
        return ", ".join(f"{short[name]} {falls}/{layers}" for name, (falls, layers) in counts.items())

    @property
    def problem(self) -> str:
        """Why it, or some of its runs, could not be trained."""
        failed = [f"seed {seed}: {reason.splitlines()[0]}" for seed, reason in self.failures.items()]
        return "; ".join(filter(None, (self.candidate.problem, *failed)))


@dataclass(frozen=True)
class Results:
    """The rows of a grid, and what is the same for all of them."""

    spec: str
    recipe: str
    metric: str
    larger_is_better: bool
    seeds: tuple[int, ...]
    rows: Sequence[Row]

    @property
    def trained(self) -> list[Row]:
        return [row for row in self.rows if row.outcomes]

    @property
    def best(self) -> Row | None:
        sign = 1 if self.larger_is_better else -1
        return max(self.trained, key=lambda row: sign * row.mean(self.metric), default=None)

    @property
    def title(self) -> str:
        direction = "larger" if self.larger_is_better else "smaller"
        seeds = f"seeds {', '.join(map(str, self.seeds))}" if len(self.seeds) > 1 else f"seed {self.seeds[0]}"
        return f"{self.spec}, recipe {self.recipe}, {seeds}: held-out {self.metric} ({direction} is better)"

    @property
    def header(self) -> tuple[str, ...]:
        spread = ("least to greatest",) if len(self.seeds) > 1 else ()
        return ("variant", "parameters", "FLOPs", self.metric, *spread, "seconds", "layers whose energy falls", "note")

    def cells(self, row: Row) -> tuple[str, ...]:
        candidate = row.candidate
        sizes = (f"{candidate.parameters:,}", quantity(candidate.flops)) if candidate.parameters else ("", "")
        if not row.outcomes:
            return (candidate.variant.label, *sizes, *[""] * (len(self.header) - 4), "not trained")
        values = sorted(row.values(self.metric))
        spread = (f"{values[0]:.4g} to {values[-1]:.4g}",) if len(self.seeds) > 1 else ()
        best = "best" if row is self.best and len(self.trained) > 1 else ""
        failed = f"{len(row.failures)} of {len(self.seeds)} seeds failed" if row.failures else ""
        note = "; ".join(filter(None, (best, candidate.note, failed)))
        metric = f"{row.mean(self.metric):.4g}"
        return (candidate.variant.label, *sizes, metric, *spread, f"{row.seconds:.0f}", row.falls, note)

    @property
    def problems(self) -> list[str]:
        """One line for every variant that could not be trained, or not with every seed."""
        return [f"{row.candidate.variant.label}: {row.problem}" for row in self.rows if row.problem]


def quantity(count: int) -> str:
    """`5.32 M`: two decimals of the largest unit up to G that it reaches."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return str(count)


def printed(results: Results) -> Table:
    table = Table(title=results.title, title_justify="left")
    words = (word for row in results.rows for word in row.candidate.variant.label.split())
    longest = min(40, max(map(len, words), default=0))  # else a narrow terminal breaks within it
    for name in results.header:
        number = name not in ("variant", "layers whose energy falls", "note")
        least = longest if name == "variant" else None
        table.add_column(name, justify="right" if number else "left", overflow="fold", min_width=least)
    for row in results.rows:
        table.add_row(*results.cells(row), style="bold" if row is results.best else None)
    return table


def spec_of(folder: Path) -> str | None:
    """The name of the spec whose grid a folder holds, None where it holds none that can be read."""
    try:
        return str(json.loads((folder / "table.json").read_text(encoding="utf-8"))["spec"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def write(results: Results, folder: Path) -> None:
    """table.md, table.csv and table.json."""
    for name, text in {"md": markdown, "csv": comma_separated, "json": as_json}.items():
        checkpoint.replace_text(folder / f"table.{name}", text(results))


def markdown(results: Results) -> str:
    lines = [results.header, ["---"] * len(results.header), *(results.cells(row) for row in results.rows)]
    table = "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
    note = "Each variant's spec is in `specs/`, its runs are in `runs/`; the plot is `plot.svg`."
    problems = "".join(f"* not trained: {problem}\n" for problem in results.problems)
    return f"{results.title}\n\n{table}\n\n{problems}\n{note}\n"


def comma_separated(results: Results) -> str:
    """One line per variant; numbers in full, empty where there is none."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    keys = list(results.rows[0].candidate.changes)
    figures = ("mean", "least", "greatest")
    names = [f"{results.metric}_{figure}" for figure in figures]
    writer.writerow(["variant", *keys, "parameters", "flops", *names, "seconds", "energy_falls", "problem"])
    for row in results.rows:
        values = row.values(results.metric)
        numbers = [row.mean(results.metric), min(values), max(values), row.seconds] if values else [""] * 4
        candidate = row.candidate
        sizes = [candidate.parameters, candidate.flops] if candidate.parameters else ["", ""]
        writer.writerow(
            [candidate.variant.label, *candidate.changes.values(), *sizes, *numbers, row.falls, row.problem]
        )
    return out.getvalue()


def as_json(results: Results) -> str:
    """Everything, with every figure of every seed."""
    rows = [
        {
            "variant": row.candidate.variant.label,
            "changes": dict(row.candidate.changes),
            "spec": f"specs/{row.candidate.name}.crate",
            "parameters": row.candidate.parameters or None,
            "flops": row.candidate.flops or None,
            "problem": row.candidate.problem,
            "runs": {seed: asdict(outcome) for seed, outcome in row.outcomes.items()},
            "failures": row.failures,
        }
        for row in results.rows
    ]
    about = {name: getattr(results, name) for name in ("spec", "recipe", "metric", "larger_is_better", "seeds")}
    return json.dumps({**about, "variants": rows}, indent=1) + "\n"
