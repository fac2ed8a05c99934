"""What the operator of a step reads: the tokens, and where the step states a norm, the tokens normed."""

from __future__ import annotations

from collections.abc import Iterator

from crate_dsl.errors import CrateError, fail
from crate_dsl.library.form import Form, form_scalars, leaves
from crate_dsl.library.scalars import base_name
from crate_dsl.library.tree import Tree, tree_leaves, tree_scalars
from crate_dsl.mathematics.derivation import DerivedStep


def check_reading(derived: DerivedStep) -> None:
    """Refuse a step that forgets the tokens, and a norm that no gradient would reach.

    Energies, which are measured and not trained, do not count as readers of the norm.

    Raises:
        CrateError: at the step, or at its norm.
    """
    read = _read(derived)
    if not {derived.raw.name, derived.read.name} & read:
        hint = "take another step size or another energy: the result would be the same whatever the tokens"
        raise fail(f"nothing of {derived.raw.name} is left after this step", derived.step.span, hint)
    if derived.step.norm is not None and derived.read.name not in read:
        raise _unread_norm(derived)


def _unread_norm(derived: DerivedStep) -> CrateError:
    value = derived.assignments[-1].value
    hint = f"no normed tokens stand in {derived.result.name} = {value}\nleave the norm out"
    if derived.step.residual == "raw" and any(word.factors == (derived.raw,) for word in value.words):
        hint += ', or write "residual normed": the tokens alone are normed then'
    return fail("nothing reads this norm", derived.step.norm.span, hint)


def _read(derived: DerivedStep) -> set[str]:
    """All matrices and numbers that the result of a step depends on, by name."""
    values: dict[str, list[Form | Tree]] = {a.target.name: [a.value] for a in derived.assignments}
    for quantity in derived.quantities:
        values[quantity.name] = [quantity.tree, *([quantity.estimate] if quantity.estimate is not None else [])]
    values |= {fitted.name: [fitted.value] for fitted in derived.fitted}
    found, ahead = set(), [derived.result.name]
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead += [other for value in values.get(name, ()) for other in _names(value)]
    return found


def _names(value: Form | Tree) -> Iterator[str]:
    own = leaves(value) if isinstance(value, Form) else tree_leaves(value)
    yield from (leaf.name for leaf in own)
    scalars = form_scalars(value) if isinstance(value, Form) else tree_scalars(value)
    yield from (base_name(symbol) for scalar in scalars for symbol in scalar.free_symbols)
