"""The formats of pictures by the endings of files: a module in `writers/` is registered by lying there.

A writer declares `SUFFIXES` and `write(drawing) -> str`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import PurePath

from crate_dsl.errors import fail, known
from crate_dsl.operators.cost import BATCH
from crate_dsl.operators.program import Program
from crate_dsl.pictures import writers
from crate_dsl.pictures.draw import draw
from crate_dsl.pictures.drawing import Drawing

Writer = Callable[[Drawing], str]


def _registered() -> dict[str, Writer]:
    found: dict[str, Writer] = {}
    for entry in pkgutil.iter_modules(writers.__path__):
        module = importlib.import_module(f"{writers.__name__}.{entry.name}")
        found |= dict.fromkeys(module.SUFFIXES, module.write)
    return found


FORMATS = _registered()


def writer_of(path: str) -> Writer:
    """The writer for a file, by its ending.

    Raises:
        CrateError: where no writer knows the ending.
    """
    ending = PurePath(path).suffix
    if ending.lower() not in FORMATS:
        what = f'in the format "{ending}"' if ending else "without an ending"
        raise fail(f'no picture {what}: "{path}"', None, known("endings", ending, FORMATS))
    return FORMATS[ending.lower()]


def picture(program: Program, path: str, batch: int = BATCH) -> str:
    """The network as the text of a picture in the format of the path's ending; nothing of it is executed.

    Raises:
        CrateError: where no writer knows the ending.
    """
    return writer_of(path)(draw(program, batch))
