"""Networks side by side under one recipe: python -m runtime.compare SPEC [SPEC ...] [--vit] [--probe]."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.table import Table
from torch import nn

import crate_dsl
from runtime.baselines.vit import VisionTransformer
from runtime.command import Parser, run
from runtime.data.source import Splits
from runtime.errors import UserError
from runtime.network import Compiled, kind_of, parameter_count
from runtime.probing.features import reading
from runtime.probing.protocol import probe, require_classes
from runtime.probing.protocol import show as show_probe
from runtime.recipe import recipes
from runtime.recipe.compiling import compile_recipe
from runtime.recipe.schema import Recipe
from runtime.scoring.measure import pick_device
from runtime.storage import checkpoint
from runtime.storage.log import console
from runtime.storage.run_folder import RunFolder, unused
from runtime.variants import side_by_side
from runtime.variants.side_by_side import Outcome


def main(arguments: Sequence[str]) -> None:
    parser = Parser(prog="python -m runtime.compare", description="Train networks under one recipe, side by side.")
    parser.add_argument("words", nargs="*", metavar="SPEC key=value", help="specs, and entries of the recipe")
    parser.add_argument("--vit", action="store_true", help="also a vision transformer as wide and deep as the first")
    parser.add_argument("--probe", action="store_true", help="also k-NN and a linear probe, as runtime.probe does them")
    parser.add_argument("--recipe", help="a recipe of specs/recipes by name, or a YAML file; default: by the network")
    parser.add_argument("--out", type=Path, help="folder for the runs; default: a new one below runs/")
    options = parser.parse_intermixed_args(arguments)
    overrides = [word for word in options.words if "=" in word]
    specs = [Path(word) for word in options.words if "=" not in word]
    if not specs:
        raise UserError(f"at least one spec is needed\n{parser.format_usage().strip()}")
    name = options.recipe or recipes.default(kind_of(specs[0]))
    recipe = recipes.load(recipes.find(name), overrides)
    labels = [spec.stem for spec in specs] + ["vit"] * options.vit
    if len(set(labels)) < len(labels):
        beside = ', and "vit" is that of --vit' if options.vit else ""
        raise UserError(f"the specs need different file names, by which their runs are called{beside}")
    networks = [(spec.stem, compile_recipe(spec, recipe)) for spec in specs]
    if options.vit:
        networks.append(("vit", vision_transformer(specs[0], networks[0][1], recipe)))
    splits = {shape: recipe.splits(shape) for shape in {compiled.shape for _, compiled in networks}}
    for _, compiled in networks:
        recipe.task.check(compiled.module, splits[compiled.shape].classes)
        if options.probe:
            require_classes(compiled.module, splits[compiled.shape], recipe)
    out = options.out or unused(f"compare-{Path(name).stem}")
    rows = {
        label: train(label, compiled, recipe, splits[compiled.shape], out, options.probe)
        for label, compiled in networks
    }
    show(name, rows)


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
    return replace(compiled, stand_in="VisionTransformer", module=network)


def train(label: str, compiled: Compiled, recipe: Recipe, splits: Splits, out: Path, probed: bool) -> Outcome:
    """A whole run in a folder of its own; `probed`, with the figures of its frozen features."""
    print(f"-- {label}: {compiled.name}, {parameter_count(compiled.module):,} parameters", flush=True)
    fresh = copy.deepcopy(compiled.module) if probed else None
    outcome = side_by_side.train(compiled, recipe, splits, out / label, label)
    if fresh is None:
        return outcome
    weights, _ = checkpoint.load_weights(RunFolder(out / label).weights)
    compiled.module.load_state_dict(weights)  # where weights are averaged, these are not those of the last step
    return replace(outcome, figures=outcome.figures | features(label, compiled.module, fresh, recipe, splits))


def features(label: str, network: nn.Module, fresh: nn.Module, recipe: Recipe, splits: Splits) -> dict[str, float]:
    """What the frozen features of a network are worth, and those of the same untrained; the whole table is printed."""
    device = pick_device(recipe.device)
    example = splits.held_out.take([0], None).to(device)
    read = reading(network.to(device), example.images)
    found = probe(network, fresh.to(device), read, splits, recipe)
    show_probe(f"{label}, held out", found)
    return {
        f"{measure} {name}": value
        for name, row in found.rows.items()
        for measure, value in (("k-NN,", row.knn_accuracy), ("linear probe,", row.linear_accuracy))
    }


def show(recipe: str, rows: Mapping[str, Outcome]) -> None:
    table = Table("figure", *rows, title=f"recipe {recipe}, held out", title_justify="left")
    table.add_row("parameters", *(f"{row.parameters:,}" for row in rows.values()))
    for figure in dict.fromkeys(figure for row in rows.values() for figure in row.figures):  # not all have a penalty
        cells = (f"{row.figures[figure]:.4f}" if figure in row.figures else "" for row in rows.values())
        table.add_row(figure, *cells)
    table.add_row("seconds", *(f"{row.seconds:.0f}" for row in rows.values()))
    console().print(table)


if __name__ == "__main__":
    run(main, outlasts=True)
