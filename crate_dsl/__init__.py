"""A compiler for white-box neural networks: the mathematics of every layer is the source.

>>> import crate_dsl
>>> network = crate_dsl.load("specs/crate.crate", preset="tiny")  # doctest: +SKIP
"""

from crate_dsl.startup import end_quietly_on_interrupt, uncollected

end_quietly_on_interrupt()
with uncollected():
    from crate_dsl.compiler import VERSION as __version__
    from crate_dsl.compiler import Compilation, compile_spec
    from crate_dsl.errors import CrateError
    from crate_dsl.loading import load, module_of
    from crate_dsl.mathematics.certify import Finding, certify
    from crate_dsl.operators.summary import Summary, summary
    from crate_dsl.variants import Choice, Variant, Variations, choices, vary

__all__ = [
    "Choice",
    "Compilation",
    "CrateError",
    "Finding",
    "Summary",
    "Variant",
    "Variations",
    "__version__",
    "certify",
    "choices",
    "compile_spec",
    "load",
    "module_of",
    "summary",
    "vary",
]
