"""What the words of the command line name: runs, weights files, specs, and the folders of explored grids."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor, nn

from runtime.data.photographs import Photographs
from runtime.data.source import DataSource
from runtime.errors import UserError
from runtime.instruments.subject import Shown, Subject, assembled, subject_of
from runtime.network import SHAPES, Compiled, Shape, compile_network, kind_of
from runtime.predicting.reading import opened
from runtime.recipe import recipes
from runtime.recipe.compiling import compile_recipe
from runtime.recipe.schema import Recipe
from runtime.storage import checkpoint, untrusted
from runtime.storage.file_names import numbered
from runtime.storage.trained import Trained, network_of, recipe_of
from runtime.storage.trained import assembled as with_weights

BRIGHT = 0.5  # of white: where a mask is at least as bright, there is the object


@dataclass(frozen=True)
class Named:
    """One network that was asked for. With a spec, `path` are weights for it, None for the network as initialised."""

    label: str
    path: Path | None
    spec: Path | None = None


@dataclass(frozen=True)
class Asked:
    """What a report is made of, as asked for on the command line."""

    weights: str | None
    recipe: str | None
    overrides: Sequence[str]
    preset: str | None
    sizes: Mapping[str, int | float]
    count: int
    pictures: Sequence[Path] = ()
    masks: Path | None = None


def named(words: Sequence[Path]) -> list[Named]:
    """Runs, weights and grids in their order; a spec takes the weights file that follows it.

    Raises UserError for what is none of these.
    """
    found, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        if word.suffix == ".crate":
            follows = bool(rest) and rest[0].suffix in (".safetensors", ".pt", ".pth")
            found.append(Named(word.stem, rest.pop(0) if follows else None, word))
        elif (word / "table.json").is_file():
            found += runs_of(word)
        else:
            found.append(Named(word.name if word.is_dir() else word.stem, word))
    return [Named(label, each.path, each.spec) for label, each in zip(distinct(found), found, strict=True)]


def distinct(found: Sequence[Named]) -> list[str]:
    """Labels that differ: of those that are alike the later ones are numbered, past numbers that are taken."""
    labels: list[str] = []
    for each in found:
        labels.append(numbered(each.label, labels, "{} ({})"))
    return labels


def runs_of(grid: Path) -> Iterator[Named]:
    """The finished runs of an explored grid, of each variant the one of its first seed."""
    file = grid / "table.json"
    try:
        for variant in json.loads(untrusted.read_text(file))["variants"]:
            if seeds := list(variant["runs"]):
                place = grid / "runs" / Path(variant["spec"]).stem / f"seed-{int(seeds[0])}"
                yield Named(str(variant["variant"]), place)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: not the table of an explored grid: {error}") from None


def subject_named(each: Named, asked: Asked) -> Subject:
    """The network with the inputs that are put through it; raises UserError where something does not fit."""
    if each.spec is None:
        trained = network_of(each.path, asked.weights if each.path.is_dir() else None)
    elif each.path:
        trained = given_weights(each.spec, each.path, asked)
    else:
        return fresh(each, asked)
    recipe = recipe_of(trained, asked.recipe, asked.overrides)
    recipe = recipe if trained.folder else with_fitting_data(recipe, trained.compiled, asked)
    return subject_of(trained, each.label, recipe, asked.count, shown(asked, recipe, trained.compiled.module))


def given_weights(spec: Path, file: Path, asked: Asked) -> Trained:
    """Weights that need not say which network they are of; shapes are compared before they are loaded."""
    if file.suffix != ".safetensors":
        raise UserError(f"{file}: python -m runtime.convert makes a safetensors file of weights of official code")
    weights, _ = checkpoint.load_weights(file)
    text = compile_network(spec, asked.preset, asked.sizes).spec
    try:
        return with_weights(file, file, "given", text, asked.preset, asked.sizes, weights, None)
    except UserError as error:
        hint = f"--preset and --set choose the sizes of {spec}; a file that holds its spec is named without another one"
        raise UserError(f"{error}\n{hint}") from None


def fresh(each: Named, asked: Asked) -> Subject:
    """The network of a spec as it is initialised, with the sizes of the recipe where none are asked for."""
    recipe = recipes.load(recipes.find(asked.recipe or recipes.default(kind_of(each.spec))), asked.overrides)
    if asked.preset or asked.sizes:
        recipe = recipe.model_copy(update={"preset": asked.preset, "sizes": dict(asked.sizes)})
        compiled = compile_network(each.spec, recipe.preset, recipe.sizes, recipe.seed)
    else:
        compiled = compile_recipe(each.spec, recipe)
    recipe = with_fitting_data(recipe, compiled, asked)
    return assembled(each.label, compiled, None, recipe, asked.count, shown(asked, recipe, compiled.module))


def with_fitting_data(recipe: Recipe, compiled: Compiled, asked: Asked) -> Recipe:
    """The recipe; where nobody chose it and its data have another shape, with photographs in their place."""
    chosen = asked.recipe or any(word.partition("=")[0].split(".")[0] == "data" for word in asked.overrides)
    if chosen or not isinstance(compiled.shape, Shape):
        return recipe
    try:
        recipe.splits(compiled.shape)
    except UserError:
        return recipe.model_copy(update={"data": Photographs(shrink=(1, 2, 4))})
    return recipe


# ---- pictures ------------------------------------------------------------------------------------------------------


def shown(asked: Asked, recipe: Recipe, network: nn.Module) -> list[Shown]:
    """The user's pictures with their masks, as the network reads them."""
    if not asked.pictures:
        return []
    shape = SHAPES[network.input].of(network)
    if not isinstance(shape, Shape):
        raise UserError(f"--images: this network reads {shape.kind}: {shape}")
    files = [file for word in asked.pictures for file in files_of(word)]
    return [
        Shown(file.stem, recipe.data.prepared(opened(file), shape), mask_of(file, asked.masks, recipe.data, shape))
        for file in files
    ]


def files_of(word: Path) -> list[Path]:
    """A picture, or all pictures of a folder."""
    if not word.is_dir():
        return [word]
    files = sorted(file for file in word.iterdir() if file.suffix.lower() in Image.registered_extensions())
    if not files:
        raise UserError(f"{word}: no pictures in this folder")
    return files


def require_masks(pictures: Sequence[Path], masks: Path) -> None:
    """Say which pictures have no mask; raises UserError where none has one."""
    files = [file for word in pictures for file in files_of(word)]
    without = [file.name for file in files if not mask_file(file, masks).is_file()]
    if len(without) == len(files):
        raise UserError(
            f"{masks}: no picture has a mask there; that of {files[0]} would be {mask_file(files[0], masks)}"
        )
    if without:
        print(f"without a mask in {masks}: {', '.join(without)}")


def mask_file(file: Path, masks: Path) -> Path:
    return masks / f"{file.stem}.png"


def mask_of(file: Path, masks: Path | None, source: DataSource, shape: Shape) -> Tensor | None:
    """MASKS/NAME.png, prepared as the picture NAME is: (height, width), true where it is bright; None without one."""
    place = mask_file(file, masks) if masks else None
    if place is None or not place.is_file():
        return None
    if opened(place).size != opened(file).size:
        raise UserError(f"{place}: of another size than {file}")
    return source.displayed(source.prepared(opened(place), shape)).mean(dim=0) >= BRIGHT
