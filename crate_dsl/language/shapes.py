"""Shapes of expressions, found symbolically: two axes agree when their names do, whatever their sizes.

A clash is shown at the operator, with both operands and the declarations that their axes come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from crate_dsl.errors import Diagnostic, Span, known
from crate_dsl.language import syntax
from crate_dsl.language.model import ONE, SCALAR, Shape
from crate_dsl.language.report import counted, within
from crate_dsl.language.vocabulary import AtomSignature, ShapeClash, Vocabulary
from crate_dsl.language.wording import INSTEAD

ANY = "?"
IDENTITY = Shape(ANY, ANY)  # `I`, which takes its size from what it is added to


@dataclass(frozen=True)
class Environment:
    """What the names of an expression stand for.

    `origins` are the places of their declarations, `families` the sizes that a sum may run over, `indices` the bound
    indices with their families, `refused` names that exist but have no place here, with the reason, and `broken` names
    whose shape is not known because of an earlier error.
    """

    shapes: Mapping[str, Shape]
    origins: Mapping[str, Span] = field(default_factory=dict)
    families: frozenset[str] = frozenset()
    indices: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    broken: frozenset[str] = frozenset()
    quantities: bool = False  # the expression is a let, in which memberships may be formed


@dataclass(frozen=True)
class Typed:
    """The shape of a subexpression and the declarations from which its rows and columns come."""

    shape: Shape
    rows: Span | None = None
    cols: Span | None = None


class Unknown(Exception):
    """The shape follows from something that has been reported already."""


class Shapes:
    """Walks over expressions and collects what does not fit."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.diagnostics: list[Diagnostic] = []

    def of(self, expression: syntax.Expression, environment: Environment) -> Shape | None:
        """The shape, or None where it cannot be told."""
        typed = self._try(expression, environment)
        return typed.shape if typed else None

    def _try(self, expression: syntax.Expression, environment: Environment) -> Typed | None:
        try:
            return self._typed(expression, environment)
        except Unknown:
            return None

    def _fail(self, message: str, span: Span, hint: str = "", notes: Iterable[tuple[Span, str]] = ()) -> Unknown:
        self.diagnostics.append(Diagnostic(message, span, hint, tuple(notes)))
        return Unknown()

    def _typed(self, expression: syntax.Expression, environment: Environment) -> Typed:
        match expression:
            case syntax.Number():
                return Typed(SCALAR)
            case syntax.Name():
                return self._name(expression, environment)
            case syntax.Negate():
                return self._typed(expression.operand, environment)
            case syntax.Transpose():
                return self._transpose(expression, environment)
            case syntax.FamilySum():
                return self._sum(expression, environment)
            case syntax.FamilySoftmax():
                return self._softmax(expression, environment)
            case syntax.Call():
                return self._call(expression, environment)
            case syntax.Binary():
                return self._binary(expression, environment)

    # ---- names and families ------------------------------------------------------------------------------------------

    def _name(self, name: syntax.Name, environment: Environment) -> Typed:
        shape = environment.shapes.get(name.name)
        if name.name in environment.broken:
            raise Unknown
        if shape is None:
            if name.name == "I" and name.index is None:
                return Typed(IDENTITY)
            raise self._unknown(name, environment)
        origin = environment.origins.get(name.name)
        notes = [(origin, f"{name.name} is declared here")] if origin else []
        if name.index is None:
            if shape.family:
                hint = f'write "{name.name}[k]" inside "sum(k in {shape.family}) ..."'
                raise self._fail(f'"{name.name}" is a family of matrices and needs an index', name.span, hint, notes)
            return Typed(shape, origin, origin)
        if shape.family is None:
            hint = f'write "{name.name}"; a family is declared as "{name.name}: K of {shape}"'
            raise self._fail(f'"{name.name}" is one matrix and has no index', name.span, hint, notes)
        self._check_index(name, shape, environment)
        return Typed(replace(shape, family=None), origin, origin)

    def _check_index(self, name: syntax.Name, shape: Shape, environment: Environment) -> None:
        family = environment.indices.get(name.index or "")
        if family is None:
            bound = known("indices", name.index or "", environment.indices)
            hint = f'bind it by a sum: "sum({name.index} in {shape.family}) ..."'
            raise self._fail(f'no sum binds the index "{name.index}"', name.span, f"{hint}; {bound}")
        if family != shape.family:
            message = f'"{name.index}" runs over {family}, but "{name.name}" is a family over {shape.family}'
            origin = environment.origins.get(name.name)
            raise self._fail(message, name.span, f'sum over it: "sum({name.index} in {shape.family}) ..."',
                             [(origin, "it is declared here")] if origin else [])  # fmt: skip

    def _unknown(self, name: syntax.Name, environment: Environment) -> Unknown:
        if name.name in environment.indices:
            hint = f'it may only stand in square brackets: "U[{name.name}]"'
            return self._fail(f'"{name.name}" is an index, not a number', name.span, hint)
        if name.name in environment.refused:
            return self._fail(f'"{name.name}" cannot stand here', name.span, environment.refused[name.name])
        if name.name in self.vocabulary.atoms:
            hint = f"it takes arguments: {self.vocabulary.atoms[name.name].usage}"
            return self._fail(f'"{name.name}" is a function', name.span, hint)
        return self._fail(f'unknown name "{name.name}"', name.span, known("names", name.name, environment.shapes))

    def _transpose(self, node: syntax.Transpose, environment: Environment) -> Typed:
        operand = self._typed(node.operand, environment)
        if operand.shape == SCALAR and isinstance(node.operand, syntax.Number | syntax.Name):
            raise self._fail("a number has no transpose", node.span, "remove the quote")
        return Typed(Shape(operand.shape.cols, operand.shape.rows), operand.cols, operand.rows)

    def _sum(self, node: syntax.FamilySum, environment: Environment) -> Typed:
        if node.family not in environment.families:
            hint = known("sizes", node.family, environment.families)
            place = within(node.span, node.family)
            raise self._fail(f'"{node.family}" is not a size to sum over', place, hint)
        if node.index in environment.shapes or node.index in environment.indices:
            hint = "an index needs a name of its own"
            raise self._fail(f'the index "{node.index}" has a meaning already', node.span, hint)
        inner = replace(environment, indices={**environment.indices, node.index: node.family})
        return self._typed(node.body, inner)

    def _softmax(self, node: syntax.FamilySoftmax, environment: Environment) -> Typed:
        """Its index is that of the let around it: a member of the softmax stands for a member of the let."""
        let = f'"let Pi[{node.index} in {node.family}] = softmax(...) ..."'
        if not environment.quantities:
            hint = f"it has no derivative rule: compute it in the step, {let}, and hand it over as an argument"
            raise self._fail("softmax over a family stands in a let", node.span, hint)
        if environment.indices.get(node.index) != node.family:
            message = f'nothing binds "{node.index}" to {node.family} around this softmax'
            hint = f"it stands in a let over that family: {let}"
            raise self._fail(message, within(node.span, node.index), hint)
        return self._typed(node.body, environment)

    # ---- functions ---------------------------------------------------------------------------------------------------

    def _call(self, call: syntax.Call, environment: Environment) -> Typed:
        arguments = [self._try(argument, environment) for argument in call.arguments]
        if call.name == "sqrt":
            return self._scalar_function(call, arguments)
        atom = self.vocabulary.atoms.get(call.name)
        if atom is None:
            message, hint = self._no_function(call, environment)
            raise self._fail(message, within(call.span, call.name), hint)
        if len(arguments) != atom.arity:
            message = f'"{call.name}" takes {counted(atom.arity, "argument")}, and this gives {len(arguments)}'
            raise self._fail(message, call.span, atom.usage)
        if None in arguments:
            raise Unknown
        return self._applied(atom, call, arguments)

    def _scalar_function(self, call: syntax.Call, arguments: list[Typed | None]) -> Typed:
        if len(arguments) != 1:
            raise self._fail(f'"sqrt" takes 1 argument, and this gives {len(arguments)}', call.span, "sqrt(x)")
        if arguments[0] is None:
            raise Unknown
        if not arguments[0].shape.is_scalar:
            raise self._fail(f"sqrt takes a number, and this is {arguments[0].shape}", call.arguments[0].span)
        return Typed(SCALAR)

    def _no_function(self, call: syntax.Call, environment: Environment) -> tuple[str, str]:
        if call.name in environment.shapes or call.name == "I":
            return f'"{call.name}" is not a function', 'a product is written with "*"'
        if call.name in environment.refused:
            return f'"{call.name}" cannot be called here', environment.refused[call.name]
        hint = INSTEAD.get(call.name.lower()) or known("functions", call.name, {*self.vocabulary.atoms, "sqrt"})
        return f'unknown function "{call.name}"', hint

    def _applied(self, atom: AtomSignature, call: syntax.Call, arguments: list[Typed]) -> Typed:
        shapes = tuple(typed.shape for typed in arguments)
        for argument, shape in zip(call.arguments, shapes, strict=True):
            if shape == IDENTITY:
                raise self._fail(
                    "the size of this I is not known", argument.span, "it takes its size from what it is added to"
                )
        if shapes and shapes[0].is_scalar and self._of_matrices(atom):
            raise self._fail(f'"{atom.name}" takes a matrix, and this is a number', call.arguments[0].span, atom.usage)
        try:
            shape = atom.shape(shapes)
        except ShapeClash as clash:
            raise self._clash(clash, call, arguments) from None
        same = shape == shapes[0] if shapes else False
        return Typed(shape, arguments[0].rows, arguments[0].cols) if same else Typed(shape)

    @staticmethod
    def _of_matrices(atom: AtomSignature) -> bool:
        """Whether the atom makes a number of a matrix; functions entry by entry work on numbers as well."""
        try:
            return atom.shape((Shape(ANY, ANY),) + (SCALAR,) * (atom.arity - 1)).is_scalar
        except ShapeClash:
            return True

    def _clash(self, clash: ShapeClash, call: syntax.Call, arguments: list[Typed]) -> Unknown:
        span = call.arguments[clash.places[0]].span if clash.places else call.span
        notes = [note for place in clash.places for note in _origins(arguments[place])]
        return self._fail(clash.message, span, self.vocabulary.atoms[call.name].usage, notes)

    # ---- operators ---------------------------------------------------------------------------------------------------

    def _binary(self, node: syntax.Binary, environment: Environment) -> Typed:
        left, right = self._try(node.left, environment), self._try(node.right, environment)
        if left is None or right is None:
            raise Unknown
        match node.operator:
            case "+" | "-":
                return self._added(node, left, right)
            case "*":
                return self._multiplied(node, left, right)
            case "/":
                return self._divided(node, left, right)
            case "^" | ".^":
                return self._raised(node, left, right)
            case ".+":
                return self._spread(node, left, right)
            case _:
                return self._entrywise(node, left, right)

    def _added(self, node: syntax.Binary, left: Typed, right: Typed) -> Typed:
        if left.shape == right.shape:
            return left
        if IDENTITY in (left.shape, right.shape):
            other = right if left.shape == IDENTITY else left
            if other.shape.is_scalar:
                raise self._mixed(node)
            if other.shape.rows != other.shape.cols:
                message = f"I is square and cannot be added to {other.shape}"
                raise self._fail(message, node.span, "", _origins(other))
            return other
        if left.shape.is_scalar or right.shape.is_scalar:
            raise self._mixed(node)
        word = "add" if node.operator == "+" else "subtract"
        raise self._mismatch(
            f"cannot {word} {_operands(node, left, right)}", node, left, right, "both must have one shape"
        )

    def _spread(self, node: syntax.Binary, left: Typed, right: Typed) -> Typed:
        """A column added to every column."""
        if left.shape.is_scalar or left.shape == IDENTITY or right.shape != Shape(left.shape.rows, ONE):
            hint = '".+" adds a column (rows x 1) to every column of a matrix'
            raise self._mismatch(f'".+" between {_operands(node, left, right)}', node, left, right, hint)
        return left

    def _mixed(self, node: syntax.Binary) -> Unknown:
        hint = 'write "s * I + M" to add a number to the diagonal; "total(M)" or "norm2(M)" make a number of a matrix'
        return self._fail(f'"{node.operator}" between a number and a matrix', node.span, hint)

    def _multiplied(self, node: syntax.Binary, left: Typed, right: Typed) -> Typed:
        if left.shape.is_scalar:
            return right
        if right.shape.is_scalar or right.shape == IDENTITY:
            return left
        if left.shape == IDENTITY:
            return right
        if left.shape.cols != right.shape.rows:
            message = f"cannot multiply {_operands(node, left, right)}: {left.shape.cols} is not {right.shape.rows}"
            raise self._mismatch(message, node, left, right, _transposed(node, left.shape, right.shape))
        return Typed(Shape(left.shape.rows, right.shape.cols), left.rows, right.cols)

    def _divided(self, node: syntax.Binary, left: Typed, right: Typed) -> Typed:
        if not right.shape.is_scalar:
            hint = 'entry by entry is written "./"; an inverse cannot be written, it appears by differentiation'
            raise self._fail(f"cannot divide by a matrix ({right.shape})", node.right.span, hint, _origins(right))
        return left

    def _raised(self, node: syntax.Binary, left: Typed, right: Typed) -> Typed:
        if not right.shape.is_scalar:
            raise self._fail(
                f"an exponent is a number, and this is {right.shape}", node.right.span, "", _origins(right)
            )
        if node.operator == "^" and not left.shape.is_scalar:
            hint = 'write ".^" for powers entry by entry, or a product'
            raise self._fail(f"cannot raise a matrix ({left.shape}) to a power", node.left.span, hint, _origins(left))
        return left

    def _entrywise(self, node: syntax.Binary, left: Typed, right: Typed) -> Typed:
        if left.shape == right.shape and left.shape != IDENTITY:
            return left
        hint = f'"{node.operator}" works entry by entry, on two matrices of one shape'
        if left.shape.is_scalar or right.shape.is_scalar:
            hint += f'; with a number write "{node.operator[1:]}"'
        message = f'"{node.operator}" between {_operands(node, left, right)}'
        raise self._mismatch(message, node, left, right, hint)

    def _mismatch(self, message: str, node: syntax.Binary, left: Typed, right: Typed, hint: str) -> Unknown:
        notes = [*_origins(left), *_origins(right)]
        return self._fail(message, node.span, hint, dict.fromkeys(notes))


def _operands(node: syntax.Binary, left: Typed, right: Typed) -> str:
    return f"{_described(node.left, left.shape)} and {_described(node.right, right.shape)}"


def _described(expression: syntax.Expression, shape: Shape) -> str:
    text = " ".join(expression.span.text.split())
    if shape == IDENTITY:
        return "I"
    what = "a number" if shape.is_scalar else str(shape)
    return f"{text} ({what})" if len(text) <= 30 else f"{text[:27]}... ({what})"


def _origins(typed: Typed) -> list[tuple[Span, str]]:
    """Where the axes come from, one note per declaration."""
    rows, cols = typed.shape.rows, typed.shape.cols
    if typed.rows and typed.rows == typed.cols:
        return [(typed.rows, f"{rows} x {cols} comes from here" if rows != cols else f"{rows} comes from here")]
    return [(s, f"{axis} comes from here") for s, axis in ((typed.rows, rows), (typed.cols, cols)) if s]


def _transposed(node: syntax.Binary, left: Shape, right: Shape) -> str:
    """The transpose that would make a product fit."""
    first, second = node.left.span.text, node.right.span.text
    if left.rows == right.rows:
        return f"the transpose fits: {first}' * {second}" if len(first) + len(second) < 50 else "transpose the left one"
    if left.cols == right.cols:
        return (
            f"the transpose fits: {first} * {second}'" if len(first) + len(second) < 50 else "transpose the right one"
        )
    return "the columns of the left must be the rows of the right"
