"""Formulas of an explanation: names, brackets, signs, shared products, closed forms of proximal maps."""

from __future__ import annotations

import numpy as np
import pytest
import sympy
from latex2mathml.converter import convert

from crate_dsl.errors import CompilerBug
from crate_dsl.library.atoms import ATOMS
from crate_dsl.library.form import Form, Function, Leaf, Word
from crate_dsl.library.functions import FUNCTIONS
from crate_dsl.library.scalars import scalar
from crate_dsl.library.tree import Apply, Matrix, Scalar, SumOver
from crate_dsl.mathematics import latex, latex_names, plain
from crate_dsl.mathematics.derivation import Piece, Prox
from crate_dsl.mathematics.equations import Bound, closed_form
from crate_dsl.mathematics.evaluate import Point, prox_value
from crate_dsl.mathematics.glossary import function_note
from crate_dsl.mathematics.sharing import Letters, shared
from tests.mathematics.test_explain import unbalanced

one, oo = sympy.Integer(1), sympy.oo
Z, U, D = Leaf("Z", "d", "N"), Leaf("U", "d", "p", "k"), Leaf("D", "d", "d")


@pytest.mark.parametrize(
    ("leaf", "wanted"),
    [
        (Leaf("U", "d", "p", "k"), "U_{k}"),
        (Leaf("U", "d", "p", "k_", True), r"U_{k'}^{\top}"),
        (Leaf("U_out", "d", "p", "k", True), r"U_{k}^{\mathrm{out}\,\top}"),
        (Leaf("norm(Z)", "d", "N"), r"\bar{Z}"),
        (Leaf("Z+", "d", "N"), "Z^{+}"),
        (Leaf("A^12", "d", "N"), "A^{(12)}"),
        (Leaf("D1", "d", "d", None, True), r"D_{1}^{\top}"),
        (Leaf("Sigma", "d", "d"), r"\Sigma"),
        (Leaf("ones", "N", "1", None, True), r"\mathbf{1}_{N}^{\top}"),
        (Leaf("Dict_x", "d", "d"), r"\mathrm{Dict\_x}"),
    ],
)
def test_names(leaf: Leaf, wanted: str) -> None:
    assert latex_names.leaf(leaf) == wanted


def test_a_word_behind_a_scalar_is_no_power() -> None:
    assert latex_names.symbol("lambda_1") == r"\lambda_{1}"
    assert latex_names.symbol("eta_max[k]") == r"\eta_{\mathrm{max},k}"


@pytest.mark.parametrize("name", [name for name, atom in ATOMS.items() if name not in plain.OPERATORS])
def test_every_atom_has_a_notation(name: str) -> None:
    tree = Apply(name, (Matrix(Z), Scalar(one), Scalar(one))[: ATOMS[name].arity], ("1", "1"))
    assert not unbalanced(" ".join(latex.tree(tree)))
    assert plain.tree(tree)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_a_notation_and_words(name: str) -> None:
    count = 2 if name == "hadamard" else 1
    form = Form("d", "N", (Word(one, (D, Function(name, (Form.leaf(Z),) * count))),))
    assert not unbalanced(" ".join(latex.form(form)))
    assert name in plain.form(form)[0]
    assert function_note(name)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_superscript_is_put_to_another(name: str) -> None:
    """LaTeX refuses `a^b^c`, and so does what makes MathML of it."""
    column = Form.leaf(Leaf("v", "N", "1"))
    function = Function(name, (column,) * (2 if name == "hadamard" else 1), (one,), True)
    convert(" ".join(latex.form(Form("1", "N", (Word(one, (function,)),)))))


@pytest.mark.parametrize("atom", ["transpose", "exp", "reciprocal"])
def test_a_transposed_atom_has_one_superscript(atom: str) -> None:
    inner = Apply(atom, (Apply("exp", (Matrix(Z),), ("d", "N")),), ("N", "d"))
    convert(" ".join(latex.tree(Apply("transpose", (inner,), ("d", "N")))))


@pytest.mark.parametrize("spell", [latex.form, plain.form])
def test_an_unknown_function_is_loud(spell) -> None:  # noqa: ANN001
    with pytest.raises(CompilerBug, match="no notation for the function wobble"):
        spell(Form("d", "N", (Word(one, (Function("wobble", (Form.leaf(Z),)),)),)))
    with pytest.raises(CompilerBug, match="no words"):
        function_note("wobble")


@pytest.mark.parametrize("spell", [latex.tree, plain.tree])
def test_an_unknown_atom_is_loud(spell) -> None:  # noqa: ANN001
    with pytest.raises(CompilerBug, match="no notation"):
        spell(Apply("wobble", (), ("1", "1")))


def test_brackets_keep_the_meaning() -> None:
    z = Matrix(Z)
    total = SumOver("k", "K", Matrix(U))
    negative = Apply("scale", (Scalar(-one), z), Z.shape)
    cases = {
        "(sum(k in K) U[k]) * Z": Apply("times", (total, z), ("d", "N")),
        "Z - (-Z)": Apply("minus", (z, negative), Z.shape),
        "Z - (Z + Z)": Apply("minus", (z, Apply("plus", (z, z), Z.shape)), Z.shape),
        "(D * Z)'": Apply("transpose", (Apply("times", (Matrix(D), z), Z.shape),), ("N", "d")),
        "D * (-Z)": Apply("times", (Matrix(D), negative), Z.shape),
    }
    for wanted, tree in cases.items():
        assert " ".join(plain.tree(tree)) == wanted
        assert " ".join(latex.tree(tree)).count("(") == wanted.replace("(k in", "").count("(")


def test_a_scalar_per_head_stands_inside_its_sum() -> None:
    kappa = scalar("kappa", sign="positive", index="k")
    form = Form("d", "N", (Word(-kappa * scalar("eta") / 2, (U, U.T, Z), (("k", "K"),)),))
    assert plain.form(form) == ["-eta/2 * sum(k in K) kappa[k] * U[k] * U[k]' * Z"]
    assert latex.form(form)[0].index("sum") < latex.form(form)[0].index("kappa")


def test_powers_are_written_without_stars() -> None:
    value = scalar("epsilon", sign="positive") ** -2
    assert plain.scalar(value) == "epsilon^(-2)"
    assert "**" not in latex_names.scalar(value)


# ---- shared products ------------------------------------------------------------------------------------------------


def gram_form() -> Form:
    gram = Function("softmax", (Form("N", "N", (Word(one, (Z.T, U, U.T, Z)),)),))
    return Form("d", "N", (Word(one, (U, U.T, Z, gram), (("k", "K"),)),))


def test_the_most_frequent_pair_takes_a_free_letter() -> None:
    form, (definition,) = shared(gram_form(), Letters({"W"}))
    assert str(form) == "sum(k in K) U[k] * V[k] * softmax(V[k]' * V[k])"
    assert f"{definition.name} = {definition.product}" == "V[k] = U[k]' * Z"


def test_a_product_that_occurs_once_takes_none() -> None:
    form = Form("d", "N", (Word(one, (D.T, D, Z)),))
    assert shared(form, Letters(set())) == (form, ())


def test_one_product_keeps_its_letter() -> None:
    letters = Letters(set())
    assert shared(gram_form(), letters) == shared(gram_form(), letters)
    assert letters.taken == {"W"}


# ---- closed forms ---------------------------------------------------------------------------------------------------

t = scalar("t", sign="positive")
SOFT = (Piece(-oo, -t, one, t), Piece(-t, t, 0 * one, 0 * one), Piece(t, oo, one, -t))
SHAPES = {
    "max": (Piece(-oo, t, 0 * one, 0 * one), Piece(t, oo, one, -t)),
    "min": (Piece(-oo, t, one, 0 * one), Piece(t, oo, 0 * one, t)),
    "soft": SOFT,
    "clip": (Piece(-oo, -t, 0 * one, -t), Piece(-t, t, one, 0 * one), Piece(t, oo, 0 * one, t)),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_closed_forms_are_recognised_by_their_slopes(kind: str) -> None:
    prox = Prox(SHAPES[kind])
    bound, v = closed_form(prox), np.linspace(-3, 3, 25)
    assert bound is not None and bound.kind == kind
    assert np.allclose(bound_value(bound, v), prox_value(prox, v, Point({}, {"t": 0.7}, {})))
    assert not unbalanced(latex.bound(bound))


def bound_value(bound: Bound, v: np.ndarray) -> np.ndarray:
    def line(pair: tuple[sympy.Expr, sympy.Expr]) -> np.ndarray:
        return float(pair[0]) * v + float(pair[1].subs(t, 0.7))

    match bound.kind:
        case "soft":
            return float(bound.first[0]) * np.sign(v) * np.maximum(np.abs(v) - float(bound.first[1].subs(t, 0.7)), 0)
        case "clip":
            return np.clip(line(bound.first), float(bound.second.subs(t, 0.7)), float(bound.third.subs(t, 0.7)))
        case _:
            return (np.maximum if bound.kind == "max" else np.minimum)(line(bound.first), line(bound.second))


def test_a_jump_has_no_closed_form() -> None:
    hard = Prox((Piece(-oo, -t, one, 0 * one), Piece(-t, t, 0 * one, 0 * one), Piece(t, oo, one, 0 * one)))
    assert closed_form(hard) is None
    assert "cases" in latex.prox(hard)[0]
