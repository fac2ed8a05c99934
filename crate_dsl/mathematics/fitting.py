"""Steps that are fitted to data: what stands for given quantities later, and what is kept for that.

A given quantity, such as the memberships of labelled samples, comes with the data that a step is fitted to. Later it is
estimated. Whatever the estimate reads of quantities that depend on given ones cannot be computed then: it is kept.
"""

from __future__ import annotations

from dataclasses import replace

from crate_dsl.language.model import Shape
from crate_dsl.library.form import Leaf
from crate_dsl.library.rules import Fitted
from crate_dsl.library.scalars import base_name
from crate_dsl.library.tree import Tree, tree_leaves, tree_scalars
from crate_dsl.mathematics.derivation import APPROXIMATION, CHOICE, DerivationStep
from crate_dsl.mathematics.express import estimates, let_scope
from crate_dsl.mathematics.quantities import Quantity
from crate_dsl.mathematics.statement import Statement


def fit(statement: Statement, frozen: tuple[Fitted, ...]) -> tuple[tuple[Quantity, ...], tuple[Fitted, ...]]:
    """The quantities, given ones with their estimates, and everything that is kept of fitting data."""
    step = statement.step
    if not any(let.given for let in step.lets):
        return statement.quantities, frozen
    constants = {f.name: Leaf(f.name, f.shape.rows, f.shape.cols, f.index) for f in frozen}
    scope = let_scope(statement.model, statement.block, step, statement.read)
    found = estimates(step, constants, scope)
    quantities = tuple(replace(q, estimate=found.get(q.name)) for q in statement.quantities)
    return quantities, (*_kept(quantities), *frozen)


def _kept(quantities: tuple[Quantity, ...]) -> tuple[Fitted, ...]:
    """Quantities that depend on given ones and that an estimate reads."""
    depend = {q.name for q in quantities if q.is_given}
    read = {name for q in quantities if q.estimate is not None for name in _names(q.estimate)}
    kept = []
    for quantity in quantities:
        if not quantity.is_given and _names(quantity.tree) & depend:
            depend.add(quantity.name)
            if quantity.name in read:
                shape = Shape(*quantity.tree.shape, quantity.family)
                kept.append(Fitted(quantity.name, shape, quantity.index, quantity.tree))
    return tuple(kept)


def _names(tree: Tree) -> set[str]:
    """Matrices and held numbers in a tree."""
    numbers = {base_name(symbol) for symbol in tree_scalars(tree)}
    return numbers | {leaf.name for leaf in tree_leaves(tree)}


def fitting_record(
    statement: Statement, quantities: tuple[Quantity, ...], fitted: tuple[Fitted, ...]
) -> list[DerivationStep]:
    """The lines of a derivation that say what is kept of data, and what stands for given quantities later."""
    kept = "computed once from the data that the step is fitted to, then constant"
    lines = [DerivationStep("fit", f.name, f.value, kept, CHOICE, statement.step.span) for f in fitted]
    later = "matrices are made of what comes with those data; tokens then pass by this, those data too"
    estimated = (q for q in quantities if q.estimate is not None)
    return lines + [DerivationStep("given", q.name, q.estimate, later, APPROXIMATION, q.span) for q in estimated]
