"""The atoms of energies: shape, numpy meaning, derivative and, where separable, the scalar function of one entry.

One entry per atom, each declared by registering it; tests check every derivative by finite differences and every
proximal operator by brute force, by walking this registry. Differentials follow Magnus & Neudecker (1988); an adjoint
has the shape of the node, `<adjoint, d value>` is the differential of the energy. An atom without a rule fails loudly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import sympy

import crate_dsl.library.arrays as np
from crate_dsl.language.model import SCALAR, Shape
from crate_dsl.language.vocabulary import ShapeClash
from crate_dsl.library.form import Form, Function, Inverse
from crate_dsl.library.functions import FUNCTIONS
from crate_dsl.library.products import applied, hadamard, ones, single

oo, zero, one = sympy.oo, sympy.Integer(0), sympy.Integer(1)


@dataclass(frozen=True)
class QuadraticPiece:
    """On `lower <= z <= upper` the function is `square z^2 + linear z + constant`."""

    lower: sympy.Expr
    upper: sympy.Expr
    square: sympy.Expr = zero
    linear: sympy.Expr = zero
    constant: sympy.Expr = zero


@dataclass(frozen=True)
class Separable:
    """A function of one entry: pieces that cover its domain, and drops (point, depth) where it falls at one point."""

    pieces: tuple[QuadraticPiece, ...]
    drops: tuple[tuple[sympy.Expr, sympy.Expr], ...] = ()


@dataclass(frozen=True)
class Atom:
    """A function of matrices.

    `pull(forms, adjoint)` returns the adjoints of the arguments, given their forms and the adjoint of the value (a
    sympy coefficient where the value is a scalar, else a form); None marks an atom without derivative. `form` gives the
    canonical form of a matrix value. `entry` is the scalar function of a separable atom, given its scalar arguments.
    """

    name: str
    arity: int
    shape: Callable[[tuple[Shape, ...]], Shape]
    value: Callable[..., np.ndarray]
    usage: str
    pull: Callable[..., tuple[Form | None, ...]] | None = None
    form: Callable[..., Form] | None = None
    entry: Callable[..., Separable] | None = None
    constraint: bool = False  # an indicator: zero where it holds, infinite elsewhere
    projection: str | None = None  # of the columns onto a constraint, the function in `library/functions.py`
    latex: str = ""

    @property
    def smooth(self) -> bool:
        return self.pull is not None

    @property
    def flat(self) -> bool:
        """Whether its slope is zero wherever it has one: a count of entries, a constraint."""
        if self.smooth or self.entry is None:
            return False
        pieces = self.entry(*sympy.symbols(f"a:{self.arity - 1}")).pieces
        return all(piece.square == 0 == piece.linear for piece in pieces)


ATOMS: dict[str, Atom] = {}


def register(atom: Atom) -> Atom:
    ATOMS[atom.name] = atom
    return atom


# ---- shape rules ---------------------------------------------------------------------------------------------------


def to_scalar(shapes: tuple[Shape, ...]) -> Shape:
    return SCALAR


def square_to_scalar(shapes: tuple[Shape, ...]) -> Shape:
    if shapes[0].rows != shapes[0].cols:
        raise ShapeClash(f"this needs a square matrix, and {shapes[0]} is not square", 0)
    return SCALAR


def entrywise(shapes: tuple[Shape, ...]) -> Shape:
    return shapes[0]


def bounded(shapes: tuple[Shape, ...]) -> Shape:
    for place in (1, 2):
        if not shapes[place].is_scalar:
            raise ShapeClash(f"a bound is a scalar, and this is {shapes[place]}", place)
    return SCALAR


# ---- smooth scalar-valued atoms ------------------------------------------------------------------------------------


def _pull_logdet(forms: tuple[Form, ...], adjoint: sympy.Expr) -> tuple[Form]:
    """`d logdet M = tr(M^-1 dM)`."""
    return (single(forms[0].rows, forms[0].cols, Inverse(forms[0]).T).scaled(adjoint),)


def _logdet(matrix: np.ndarray) -> np.ndarray:
    sign, value = np.linalg.slogdet(matrix)
    return np.where(sign > 0, value, np.nan)


def _pull_logsumexp(forms: tuple[Form, ...], adjoint: sympy.Expr) -> tuple[Form]:
    """The gradient of the log-sum-exp of a column is its softmax."""
    return (single(forms[0].rows, forms[0].cols, Function("softmax", forms)).scaled(adjoint),)


def _logsumexp(matrix: np.ndarray) -> np.ndarray:
    top = matrix.max(axis=-2, keepdims=True)
    return (np.log(np.exp(matrix - top).sum(axis=-2)) + top[..., 0, :]).sum(axis=-1)


def _square_entry() -> Separable:
    return Separable((QuadraticPiece(-oo, oo, square=one),))


register(
    Atom(
        "logdet",
        1,
        square_to_scalar,
        _logdet,
        "logdet(M): log-determinant of a square matrix",
        pull=_pull_logdet,
        latex=r"\log\det\left({0}\right)",
    )
)
register(
    Atom(
        "trace",
        1,
        square_to_scalar,
        lambda m: np.trace(m, axis1=-2, axis2=-1),
        "trace(M): sum of the diagonal",
        pull=lambda forms, adjoint: (Form.identity(forms[0].rows).scaled(adjoint),),
        latex=r"\operatorname{{tr}}\left({0}\right)",
    )
)
register(
    Atom(
        "norm2",
        1,
        to_scalar,
        lambda m: (m**2).sum(axis=(-2, -1)),
        "norm2(A): squared Frobenius norm",
        pull=lambda forms, adjoint: (forms[0].scaled(2 * adjoint),),
        entry=_square_entry,
        latex=r"\left\lVert {0} \right\rVert_F^2",
    )
)
register(
    Atom(
        "total",
        1,
        to_scalar,
        lambda m: m.sum(axis=(-2, -1)),
        "total(A): sum of the entries",
        pull=lambda forms, adjoint: (ones(forms[0].rows, forms[0].cols).scaled(adjoint),),
        latex=r"\mathbf{{1}}^\top {0} \mathbf{{1}}",
    )
)
register(
    Atom(
        "logsumexp",
        1,
        to_scalar,
        _logsumexp,
        "logsumexp(A): log-sum-exp of every column, added up",
        pull=_pull_logsumexp,
        latex=r"\textstyle\sum_j \log\sum_i \exp\left({0}\right)_{{ij}}",
    )
)


# ---- separable atoms without a gradient: they enter by their proximal operators ------------------------------------


def _box_entry(lower: sympy.Expr, upper: sympy.Expr) -> Separable:
    return Separable((QuadraticPiece(lower, upper),))


def _box(matrix: np.ndarray, lower: float, upper: float) -> np.ndarray:
    return np.where((matrix < lower) | (matrix > upper), np.inf, 0.0).sum(axis=(-2, -1))


register(
    Atom(
        "l1",
        1,
        to_scalar,
        lambda m: np.abs(m).sum(axis=(-2, -1)),
        "l1(A): sum of the absolute entries",
        entry=lambda: Separable((QuadraticPiece(-oo, zero, linear=-one), QuadraticPiece(zero, oo, linear=one))),
        latex=r"\left\lVert {0} \right\rVert_1",
    )
)
register(
    Atom(
        "nonnegative",
        1,
        to_scalar,
        lambda m: np.where(m < 0, np.inf, 0.0).sum(axis=(-2, -1)),
        "nonnegative(A): zero where every entry is at least 0, infinite elsewhere",
        entry=lambda: Separable((QuadraticPiece(zero, oo),)),
        constraint=True,
        latex=r"\iota_{{\geq 0}}\left({0}\right)",
    )
)
register(
    Atom(
        "box",
        3,
        bounded,
        _box,
        "box(A, a, b): zero where every entry lies in [a, b], infinite elsewhere",
        entry=_box_entry,
        constraint=True,
        latex=r"\iota_{{[{1}, {2}]}}\left({0}\right)",
    )
)
register(
    Atom(
        "l0",
        1,
        to_scalar,
        lambda m: (m != 0).sum(axis=(-2, -1)).astype(float),
        "l0(A): number of entries that are not 0",
        entry=lambda: Separable((QuadraticPiece(-oo, oo, constant=one),), drops=((zero, one),)),
        latex=r"\left\lVert {0} \right\rVert_0",
    )
)


# ---- matrix-valued atoms, entry by entry ---------------------------------------------------------------------------


def entry_by_entry(name: str, usage: str, derivative: Callable[[Form], Form], latex: str) -> None:
    """An atom of the function of one name in `library/functions.py`; the chain rule is `adjoint .* f'(A)`."""

    def pull(forms: tuple[Form, ...], adjoint: Form) -> tuple[Form]:
        return (hadamard(adjoint, derivative(forms[0])),)

    own = partial(applied, name)
    register(Atom(name, 1, entrywise, FUNCTIONS[name], f"{name}(A): {usage}", pull=pull, form=own, latex=latex))


def _minus_square(form: Form) -> Form:
    """`d (1 / a) = -da / a^2`."""
    inverse = applied("reciprocal", form)
    return -hadamard(inverse, inverse)


entry_by_entry("exp", "entry by entry", partial(applied, "exp"), r"\exp\left({0}\right)")
entry_by_entry("log", "entry by entry", partial(applied, "reciprocal"), r"\log\left({0}\right)")
entry_by_entry(
    "reciprocal",
    "entry by entry; A ./ B is A .* reciprocal(B)",
    _minus_square,
    r"\left({0}\right)^{{\odot -1}}",
)
register(
    Atom(
        "hadamard",
        2,
        entrywise,
        lambda a, b: a * b,
        "A .* B: product entry by entry",
        pull=lambda forms, adjoint: (hadamard(adjoint, forms[1]), hadamard(adjoint, forms[0])),
        form=hadamard,
        latex=r"{0} \odot {1}",
    )
)


# ---- the structure of expressions ----------------------------------------------------------------------------------

register(
    Atom(
        "plus",
        2,
        entrywise,
        lambda a, b: a + b,
        "A + B",
        latex="{0} + {1}",
        pull=lambda forms, adjoint: (adjoint, adjoint),
        form=lambda a, b: a + b,
    )
)
register(
    Atom(
        "minus",
        2,
        entrywise,
        lambda a, b: a - b,
        "A - B",
        latex="{0} - {1}",
        pull=lambda forms, adjoint: (adjoint, -adjoint),
        form=lambda a, b: a - b,
    )
)
register(
    Atom(
        "transpose",
        1,
        entrywise,
        lambda a: np.swapaxes(a, -1, -2),
        "A'",
        latex=r"{0}^\top",
        pull=lambda forms, adjoint: (adjoint.T,),
        form=lambda a: a.T,
    )
)
register(
    Atom(
        "times",
        2,
        entrywise,
        lambda a, b: a @ b,
        "A * B",
        latex=r"{0} {1}",
        pull=lambda forms, adjoint: (adjoint @ forms[1].T, forms[0].T @ adjoint),
        form=lambda a, b: a @ b,
    )
)
