"""Model -> trees: an energy's body with the names of a step put in for its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sympy

from crate_dsl.errors import fail
from crate_dsl.language import syntax
from crate_dsl.language.model import ONE, Block, Model, Step
from crate_dsl.library.form import Leaf
from crate_dsl.library.scalars import scalar, sign_of, size
from crate_dsl.library.tree import Apply, Matrix, Scalar, SumOver, Tree

OPERATORS = {"+": "plus", "-": "minus", ".*": "hadamard"}

ENTRYWISE = {"exp": sympy.exp, "log": sympy.log, "reciprocal": lambda value: 1 / value}


@dataclass(frozen=True)
class Scope:
    """What the names of an expression stand for: matrices by their leaves, scalars by their symbols."""

    matrices: Mapping[str, Leaf]
    scalars: Mapping[str, sympy.Expr]


def scalars_in_force(model: Model, block: Block) -> dict[str, sympy.Expr]:
    """Sizes, reals and learned scalars by name; a learned scalar per head is a member of its family."""
    scalars: dict[str, sympy.Expr] = {name: size(name) for name in block.sizes}
    scalars |= {name: scalar(name, sign=sign_of(value)) for name, value in model.reals.items()}
    for learned in model.scalars + block.scalars:
        sign = "positive" if learned.lower is not None and learned.lower >= 0 else "real"
        scalars[learned.name] = scalar(learned.name, sign=sign, index="k" if learned.family else None)
        if learned.base:  # stands for all of them until the iterations are written out
            scalars[learned.base] = scalar(learned.base, sign=sign)
    return scalars


def step_scope(model: Model, block: Block, step: Step) -> Scope:
    """The scope of a step's energy: its arguments, bound to what the step puts there."""
    outer = scalars_in_force(model, block)
    matrices, scalars = {}, dict(outer)
    for argument in step.energy.arguments:
        actual = step.actuals[argument.name]
        if argument.shape.is_scalar:
            scalars[argument.name] = outer[actual]
        else:
            index = "k" if argument.shape.family else None  # replaced where a member is written
            matrices[argument.name] = Leaf(actual, argument.shape.rows, argument.shape.cols, index)
    return Scope(matrices, scalars)


def express(expression: syntax.Expression, scope: Scope) -> Tree:
    """The tree of an expression.

    Raises:
        CrateError: where scalars that are no constants are combined in a way that has no derivative rule.
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
            inner = Scope(scope.matrices, _indexed(scope.scalars, expression.index))
            body = express(expression.body, inner)
            return SumOver(expression.index, expression.family, body, expression.span)
        case syntax.Binary():
            return _binary(expression, scope)


def _indexed(scalars: Mapping[str, sympy.Expr], index: str) -> dict[str, sympy.Expr]:
    """Scalars per head take the index of the sum that they stand in."""
    return {
        name: scalar(value.name.partition("[")[0], sign="positive" if value.is_positive else "real", index=index)
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
    return Scalar(scope.scalars[name.name], name.span)


def _call(call: syntax.Call, scope: Scope) -> Tree:
    arguments = tuple(express(argument, scope) for argument in call.arguments)
    if call.name == "sqrt":
        return Scalar(sympy.sqrt(_constant(arguments[0])), call.span)
    if call.name in ENTRYWISE:
        if isinstance(arguments[0], Scalar):
            return Scalar(ENTRYWISE[call.name](arguments[0].value), call.span)
        return Apply(call.name, arguments, arguments[0].shape, call.span)
    return Apply(call.name, arguments, (ONE, ONE), call.span)


def _binary(node: syntax.Binary, scope: Scope) -> Tree:
    left, right = express(node.left, scope), express(node.right, scope)
    if isinstance(left, Scalar) and isinstance(right, Scalar):
        return Scalar(_arithmetic(node.operator.lstrip("."), left.value, right.value), node.span)
    match node.operator:
        case "./":
            return Apply("hadamard", (left, Apply("reciprocal", (right,), right.shape)), left.shape, node.span)
        case "+" | "-" | ".*":
            left, right = _fitted(left, right), _fitted(right, left)
            return Apply(OPERATORS[node.operator], (left, right), left.shape, node.span)
        case "*":
            return _times(left, right, node)
        case "/":
            return _scale(Scalar(1 / _constant(right)), left, node)
        case ".^":
            return _power(left, right, node)
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


def _power(base: Tree, exponent: Tree, node: syntax.Binary) -> Tree:
    value = _constant(exponent)
    if not (value.is_Integer and 1 <= value <= 8):
        raise fail("an entry-wise power needs a whole exponent from 1 to 8", node.span)
    result = base
    for _ in range(int(value) - 1):
        result = Apply("hadamard", (result, base), base.shape, node.span)
    return result


def _constant(tree: Tree) -> sympy.Expr:
    if not isinstance(tree, Scalar):
        hint = "divide by sizes, reals and learned scalars only; write the energy without this quotient"
        raise fail("this is no constant", tree.span, hint)
    return tree.value


def _arithmetic(operator: str, left: sympy.Expr, right: sympy.Expr) -> sympy.Expr:
    match operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "/":
            return left / right
        case _:
            return left**right
