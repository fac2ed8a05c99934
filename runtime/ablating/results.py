"""What an ablation of operators has given: one table, printed and written as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.table import Table

from runtime.ablating.overlap import Bounds, Overlap
from runtime.inspection.segmentation import SHARE
from runtime.storage import checkpoint
from runtime.variants.side_by_side import Outcome

NOTE = f"""mIoU: of the class token's attention, binarised to the fewest patches with {SHARE:.0%} of its mass, with the
object's mask, over all held-out images; of every image the best head counts, as in Yu et al. 2023 (arXiv 2308.16271).
"Untrained" is the last layer as initialised, "shuffled" has the patches of every map in random order, "one head" is
the head that is best on average. With several seeds the mean, and the least to the greatest."""


@dataclass(frozen=True)
class Gained:
    """One trained network: its size and figures, every layer's overlap with the masks, after training and before."""

    outcome: Outcome
    overlaps: Sequence[Overlap]
    initial: Sequence[Overlap]

    @property
    def last(self) -> float:
        return self.overlaps[-1].best

    @property
    def last_untrained(self) -> float:
        return self.initial[-1].best

    @property
    def last_shuffled(self) -> float:
        return self.overlaps[-1].shuffled

    @property
    def last_one_head(self) -> float:
        return max(self.overlaps[-1].heads)

    @property
    def best(self) -> float:
        return max(overlap.best for overlap in self.overlaps)

    @property
    def best_layer(self) -> int:
        """Counted from 1."""
        return 1 + max(range(len(self.overlaps)), key=lambda layer: self.overlaps[layer].best)


@dataclass
class Row:
    """One combination of operators: what each seed has given."""

    operators: str
    gained: dict[int, Gained] = field(default_factory=dict)

    def values(self, figure: Callable[[Gained], float]) -> list[float]:
        return [figure(each) for each in self.gained.values()]

    def mean(self, figure: Callable[[Gained], float]) -> float:
        values = self.values(figure)
        return sum(values) / len(values)

    def cell(self, figure: Callable[[Gained], float]) -> str:
        """In percent, 41.3, of several seeds 41.3 (40.9 to 41.8)."""
        values = [100 * value for value in self.values(figure)]
        spread = f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else ""
        return f"{sum(values) / len(values):.1f}{spread}"


@dataclass(frozen=True)
class Ablation:
    """All rows, and what is the same for all of them."""

    spec: str
    recipe: str
    metric: str
    images: int
    bounds: Bounds
    rows: Sequence[Row]

    @property
    def trained(self) -> list[Row]:
        return [row for row in self.rows if row.gained]

    @property
    def title(self) -> str:
        seeds = sorted({seed for row in self.rows for seed in row.gained})
        return f"{self.spec}, recipe {self.recipe}, seeds {', '.join(map(str, seeds))}, {self.images} held-out images"

    @property
    def bounds_text(self) -> str:
        return (
            f"mIoU of random maps {100 * self.bounds.random:.1f} %, the best that whole patches can reach "
            f"{100 * self.bounds.ceiling:.1f} %."
        )

    @property
    def header(self) -> tuple[str, ...]:
        return (
            "operators", "parameters", f"{self.metric}, %", "mIoU, last layer, %", "untrained, %", "shuffled, %",
            "one head, %", "mIoU, best layer, %", "which layer", "seconds",
        )  # fmt: skip

    def cells(self, row: Row) -> tuple[str, ...]:
        first = next(iter(row.gained.values()))
        return (
            row.operators,
            f"{first.outcome.parameters:,}",
            row.cell(lambda each: each.outcome.figures[self.metric]),
            row.cell(lambda each: each.last),
            row.cell(lambda each: each.last_untrained),
            row.cell(lambda each: each.last_shuffled),
            row.cell(lambda each: each.last_one_head),
            row.cell(lambda each: each.best),
            ", ".join(str(each.best_layer) for each in row.gained.values()),
            f"{row.mean(lambda each: each.outcome.seconds):.0f}",
        )


def printed(ablation: Ablation) -> Table:
    table = Table(title=ablation.title, title_justify="left")
    for name in ablation.header:
        table.add_column(name, justify="left" if name == "operators" else "right", overflow="fold")
    for row in ablation.trained:
        table.add_row(*ablation.cells(row))
    return table


def write(ablation: Ablation, folder: Path) -> None:
    """table.md, table.csv and table.json."""
    for name, text in {"md": markdown, "csv": comma_separated, "json": as_json}.items():
        checkpoint.replace_text(folder / f"table.{name}", text(ablation))


def markdown(ablation: Ablation) -> str:
    lines = [ablation.header, ["---"] * len(ablation.header), *map(ablation.cells, ablation.trained)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{ablation.title}\n\n{table}\n\n{ablation.bounds_text}\n\n{NOTE}\n"


def comma_separated(ablation: Ablation) -> str:
    """One line per combination, seed, layer and head; the head is empty where the best of every image counts.

    `maps` are those of the attention after training or before, or those after training with shuffled patches.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["operators", "seed", "layer", "maps", "head", "coarse_miou"])
    for row in ablation.trained:
        for seed, gained in row.gained.items():
            for number, (each, before) in enumerate(zip(gained.overlaps, gained.initial, strict=True), 1):
                place = (row.operators, seed, number)
                writer.writerow([*place, "shuffled", "", each.shuffled])
                for maps, overlap in (("attention", each), ("untrained", before)):
                    writer.writerow([*place, maps, "", overlap.best])
                    writer.writerows([*place, maps, head, value] for head, value in enumerate(overlap.heads, 1))
    return out.getvalue()


def as_json(ablation: Ablation) -> str:
    """Everything, with every figure of every seed."""
    about = {name: getattr(ablation, name) for name in ("spec", "recipe", "metric", "images")}
    rows = [
        {"operators": row.operators, "runs": {seed: asdict(gained) for seed, gained in row.gained.items()}}
        for row in ablation.trained
    ]
    found = {**about, "share_of_mass": SHARE, "bounds": asdict(ablation.bounds), "combinations": rows}
    return json.dumps(found, indent=1) + "\n"
