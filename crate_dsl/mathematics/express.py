"""Model -> trees: an energy's body with the names of a step put in for its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import sympy

from crate_dsl.errors import fail
from crate_dsl.language import syntax
from crate_dsl.language.model import ONE, Block, Energy, Let, Model, Shape, Step
from crate_dsl.library.atoms import ATOMS
from crate_dsl.library.form import Leaf
from crate_dsl.library.scalars import base_name, scalar, sign_of, size
from crate_dsl.library.tree import Apply, Matrix, Scalar, SoftmaxOver, SumOver, Tree
from crate_dsl.mathematics.arithmetic import FUNCTIONS, Numbers, applied, combined
from crate_dsl.mathematics.differentiate import depends
from crate_dsl.mathematics.quantities import Held

OPERATORS = {"+": "plus", "-": "minus", ".*": "hadamard", ".+": "add_column"}

ARITHMETIC = {"plus": "+", "minus": "-", "scale": "*", "times": "*", "hadamard": "*"}


@dataclass(frozen=True)
class Scope:
    """What the names of an expression stand for: matrices by their leaves, scalars by their symbols.

    `numbers` are the values of those scalars that have one, `families` the open indices with their families; `held`
    collects the numbers made of held matrices.
    """

    matrices: Mapping[str, Leaf]
    scalars: Mapping[str, sympy.Expr]
    numbers: Numbers
    families: Mapping[str, str] = field(default_factory=dict)
    held: Held = field(default_factory=Held)

    def inside(self, index: str, family: str) -> Scope:
        """The scope of a family's member."""
        scalars = _indexed(self.scalars, index)
        return replace(self, scalars=scalars, families={**self.families, index: family})


def scalars_in_force(model: Model, block: Block | None) -> dict[str, sympy.Expr]:
    """Sizes, reals and learned scalars by name, at the top without a block; one per head is a member of its family."""
    scalars: dict[str, sympy.Expr] = {name: size(name) for name in (block or model).sizes}
    scalars |= {name: scalar(name, sign=sign_of(value)) for name, value in model.reals.items()}
    for learned in model.scalars + (block.scalars if block else ()):
        sign = "positive" if learned.lower is not None and learned.lower >= 0 else "real"
        scalars[learned.name] = scalar(learned.name, sign=sign, index="k" if learned.family else None)
        if learned.base:  # stands for all of them until the iterations are written out
            scalars[learned.base] = scalar(learned.base, sign=sign)
    return scalars


def numbers_in_force(model: Model, block: Block | None, step: Step | None = None) -> Numbers:
    """The values of sizes and reals by name; in a causal step the tokens are counted."""
    values = {name: sympy.Rational(value) for name, value in {**(block or model).sizes, **model.reals}.items()}
    return Numbers(values, model.tokens.cols if step and step.causal else "")


def let_scope(model: Model, block: Block, step: Step, read: Leaf) -> Scope:
    """The scope of a step's lets, which it holds itself as they are expressed one after the other.

    A let reads the tokens as the step reads them, and learned matrices.
    """
    matrices = {p.name: Leaf(p.name, p.shape.rows, p.shape.cols, _any(p.shape.family)) for p in block.parameters}
    numbers = numbers_in_force(model, block, step)
    scope = Scope({**matrices, step.tokens: read}, scalars_in_force(model, block), numbers)
    for let in (let for let in step.lets if let.given):
        leaf = Leaf(let.name, let.shape.rows, let.shape.cols, let.index)
        scope.held.add(let.name, Matrix(leaf), let.index, let.shape.family, True, let.span)
        scope = replace(scope, matrices={**scope.matrices, let.name: leaf})
    for let in (let for let in step.lets if not let.given):
        value = express(let.value, _inside(scope, let))
        quantity = scope.held.add(let.name, value, let.index, let.shape.family, True, let.span)
        if quantity.is_scalar:
            scope = replace(scope, scalars={**scope.scalars, let.name: quantity.value})
        else:
            scope = replace(scope, matrices={**scope.matrices, let.name: quantity.leaf})
    return scope


def estimates(step: Step, frozen: Mapping[str, Leaf], scope: Scope) -> dict[str, Tree]:
    """What stands for the given quantities of a step where they are not handed in."""
    scope = replace(scope, matrices={**scope.matrices, **frozen})
    givens = (let for let in step.lets if let.given)
    return {let.name: express(let.value, _inside(scope, let)) for let in givens}


def _inside(scope: Scope, let: Let) -> Scope:
    return scope.inside(let.index, let.shape.family) if let.index and let.shape.family else scope


def _any(family: str | None) -> str | None:
    return "k" if family else None  # replaced where a member is written


def step_scope(model: Model, block: Block, step: Step, held: Held) -> Scope:
    """The scope of a step's energy: its arguments, bound to what the step puts there."""
    outer = scalars_in_force(model, block)
    outer |= {name: quantity.value for name, quantity in held.quantities.items() if quantity.stated}
    numbers = numbers_in_force(model, block, step)
    return energy_scope(step.energy, step.actuals, outer, numbers, held)


def energy_scope(
    energy: Energy,
    actuals: Mapping[str, str],
    outer: Mapping[str, sympy.Expr],
    numbers: Numbers,
    held: Held | None = None,
) -> Scope:
    """The scope of an energy: its arguments, bound to what stands for them."""
    matrices, scalars = {}, dict(outer)
    for argument in energy.arguments:
        actual = actuals[argument.name]
        if argument.shape.is_scalar:
            scalars[argument.name] = outer[actual]
        else:
            index = _any(argument.shape.family)
            matrices[argument.name] = Leaf(actual, argument.shape.rows, argument.shape.cols, index)
    return Scope(matrices, scalars, numbers, held=held or Held())


def express(expression: syntax.Expression, scope: Scope) -> Tree:
    """The tree of an expression.

    Raises:
        CrateError: where scalars that are no constants are combined in a way that has no derivative rule, and where
            constants are combined to no real number.
    """
    match expression:
        case syntax.Number():
            return Scalar(sympy.Rational(expression.value.numerator, expression.value.denominator), expression.span)
        case syntax.Name():
            return _name(expression, scope)
        case syntax.Negate():
            return _scale(Scalar(sympy.Integer(-1)), express(expression.operand, scope), expression)
        case syntax.Transpose():
            operand = express(expression.operand, scope)
            if isinstance(operand, Matrix):
                return Matrix(operand.leaf.T, expression.span)
            return Apply("transpose", (operand,), operand.shape[::-1], expression.span)
        case syntax.Call():
            return _call(expression, scope)
        case syntax.FamilySum():
            body = express(expression.body, scope.inside(expression.index, expression.family))
            return SumOver(expression.index, expression.family, body, expression.span)
        case syntax.FamilySoftmax():
            body = express(expression.body, scope)
            return SoftmaxOver(expression.index, expression.family, body, expression.span)
        case syntax.Binary():
            return _binary(expression, scope)


def _indexed(scalars: Mapping[str, sympy.Expr], index: str) -> dict[str, sympy.Expr]:
    """Scalars per head take the index of the sum that they stand in."""
    return {
        name: scalar(base_name(value), sign="positive" if value.is_positive else "real", index=index)
        if isinstance(value, sympy.Symbol) and "[" in value.name
        else value
        for name, value in scalars.items()
    }


def _name(name: syntax.Name, scope: Scope) -> Tree:
    if name.name in scope.matrices:
        leaf = scope.matrices[name.name]
        return Matrix(Leaf(leaf.name, leaf.rows, leaf.cols, name.index), name.span)
    if name.name == "I":
        return Apply("I", (), ("?", "?"), name.span)  # takes its size from what it is added to
    value = scope.scalars[name.name]
    return Scalar(_indexed({name.name: value}, name.index)[name.name] if name.index else value, name.span)


def _call(call: syntax.Call, scope: Scope) -> Tree:
    arguments = tuple(express(argument, scope) for argument in call.arguments)
    if call.name == "sqrt":
        return Scalar(applied("sqrt", _constant(arguments[0], scope), scope.numbers, call.span), call.span)
    if call.name in FUNCTIONS and isinstance(arguments[0], Scalar):
        return Scalar(applied(call.name, arguments[0].value, scope.numbers, call.span), call.span)
    shape = ATOMS[call.name].shape(tuple(Shape(*argument.shape) for argument in arguments))
    return Apply(call.name, arguments, (shape.rows, shape.cols), call.span)


def _binary(node: syntax.Binary, scope: Scope) -> Tree:
    left, right = express(node.left, scope), express(node.right, scope)
    if isinstance(left, Scalar) and isinstance(right, Scalar):
        value = combined(node.operator.lstrip("."), left.value, right.value, scope.numbers, node.span)
        return Scalar(value, node.span)
    match node.operator:
        case "./":
            return Apply("hadamard", (left, Apply("reciprocal", (right,), right.shape)), left.shape, node.span)
        case "+" | "-" | ".*" | ".+":
            left, right = _fitted(left, right), _fitted(right, left)
            return Apply(OPERATORS[node.operator], (left, right), left.shape, node.span)
        case "*":
            if not (isinstance(left, Scalar) or isinstance(right, Scalar)):
                left, right = _settled(left, scope), _settled(right, scope)
            return _times(left, right, node)
        case "/":
            divisor = applied("reciprocal", _constant(right, scope), scope.numbers, node.right.span)
            return _scale(Scalar(divisor), left, node)
        case "^":
            base, exponent = _constant(left, scope), _constant(right, scope)
            return Scalar(combined("^", base, exponent, scope.numbers, node.span), node.span)
        case ".^":
            return _power(left, right, scope, node)
    raise fail(f'"{node.operator}" has no derivative rule here', node.span, "it works between constants only")


def _identity(tree: Tree) -> bool:
    return isinstance(tree, Apply) and tree.atom == "I"


def _fitted(tree: Tree, other: Tree) -> Tree:
    """A bare `I`, also scaled, takes the size of what it is added to."""
    if _identity(tree):
        return Apply("I", (), other.shape, tree.span)
    if isinstance(tree, Apply) and tree.atom == "scale" and _identity(tree.arguments[1]):
        return Apply("scale", (tree.arguments[0], Apply("I", (), other.shape)), other.shape, tree.span)
    return tree


def _times(left: Tree, right: Tree, node: syntax.Binary) -> Tree:
    if isinstance(left, Scalar):
        return _scale(left, right, node)
    if isinstance(right, Scalar):
        return _scale(right, left, node)
    if _identity(left) or _identity(right):
        return right if _identity(left) else left
    return Apply("times", (left, right), (left.shape[0], right.shape[1]), node.span)


def _scale(factor: Scalar, tree: Tree, node: syntax.Expression) -> Tree:
    if isinstance(tree, Scalar):
        return Scalar(factor.value * tree.value, node.span)
    return Apply("scale", (factor, tree), tree.shape, node.span)


def _power(base: Tree, exponent: Tree, scope: Scope, node: syntax.Binary) -> Tree:
    value = _constant(exponent, scope)
    if not (value.is_Integer and 1 <= value <= 8):
        raise fail("an entry-wise power needs a whole exponent from 1 to 8", node.span)
    result = base
    for _ in range(int(value) - 1):
        result = Apply("hadamard", (result, base), base.shape, node.span)
    return result


def _constant(tree: Tree, scope: Scope) -> sympy.Expr:
    value = _number(tree, scope)
    if value is None:
        hint = "divisors, and what a power is taken of, are numbers or quantities that are held"
        raise fail("this is no constant", tree.span, hint)
    return value


def _settled(tree: Tree, scope: Scope) -> Tree:
    """A held number as the scalar that it is, everything else unchanged."""
    value = _number(tree, scope)
    return tree if value is None else Scalar(value, tree.span)


def _number(tree: Tree, scope: Scope) -> sympy.Expr | None:
    """The value of a 1 x 1 tree that does not depend on what is optimised, None where it does."""
    if isinstance(tree, Scalar):
        return tree.value
    variable = scope.held.variable
    if tree.shape != (ONE, ONE) or (variable is not None and depends(tree, variable)):
        return None
    parts = [_number(argument, scope) for argument in tree.arguments] if isinstance(tree, Apply) else []
    if parts and None not in parts:
        if tree.atom in ARITHMETIC:
            return combined(ARITHMETIC[tree.atom], *parts, scope.numbers, tree.span)
        if tree.atom in FUNCTIONS:
            return applied(tree.atom, *parts, scope.numbers, tree.span)
    return scope.held.symbol(tree, scope.families)
