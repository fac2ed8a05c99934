"""A trained network, found in the folder of a run or in a weights file of ours: what comes after training starts here.

Nothing in either is executed: the spec in them is text, compiled anew, and what runs is the compiler's output.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from crate_dsl import Compilation, CrateError
from crate_dsl.errors import Source
from runtime.command import Parser
from runtime.data.source import Splits
from runtime.errors import Misfit, UserError
from runtime.network import Compiled, built, written_class
from runtime.recipe import recipes
from runtime.recipe.schema import Recipe
from runtime.storage import checkpoint, untrusted
from runtime.storage.run_folder import RunFolder, recipe_in
from runtime.weights.tensors import shape_text

SPEC = "spec.crate"  # what a kept spec is called, in a run's folder and in messages
LISTED = 12  # names in a message


@dataclass(frozen=True)
class Trained:
    """A network with its trained weights loaded, and what is known of where they come from."""

    path: Path  # as the user named it
    file: Path  # the weights themselves
    kind: str  # "last" or "best" of a run; "given" for a weights file
    compilation: Compilation
    compiled: Compiled
    folder: RunFolder | None  # of the run, where there is one

    @property
    def preset(self) -> str | None:
        return self.compilation.preset

    @property
    def sizes(self) -> dict[str, int | float]:
        return dict(self.compilation.overrides)

    @property
    def out(self) -> Path:
        """Where what is found out goes unless the user says otherwise: the run's folder, or one named like the file."""
        if self.folder:
            return self.folder.path
        return self.path.with_suffix("") if self.path.suffix else self.path.with_name(f"{self.path.name}-results")


def add_arguments(parser: Parser) -> None:
    """The arguments that every command on a trained network has; read them with `network_of` and `recipe_of`."""
    parser.add_argument("trained", type=Path, metavar="RUN|WEIGHTS", help="the folder of a run, or a weights file")
    parser.add_argument("--weights", choices=("last", "best"), help="of a run, default: last; best: by its metric")
    parser.add_argument("--recipe", help="a recipe by name or file; default: that of the run, or by the network")


def network_of(path: Path, kind: str | None = None) -> Trained:
    """The trained network of a run's folder, its last or best weights, or of a safetensors file with its spec inside.

    Raises UserError where there is none, where the file does not say which network it is, and where weights and spec
    do not belong together.
    """
    file = weights_file(path, kind)
    weights, origin = checkpoint.load_weights(file)
    if not path.is_dir():
        return assembled(path, file, "given", *stated(path, origin), weights, None)
    folder = RunFolder(path)
    recipe, text = recipe_in(folder), untrusted.read_text(folder.spec)
    if origin.get("spec", text) != text:
        raise UserError(f"{folder.spec}: is not the spec that {file.name} was trained for: it was altered since")
    return assembled(path, file, kind or "last", text, recipe.preset, recipe.sizes, weights, folder)


def weights_file(path: Path, kind: str | None) -> Path:
    """The weights of a run, or the file itself; raises UserError where there are none."""
    if not path.exists():
        raise UserError(f"{path}: not the folder of a run, nor a weights file")
    if not path.is_dir():
        if kind:
            raise UserError(f"{path}: is a weights file, of which there is one: --weights chooses among those of a run")
        return path
    folder = RunFolder(path)
    folder.require()
    file = folder.best if kind == "best" else folder.weights
    if not file.exists():
        raise UserError(f"{path}: the run stopped before it wrote {file.name}")
    return file


def assembled(
    path: Path,
    file: Path,
    kind: str,
    text: str,
    preset: str | None,
    sizes: Mapping[str, int | float],
    weights: Mapping[str, Tensor],
    folder: RunFolder | None,
) -> Trained:
    compilation = Compilation(Source(SPEC, text), preset, dict(sizes))
    try:
        require_fit(file, compilation, weights)
        compiled = built(compilation)
    except CrateError as error:
        raise UserError(f"{file}: the spec that belongs to it does not compile:\n{error}") from None
    compiled.module.load_state_dict(weights)
    return Trained(path, file, kind, compilation, compiled, folder)


def stated(file: Path, origin: Mapping[str, str]) -> tuple[str, str | None, dict[str, int | float]]:
    """Spec, preset and sizes from the metadata of a weights file, as `run_folder.origin` writes them."""
    if "spec" not in origin:
        hint = "python -m runtime.convert makes such a file of official weights"
        raise UserError(f"{file}: does not say which network it is (no spec in its metadata); {hint}")
    spec = origin["spec"]
    if origin.get("spec_sha256") != hashlib.sha256(spec.encode()).hexdigest():
        raise UserError(f"{file}: the spec in its metadata is not the one that its hash is of: the file was altered")
    try:
        sizes = json.loads(origin.get("sizes", "{}"))
        numbers = [value for value in sizes.values() if isinstance(value, int | float) and not isinstance(value, bool)]
        if len(numbers) != len(sizes) or not all(map(math.isfinite, numbers)):
            raise ValueError("a size is not a finite number")
    except (ValueError, AttributeError, RecursionError, OverflowError) as error:
        raise UserError(f"{file}: its metadata hold no sizes that can be read: {error}") from None
    return spec, origin.get("preset") or None, sizes


def require_fit(file: Path, compilation: Compilation, weights: Mapping[str, Tensor]) -> None:
    """Raises UserError where names and shapes are not those of the network, before memory is taken for it.

    A spec of a few lines may state a network that no machine holds, but a file that fits it is as large as it is.
    """
    tokens, total = compilation.model.tokens, sum(value.numel() for value in weights.values())
    tables = ("learned",), ("sincos",)  # made at once
    positions = [word for word in tokens.words if word.name == "position" and word.arguments in tables]
    if positions and tokens.count * compilation.model.sizes[tokens.rows] > total:
        raise UserError(f"{file}: holds {total:,} numbers, fewer than the positions that its spec states")
    with torch.device("meta"):
        wanted = {name: value.shape for name, value in written_class(compilation)().state_dict().items()}
    problems = [f"missing:    {name} {shape_text(shape)}" for name, shape in wanted.items() if name not in weights]
    for name, value in weights.items():
        if name not in wanted:
            problems.append(f"unexpected: {name} {shape_text(value.shape)}")
        elif value.shape != wanted[name]:
            problems.append(f"misshapen:  {name} {shape_text(value.shape)}, not {shape_text(wanted[name])}")
    if problems:
        more = [f"and {len(problems) - LISTED} more"] if len(problems) > LISTED else []
        lines = "\n  ".join([*problems[:LISTED], *more])
        raise UserError(f"{file}: these weights belong to another network than its spec states:\n  {lines}")


def splits_of(trained: Trained, recipe: Recipe) -> Splits:
    """The recipe's data for a trained network; raises UserError where they do not fit it."""
    try:
        return recipe.splits(trained.compiled.shape)
    except Misfit as misfit:
        advice = "its sizes are fixed: --recipe FILE names data that fit, such as a run's recipe.yaml"
        raise UserError(f"{misfit.found}; {advice}") from None


def recipe_of(trained: Trained, name: str | None, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of the run, or the named one, with overrides; its network's sizes are those of the trained network."""
    for override in overrides:
        if override.partition("=")[0].partition(".")[0] in ("preset", "sizes"):
            raise UserError(f"{override}: the sizes of a trained network are fixed")
    if trained.folder and name is None:
        return recipe_in(trained.folder, overrides)
    recipe = recipes.load(recipes.find(name or recipes.default(trained.compiled.module.task)), overrides)
    return recipe.model_copy(update={"preset": trained.preset, "sizes": trained.sizes})
