"""The entry `initialisation` of a recipe put into effect: weights taken before training, provenance kept in the run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from crate_dsl import Compilation
from crate_dsl.errors import Source
from runtime.errors import UserError
from runtime.network import Compiled
from runtime.recipe.schema import Recipe
from runtime.storage import checkpoint
from runtime.storage.trained import SPEC, Trained, network_of
from runtime.transfer.taking import HEAD, Taking, show, taking


@dataclass(frozen=True)
class Origin:
    """Where the weights that a run starts from were found, tensor by tensor, and what is to be said of it."""

    taken: Taking
    said: str
    notes: list[str]


def begin(recipe: Recipe, compiled: Compiled) -> tuple[Recipe, Origin | None]:
    """Load what the recipe names into a fresh network; the recipe comes back with the file's place and hash.

    Raises UserError where the file is not the one that the recipe's hash is of, where less than the encoder fits, and
    where freezing would leave what was initialised at random as it is.
    """
    start = recipe.initialisation
    if start is None:
        return recipe, None
    source = network_of(start.weights)
    digest = sha256_of(source.file)
    if start.sha256 not in (None, digest):
        raise UserError(f"{source.file}: is not the file of the recipe: its sha256 is {digest}, not {start.sha256}")
    try:
        taken = taking(source.compiled.module, compiled.module)
    except UserError as error:
        raise UserError("\n".join([f"{source.file}: {error}", *advice(source, recipe, compiled)])) from None
    compiled.module.load_state_dict(taken.values, strict=False)
    random = [name for name in taken.names("re-initialised") if not name.startswith(HEAD)]
    if start.freeze and random:
        raise UserError(f"freeze trains the head alone, but these would stay as initialised: {', '.join(random)}")
    said = f"starting from {source.file} (sha256 {digest[:16]}...): {described(source)}"
    kept = start.model_copy(update={"weights": source.file.resolve(), "sha256": digest})
    origin = Origin(taken, said, stated_otherwise(source, recipe, compiled))
    return recipe.model_copy(update={"initialisation": kept}), origin


def tell(origin: Origin) -> None:
    """A table of what was taken, initialised anew and left over."""
    print(origin.said)
    show(origin.taken)
    for line in origin.notes:
        print(f"note: {line}")


def advice(source: Trained, recipe: Recipe, compiled: Compiled) -> list[str]:
    """For weights that do not fit: what they are of, which sizes differ, and how a size is stated."""
    lines = [f"they are of {described(source)}"]
    if differences := stated_otherwise(source, recipe, compiled):
        lines.append("; ".join(differences))
        lines.append("a size is stated as it is there by sizes.NAME=VALUE on the command line")
    return lines


def described(source: Trained) -> str:
    sizes = ", ".join(f"{name} = {value}" for name, value in source.compilation.model.sizes.items())
    preset = f", preset {source.preset}" if source.preset else ""
    return f"{source.compiled.name}{preset}, {sizes}"


def stated_otherwise(source: Trained, recipe: Recipe, compiled: Compiled) -> list[str]:
    """Sizes and reals that both specs name and state differently: shapes do not tell of heads or step sizes."""
    own = Compilation(Source(SPEC, compiled.spec), recipe.preset, dict(recipe.sizes)).model
    models = source.compilation.model, own
    there, here = ({**m.sizes, **{name: float(value) for name, value in m.reals.items()}} for m in models)
    common = [name for name in there if name in here and there[name] != here[name]]
    return [f"{name} is {there[name]} there and {here[name]} here" for name in common]


def sha256_of(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def freeze(recipe: Recipe, network: nn.Module) -> None:
    """Where the recipe wants it, leave only the head to be trained; raises UserError for a head without parameters."""
    if recipe.initialisation is None or not recipe.initialisation.freeze:
        return
    names = [name for name, _ in network.named_parameters() if name.startswith(HEAD)]
    if not names:
        raise UserError("freeze trains the head alone, and the head of this network has no parameters of its own")
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in names)


def rest(recipe: Recipe, network: nn.Module) -> None:
    """What is frozen works as in evaluation while the rest trains: nothing is left out, statistics stay."""
    if recipe.initialisation is None or not recipe.initialisation.freeze:
        return
    for name, child in network.named_children():
        if not f"{name}.".startswith(HEAD):
            child.eval()


def keep(folder: Path, recipe: Recipe, origin: Origin) -> None:
    """Leave in a run's folder what was taken from where, tensor by tensor."""
    taken = origin.taken
    start = recipe.initialisation
    left = taken.names("left over")
    own = {entry.name: [entry.fate, entry.why] for entry in taken.entries if entry.fate != "left over"}
    content = start.model_dump(mode="json") | {"tensors": own, "left_over": left}
    checkpoint.replace_text(folder / "initialisation.json", json.dumps(content, indent=1) + "\n")
