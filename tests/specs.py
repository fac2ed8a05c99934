"""Small specs for the tests, put together from the lines that a test is about."""

from __future__ import annotations

import re

from crate_dsl.errors import Source
from crate_dsl.language.check import check
from crate_dsl.language.parse import parse
from crate_dsl.library.vocabulary import VOCABULARY
from crate_dsl.mathematics.derivation import Derivation
from crate_dsl.mathematics.derive import derive

ENERGIES = """
energy rate(Z: d x N, U: K of d x p) = 1/2 * sum(k in K) logdet(I + (U[k]' * Z)' * (U[k]' * Z))
energy scaled_rate(Z: d x N, U: K of d x p, beta: real) =
    1/2 * sum(k in K) logdet(I + beta * (U[k]' * Z)' * (U[k]' * Z))
energy lasso(A: d x N | X: d x N, D: d x d) = 1/2 * norm2(X - D * A) + lambda * l1(A) + nonnegative(A)
"""
HEADER = """network Tiny
size image = 8, patch = 4, channels = 1, classes = 5
size d = 24, K = 3, L = 2, p = 8
real eta = 0.1, lambda = 0.5
"""
FRONT = """
input image(channels, image, image)
tokens Z: d x N = patches(patch) + class_token + position(learned)
"""
MSSA = """norm layer; inverse ~ neumann(1); frame ~ identity; gram ~ softmax(1/sqrt(p))
coefficients ~ absorbed; adjoint ~ free(bias)
"""
COMPRESS = f"compress Z by rate(Z, U) {{ {MSSA} }}\n"
SPARSIFY = "sparsify Z by lasso(A | Z, D) { norm layer; from Z; steps 1 of eta }\n"
HEAD = "head patches\n"


def small_preset(text: str) -> str:
    """The preset of a shipped spec that tests compile: that of its recipe on data that need no download."""
    names = ("digits", "text", "small")
    return next(name for name in names if re.search(rf"^preset {name}\b", text, re.MULTILINE))


def spec(body: str, head: str = HEAD, header: str = HEADER, energies: str = ENERGIES) -> str:
    """The text of a whole spec around its blocks."""
    return header + energies + FRONT + body + head


def encoder(steps: str) -> str:
    return f"encoder repeat L {{\n{steps}}}\n"


def derived(text: str, preset: str | None = None, **overrides: str | int | float) -> Derivation:
    """Parse, check and derive a text."""
    return derive(check(parse(Source("test.crate", text)), VOCABULARY, preset, overrides))
