"""Networks side by side under one recipe: python -m runtime.compare SPEC [SPEC ...] [--vit] [key=value ...]."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.table import Table

import crate_dsl
from runtime import recipes
from runtime.baselines.vit import VisionTransformer
from runtime.data.source import Splits
from runtime.errors import Parser, UserError, run
from runtime.log import console
from runtime.measure import measure, reference_of
from runtime.network import Compiled, compile_network, kind_of, parameter_count
from runtime.recipe import Recipe
from runtime.run_folder import RunFolder, create, unused
from runtime.trainer import Trainer


@dataclass(frozen=True)
class Row:
    """One trained network: its name, size, seconds of training, and its figures on the held-out split."""

    name: str
    parameters: int
    seconds: float
    figures: dict[str, float]


def main(arguments: Sequence[str]) -> None:
    parser = Parser(prog="python -m runtime.compare", description="Train networks under one recipe, side by side.")
    parser.add_argument("words", nargs="*", metavar="SPEC key=value", help="specs, and entries of the recipe")
    parser.add_argument("--vit", action="store_true", help="also a vision transformer as wide and deep as the first")
    parser.add_argument("--recipe", help="a recipe of specs/recipes by name, or a YAML file; default: by the network")
    parser.add_argument("--out", type=Path, help="folder for the runs; default: a new one below runs/")
    options = parser.parse_intermixed_args(arguments)
    overrides = [word for word in options.words if "=" in word]
    specs = [Path(word) for word in options.words if "=" not in word]
    if not specs:
        raise UserError(f"at least one spec is needed\n{parser.format_usage().strip()}")
    name = options.recipe or recipes.default(kind_of(specs[0]))
    recipe = recipes.load(recipes.find(name), overrides)
    networks = [(spec.stem, compile_network(spec, recipe.preset, recipe.sizes, recipe.seed)) for spec in specs]
    if options.vit:
        networks.append(("vit", vision_transformer(specs[0], networks[0][1], recipe)))
    splits = recipe.data.open(networks[0][1].shape)
    out = options.out or unused(f"compare-{Path(name).stem}")
    show(name, [train(label, compiled, recipe, splits, out) for label, compiled in networks])


def vision_transformer(spec: Path, compiled: Compiled, recipe: Recipe) -> Compiled:
    """A transformer with the width d, depth L and heads K of a spec that names its sizes so."""
    sizes = crate_dsl.compile_spec(spec, preset=recipe.preset, overrides=recipe.sizes).model.sizes
    if missing := {"d", "L", "K"} - set(sizes):
        raise UserError(
            f"--vit reads the sizes d, L and K of the first spec; {spec} has no {', '.join(sorted(missing))}"
        )
    if compiled.module.task != "classify":
        raise UserError("--vit compares classifiers only")
    torch.manual_seed(recipe.seed)
    network = VisionTransformer(compiled.module, sizes["d"], sizes["L"], sizes["K"], sigma=0.02)
    return replace(compiled, name="VisionTransformer", module=network)


def train(label: str, compiled: Compiled, recipe: Recipe, splits: Splits, out: Path) -> Row:
    """A whole run in a folder of its own."""
    print(f"-- {label}: {compiled.name}, {parameter_count(compiled.module):,} parameters", flush=True)
    trainer = Trainer(recipe, compiled, splits, RunFolder(out / label))
    create(out / label, recipe, compiled, label)
    started = time.perf_counter()
    trainer.run()
    seconds = time.perf_counter() - started
    reference = reference_of(recipe.task, trainer.judged, splits.train, recipe.evaluate_batch)
    judged, batch = trainer.judged, recipe.evaluate_batch
    figures = measure(recipe.task, judged, splits.held_out, batch, recipe.precision, reference)
    return Row(label, parameter_count(compiled.module), seconds, figures)


def show(recipe: str, rows: Sequence[Row]) -> None:
    table = Table("figure", *(row.name for row in rows), title=f"recipe {recipe}, held out", title_justify="left")
    table.add_row("parameters", *(f"{row.parameters:,}" for row in rows))
    for figure in dict.fromkeys(figure for row in rows for figure in row.figures):  # a penalty is not in all of them
        table.add_row(figure, *(f"{row.figures[figure]:.4f}" if figure in row.figures else "" for row in rows))
    table.add_row("seconds", *(f"{row.seconds:.0f}" for row in rows))
    console().print(table)


if __name__ == "__main__":
    run(main)
