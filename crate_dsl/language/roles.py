"""Who is who in a step: which arguments of the energy the tokens, the unknown, parameters and scalars stand for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from crate_dsl.errors import Span, known
from crate_dsl.language import syntax
from crate_dsl.language.declared import Declared
from crate_dsl.language.learned import Learned
from crate_dsl.language.model import TAKEN, Argument, Energy, Let, Shape
from crate_dsl.language.report import Report, counted, within
from crate_dsl.language.shapes import Environment
from crate_dsl.language.sizes import Scope
from crate_dsl.language.vocabulary import Vocabulary

MOVES = {"compress", "descend", "ascend", "prox"}  # verbs of the tokens themselves, without an unknown


@dataclass(frozen=True)
class Tokens:
    """The tokens as the steps see them."""

    name: str
    shape: Shape
    span: Span


@dataclass(frozen=True)
class Weight:
    """A learned matrix, found where a step first names it."""

    name: str
    shape: Shape
    span: Span


@dataclass
class Block:
    """A block while it is being checked; parameters are found on the way."""

    role: str
    scope: Scope
    vocabulary: Vocabulary
    report: Report
    energies: dict[str, Energy | None]
    tokens: Tokens | None
    learned: dict[str, Learned]  # of the block and of the top
    scalars: Environment  # everything that is a number here
    weights: dict[str, Weight] = field(default_factory=dict)
    unknowns: dict[str, Span] = field(default_factory=dict)
    declared: dict[str, Declared] = field(default_factory=dict)  # learned matrices of the block and of the top
    lets: dict[str, Let | None] = field(default_factory=dict)  # of the step being checked; None: complained about


@dataclass(frozen=True)
class Roles:
    """What stands for each argument, and the step's unknown with the shape that the energy declares for it."""

    energy: Energy
    actuals: dict[str, str]
    unknown: Argument | None

    @property
    def variable(self) -> Argument:
        return self.energy.variables[0]


def signature(energy: Energy) -> str:
    """`lasso(A: d x N | X: d x N, D: d x d)`, as the energy declares it."""

    def listed(arguments: tuple[Argument, ...]) -> str:
        return ", ".join(f"{a.name}: {'real' if a.shape.is_scalar else a.shape}" for a in arguments)

    bar = f"{' | ' if barred(energy) else ', '}{listed(energy.given)}" if energy.given else ""
    return f"{energy.name}({listed(energy.variables)}{bar})"


def find_energy(statement: syntax.StepStatement, block: Block) -> Energy | None:
    name = statement.use.name
    if name not in block.energies:
        block.report.error(
            f'unknown energy "{name}"', within(statement.use.span, name), known("energies", name, block.energies)
        )
    return block.energies.get(name)


def roles_of(statement: syntax.StepStatement, energy: Energy, tokens: Tokens, block: Block) -> Roles | None:
    """Match a step's names to the energy's arguments, None after complaining."""
    before = len(block.report.errors)
    pairs = _pairs(statement.use, energy, block.report)
    if pairs is None:
        return None
    if len(energy.variables) > 1:
        message = f'"{energy.name}" has {len(energy.variables)} variables'
        note = (energy.span, "it is declared here")
        block.report.error(message, statement.use.span, "a step optimises one", [note])
    fresh: dict[str, tuple[Argument, syntax.Name]] = {}
    for argument, name in pairs:
        if _resolve(argument, name, energy, tokens, block) and name.name not in fresh:
            fresh[name.name] = (argument, name)
    unknown = _one_unknown(fresh, statement.verb, energy, tokens, block)
    if len(block.report.errors) == before:
        _reads_tokens(pairs, statement, energy, tokens, block)
    if len(block.report.errors) > before:
        return None
    return Roles(energy, {argument.name: name.name for argument, name in pairs}, unknown)


def _pairs(use: syntax.EnergyUse, energy: Energy, report: Report) -> list[tuple[Argument, syntax.Name]] | None:
    names = use.variables + use.given
    note = [(energy.span, "the energy is declared here")]
    if len(names) != len(energy.arguments):
        message = f'"{energy.name}" takes {counted(len(energy.arguments), "argument")}, and this gives {len(names)}'
        report.error(message, use.span, f"declared as {signature(energy)}", note)
        return None
    if len(use.variables if use.bar else energy.variables) != len(energy.variables) or (not use.bar and barred(energy)):
        shape = f"{energy.name}({', '.join(n.name for n in names[: len(energy.variables)])} | "
        shape += f"{', '.join(n.name for n in names[len(energy.variables) :])})"
        report.error(f'the bar does not stand where "{energy.name}" has it', use.span, f"write {shape}", note)
        return None
    return list(zip(energy.arguments, names, strict=True))


def barred(energy: Energy) -> bool:
    """Whether the declaration separates the variable by a bar."""
    span = energy.span
    return "|" in span.source.text[span.end : energy.body.span.start]


def _resolve(argument: Argument, name: syntax.Name, energy: Energy, tokens: Tokens, block: Block) -> bool:
    """Check one name against its argument; true where it is a fresh name that runs over the tokens."""
    note = [(argument.span, f'"{energy.name}" declares it here')]
    if name.name in block.lets:
        _resolve_let(argument, name, energy, block)
        return False
    if argument.shape.is_scalar:
        _resolve_scalar(argument, name, energy, tokens, block)
        return False
    if name.name in block.scalars.shapes:
        message = f'"{name.name}" is a number, and "{energy.name}" expects {argument.name}: {argument.shape}'
        origin = block.scalars.origins.get(name.name)
        block.report.error(message, name.span, "choose another name for the matrix",
                           note + ([(origin, f"{name.name} is declared here")] if origin else []))  # fmt: skip
        return False
    if name.name == tokens.name:
        if argument.shape != tokens.shape:
            message = f'"{name.name}" is {tokens.shape}, and "{energy.name}" expects {argument.name}: {argument.shape}'
            block.report.error(
                message, name.span, "axes agree by name", [*note, (tokens.span, "the tokens come from here")]
            )
        return False
    if name.name in block.declared:
        add_declared(name.name, block)
    elif tokens.shape.cols in (argument.shape.rows, argument.shape.cols):
        return True
    add_weight(Weight(name.name, argument.shape, name.span), block)
    return False


def _resolve_let(argument: Argument, name: syntax.Name, energy: Energy, block: Block) -> None:
    """A let in the place of an argument has its shape; a family of numbers stands for one number per head."""
    let = block.lets[name.name]
    if let is None:
        return
    wanted, found = argument.shape, let.shape
    notes = [(argument.span, f'"{energy.name}" declares it here'), (let.span, "it is computed here")]
    if (replace(found, family=None) if wanted.is_scalar else found) != wanted:
        what = "a number" if wanted.is_scalar else str(wanted)
        block.report.error(f'"{name.name}" is {found}, and {what} should stand here', name.span, "", notes)
    elif wanted.is_scalar and found.family:
        for place in outside(energy.body, argument.name, found.family):
            message = f'"{name.name}" is a number per member of {found.family}, and stands outside a sum over it'
            block.report.error(message, name.span, "", [(place, "here"), *notes])


def _resolve_scalar(argument: Argument, name: syntax.Name, energy: Energy, tokens: Tokens, block: Block) -> None:
    note = [(argument.span, f'"{energy.name}" declares "{argument.name}" as a number here')]
    if name.name == tokens.name:
        block.report.error(f'"{name.name}" is a matrix, and a number should stand here', name.span, "", note)
    elif name.name not in block.scalars.shapes:
        new = f'A new one: "real {name.name} = 1" or "learn {name.name} = 1"'
        hint = f"{known('numbers', name.name, block.scalars.shapes)} {new}"
        block.report.error(f'the number "{name.name}" is not declared', name.span, hint, note)
    elif name.name in block.learned and block.learned[name.name].per_head:
        families = {a.shape.family for a in energy.arguments if a.shape.family}
        family = families.pop() if len(families) == 1 else None
        block.learned[name.name].belongs_to(family, name.span, block.report)
        for place in outside(energy.body, argument.name, family) if family else ():
            message = f'"{name.name}" is learned per head, but "{argument.name}" stands outside a sum over {family}'
            block.report.error(message, name.span, "", [(place, "here")])


def outside(node: object, name: str, family: str | None) -> Iterator[Span]:
    """The places where a name stands outside a sum over the family."""
    match node:
        case syntax.Name() if node.name == name:
            yield node.span
        case syntax.FamilySum() | syntax.FamilySoftmax() if node.family != family:
            yield from outside(node.body, name, family)
        case syntax.Binary():
            yield from outside(node.left, name, family)
            yield from outside(node.right, name, family)
        case syntax.Negate() | syntax.Transpose():
            yield from outside(node.operand, name, family)
        case syntax.Call():
            for argument in node.arguments:
                yield from outside(argument, name, family)


def add_declared(name: str, block: Block) -> None:
    """Note that a step uses a declared learned matrix."""
    declared = block.declared[name]
    declared.used = True
    add_weight(Weight(name, declared.shape, declared.span), block)


def add_weight(weight: Weight, block: Block) -> None:
    """Note a learned matrix; one name has one shape in a block."""
    first = block.weights.setdefault(weight.name, weight)
    if first.shape != weight.shape:
        message = f'"{weight.name}" would be {weight.shape} here and {first.shape} elsewhere in this block'
        hint = "one name is one parameter; take two names for two matrices"
        block.report.error(message, weight.span, hint, [(first.span, f"here it is {first.shape}")])
    elif weight.name in block.unknowns:
        note = (block.unknowns[weight.name], "here it is the unknown")
        block.report.error(f'"{weight.name}" is the unknown of another step', weight.span, "take another name", [note])
    elif weight.name in TAKEN:
        block.report.error(f'a parameter cannot be called "{weight.name}"', weight.span, TAKEN[weight.name])


def _one_unknown(
    fresh: dict[str, tuple[Argument, syntax.Name]], verb: str, energy: Energy, tokens: Tokens, block: Block
) -> Argument | None:
    """The fresh name that runs over the tokens; there is at most one, since learned matrices never do."""
    near = {name: get_close_matches(name.lower(), [tokens.name.lower()], n=1, cutoff=0.5) for name in fresh}
    if len(fresh) > 1 or (fresh and verb in MOVES):
        wrong = [name for name in fresh if near[name]] or list(fresh)[1 if len(fresh) > 1 else 0 :]
        for name in wrong:
            argument, place = fresh[name]
            hint = (
                f'a matrix with an axis {tokens.shape.cols} is the tokens "{tokens.name}" or the unknown of the step.'
            )
            hint += f' Did you mean "{tokens.name}"?' if near[name] else ""
            if verb in MOVES:
                hint = hint.replace("or the unknown of the step.", f"here: {verb} has no unknown.")
            if verb in MOVES and argument in energy.variables:
                hint = f'{verb} moves the tokens themselves: write "{tokens.name}"; "sparsify" seeks an unknown'
            block.report.error(
                f'"{name}" is not declared', place.span, hint, [(argument.span, f"it stands for {argument.name}")]
            )
        return None
    for argument, name in fresh.values():
        if name.name in block.weights:
            note = (block.weights[name.name].span, "here it is a parameter")
            block.report.error(
                f'"{name.name}" is a parameter of this block', name.span, "the unknown needs another name", [note]
            )
        block.unknowns.setdefault(name.name, name.span)
        return Argument(name.name, argument.shape, name.span)
    return None


def _reads_tokens(
    pairs: list[tuple[Argument, syntax.Name]],
    statement: syntax.StepStatement,
    energy: Energy,
    tokens: Tokens,
    block: Block,
) -> None:
    places = [(argument, name) for argument, name in pairs if name.name == tokens.name]
    if not places:
        hint = f"one of its arguments must be {tokens.name}: {signature(energy)}"
        block.report.error(f'this step does not read the tokens "{tokens.name}"', statement.use.span, hint)
    elif len(places) > 1:
        hint = "a step differentiates in one place and holds the rest; give the other a name of its own"
        block.report.error(
            f'"{tokens.name}" stands twice', places[1][1].span, hint, [(places[0][1].span, "the first is here")]
        )
