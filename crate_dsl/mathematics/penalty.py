"""The energies of a `loss` line as trees: nothing is differentiated here, training differentiates what is written."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

import sympy

from crate_dsl.language.model import ONE, Block, Model, Penalty
from crate_dsl.library.form import Leaf
from crate_dsl.library.tree import Apply, Scalar, Tree
from crate_dsl.mathematics import plain
from crate_dsl.mathematics.arithmetic import Numbers
from crate_dsl.mathematics.derivation import DerivedPenalty
from crate_dsl.mathematics.express import Scope, energy_scope, express, numbers_in_force, scalars_in_force


def derive_penalties(model: Model, blocks: Mapping[str, Block]) -> tuple[DerivedPenalty, ...]:
    """The energies of the loss by the place where they are evaluated, in the order of the network, the head last.

    Raises:
        CrateError: for scalars that are combined in a way that has no meaning here.
    """
    penalties = model.loss.penalties if model.loss else ()
    places = [role for role in (*blocks, None) if any(penalty.block == role for penalty in penalties)]
    return tuple(
        _at(model, blocks.get(role), [penalty for penalty in penalties if penalty.block == role]) for role in places
    )


def _at(model: Model, block: Block | None, penalties: list[Penalty]) -> DerivedPenalty:
    outer, numbers = scalars_in_force(model, block), numbers_in_force(model, block)
    weights = [_weight(penalty, outer, numbers) for penalty in penalties]
    terms = [express(p.energy.body, energy_scope(p.energy, p.actuals, outer, numbers)) for p in penalties]
    tree = reduce(_sum, (_scaled(weight, term) for weight, term in zip(weights, terms, strict=True)))
    tokens = Leaf(model.tokens.name, model.tokens.rows, model.tokens.cols)
    return DerivedPenalty(block, tokens, tree, tuple(penalties), tuple(terms))


def _weight(penalty: Penalty, outer: Mapping[str, sympy.Expr], numbers: Numbers) -> sympy.Expr:
    value = express(penalty.weight, Scope({}, outer, numbers)).value
    return -value if penalty.negative else value


def _scaled(weight: sympy.Expr, tree: Tree) -> Tree:
    if isinstance(tree, Scalar):
        return Scalar(weight * tree.value, tree.span)
    if weight == 0:
        return Scalar(weight, tree.span)
    return tree if weight == 1 else Apply("scale", (Scalar(weight), tree), tree.shape)


def _sum(left: Tree, right: Tree) -> Tree:
    return Apply("plus", (left, right), (ONE, ONE))


def formulas(derived: DerivedPenalty) -> tuple[str, ...]:
    """The penalty as a sum of the terms as written, then every energy with its arguments put in."""
    lines = ["penalty = " + " + ".join(penalty.text for penalty in derived.penalties).replace("+ -", "- ")]
    for penalty, tree in zip(derived.penalties, derived.terms, strict=True):
        arguments = ", ".join(penalty.actuals[a.name] for a in penalty.energy.arguments)
        lines.append(f"{penalty.energy.name}({arguments}) = {' '.join(plain.tree(tree))}")
    return tuple(dict.fromkeys(lines))
