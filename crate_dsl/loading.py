"""Executing the written file: the one way from a spec to a network in Python."""

from __future__ import annotations

import hashlib
import linecache
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from crate_dsl.compiler import Value, compile_spec

if TYPE_CHECKING:
    from torch import nn


def load(
    path: str | Path, preset: str | None = None, *, freeze: bool = False, gpu: bool = False, **sizes: Value
) -> nn.Module:
    """The network of a spec, freshly initialised: exactly the file that `crate-compile` writes, executed.

    Args:
        path: a `.crate` file.
        preset: the name of one of its presets.
        freeze: for inference: what is made of weights alone is computed once, when they are loaded.
        gpu: with kernels of Triton, where they are faster; needs Triton.
        **sizes: overrides of sizes and reals, as `--set` takes them: `load(path, d=384, K=6)`.

    Raises:
        CrateError: with every diagnostic of the compiler.
    """
    compilation = compile_spec(path, preset, sizes, freeze=freeze, gpu=gpu)
    return getattr(module_of(compilation.text, compilation.class_name), compilation.class_name)()


def module_of(text: str, name: str) -> ModuleType:
    """Execute a written file as a module of its own; tracebacks and `inspect` find its lines.

    Its name holds the text's hash: torch.compile, pickle of classes and inspect look a module up by name, also that of
    an earlier network of the same class.
    """
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    module = ModuleType(f"crate_dsl.compiled.{name}_{digest}")
    module.__file__ = f"<compiled {name} {digest}>"
    linecache.cache[module.__file__] = (len(text), None, text.splitlines(keepends=True), module.__file__)
    sys.modules[module.__name__] = module
    exec(compile(text, module.__file__, "exec"), module.__dict__)
    return module
