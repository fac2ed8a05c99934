"""Scalars that are learned per iteration: `theta` stands for all of them until the iterations are written out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import sympy

from crate_dsl.library.form import Factor, Form, Function, with_inner_forms
from crate_dsl.library.tree import Scalar, Tree, with_children
from crate_dsl.mathematics.derivation import Piece, Prox
from crate_dsl.mathematics.express import scalars_in_force
from crate_dsl.mathematics.statement import Statement

Own = Mapping[sympy.Expr, sympy.Expr]  # the symbol in the energy, and that of one iteration


def per_iteration(statement: Statement, number: int) -> Own:
    """What the scalars that a step learns per iteration are in iteration `number`."""
    symbols = scalars_in_force(statement.model, statement.block)
    used = {*statement.step.actuals.values(), *(symbol.name for symbol in statement.size.free_symbols)}
    learned = (s for s in (*statement.model.scalars, *statement.block.scalars) if s.base in used)
    return {symbols[s.base]: symbols[s.name] for s in learned if s.name == f"{s.base}_{number}"}


def with_scalars(form: Form, own: Own) -> Form:
    """The form with scalars replaced, also inside its factors."""
    if not own:
        return form
    words = (
        replace(w, coefficient=w.coefficient.xreplace(own), factors=tuple(_factor(f, own) for f in w.factors))
        for w in form.words
    )
    return Form.of(form.rows, form.cols, words)


def _factor(factor: Factor, own: Own) -> Factor:
    factor = with_inner_forms(factor, lambda form: with_scalars(form, own))
    if isinstance(factor, Function):
        return replace(factor, parameters=tuple(value.xreplace(own) for value in factor.parameters))
    return factor


def prox_with_scalars(prox: Prox, own: Own) -> Prox:
    """The proximal map of one iteration."""
    if not own:
        return prox
    values = ((p.lower, p.upper, p.slope, p.intercept) for p in prox.pieces)
    return Prox(tuple(Piece(*(value.xreplace(own) for value in piece)) for piece in values))


def tree_with_scalars(tree: Tree, own: Own) -> Tree:
    """The energy with scalars replaced."""
    if isinstance(tree, Scalar):
        return replace(tree, value=tree.value.xreplace(own))
    return with_children(tree, lambda child: tree_with_scalars(child, own))
