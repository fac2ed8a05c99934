"""Derived backward passes of matrices of weights, against differences of what they differentiate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import sympy

from crate_dsl.operators.adjoint import GRADIENT, adjoint, collected, own_graph
from crate_dsl.operators.build import combine, identity, product, transposed
from crate_dsl.operators.cost import TRAINING, Workload
from crate_dsl.operators.graph import Builder, Graph, Operator, Type
from crate_dsl.operators.interpret import Inputs, interpret
from crate_dsl.operators.passes import optimise_graph
from tests.steps import CASES, program_of

eta = sympy.Symbol("eta", positive=True)
one = sympy.Integer(1)
SIZES = {"d": 6, "m": 4, "N": 5}


def matrix(form: str) -> Graph:
    """Sums of products of one parameter."""
    builder = Builder("M", SIZES, "N")
    rows = "d" if form != "rectangular" else "m"
    p = builder.add(Operator("parameter", (), Type(rows, "d"), ("D",)))
    t = transposed(builder, p)
    terms = {
        "ista": [(one, identity(builder, "d")), (eta, t), (-eta, product(builder, (t, p)))],
        "rectangular": [(one, identity(builder, "d")), (-eta, product(builder, (t, p)))],
        "cubic": [(one, p), (eta, product(builder, (p, t, p))), (-eta, product(builder, (t, t)))],
    }[form]
    return builder.graph((("M", combine(builder, terms)),))


def value(graph: Graph, **matrices: np.ndarray) -> np.ndarray:
    (found,) = interpret(graph, Inputs(matrices, {"eta": np.asarray(0.3)})).values()
    return found[0, 0]


@pytest.mark.parametrize("form", ["ista", "rectangular", "cubic"])
def test_it_is_the_gradient(form: str) -> None:
    """<adjoint(G), P> is the derivative of <G, M> along P; differences of a cubic are exact but for rounding."""
    graph = matrix(form)
    backward = adjoint(graph, (), TRAINING)
    rng = np.random.default_rng(0)
    shape = (SIZES["m" if form == "rectangular" else "d"], SIZES["d"])
    weights, way, gradient = rng.normal(size=shape), rng.normal(size=shape), rng.normal(size=(6, 6))
    found = np.sum(value(backward, D=weights, **{GRADIENT: gradient}) * way)

    def along(step: float) -> float:
        return float(np.sum(gradient * value(graph, D=weights + step * way)))

    wanted = (8 * (along(0.5) - along(-0.5)) - (along(1.0) - along(-1.0))) / 6
    assert abs(found - wanted) < 1e-10 * abs(wanted)


def test_one_product_is_left_of_two() -> None:
    backward = adjoint(matrix("ista"), (), TRAINING)
    assert len(backward.operators("product")) == 1


def test_what_is_learned_beside_the_matrix_is_traced() -> None:
    assert adjoint(matrix("ista"), ("eta",), TRAINING) is None


def test_a_single_product_gains_nothing() -> None:
    builder = Builder("M", SIZES, "N")
    p = builder.add(Operator("parameter", (), Type("d", "d"), ("D",)))
    assert adjoint(builder.graph((("M", combine(builder, [(eta, p)])),)), (), TRAINING) is None


def test_the_dictionary_step_collects_its_weights() -> None:
    step = next(program_of(CASES["ista"]).steps)
    graph = optimise_graph(replace(step.forward, sizes={**step.forward.sizes, "N": 500}), Workload(64))
    (number,) = collected(graph)
    own = own_graph(graph, number)
    assert own.output == number and not own.operators("input")
    assert adjoint(own, (), TRAINING) is not None
