"""The `loss` line: a data loss that fits the head, and weighted energies, each with the place where it is evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from crate_dsl.errors import Span, known
from crate_dsl.language import syntax
from crate_dsl.language.blocks import File, numbers
from crate_dsl.language.energies import calls
from crate_dsl.language.front import only
from crate_dsl.language.model import Argument, Block, Energy, Head, Loss, Penalty
from crate_dsl.language.report import counted, within
from crate_dsl.language.roles import outside, signature
from crate_dsl.language.shapes import Shapes


def check_loss(spec: syntax.Spec, head: Head | None, blocks: list[Block], file: File) -> Loss | None:
    """The checked loss, None where there is no such line or something is wrong with it.

    Of the blocks, those that are faulty are missing; nothing is then said of what may be in them.
    """
    line = only(spec, syntax.LossLine, "loss", file.report)
    if line is None:
        return None
    declared = spec.all(syntax.BlockDeclaration | syntax.InverseDeclaration)
    checker = _Checker(file, {block.role: block for block in blocks}, len(blocks) == len(declared))
    before = len(file.report.errors)
    data, penalties = [], []
    for term in line.terms:
        if _called(term.product):
            penalties.append(checker.penalty(term))
        else:
            data.append(checker.data_loss(term))
    fitting = _fitting(spec, head, file) if head else None
    if fitting is not None and len(file.report.errors) == before:
        _check_data(line, [term for term in data if term], fitting, file)
    if len(file.report.errors) > before or fitting is None:
        return None
    return Loss(data[0].name if data else "", tuple(penalties), line.span)


# ---- data losses -----------------------------------------------------------------------------------------------------


def _fitting(spec: syntax.Spec, head: Head, file: File) -> list[str]:
    """The data losses of a network with this head."""
    masked = bool(spec.all(syntax.MaskLine))
    losses = file.vocabulary.losses.values()
    return [loss.name for loss in losses if head.word.name in loss.heads and loss.masked == masked]


def _check_data(line: syntax.LossLine, data: list[syntax.Name], fitting: list[str], file: File) -> None:
    """One data loss, one of those that fit; none where the head has none."""
    for name in (name for name in data if name.name not in fitting):
        hint = f"this network is trained by: {', '.join(fitting) or 'nothing but energies'}"
        file.report.error(f'"{name.name}" does not fit the head', name.span, hint)
    for name in data[1:]:
        file.report.error("a second data loss", name.span, "one is enough", [(data[0].span, "the first is here")])
    if fitting and not data:
        hint = f"begin with it: loss {fitting[0]} + ..."
        file.report.error("the loss says nothing of the data", within(line.span, "loss"), hint)


# ---- energies --------------------------------------------------------------------------------------------------------


def _called(expression: syntax.Expression) -> list[syntax.Call]:
    return [call for call in calls(expression) if call.name != "sqrt"]


def _weight(expression: syntax.Expression, call: syntax.Call) -> syntax.Expression | None:
    """What the energy is multiplied by, None where it does not stand as a factor."""
    if expression is call:
        return syntax.Number(call.span, Fraction(1))
    match expression:
        case syntax.Negate():
            inner = _weight(expression.operand, call)
            return inner and replace(expression, operand=inner)
        case syntax.Binary(operator="*" | "/"):
            if call in _called(expression.left):
                inner = _weight(expression.left, call)
                return inner and replace(expression, left=inner)
            if expression.operator == "*":
                inner = _weight(expression.right, call)
                return inner and replace(expression, right=inner)
    return None


@dataclass(frozen=True)
class _Checker:
    """Checks the terms of a loss; `complete` says whether every declared block is known."""

    file: File
    blocks: Mapping[str, Block]
    complete: bool

    def data_loss(self, term: syntax.LossTerm) -> syntax.Name | None:
        """The name of a data loss, None after complaining."""
        losses, report = self.file.vocabulary.losses, self.file.report
        names = [name for name in _names(term.product) if name.name in losses]
        if not names:
            name = next(_names(term.product), None)
            hint = known("data losses", name.name if name else "", losses) + " An energy has arguments: rate(Z, U)"
            report.error("this is neither a data loss nor a weighted energy", term.product.span, hint)
            return None
        if term.product is not names[0] or term.negative:
            report.error(f'"{names[0].name}" has the weight 1', term.span, "weigh the energies against it instead")
        if term.block:
            report.error(f'"{names[0].name}" belongs to no block', term.span, f'leave "in {term.block}" out')
        return names[0]

    def penalty(self, term: syntax.LossTerm) -> Penalty | None:
        """A weighted energy, None after complaining."""
        report, (call, *more) = self.file.report, _called(term.product)
        before = len(report.errors)
        weight = None if more else _weight(term.product, call)
        if weight is None:
            hint = "several energies are added: 0.01 * rate(Z, U) + 0.1 * sparsity(Z)"
            report.error("a term is one energy, times a weight", term.product.span, hint)
            return None
        self._check_weight(weight)
        energy = self._energy(call)
        if energy is None:
            return None
        pairs = self._pairs(call, energy)
        actuals = {argument.name: name.name for argument, name in pairs}
        block = self._block(term, call, energy, pairs) if len(report.errors) == before else None
        if len(report.errors) > before:
            return None
        return Penalty(weight, term.negative, energy, actuals, block, term.span)

    def _check_weight(self, weight: syntax.Expression) -> None:
        """A number of sizes and reals; a learned one would run away."""
        file = self.file
        for name in (name for name in _names(weight) if name.name in self._learned()):
            hint = "training would drive it, and not the energy, to where the loss is small: take a real"
            file.report.error(f'the weight "{name.name}" is learned', name.span, hint)
            return
        shapes = Shapes(file.vocabulary)
        shape = shapes.of(weight, numbers(file.scope, {}, file.taken))
        file.report.absorb(*shapes.diagnostics)
        if shape is not None and not shape.is_scalar:
            file.report.error(f"a weight is a number, and this is {shape}", weight.span)

    def _learned(self) -> set[str]:
        scalars = {scalar.name for block in self.blocks.values() for scalar in block.scalars}
        return {*self.file.learned, *scalars}

    # ---- the energy and its arguments --------------------------------------------------------------------------------

    def _energy(self, call: syntax.Call) -> Energy | None:
        file, place = self.file, within(call.span, call.name)
        if call.name in file.vocabulary.atoms:
            hint = f"a loss adds energies: declare one, energy penalty({file.tokens.name if file.tokens else 'Z'}: ...)"
            file.report.error(f'"{call.name}" is a function of the library', place, f"{hint} = {call.name}(...)")
        elif call.name not in file.energies:
            file.report.error(f'unknown energy "{call.name}"', place, known("energies", call.name, file.energies))
        energy = file.energies.get(call.name)
        if energy:
            self._check_slope(energy, place)
        return energy

    def _check_slope(self, energy: Energy, place: Span) -> None:
        """Training follows slopes: what counts entries or is zero or infinite has none."""
        atoms = self.file.vocabulary.atoms
        for call in (call for call in calls(energy.body) if call.name in atoms and atoms[call.name].flat):
            message = f'"{call.name}" in "{energy.name}" gives training no gradient'
            hint = "l1(A) is its convex surrogate; a constraint belongs into a step, which has a proximal map for it"
            self.file.report.error(message, place, hint, [(call.span, "it stands here")])
            return

    def _pairs(self, call: syntax.Call, energy: Energy) -> list[tuple[Argument, syntax.Name]]:
        report, note = self.file.report, [(energy.span, "the energy is declared here")]
        if len(call.arguments) != len(energy.arguments):
            wanted = counted(len(energy.arguments), "argument")
            message = f'"{energy.name}" takes {wanted}, and this gives {len(call.arguments)}'
            report.error(message, call.span, f"declared as {signature(energy)}", note)
            return []
        for argument in call.arguments:
            if not (isinstance(argument, syntax.Name) and argument.index is None):
                hint = 'give a number a name at the top, "real beta = 0.1", and write the name here'
                report.error("an energy takes names", argument.span, hint, note)
                return []
        return list(zip(energy.arguments, call.arguments, strict=True))

    # ---- where it is evaluated ---------------------------------------------------------------------------------------

    def _block(
        self, term: syntax.LossTerm, call: syntax.Call, energy: Energy, pairs: list[tuple[Argument, syntax.Name]]
    ) -> str | None:
        """The block in whose layers the energy is evaluated, None for the tokens that the head reads."""
        learned = [name for argument, name in pairs if self._is_learned(argument, name)]
        own = {argument.name for argument in energy.arguments}
        learned += [name for name in _names(energy.body) if name.name in self.file.learned and name.name not in own]
        if term.block and term.block not in self.blocks:
            if self.complete:
                hint = f"the blocks here: {', '.join(self.blocks)}"
                self.file.report.error(f'there is no "{term.block}" for this energy', term.span, hint)
            return None
        holding = [role for role in self.blocks if not self._missing(role, learned)]
        if term.block:
            holding = [term.block]
        elif not learned:
            return None
        if not holding and self.complete:
            self._nowhere(learned)
        elif len(holding) > 1:
            where = " or ".join(f'"in {role}"' for role in holding)
            message = f'"{energy.name}" could be meant in {" and in ".join(holding)}'
            self.file.report.error(message, call.span, f"say where: {where} behind it")
        for role in holding[:1]:
            self._check_held(role, energy, pairs, learned)
        return holding[0] if holding else None

    def _is_learned(self, argument: Argument, name: syntax.Name) -> bool:
        """Also complains about names that stand for nothing."""
        file, tokens = self.file, self.file.tokens
        note = [(argument.span, f'"{argument.name}" is declared here')]
        fixed = numbers(file.scope, {}, file.taken).shapes
        if argument.shape.is_scalar:
            if name.name not in {*fixed, *self._learned()}:
                hint = known("numbers", name.name, {*fixed, *self._learned()})
                file.report.error(f'the number "{name.name}" is not declared', name.span, hint, note)
            return name.name in self._learned()
        if tokens is None:
            return False
        if name.name == tokens.name or tokens.shape.cols in (argument.shape.rows, argument.shape.cols):
            self._check_tokens(argument, name, note)
            return False
        return True

    def _check_tokens(self, argument: Argument, name: syntax.Name, note: list[tuple[Span, str]]) -> None:
        tokens, report = self.file.tokens, self.file.report
        if name.name != tokens.name:
            hint = f'of the matrices with an axis {tokens.shape.cols}, a loss knows the tokens "{tokens.name}" alone'
            report.error(f'"{name.name}" is not declared', name.span, hint, note)
        elif argument.shape != tokens.shape:
            message = f'"{name.name}" is {tokens.shape}, and {argument.name}: {argument.shape} is expected'
            report.error(message, name.span, "axes agree by name", [*note, (tokens.span, "the tokens come from here")])

    def _missing(self, role: str, learned: list[syntax.Name]) -> list[syntax.Name]:
        block = self.blocks[role]
        held = {*self.file.learned, *(p.name for p in block.parameters), *(s.name for s in block.scalars)}
        return [name for name in learned if name.name not in held]

    def _nowhere(self, learned: list[syntax.Name]) -> None:
        """No block holds all learned names of an energy."""
        for name in learned:
            if all(self._missing(role, [name]) for role in self.blocks):
                names = {p.name for block in self.blocks.values() for p in block.parameters}
                hint = f"{known('learned matrices', name.name, names)} A loss has none of its own"
                self.file.report.error(f'no step learns "{name.name}"', name.span, hint)
                return
        blocks = " and ".join(f"the {role}" for role in self.blocks)
        names = ", ".join(name.name for name in learned)
        self.file.report.error(f"{names} belong to different blocks", learned[0].span, f"the blocks are {blocks}")

    def _check_held(
        self, role: str, energy: Energy, pairs: list[tuple[Argument, syntax.Name]], learned: list[syntax.Name]
    ) -> None:
        """The shapes of the block's matrices, and scalars per head inside a sum over their heads."""
        report, block = self.file.report, self.blocks[role]
        parameters = {parameter.name: parameter for parameter in block.parameters}
        families = {scalar.name: scalar.family for scalar in (*self.file.learned.values(), *block.scalars)}
        for name in self._missing(role, learned):
            hint = known("learned matrices", name.name, parameters)
            report.error(f'the {role} does not learn "{name.name}"', name.span, hint)
        for argument, name in pairs:
            held = parameters.get(name.name)
            if held and not argument.shape.is_scalar and held.shape != argument.shape:
                message = (
                    f'"{name.name}" is {held.shape}, and "{energy.name}" expects {argument.name}: {argument.shape}'
                )
                report.error(message, name.span, "axes agree by name", [(held.span, "it is learned here")])
            family = families.get(name.name)
            for place in outside(energy.body, argument.name, family) if family and argument.shape.is_scalar else ():
                message = f'"{name.name}" is learned per head, but "{argument.name}" stands outside a sum over {family}'
                report.error(message, name.span, "", [(place, "here")])


def _names(expression: syntax.Expression) -> Iterator[syntax.Name]:
    """The names in an expression, with their places."""
    return (node for node in syntax.walk(expression) if isinstance(node, syntax.Name))
