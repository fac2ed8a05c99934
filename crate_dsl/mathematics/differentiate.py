"""Gradients of energies: reverse mode over a tree, the rules being those of the atoms.

The engine knows no rule but linearity; `library/atoms.py` holds one short rule per atom. A tree is differentiated as a
tree (shared subexpressions are walked once per occurrence), so an argument that is free of a family's index but read
inside its sum gets the sum of its adjoints without further ado.
"""

from __future__ import annotations

import sympy

from crate_dsl.errors import fail
from crate_dsl.library.atoms import ATOMS
from crate_dsl.library.form import Form, Leaf
from crate_dsl.library.tree import Apply, Matrix, Scalar, SumOver, Tree, tree_leaves

Adjoint = Form | sympy.Expr  # of a matrix, of a scalar


def depends(tree: Tree, variable: Leaf) -> bool:
    """Whether the variable occurs in the tree; what does not depend on it needs no rule."""
    return any(leaf.name == variable.name for leaf in tree_leaves(tree))


def form_of(tree: Tree) -> Form:
    """The canonical form of a matrix-valued tree.

    Raises:
        CrateError: where a scalar that is no constant stands inside a matrix.
    """
    match tree:
        case Matrix():
            return Form.leaf(tree.leaf)
        case Scalar():
            return Form.scalar(tree.value)
        case SumOver():
            return form_of(tree.body).summed(tree.index, tree.family)
        case Apply(atom="I"):
            return Form.identity(tree.shape[0])
        case Apply(atom="scale", arguments=(Scalar() as factor, operand)):
            return form_of(operand).scaled(factor.value)
        case Apply() if tree.atom in ATOMS and ATOMS[tree.atom].form:
            return ATOMS[tree.atom].form(*map(form_of, tree.arguments))
    raise fail(f'"{tree.atom}" has no matrix value', tree.span, "scalars inside a matrix must be constants here")


def gradient(tree: Tree, variable: Leaf) -> Form:
    """`grad_variable tree`, in canonical form; shape that of the variable.

    Raises:
        CrateError: where an atom that depends on the variable has no derivative rule.
    """
    return _pull(tree, sympy.Integer(1), variable)


def _pull(tree: Tree, adjoint: Adjoint, variable: Leaf) -> Form:
    """The part of the gradient that flows through this tree."""
    nothing = Form.zero(variable.rows, variable.cols)
    if not depends(tree, variable):
        return nothing
    match tree:
        case Matrix():
            return adjoint.T if tree.leaf.transposed else adjoint
        case SumOver():
            return _pull(tree.body, adjoint, variable).summed(tree.index, tree.family)
        case Apply(atom="scale", arguments=(Scalar() as factor, operand)):
            scaled = adjoint.scaled(factor.value) if isinstance(adjoint, Form) else adjoint * factor.value
            return _pull(operand, scaled, variable)
    return sum((_pull(t, a, variable) for t, a in _arguments(tree, adjoint, variable)), nothing)


def _arguments(tree: Apply, adjoint: Adjoint, variable: Leaf) -> list[tuple[Tree, Adjoint]]:
    """The arguments that depend on the variable, with their adjoints."""
    rule = ATOMS[tree.atom].pull if tree.atom in ATOMS else None
    if rule is None:
        hint = "atoms with a gradient: " + ", ".join(sorted(name for name, atom in ATOMS.items() if atom.smooth))
        raise fail(f'"{tree.atom}" has no derivative in {variable.name}', tree.span, hint)
    if tree.atom in ("plus", "minus") and not isinstance(adjoint, Form):
        adjoints = (adjoint, adjoint if tree.atom == "plus" else -adjoint)  # sums of energies have no forms
    else:
        if ATOMS[tree.atom].form is not None and not isinstance(adjoint, Form):
            adjoint = Form.scalar(adjoint)  # a 1 x 1 product is a matrix as well
        adjoints = rule(tuple(map(form_of, tree.arguments)), adjoint)
    return [(t, a) for t, a in zip(tree.arguments, adjoints, strict=True) if depends(t, variable)]
