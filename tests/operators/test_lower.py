"""Forms made by hand, beyond what today's energies derive to: sums over two families, inverses on either side."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import sympy

from crate_dsl.errors import CrateError
from crate_dsl.language.model import Shape
from crate_dsl.library.form import Form, Function, Inverse, Leaf, Word
from crate_dsl.mathematics.evaluate import Point, form_value
from crate_dsl.operators.graph import Builder, Graph
from crate_dsl.operators.interpret import interpret
from crate_dsl.operators.lower import Scope, lower_form
from crate_dsl.operators.passes import stages
from crate_dsl.operators.verify import BATCH, TOLERANCE, pass_error, random_inputs

SIZES = {"d": 5, "N": 9, "p": 3, "K": 4, "H": 2, "q": 6}
one, beta = sympy.Integer(1), sympy.Symbol("beta", positive=True)
kappa = sympy.Symbol("kappa[k]", real=True)
Z, D = Leaf("Z", "d", "N"), Leaf("D", "d", "q")
U, V = Leaf("U", "d", "p", "k"), Leaf("V", "d", "q", "h")
PARAMETERS = {"U": Shape("d", "p", "K"), "V": Shape("d", "q", "H"), "D": Shape("d", "q")}
W = (U.T, Z)
GRAM = Form("N", "N", (Word(beta, (Z.T, U, U.T, Z)),))
RESOLVENT = Inverse(Form.identity("N") + GRAM)
OVER_K, OVER_H = ("k", "K"), ("h", "H")


def form(*words: Word) -> Form:
    return Form("d", "N", words)


SMALL = Inverse(Form.identity("p") + Form("p", "p", (Word(beta, (*W, Z.T, U)),)))
PROJECTED = form(Word(one, (U, *W), (OVER_K,)))
FORMS = {
    "tied": form(Word(-kappa, (U, U.T, Z, RESOLVENT), (OVER_K,))),
    "inverse on the left": form(Word(one, (U, SMALL, U.T, Z), (OVER_K,))),
    "inverse of weights": form(Word(one, (Inverse(Form.identity("d") + Form("d", "d", (Word(one, (D, D.T)),))), Z))),
    "two families": form(Word(beta, (U, U.T, V, V.T, Z), (OVER_K, OVER_H))),
    "one family inside another": form(Word(one, (U, U.T, V, V.T, U, U.T, Z), (OVER_K, OVER_H))),
    "softmax transposed": form(Word(one, (Z, Function("softmax", (GRAM,), (), True)), (OVER_K,))),
    "softmax of a sum": form(Word(one, (U, U.T, Z, Function("softmax", (GRAM + Form.identity("N"),))), (OVER_K,))),
    "hadamard": form(Word(one, (Function("hadamard", (Form.leaf(Z), PROJECTED)),))),
    "weight per head alone": form(Word(kappa, (Z,), (OVER_K,))),
    "constant": form(Word(beta, (Leaf("ones", "d", "1"), Leaf("ones", "N", "1").T))),
    "features by features": form(Word(one, (Z, Z.T, U, U.T, Z), (OVER_K,))),
}


def lowered(value: Form) -> Graph:
    scope = Scope(Builder("form", SIZES, "N"), {}, PARAMETERS)
    return scope.builder.graph((("value", lower_form(value, scope)),))


@pytest.mark.parametrize("name", FORMS)
def test_forms_keep_their_meaning_through_all_passes(name: str) -> None:
    graph = lowered(FORMS[name])
    inputs = random_inputs(graph)
    value = interpret(graph, inputs)["value"]
    for image in range(BATCH):
        matrices = {n: v[image] if n == "Z" else v for n, v in inputs.matrices.items()}
        wanted = form_value(FORMS[name], Point(SIZES, inputs.scalars, matrices))
        np.testing.assert_allclose(value[min(image, len(value) - 1), 0], wanted, rtol=1e-9, atol=1e-9)
    before = graph
    for _, after in stages(graph):
        assert pass_error(before, after) < TOLERANCE
        before = after


def test_interleaved_sums_are_refused() -> None:
    value = form(Word(one, (U, V.T, U, V.T, Z), (OVER_K, OVER_H)))
    with pytest.raises(CrateError, match="interleave"):
        lowered(value)


def test_woodbury_makes_a_large_inverse_small() -> None:
    """An inverse of N x N that stands alone is inverted on the side of the features."""
    gram = Form("N", "N", (Word(beta, (Z.T, Z)),))
    value = form(Word(one, (D, D.T, Leaf("Y", "d", "N"), Inverse(Form.identity("N") + gram))))
    scope = Scope(Builder("form", {**SIZES, "N": 200}, "N"), {}, PARAMETERS)
    graph = scope.builder.graph((("value", lower_form(value, scope)),))
    *_, (_, after) = stages(graph)
    assert {after[n].type.rows for n in after.operators("gram_solve")} == {"d"}
    assert not after.operators("solve")


def test_equal_operators_are_shared() -> None:
    graph = lowered(form(Word(one, (D, D.T, Z)), Word(beta, (D, D.T, Z, Z.T, Z))))
    operators = [graph[n] for n in graph]
    assert all(a != b for (i, a), (j, b) in product(enumerate(operators), repeat=2) if i != j)
