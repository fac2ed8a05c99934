"""Finding, reading, overriding and checking recipes; the recipes themselves lie in specs/recipes."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from crate_dsl.errors import known
from runtime.errors import UserError
from runtime.images.augmentation import Augmentation
from runtime.recipe import plain_yaml
from runtime.recipe.schedule import Schedule
from runtime.recipe.schema import OPTIMISERS, SOURCES, TASKS, Initialisation, Recipe
from runtime.storage import untrusted

MAX_BYTES = 1_000_000
FOLDER = Path(__file__).parents[2] / "specs" / "recipes"
DEFAULTS = {  # by kind of network
    "classify": "classify_digits",
    "mae": "mae_digits",
    "reconstruct": "denoise_digits",
    "features": "simdino_digits",
    "language": "gpt_text",
    "masked_language": "bert_text",
}
CHOICES = {"task": TASKS, "data": SOURCES, "optimizer": OPTIMISERS}
UNNAMED = {"optimizer": "adamw"}  # what a section without a name means
SECTIONS = {"schedule": Schedule, "initialisation": Initialisation, "augmentation": Augmentation}


def shipped() -> dict[str, Path]:
    return {file.stem: file for file in sorted(FOLDER.glob("*.yaml"))}


def find(name: str) -> Path:
    """The file of a recipe that is named, or given as a file."""
    if Path(name).suffix in (".yaml", ".yml"):
        return Path(name)
    if name not in shipped():
        raise UserError(f'unknown recipe "{name}"\n{known("recipes", name, shipped())}')
    return shipped()[name]


def default(kind: str) -> str:
    """The recipe for a kind of network; raises UserError where no task trains it."""
    if kind not in DEFAULTS:
        raise UserError(f'no task trains a network of the kind "{kind}": its tokens are its output, without a loss')
    return DEFAULTS[kind]


def read(file: Path) -> dict[str, Any]:
    try:
        content = plain_yaml.read(untrusted.read_text(file, MAX_BYTES))
    except OSError as error:
        raise UserError(f"{file}: cannot read the recipe: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: not YAML: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: a recipe is a mapping from keys to values")
    return content


def load(file: Path, overrides: Iterable[str] = ()) -> Recipe:
    """A checked recipe with `key=value` overrides applied; raises UserError naming every mistake."""
    content = read(file)
    given = sorted(overrides, key=lambda each: not chooses(each))
    for override in given:
        apply(content, override)
    without_rivals(content, {override.partition("=")[0].strip() for override in given})
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        lines = "\n".join(message(each, content) for each in error.errors())
        raise UserError(f"recipe {file}:\n{lines}") from None


def without_rivals(content: dict[str, Any], given: Container[str]) -> None:
    """What the command line gives takes the place of what the file says in another way; null takes a size away."""
    schedule = content.get("schedule")
    for prefix, pair, place in (
        ("", ("steps", "epochs"), content),
        ("schedule.", ("warmup", "warmup_epochs"), schedule if isinstance(schedule, dict) else {}),
    ):
        for chosen, other in (pair, pair[::-1]):
            if prefix + chosen in given and prefix + other not in given and place.get(chosen) is not None:
                place.pop(other, None)
    sizes = content.get("sizes") or {}
    if isinstance(sizes, dict):
        content["sizes"] = {name: value for name, value in sizes.items() if value is not None}


def chooses(override: str) -> bool:
    """Whether it names a task, data source or optimiser: that comes first, whose own settings follow, in any order."""
    key = override.partition("=")[0].strip()
    return key.removesuffix(".name") in CHOICES


def apply(content: dict[str, Any], override: str) -> None:
    """Put `a.b=value` into a recipe. Another task, data source or optimiser starts from its own defaults."""
    key, sign, text = override.partition("=")
    path = key.strip().split(".")
    if not sign or not all(path):
        raise UserError(f'"{override}" is not of the form key=value, for instance optimizer.lr=1e-3')
    try:
        value = plain_yaml.read(text)
    except yaml.YAMLError:
        raise UserError(f"{key}: the value {text} is not YAML") from None
    if path[0] in CHOICES and path[1:] in ([], ["name"]):
        content[path[0]] = {"name": value}
        return
    place = content
    for part in path[:-1]:
        place[part] = {"name": place[part]} if isinstance(place.get(part), str) else place.get(part) or {}
        place = place[part]
        if not isinstance(place, dict):
            raise UserError(f'"{part}" of {key} is a single value, it has no parts')
    place[path[-1]] = value


def message(error: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    """One line, or two with a hint, for one of pydantic's findings."""
    path = [str(part) for part in error["loc"]]
    if len(path) > 1 and path[0] in CHOICES:
        path = [path[0], *path[2:]]  # pydantic puts the chosen name between
    key = ".".join(path)
    if error["type"] == "extra_forbidden":
        return f'unknown key "{key}"\n{known("keys", path[-1], keys_beside(path, content))}{elsewhere(path, content)}'
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        name = str((error["input"] or {}).get("name") if isinstance(error["input"], dict) else error["input"])
        return f'{key}: unknown name "{name}"\n{known(f"names of {key}", name, CHOICES[path[0]])}'
    text = "Input should be a path" if error["type"] == "path_type" else error["msg"].removeprefix("Value error, ")
    given = f", got {error['input']!r}" if key and error["type"] != "missing" else ""
    return f"{key}: {text}{given}" if key else text


def elsewhere(path: list[str], content: Mapping[str, Any]) -> str:
    """Where a key without a section may belong: to one that has it, else to the sizes of the spec."""
    if len(path) > 1:
        return ""
    (name,) = path
    sections = [section for section in (*CHOICES, *SECTIONS) if section in content]
    places = [f'"{section}.{name}"' for section in sections if name in keys_beside([section, name], content)]
    return f"\nthere is {' and '.join(places)}" if places else f"\na size or real of the spec is written sizes.{name}"


def keys_beside(path: list[str], content: Mapping[str, Any]) -> Iterable[str]:
    """The keys that exist where an unknown one was found."""
    if len(path) == 1:
        return Recipe.model_fields
    if path[0] in SECTIONS:
        return SECTIONS[path[0]].model_fields
    section = content[path[0]]
    name = section.get("name", UNNAMED.get(path[0])) if isinstance(section, dict) else section
    if not isinstance(name, str) or name not in CHOICES[path[0]]:
        return ()  # that is a mistake of its own
    kind: type[BaseModel] = CHOICES[path[0]][name]
    for part in path[1:-1]:
        kind = kind.model_fields[part].annotation
    return kind.model_fields


def text_of(recipe: Recipe) -> str:
    """The resolved recipe as YAML, every default filled in."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
