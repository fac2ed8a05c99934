"""Atoms on rows and columns: columns spread over a matrix, sums and norms along an axis, diagonals; and gates.

Registered beside those of `atoms.py` (by the package itself), under the same tests.
"""

from __future__ import annotations

from functools import partial

import crate_dsl.library.arrays as np
from crate_dsl.language.model import ONE, Shape
from crate_dsl.language.vocabulary import ShapeClash
from crate_dsl.library.atoms import Atom, entry_by_entry, entrywise, register
from crate_dsl.library.form import Form
from crate_dsl.library.functions import FUNCTIONS
from crate_dsl.library.products import applied, diagonal, diagonal_part, hadamard, ones


def _column_added(shapes: tuple[Shape, ...]) -> Shape:
    if shapes[1] != Shape(shapes[0].rows, ONE):
        raise ShapeClash(f"a column of {shapes[0].rows} entries is added, and this is {shapes[1]}", 1)
    return shapes[0]


def _to_row(shapes: tuple[Shape, ...]) -> Shape:
    return Shape(ONE, shapes[0].cols)


def _to_column(shapes: tuple[Shape, ...]) -> Shape:
    return Shape(shapes[0].rows, ONE)


def _to_diagonal(shapes: tuple[Shape, ...]) -> Shape:
    if shapes[0].cols != ONE:
        raise ShapeClash(f"a diagonal is made of one column, and this is {shapes[0]}", 0)
    return Shape(shapes[0].rows, shapes[0].rows)


def _diag(column: np.ndarray) -> np.ndarray:
    return column * np.eye(column.shape[-2])


def _column_sums(form: Form) -> Form:
    return ones(ONE, form.rows) @ form


def _row_sums(form: Form) -> Form:
    return form @ ones(form.cols, ONE)


def _column_norms(form: Form) -> Form:
    return applied("root", _column_sums(hadamard(form, form)))


def _pull_column_norms(forms: tuple[Form, ...], adjoint: Form) -> tuple[Form]:
    """`d |a| = a' da / |a|` for every column a."""
    weights = hadamard(adjoint, applied("reciprocal", _column_norms(forms[0])))
    return (forms[0] @ diagonal(weights.T),)


register(
    Atom(
        "add_column",
        2,
        _column_added,
        lambda a, b: a + b,
        "A .+ b: the column b added to every column",
        pull=lambda forms, adjoint: (adjoint, _row_sums(adjoint)),
        form=lambda a, b: a + b @ ones(ONE, a.cols),
        latex=r"{0} \oplus {1}",
    )
)
register(
    Atom(
        "diag",
        1,
        _to_diagonal,
        _diag,
        "diag(v): the diagonal matrix of a column",
        pull=lambda forms, adjoint: (diagonal_part(adjoint),),
        form=diagonal,
        latex=r"\operatorname{{Diag}}\left({0}\right)",
    )
)
register(
    Atom(
        "column_sums",
        1,
        _to_row,
        lambda a: a.sum(axis=-2, keepdims=True),
        "column_sums(A): the sum of every column, as a row",
        pull=lambda forms, adjoint: (ones(forms[0].rows, ONE) @ adjoint,),
        form=_column_sums,
        latex=r"\mathbf{{1}}^\top \left({0}\right)",
    )
)
register(
    Atom(
        "row_sums",
        1,
        _to_column,
        lambda a: a.sum(axis=-1, keepdims=True),
        "row_sums(A): the sum of every row, as a column",
        pull=lambda forms, adjoint: (adjoint @ ones(ONE, forms[0].cols),),
        form=_row_sums,
        latex=r"\left({0}\right) \mathbf{{1}}",
    )
)
register(
    Atom(
        "column_norms",
        1,
        _to_row,
        lambda a: np.linalg.norm(a, axis=-2, keepdims=True),
        "column_norms(A): the Euclidean norm of every column, as a row",
        pull=_pull_column_norms,
        form=_column_norms,
        latex=r"\operatorname{{norms}}\left({0}\right)",
    )
)
register(
    Atom(
        "unit_rows",
        1,
        entrywise,
        FUNCTIONS["unit_rows"],
        "unit_rows(A): every row divided by its norm",
        form=lambda a: applied("unit_rows", a),
        latex=r"\operatorname{{unit}}\left({0}\right)",
    )
)


def _sigmoid_slope(form: Form) -> Form:
    """`sigmoid(a) sigmoid(-a)`."""
    return hadamard(applied("sigmoid", form), applied("sigmoid", -form))


def _reciprocal_of_one_more(form: Form) -> Form:
    return applied("reciprocal", ones(form.rows, form.cols) + form)


entry_by_entry("log1p", "log(1 + a), entry by entry", _reciprocal_of_one_more, r"\log\left(1 + {0}\right)")
entry_by_entry(
    "gelu",
    "a times the normal distribution function of a, entry by entry",
    partial(applied, "gelu_slope"),
    r"\operatorname{{GELU}}\left({0}\right)",
)
entry_by_entry(
    "gelu_potential", "the antiderivative of gelu, entry by entry", partial(applied, "gelu"), r"\Gamma\left({0}\right)"
)
entry_by_entry(
    "softplus",
    "log(1 + exp(a)), entry by entry",
    partial(applied, "sigmoid"),
    r"\operatorname{{softplus}}\left({0}\right)",
)
entry_by_entry("sigmoid", "1 / (1 + exp(-a)), entry by entry", _sigmoid_slope, r"\sigma\left({0}\right)")
