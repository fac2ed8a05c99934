"""What CRATE's operators do to where attention looks: python -m runtime.ablation SPEC [key=value ...] [--seeds 0,1].

Four networks of the spec's sizes are trained under one recipe: attention MSSA (one projection for queries, keys and
values) or MHSA (three), then a step of ISTA or a perceptron; stem, positions and head are the spec's in all of them.
The class token's attention is compared with the masks of the held-out images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from crate_dsl.language.model import Model
from runtime.ablating import plots, results
from runtime.ablating.overlap import bounds, every_mask, grid_of, overlaps, require_masks
from runtime.ablating.results import Ablation, Gained, Row
from runtime.baselines.hybrid import COMBINATIONS, Hybrid, LayerSizes, Operators, require_same
from runtime.command import Parser, run
from runtime.data.source import Splits
from runtime.errors import Stopped, UserError
from runtime.explore import seeds_of
from runtime.network import Compiled, parameter_count
from runtime.recipe import recipes
from runtime.recipe.compiling import compile_recipe
from runtime.recipe.schema import Recipe
from runtime.scoring.measure import pick_device
from runtime.storage import checkpoint
from runtime.storage.log import console
from runtime.storage.run_folder import RunFolder, unused
from runtime.variants import side_by_side

RECIPE = "classify_composites"


def parser() -> Parser:
    result = Parser(
        prog="python -m runtime.ablation",
        description="Train CRATE with its operators exchanged, and look at attention.",
    )
    result.add_argument("words", nargs="*", metavar="SPEC key=value", help="the spec, and entries of the recipe")
    result.add_argument(
        "--recipe", default=RECIPE, help=f"a recipe of specs/recipes by name, or a YAML file; default: {RECIPE}"
    )
    result.add_argument("--seeds", metavar="0,1", help="train each with these; default: the recipe's seed")
    result.add_argument("--out", type=Path, help="folder for the runs; given again, what is finished there is kept")
    return result


def main(arguments: Sequence[str]) -> None:
    options = parser().parse_intermixed_args(arguments)
    spec = parser().one_spec(options.words)
    recipe = recipes.load(recipes.find(options.recipe), [word for word in options.words if "=" in word])
    seeds = seeds_of(options.seeds, recipe)
    compiled = compile_recipe(spec, recipe)
    require_crate(compiled)
    splits = recipe.splits(compiled.shape)
    require_masks(splits.held_out, recipe.data.name)
    out = options.out or unused(f"ablation-{spec.stem}")
    masks = every_mask(splits.held_out, recipe.evaluate_batch)
    limits = bounds(masks, layer_sizes(compiled.compilation.model).heads, grid_of(compiled.module))
    rows = [Row(operators.name) for operators in COMBINATIONS]
    found = Ablation(spec.name, options.recipe, recipe.task.metric, len(masks), limits, rows)
    try:
        for seed in seeds:
            train_all(spec, recipe.model_copy(update={"seed": seed}), splits, out, rows)
    except Stopped as stopped:
        reason = str(stopped).split(";")[0]
        raise Stopped(f"{reason}; the same command with --out {out} goes on from here", stopped.signal) from None
    finally:
        if found.trained:
            keep(found, out)


def require_crate(compiled: Compiled) -> None:
    """Raises UserError for whatever is not the official classifier, whose operators these are."""
    if compiled.module.task != "classify" or compiled.module.input != "image":
        raise UserError("operators are exchanged in a classifier of images, as specs/crate.crate")
    if hasattr(compiled.module, "forward_with_penalty"):
        raise UserError("the loss of this spec has energies of its own steps, which other operators do not have")
    require_same(compiled.module, hybrid(compiled, COMBINATIONS[0], 0).module)


def layer_sizes(model: Model) -> LayerSizes:
    """Raises UserError where the spec names its sizes otherwise, or has heads that are not d / K wide."""
    sizes, reals = model.sizes, model.reals
    if missing := sorted({"d", "K", "L", "eta", "lambda"} - {*sizes, *reals}):
        raise UserError(f"an ablation reads d, K, L, eta and lambda of the spec, which has no {', '.join(missing)}")
    if sizes.get("p", 0) * sizes["K"] != sizes["d"]:
        raise UserError(
            f"MHSA has heads as wide together as the tokens: d = K p, not {sizes['d']} and K = {sizes['K']}"
        )
    return LayerSizes(sizes["d"], sizes["K"], sizes["L"], float(reals["lambda"]), float(reals["eta"]))


def hybrid(compiled: Compiled, operators: Operators, seed: int) -> Compiled:
    """The network with these operators; its layers are initialised from `seed`, those of MSSA and ISTA as compiled."""
    sizes = layer_sizes(compiled.compilation.model)
    torch.manual_seed(seed)
    return replace(compiled, stand_in=operators.name, module=Hybrid(compiled.module, operators, sizes))


def train_all(spec: Path, recipe: Recipe, splits: Splits, out: Path, rows: Sequence[Row]) -> None:
    """The networks of one seed: what is not trained yet."""
    start = compile_recipe(spec, recipe)
    for operators, row in zip(COMBINATIONS, rows, strict=True):
        path = out / "runs" / operators.name.replace(" + ", "-").lower() / f"seed-{recipe.seed}"
        row.gained[recipe.seed] = train(hybrid(start, operators, recipe.seed), recipe, splits, path, spec)


def train(compiled: Compiled, recipe: Recipe, splits: Splits, path: Path, spec: Path) -> Gained:
    """A whole run, or what one has left, with the overlap of its attention and the held-out masks."""
    network = compiled.module.to(pick_device(recipe.device))
    print(f"-- {compiled.name}, seed {recipe.seed}: {parameter_count(network):,} parameters", flush=True)
    initial = overlaps(network, splits.held_out, recipe.evaluate_batch)
    outcome = side_by_side.train(compiled, recipe, splits, path, spec.name)
    weights, _ = checkpoint.load_weights(RunFolder(path).weights)
    network.load_state_dict(weights)  # where weights are averaged, these are not those of the last step
    return Gained(outcome, overlaps(network, splits.held_out, recipe.evaluate_batch), initial)


def keep(found: Ablation, out: Path) -> None:
    """The table on the terminal, and table and plot in the folder."""
    results.write(found, out)
    console().print(results.printed(found))
    print(f"{found.bounds_text}\n{results.NOTE}")
    files = [out / f"table.{ending}" for ending in ("md", "csv", "json")] + plots.plot(found, out)
    print(f"files: {', '.join(map(str, files))}")


if __name__ == "__main__":
    run(main, outlasts=True)
