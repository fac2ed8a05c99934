"""The folder that a run leaves behind, and how it is opened again."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from runtime.errors import UserError
from runtime.network import Compiled
from runtime.recipe import recipes
from runtime.recipe.schema import Recipe
from runtime.registry import absolute
from runtime.storage import checkpoint, untrusted

LIBRARIES = ("torch", "numpy", "safetensors", "pydantic", "lark", "sympy", "networkx")


@dataclass(frozen=True)
class RunFolder:
    """Where the files of one run lie."""

    path: Path

    recipe = property(lambda self: self.path / "recipe.yaml")
    spec = property(lambda self: self.path / "spec.crate")
    module = property(lambda self: self.path / "network.py")
    versions = property(lambda self: self.path / "versions.json")
    metrics = property(lambda self: self.path / "metrics.jsonl")
    state = property(lambda self: self.path / "checkpoint.pt")
    weights = property(lambda self: self.path / "weights.safetensors")
    best = property(lambda self: self.path / "best.safetensors")
    tensorboard = property(lambda self: self.path / "tensorboard")
    pictures = property(lambda self: self.path / "pictures")

    def require(self) -> None:
        if not (self.recipe.is_file() and self.spec.is_file()):
            raise UserError(f"{self.path}: not the folder of a run (no recipe.yaml and spec.crate in it)")


def create(path: Path, recipe: Recipe, compiled: Compiled, spec_name: str) -> RunFolder:
    """A fresh folder with everything that says what is run; refuses a folder that already holds a run."""
    folder = RunFolder(path)
    if folder.recipe.exists():
        words = f"--resume {shlex.quote(str(path))}"
        raise UserError(f"{path} already holds a run: continue it with {words}, or choose another --out")
    try:
        folder.pictures.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be made a run folder: {error.strerror}") from None
    checkpoint.replace_text(folder.spec, compiled.spec)
    checkpoint.replace_text(folder.module, compiled.text)
    about = surroundings(spec_name, compiled) | {"folder": str(path.resolve())}
    checkpoint.replace_text(folder.versions, json.dumps(about, indent=1) + "\n")
    recipe.data.keep(path)
    checkpoint.replace_text(folder.recipe, recipes.text_of(recipe))  # last: its presence makes the folder a run
    return folder


def surroundings(spec_name: str, compiled: Compiled) -> dict[str, object]:
    return {
        "spec": spec_name,
        "commit": commit(),
        "spec_sha256": compiled.sha256,
        "network": compiled.name,
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "system": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def commit() -> str | None:
    """The state of the repository in which the command runs, `dirty` with changes in it; None outside of one."""
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.strip()


def recipe_in(folder: RunFolder, overrides: Sequence[str] = ()) -> Recipe:
    """A run's recipe, with the data as the run has kept them; raises UserError where there is no run."""
    recipe = stated_in(folder, overrides)
    return recipe.model_copy(update={"data": recipe.data.kept(folder.path)})


def stated_in(folder: RunFolder, overrides: Sequence[str] = ()) -> Recipe:
    """A run's recipe. Data that are gone are looked for as they lay beside the run, for they may have moved with it."""
    folder.require()
    recipe = recipes.load(folder.recipe, overrides)
    given = {word.partition("=")[0].strip() for word in overrides}
    before = folder_before(folder)
    found = {
        name: type(value)(place)
        for name, value in recipe.data
        if before and f"data.{name}" not in given and (place := moved(value, before, folder.path))
    }
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=found)}) if found else recipe


def folder_before(folder: RunFolder) -> Path | None:
    """Where the run lay as it was trained; None where it does not say, as those of earlier versions."""
    try:
        return Path(json.loads(untrusted.read_text(folder.versions))["folder"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError, UserError):
        return None


def moved(value: object, before: Path, now: Path) -> Path | None:
    """Where an absolute path that leads nowhere leads from another folder, None where it does not lead there either."""
    if not isinstance(value, str | Path) or not Path(value).is_absolute() or os.path.exists(value):
        return None
    place = absolute(now / os.path.relpath(value, before))
    return place if os.path.exists(place) else None


def unused(stem: str) -> Path:
    """A folder below runs/ that does not exist yet."""
    path, number = Path("runs", stem), 1
    while path.exists():
        number += 1
        path = Path("runs", f"{stem}-{number}")
    return path


def origin(preset: str | None, sizes: Mapping[str, int | float], compiled: Compiled) -> dict[str, str]:
    """What a weights file says about itself: enough to build its network again."""
    return {
        "format": "pt",
        "network": compiled.name,
        "spec": compiled.spec,
        "spec_sha256": compiled.sha256,
        "preset": preset or "",
        "sizes": json.dumps(dict(sizes)),
    }
