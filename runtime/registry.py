"""Finding what a folder declares: a module in `tasks/` or `data/` is registered by lying there."""

from __future__ import annotations

import importlib
import os
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Union

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Strict(BaseModel):
    """A part of a recipe: unknown keys are refused, values are finite, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


def absolute(place: Path) -> Path:
    """As seen from the folder in which the command runs; links stay as they are, `~` is the user's home."""
    return Path(os.path.abspath(place.expanduser()))


# A file or folder. A recipe keeps it absolute, so that what has read the recipe of a run works from any folder.
Place = Annotated[Path, AfterValidator(absolute)]


def declared(package: ModuleType, base: type[BaseModel]) -> dict[str, type[Any]]:
    """The subclasses of `base` that the modules of a package declare, by the value of their field `name`.

    Raises TypeError when a module declares none, so that a forgotten class cannot pass unnoticed.
    """
    found: dict[str, type[Any]] = {}
    for entry in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{entry.name}")
        if module.__name__ == base.__module__:
            continue
        classes = [item for item in vars(module).values() if is_declaration(item, base, module.__name__)]
        if not classes:
            raise TypeError(f"{module.__name__} declares no {base.__name__}")
        found |= {kind.model_fields["name"].default: kind for kind in classes}
    return found


def is_declaration(item: object, base: type[BaseModel], module: str) -> bool:
    return isinstance(item, type) and issubclass(item, base) and item is not base and item.__module__ == module


def choice(classes: dict[str, type[Any]]) -> Any:
    """The pydantic type "one of these", told apart by their field `name`."""
    return Annotated[Union[tuple(classes.values())], Field(discriminator="name")]  # noqa: UP007
