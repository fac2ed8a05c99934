"""Encoder and decoder: the steps of a layer with labels, their parameters, and blocks derived as an inverse."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from math import prod

from crate_dsl.errors import CrateError, Span, known
from crate_dsl.language import model, syntax
from crate_dsl.language.declared import Declared, declare_matrices, warn_unused
from crate_dsl.language.learned import Learned, declare_learned
from crate_dsl.language.model import SCALAR, Energy, Parameter, Word
from crate_dsl.language.presets import changed
from crate_dsl.language.report import Report, within
from crate_dsl.language.roles import Block, Tokens
from crate_dsl.language.shapes import Environment
from crate_dsl.language.sizes import MAX_REPEAT, Broken, Scope, whole_number
from crate_dsl.language.steps import check_step
from crate_dsl.language.vocabulary import Vocabulary
from crate_dsl.language.words import word_of

MAX_STEPS = 64
MAX_PARAMETERS = 10**11


@dataclass(frozen=True)
class File:
    """What all blocks of a file share."""

    scope: Scope
    vocabulary: Vocabulary
    report: Report
    energies: dict[str, Energy | None]
    tokens: Tokens | None
    learned: dict[str, Learned]
    taken: dict[str, Span]  # every declared number, with its place
    declared: dict[str, Declared]  # learned matrices declared at the top


def check_blocks(spec: syntax.Spec, file: File) -> dict[int, model.Block | None]:
    """The checked blocks by their place among the items of the file; an inverse is built from the encoder's steps."""
    written = {n: i for n, i in enumerate(spec.items) if isinstance(i, syntax.BlockDeclaration)}
    inverses = {n: i for n, i in enumerate(spec.items) if isinstance(i, syntax.InverseDeclaration)}
    declared = {**written, **inverses}
    _roles_once([declared[n] for n in sorted(declared)], file.report)
    if not declared:
        file.report.error("there is no block", spec.source.end, "add one: encoder repeat L { compress Z by ... }")
    blocks = {place: _block(item, file) for place, item in written.items()}
    encoder = next(((item, blocks[place]) for place, item in written.items() if item.role == "encoder"), None)
    for place, item in inverses.items():
        blocks[place] = _inverse(item, encoder, file)
    return blocks


def _roles_once(items: list[syntax.BlockDeclaration | syntax.InverseDeclaration], report: Report) -> None:
    seen: dict[str, Span] = {}
    for item in items:
        place = within(item.span, item.role)
        if item.role in seen:
            hint = "a network has one encoder and one decoder; several steps may stand in one block"
            report.error(f"a second {item.role}", place, hint, [(seen[item.role], "the first is here")])
        seen.setdefault(item.role, place)


def numbers(file_scope: Scope, learned: dict[str, Learned], taken: dict[str, Span]) -> Environment:
    """Everything that is a number: sizes, reals, learned scalars and the number of tokens."""
    axis = {file_scope.tokens_axis} if file_scope.tokens_axis else set()
    names = {d.name for d in file_scope.declared} | set(learned) | axis
    return Environment(dict.fromkeys(names, SCALAR), {**taken, **{n: s.span for n, s in learned.items()}})


def _block(item: syntax.BlockDeclaration, file: File) -> model.Block | None:
    before = len(file.report.errors)
    place = within(item.span, item.role)
    repeat = _repeat(item.repeat, file.scope, file.report)
    groups = item.all(syntax.Learns)
    own = declare_learned(groups, file.taken, file.scope, file.report)
    learned = {**file.learned, **own}
    taken = {**file.taken, **{name: scalar.span for name, scalar in own.items()},
             **{name: matrix.span for name, matrix in file.declared.items()},
             **({file.tokens.name: file.tokens.span} if file.tokens else {})}  # fmt: skip
    matrices = declare_matrices(groups, taken, file.scope, file.vocabulary, file.report, top=False)
    block = Block(item.role, file.scope, file.vocabulary, file.report, file.energies, file.tokens, learned,
                  numbers(file.scope, learned, file.taken), declared={**file.declared, **matrices})  # fmt: skip
    statements = item.all(syntax.StepStatement)
    if len(statements) > MAX_STEPS:
        file.report.error(
            f"the {item.role} has {len(statements)} steps", place, f"at most {MAX_STEPS} are allowed; repeat them"
        )
        return None
    if not statements:
        file.report.error(f"the {item.role} has no step", place, "add one: compress Z by rate(Z, U)")
    labels = _labels(statements)
    steps = [check_step(statement, block, label) for statement, label in zip(statements, labels, strict=True)]
    parameters = _parameters(item, block, own, all(steps))
    if all(steps):
        warn_unused(matrices, file.report)
    if len(file.report.errors) > before or repeat is None:
        return None
    scalars = tuple(one for scalar in own.values() for one in scalar.finished())
    checked = model.Block(item.role, repeat, file.scope.sizes, parameters, scalars, tuple(steps), None, place)
    return checked if _sensible(checked, file.report) else None


def _repeat(expression: syntax.Expression, scope: Scope, report: Report) -> int | None:
    try:
        return whole_number(expression, scope, "the number of layers", MAX_REPEAT)
    except CrateError as error:
        report.absorb(*error.diagnostics)
    except Broken:
        pass
    return None


def _labels(statements: list[syntax.StepStatement]) -> list[str]:
    """The verb where it is unique, else with the energy's name, else numbered."""
    verbs = Counter(statement.verb for statement in statements)
    labels: list[str] = []
    for statement in statements:
        base = statement.verb if verbs[statement.verb] == 1 else f"{statement.verb}_{statement.use.name}"
        label, number = base, 2
        while label in labels:
            label, number = f"{base}_{number}", number + 1
        labels.append(label)
    return labels


# ---- parameters ------------------------------------------------------------------------------------------------------


def _parameters(
    item: syntax.BlockDeclaration, block: Block, own: dict[str, Learned], complete: bool
) -> tuple[Parameter, ...]:
    """The learned matrices in the order of the text, with `init` and `shared` applied."""
    shared = _shared(item, block, own, complete)
    inits: dict[str, Word] = {}
    for line in item.body:
        if isinstance(line, syntax.InitLine):
            _init(line, set(block.weights), "this block", inits, block, complete)
        if isinstance(line, syntax.StepStatement):
            for option in (option for option in line.options if isinstance(option, syntax.InitLine)):
                reads = {o.name for o in line.options if isinstance(o, syntax.ReadOption)}
                names = {name.name for name in line.use.variables + line.use.given} | reads
                _init(option, names & set(block.weights), "this step", inits, block, complete)
    tops = {name for name, declared in block.declared.items() if declared.top}
    inits |= {name: declared.init for name, declared in block.declared.items() if declared.init}
    return tuple(
        Parameter(w.name, w.shape, inits.get(w.name), w.name in shared | tops, w.span, top=w.name in tops)
        for w in block.weights.values()
    )


def _shared(item: syntax.BlockDeclaration, block: Block, own: dict[str, Learned], complete: bool) -> set[str]:
    shared: set[str] = set()
    for name in (name for line in item.all(syntax.Shared) for name in line.names):
        if name.name in own:
            own[name.name].shared = True
        elif complete and name.name not in block.weights:
            hint = known("learned matrices and scalars", name.name, {*block.weights, *own})
            block.report.error(f'"{name.name}" is not learned in this block', name.span, hint)
        if name.name in shared:
            block.report.error(f'"{name.name}" is shared twice', name.span, "once is enough")
        shared.add(name.name)
    return shared


def _init(
    line: syntax.InitLine, names: set[str], where: str, inits: dict[str, Word], block: Block, complete: bool
) -> None:
    place = within(line.span, line.name)
    word = word_of("initial value", line.word, block.vocabulary.inits, block.scope, block.report)
    if line.name in block.learned:
        hint = f'the start value stands in its declaration: "learn {line.name} = ..."'
        block.report.error(f'"{line.name}" is a learned number', place, hint)
    elif line.name in block.declared:
        hint = f'how it starts stands in its declaration: "learn {line.name}: ... = {line.word.name}"'
        block.report.error(f'"{line.name}" is declared with its start', place, hint)
    elif line.name not in names:
        if complete:
            hint = known("learned matrices", line.name, names)
            block.report.error(f'"{line.name}" is not a learned matrix of {where}', place, hint)
    elif line.name in inits:
        block.report.error(
            f'"{line.name}" is initialised twice', place, "", [(inits[line.name].span, "the first is here")]
        )
    elif word:
        inits[line.name] = replace(word, span=line.span)


def _sensible(block: model.Block, report: Report) -> bool:
    """Refuse networks that no machine could hold: a slip of the pen in a size, or hostile input."""
    total = 0
    for parameter in block.parameters:
        axes = (parameter.shape.rows, parameter.shape.cols, parameter.shape.family or "1")
        lengths = [int(axis) if axis.isdigit() else block.sizes.get(axis, 1) for axis in axes]  # 1: reported as broken
        entries = prod(lengths) * block.repeat
        total += entries
        if total > MAX_PARAMETERS:
            message = f'"{parameter.name}" alone has {entries:,} entries in {block.repeat} layers'
            report.error(message, parameter.span, f"a block may have {MAX_PARAMETERS:,} parameters")
            return False
    return True


# ---- inverse ---------------------------------------------------------------------------------------------------------


def _inverse(item: syntax.InverseDeclaration, encoder: tuple | None, file: File) -> model.Block | None:
    """The block that is to be derived as an inverse: the encoder's steps, sizes of its own."""
    place, before = within(item.span, item.role), len(file.report.errors)
    if item.role != "decoder" or item.of != "encoder":
        file.report.error(
            "only a decoder is derived, and only from the encoder", place, "write: decoder = inverse(encoder)"
        )
        return None
    if encoder is None:
        hint = "write its steps in a block: encoder repeat L { ... }"
        file.report.error("there is no encoder to invert", within(item.span, item.of), hint)
        return None
    declaration, block = encoder
    _no_read_out(declaration, item, file.report)
    scope = _changed_scope(item, file)
    repeat = _repeat(item.repeat or declaration.repeat, scope, file.report)
    if block is None or repeat is None or len(file.report.errors) > before:
        return None
    inverse = replace(block, role=item.role, repeat=repeat, sizes=scope.sizes, inverse_of=item.of, span=place)
    return inverse if _sensible(inverse, file.report) else None


def _no_read_out(encoder: syntax.BlockDeclaration, item: syntax.InverseDeclaration, report: Report) -> None:
    for step in encoder.all(syntax.StepStatement):
        for option in (option for option in step.options if isinstance(option, syntax.ReadOption)):
            message = f"a {step.verb} with a decoupled read-out has no inverse"
            hint = "write the decoder's steps yourself, or read the code as it is"
            report.error(message, within(item.span, item.of), hint, [(option.span, "it reads out here")])


def _changed_scope(item: syntax.InverseDeclaration, file: File) -> Scope:
    """The sizes of the decoder; the tokens that pass through it keep theirs."""
    names, changes = file.scope.names("size"), []
    for binding in item.changes:
        place = within(binding.span, binding.name)
        if binding.name in file.scope.names("real") or binding.name in file.learned:
            file.report.error(f'"{binding.name}" is not a size', place, '"with" changes sizes of the decoder')
        elif binding.name not in names:
            file.report.error(f'unknown size "{binding.name}"', place, known("sizes", binding.name, names))
        elif any(binding.name == other.name for other in changes):
            file.report.error(f'"{binding.name}" is changed twice', place, "once is enough")
        else:
            changes.append(binding)
    if not changes:
        return file.scope
    scope = changed(file.scope, tuple(changes), file.report)
    axis = file.scope.tokens_axis
    if axis in file.scope.values:
        scope = replace(scope, values={**scope.values, axis: file.scope.values[axis]})
    _tokens_pass(item, scope, file)
    return scope


def _tokens_pass(item: syntax.InverseDeclaration, scope: Scope, file: File) -> None:
    if file.tokens is None:
        return
    rows = file.tokens.shape.rows
    old, new = file.scope.values.get(rows), scope.values.get(rows)
    if old is not None and new is not None and old != new:
        message = f"the decoder would have tokens of {rows} = {new}, and the encoder's have {old}"
        hint = f"the tokens pass from one to the other: leave {rows} as it is"
        file.report.error(
            message, within(item.span, item.changes[0].name), hint, [(file.tokens.span, "the tokens are declared here")]
        )
