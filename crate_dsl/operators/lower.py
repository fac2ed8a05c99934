"""Derivation -> Program: every step's forms and energies as operator graphs.

A form's words become flat products, so that sharing and the order of a chain are decided later, by cost. A family sum
stays wide, around all factors of its word; where a word has several, the inner ones stand around the factors with their
index.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import sympy

from crate_dsl.errors import Span, fail
from crate_dsl.language.model import Block, Shape
from crate_dsl.library.form import Diagonal, Factor, Form, Function, Inverse, Leaf, Word, indices
from crate_dsl.library.grams import SCALED
from crate_dsl.library.rules import Fitted
from crate_dsl.library.scalars import base_name, rename_index, scalar_indices
from crate_dsl.mathematics.derivation import Assignment, Derivation, DerivedBlock, DerivedPenalty, DerivedStep
from crate_dsl.mathematics.quantities import Quantity
from crate_dsl.operators.build import (
    combine,
    constant,
    diagonal,
    family_sum,
    formula,
    function,
    identity,
    inverse,
    ones,
    product,
    transposed,
    weighted,
)
from crate_dsl.operators.graph import IDENTITY, Builder, Graph, Operator, Type
from crate_dsl.operators.lower_energy import lower_tree
from crate_dsl.operators.program import BlockProgram, PenaltyProgram, Program, StepProgram


@dataclass(frozen=True)
class Scope:
    """What names stand for: values computed so far, learned matrices by shape, open family indices by axis."""

    builder: Builder
    values: Mapping[str, int]
    parameters: Mapping[str, Shape]
    families: Mapping[str, str] = field(default_factory=dict)
    span: Span | None = None  # of the step, for errors
    identities: frozenset[str] = frozenset()  # families whose members beside each other are the identity

    def bound(self, name: str, number: int) -> Scope:
        return replace(self, values={**self.values, name: number})

    def inside(self, over: tuple[tuple[str, str], ...]) -> Scope:
        return replace(self, families={**self.families, **dict(over)})

    def coefficient(self, value: sympy.Expr) -> sympy.Expr:
        """Members of a family are named by its axis: `kappa[k]` becomes `kappa[K]`."""
        for index in scalar_indices(value):
            value = rename_index(value, index, self.families.get(index, index))
        return value

    def weighted(self, value: sympy.Expr, number: int) -> tuple[sympy.Expr, int]:
        """`value * number` as a coefficient of scalars and a value: held numbers are values and join the latter."""
        value = self.coefficient(value)
        held = [symbol for symbol in value.free_symbols if base_name(symbol) in self.values]
        if not held:
            return value, number
        rest, own = value.as_independent(*held, as_Add=False)
        return rest, weighted(self.builder, self.number(own), number)

    def number(self, value: sympy.Expr) -> int:
        """A scalar as a value."""
        value = self.coefficient(value)
        held = sorted((s for s in value.free_symbols if base_name(s) in self.values), key=str)
        if not held:
            return constant(self.builder, value)
        return formula(self.builder, value, [(symbol, self.values[base_name(symbol)]) for symbol in held])

    def leaf(self, leaf: Leaf) -> int:
        number = self._plain(leaf)
        return transposed(self.builder, number) if leaf.transposed else number

    def _plain(self, leaf: Leaf) -> int:
        if leaf.name in self.values:
            return self.values[leaf.name]
        if leaf.name == "ones":
            return ones(self.builder, leaf.rows)
        if leaf.name in self.parameters:
            return _parameter(leaf.name, self.parameters[leaf.name], self.builder, leaf.name in self.identities)
        return self.builder.add(Operator("input", (), Type(leaf.rows, leaf.cols, batch=True), (leaf.name,)))


# ---- forms -----------------------------------------------------------------------------------------------------


def lower_form(form: Form, scope: Scope) -> int:
    terms = [_word(word, form, scope) for word in form.words]
    return combine(scope.builder, terms, form.rows, form.cols)


def _word(word: Word, form: Form, scope: Scope) -> tuple[sympy.Expr, int]:
    """A word as (coefficient, value); of several family sums the one around the fewest factors is taken first."""
    inner = scope.inside(word.over)
    values = [(_factor(f, inner), indices(f)) for f in word.factors] or [
        (identity(scope.builder, form.rows), frozenset())
    ]
    coefficient = word.coefficient
    order = sorted((index for index, _ in word.over), key=lambda index: _width(values, index))
    for index in order:
        coefficient, values = _summed(index, index == order[-1], coefficient, values, inner)
    return scope.weighted(coefficient, product(scope.builder, [n for n, _ in values], flat=True))


Indexed = list[tuple[int, frozenset[str]]]


def _span(values: Indexed, index: str) -> tuple[int, int]:
    """First and last of the factors that carry an index; the first factor where none does."""
    places = [n for n, (_, free) in enumerate(values) if index in free] or [0]
    return places[0], places[-1]


def _width(values: Indexed, index: str) -> int:
    first, last = _span(values, index)
    return last - first


def _summed(
    index: str, whole: bool, coefficient: sympy.Expr, values: Indexed, scope: Scope
) -> tuple[sympy.Expr, Indexed]:
    """The word with one family summed, around all of its factors or those with the index."""
    first, last = (0, len(values) - 1) if whole else _span(values, index)
    segment = values[first : last + 1]
    others = frozenset().union(*(free for _, free in segment)) - {index}
    if others:
        inside = ", ".join(sorted(others))
        raise fail(f"the sums over {index} and {inside} interleave: a value would have two families", scope.span)
    own = [s for s in coefficient.free_symbols if s.name.endswith(f"[{index}]")]
    rest, weight = coefficient.as_independent(*own, as_Add=False) if own else (coefficient, sympy.Integer(1))
    builder = scope.builder
    inner = scope.weighted(weight, product(builder, [n for n, _ in segment], flat=True))
    total = family_sum(builder, combine(builder, [inner]))
    return rest, [*values[:first], (total, frozenset()), *values[last + 1 :]]


def _factor(factor: Factor, scope: Scope) -> int:
    match factor:
        case Leaf():
            return scope.leaf(factor)
        case Inverse():
            return inverse(scope.builder, lower_form(factor.of, scope))
        case Diagonal():
            return diagonal(scope.builder, lower_form(factor.of, scope))
        case Function():
            arguments = tuple(lower_form(argument, scope) for argument in factor.arguments)
            if factor.name == SCALED:  # a bracket, no operation
                return transposed(scope.builder, arguments[0]) if factor.transposed else arguments[0]
            parameters = tuple(map(scope.coefficient, factor.parameters))
            number = function(scope.builder, factor.name, arguments, parameters)
            return transposed(scope.builder, number) if factor.transposed else number


# ---- steps -----------------------------------------------------------------------------------------------------


def lower(derivation: Derivation) -> Program:
    """All graphs of a network, as the derivation states them, nothing made fast."""
    blocks = tuple(_block(derivation, block) for block in derivation.blocks)
    return Program(derivation, blocks, tuple(_penalty(derivation, penalty) for penalty in derivation.penalties))


def _block(derivation: Derivation, block: DerivedBlock) -> BlockProgram:
    tokens = derivation.model.tokens
    sizes = {**block.block.sizes, tokens.cols: tokens.count}
    return BlockProgram(block, tuple(lower_step(step, block.block, sizes, tokens.cols) for step in block.steps))


def lower_step(step: DerivedStep, block: Block, sizes: Mapping[str, int], tokens: str) -> StepProgram:
    """The graphs of one step.

    Where the energy is evaluated at something else than the step's result (a code that is then read out), that value
    gets a graph of its own, and the rest of the step starts from it.
    """
    name = f"{block.role}.{step.step.label}"
    parameters = {p.name: p.shape for p in (*block.parameters, *step.parameters)}
    identities = frozenset(p.name for p in step.parameters if p.held == IDENTITY)

    def scope(suffix: str = "", causal: bool = False) -> Scope:
        builder = Builder(name + suffix, sizes, tokens, causal)
        empty = Scope(builder, {}, parameters, span=step.step.span, identities=identities)
        return with_quantities(step, empty)

    whole = _assigned(step.assignments, scope(causal=step.step.causal))
    after = lower_form(step.objective.after, whole)
    forward, code = whole.builder.graph((("result", whole.values[step.result.name]),)), None
    if after != whole.values[step.result.name]:
        code = whole.builder.graph((("code", after),))
        forward = _from_code(step, scope())
    energy = _energy(step, Scope(Builder(f"{name}.energy", sizes, tokens), {}, parameters, span=step.step.span))
    start = scope(".start")
    before = start.builder.graph((("start", lower_form(step.objective.before, start)),))
    fits = tuple(_fit(fitted, scope(f".{fitted.name}")) for fitted in step.fitted)
    estimates = tuple(
        _estimate(quantity, step, Scope(Builder(f"{name}.{quantity.name}", sizes, tokens), {}, parameters))
        for quantity in step.quantities
        if quantity.estimate is not None
    )
    return StepProgram(step, block, forward, code, energy, before, fits, estimates)


def _fit(fitted: Fitted, scope: Scope) -> Graph:
    """What a step keeps of the data that it is fitted to."""
    inner = scope.inside(((fitted.index, fitted.shape.family),)) if fitted.index else scope
    number = lower_form(fitted.value, inner) if isinstance(fitted.value, Form) else lower_tree(fitted.value, inner)
    return scope.builder.graph(((fitted.name, number),))


def _estimate(quantity: Quantity, step: DerivedStep, scope: Scope) -> Graph:
    """What stands for a given quantity where it is not handed in, from the tokens as read and what was fitted."""
    for fitted in step.fitted:
        scope = scope.bound(fitted.name, _parameter(fitted.name, fitted.shape, scope.builder))
    inner = scope.inside(((quantity.index, quantity.family),)) if quantity.index else scope
    return scope.builder.graph(((quantity.name, lower_tree(quantity.estimate, inner)),))


def _parameter(name: str, shape: Shape, builder: Builder, is_identity: bool = False) -> int:
    """A leaf; of a family that is the identity, members beside each other, this is said, since it costs nothing."""
    said = (name, IDENTITY) if is_identity else (name,)
    return builder.add(Operator("parameter", (), Type(shape.rows, shape.cols, shape.family), said))


def with_quantities(step: DerivedStep, scope: Scope) -> Scope:
    """The scope with the values of all quantities; those that nothing reads are left out of the graph later."""
    for quantity in step.quantities:
        inner = scope.inside(((quantity.index, quantity.family),)) if quantity.index else scope
        if quantity.is_given:
            kind = Type(*quantity.tree.shape, quantity.family, batch=True)
            scope = scope.bound(quantity.name, scope.builder.add(Operator("input", (), kind, (quantity.name,))))
            continue
        number = lower_tree(quantity.tree, inner)
        kind = replace(scope.builder.type(number), diagonal=False)
        value = scope.builder.add(Operator("quantity", (number,), kind, (quantity.name,)))
        scope = scope.bound(quantity.name, value)
    return scope


def held_name(step: DerivedStep) -> str:
    """The input of an energy's graph that its quantities are computed from: the tokens before the step, as read."""
    variable = step.objective.variable.name
    return step.read.name if step.read.name != variable else f"held({variable})"


def _assigned(assignments: tuple[Assignment, ...], scope: Scope) -> Scope:
    for assignment in assignments:
        number = lower_form(assignment.value, scope)
        if assignment.prox:
            attributes = (assignment.prox, assignment.target.name)
            number = scope.builder.add(Operator("prox", (number,), scope.builder.type(number), attributes))
        scope = scope.bound(assignment.target.name, number)
    return scope


def _from_code(step: DerivedStep, scope: Scope) -> Graph:
    """The step's result with the code as an input."""
    after = step.objective.after
    word = after.words[0] if len(after.words) == 1 else None
    if word and len(word.factors) == 1 and word.coefficient == 1 and isinstance(word.factors[0], Leaf):
        names = [assignment.target.name for assignment in step.assignments]
        code = word.factors[0]
        kind = Type(code.rows, code.cols, batch=True)
        held = scope.bound(code.name, scope.builder.add(Operator("input", (), kind, (code.name,))))
        last = _assigned(step.assignments[names.index(code.name) + 1 :], held)
    else:
        last = _assigned(step.assignments, scope)
    return last.builder.graph((("result", last.values[step.result.name]),))


def _energy(step: DerivedStep, scope: Scope) -> Graph:
    kind = Type(step.read.rows, step.read.cols, batch=True)
    before = scope.bound(step.read.name, scope.builder.add(Operator("input", (), kind, (held_name(step),))))
    values = {**with_quantities(step, before).values}
    values.pop(step.read.name)
    number = lower_tree(step.objective.energy, replace(scope, values=values))
    return scope.builder.graph((("energy", number),))


def _penalty(derivation: Derivation, penalty: DerivedPenalty) -> PenaltyProgram:
    model, block = derivation.model, penalty.block
    sizes = {**(block or model).sizes, model.tokens.cols: model.tokens.count}
    parameters = {p.name: p.shape for p in block.parameters} if block else {}
    scope = Scope(Builder(penalty.place, sizes, model.tokens.cols), {}, parameters, span=penalty.penalties[0].span)
    return PenaltyProgram(penalty, scope.builder.graph((("penalty", lower_tree(penalty.tree, scope)),)))
