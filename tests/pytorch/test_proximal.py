"""Proximal maps in torch, for pieces of every shape."""

from __future__ import annotations

import numpy as np
import pytest
import sympy
import torch
from torch.nn import functional as F

from crate_dsl.mathematics.derivation import Piece, Prox
from crate_dsl.mathematics.evaluate import piecewise_value
from crate_dsl.pytorch.expressions import Code, scalar_code
from crate_dsl.pytorch.proximal import proximal_code

oo, t = sympy.oo, sympy.Symbol("t", positive=True)
zero, one, half = sympy.Integer(0), sympy.Integer(1), sympy.Rational(1, 2)
MAPS = {
    "relu": ((-oo, t, zero, zero), (t, oo, one, -t)),
    "relu at zero": ((-oo, zero, zero, zero), (zero, oo, one, zero)),
    "soft": ((-oo, -t, one, t), (-t, t, zero, zero), (t, oo, one, -t)),
    "clamp": ((-oo, zero, zero, zero), (zero, t, one, zero), (t, oo, zero, t)),
    "clamp of both sides": ((-oo, -t, zero, -t), (-t, t, one, zero), (t, oo, zero, t)),
    "lower bound": ((-oo, t, zero, t), (t, oo, one, zero)),
    "elastic": ((-oo, -t, half, t / 2), (-t, t, zero, zero), (t, oo, half, -t / 2)),
    "shrunk": ((-oo, oo, 1 / (1 + t), zero),),
    "hard": ((-oo, -t, one, zero), (-t, t, zero, zero), (t, oo, one, zero)),
    "jump of one side": ((-oo, t, zero, zero), (t, oo, one, zero)),
    "decreasing": ((-oo, zero, -one, zero), (zero, oo, -half, zero)),
}
SPELLED = {"relu": "F.relu(v - t)", "soft": "F.softshrink(v, t)", "clamp": "v.clamp(min=0, max=t)"}


def code_of(name: str, learned: bool = False) -> str:
    prox = Prox(tuple(Piece(*map(sympy.sympify, piece)) for piece in MAPS[name]))

    def scalar(value: sympy.Expr) -> Code:
        return scalar_code(value, lambda symbol: Code(symbol.name))

    def is_learned(value: sympy.Expr) -> bool:
        return learned and bool(value.free_symbols)

    return proximal_code(prox, Code("v"), lambda: "v", scalar, is_learned).text


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("name", MAPS)
def test_value(name: str, learned: bool) -> None:
    prox = Prox(tuple(Piece(*map(sympy.sympify, piece)) for piece in MAPS[name]))
    v, threshold = torch.linspace(-3, 3, 41, dtype=torch.float64), 0.7
    scope = {"v": v, "t": torch.tensor(threshold) if learned else threshold, "F": F, "torch": torch}
    found = eval(code_of(name, learned), scope)  # noqa: S307 (our own text)

    def numbers(value: sympy.Expr) -> np.ndarray:
        return np.asarray(float(value.subs({t: threshold})))

    np.testing.assert_allclose(
        found.numpy(), piecewise_value(prox, v.numpy(), numbers), atol=1e-7 if learned else 1e-14
    )


@pytest.mark.parametrize("name", SPELLED)
def test_known_maps_have_their_usual_names(name: str) -> None:
    assert code_of(name) == SPELLED[name]
