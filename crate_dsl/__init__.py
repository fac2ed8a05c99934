"""A compiler for white-box neural networks: the mathematics of every layer is the source.

>>> import crate_dsl
>>> network = crate_dsl.load("specs/crate.crate", preset="tiny")  # doctest: +SKIP
"""

from crate_dsl.compiler import VERSION as __version__
from crate_dsl.compiler import Compilation, compile_spec
from crate_dsl.errors import CrateError
from crate_dsl.loading import load, module_of

__all__ = ["Compilation", "CrateError", "__version__", "compile_spec", "load", "module_of"]
