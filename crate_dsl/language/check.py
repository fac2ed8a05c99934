"""Spec -> Model: every name resolved, every size a number, every mistake of the file reported in one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from crate_dsl.errors import CrateError, Span
from crate_dsl.language import syntax
from crate_dsl.language.blocks import File, check_blocks
from crate_dsl.language.class_attention import check_class_attention
from crate_dsl.language.declared import Declared, declare_matrices, warn_unused
from crate_dsl.language.depth import check_depth
from crate_dsl.language.energies import Surroundings, declare_energies, uses
from crate_dsl.language.front import Front, check_front
from crate_dsl.language.include import resolved, sources, used_energies, with_included
from crate_dsl.language.learned import Learned, declare_learned
from crate_dsl.language.losses import check_loss
from crate_dsl.language.model import Block, ClassAttention, Model, NormStage, Shape
from crate_dsl.language.presets import learned_names, scope_of
from crate_dsl.language.report import Report, TooMany, names_in, within
from crate_dsl.language.roles import Tokens
from crate_dsl.language.sizes import Given, Scope
from crate_dsl.language.vocabulary import Vocabulary
from crate_dsl.language.words import word_of


def check(
    spec: syntax.Spec, vocabulary: Vocabulary, preset: str | None = None, overrides: Mapping[str, Given] | None = None
) -> Model:
    """The network that a spec states.

    Raises:
        CrateError: with every mistake found, in the order of the file, those of the command line first.
    """
    spec = with_included(spec, vocabulary.energies)
    report = Report(spec.source)
    try:
        return _checked(spec, vocabulary, preset, overrides or {}, report)
    except TooMany:
        raise CrateError(*report.sorted_errors()) from None


def _checked(
    spec: syntax.Spec, vocabulary: Vocabulary, preset: str | None, overrides: Mapping[str, Given], report: Report
) -> Model:
    scope, numbers = scope_of(spec, preset, overrides, report)
    front = check_front(spec, scope, vocabulary, report)
    scope = _with_tokens(scope, front, spec)
    taken = {declared.name: declared.span for declared in scope.declared}
    groups = spec.all(syntax.Learns)
    learned = declare_learned(groups, taken, scope, report)
    taken |= {name: scalar.span for name, scalar in learned.items()}
    tokens = _tokens(spec, scope)
    named = {**taken, **({tokens.name: tokens.span} if tokens else {})}
    declared = declare_matrices(groups, named, scope, vocabulary, report, top=True)
    energies = declare_energies(spec, _surroundings(spec, scope, learned, taken, declared), vocabulary, report)
    file = File(scope, vocabulary, report, energies, tokens, learned, taken, declared)
    blocks = check_blocks(spec, file)
    if all(blocks.values()):
        warn_unused(declared, report)
    sound = [block for block in blocks.values() if block]
    loss = check_loss(spec, front.head, sound, file)
    attention = check_class_attention(spec, front, loss, scope, vocabulary, report)
    stages = _stages(spec, blocks, attention, file)
    depth = check_depth(spec, sound, scope, vocabulary, report)
    _warn_unused(spec, scope, report)
    warnings = report.finish()
    scalars = tuple(replace(one, shared=True) for scalar in learned.values() for one in scalar.finished())
    return Model(
        spec.source, spec.name, spec.description, preset, numbers, scope.sizes, scope.reals, front.input, front.tokens,
        front.mask, stages, front.head, front.inits, scalars, warnings, resolved(spec), sources(spec), loss, depth,
    )  # fmt: skip


def _with_tokens(scope: Scope, front: Front, spec: syntax.Spec) -> Scope:
    """The number of tokens joins the sizes once it is known."""
    if scope.tokens_axis is None:
        return scope
    if front.tokens is None:
        return replace(scope, broken=scope.broken | {scope.tokens_axis})
    return replace(scope, values={**scope.values, scope.tokens_axis: Fraction(front.tokens.count)})


def _tokens(spec: syntax.Spec, scope: Scope) -> Tokens | None:
    """The tokens as steps see them, also where something else is wrong with their line."""
    line = next(iter(spec.all(syntax.TokensLine)), None)
    if line is None or not (
        isinstance(line.dimensions.rows, syntax.Name) and isinstance(line.dimensions.cols, syntax.Name)
    ):
        return None
    if line.dimensions.family is not None or line.dimensions.cols.name != scope.tokens_axis:
        return None
    shape = Shape(line.dimensions.rows.name, line.dimensions.cols.name)
    return Tokens(line.name, shape, within(line.span, line.name).to(line.dimensions.span))


def _surroundings(
    spec: syntax.Spec,
    scope: Scope,
    learned: dict[str, Learned],
    taken: dict[str, Span],
    declared: dict[str, Declared],
) -> Surroundings:
    """What energies may name: sizes, the number of tokens, reals, and scalars learned at the top."""
    scalars = dict(taken)
    if scope.tokens_axis:
        scalars[scope.tokens_axis] = spec.all(syntax.TokensLine)[0].dimensions.cols.span
    names = {energy.name for energy in (*spec.all(syntax.EnergyDeclaration), *spec.included)}
    refused = {name: "an energy is not part of another; write its terms out" for name in names}
    refused |= {name: "it is a real, not a size" for name in scope.names("real")}
    for name in set(learned_names(spec)) - set(learned):
        refused[name] = f'it is learned in a block: pass it as an argument, "{name}: real"'
    refused |= {name: f'pass it as an argument, "{name}: {matrix.shape}"' for name, matrix in declared.items()}
    for name, scalar in learned.items():
        if scalar.per_head or scalar.per_iteration:
            scalars.pop(name)
            what = "head" if scalar.per_head else "iteration"
            refused[name] = f'it is learned per {what}: pass it as an argument, "{name}: real"'
    return Surroundings(scope.axes, scalars, refused, any_axis=scope.tokens_axis is None)


def _stages(
    spec: syntax.Spec, blocks: Mapping[int, Block | None], attention: ClassAttention | None, file: File
) -> tuple[Block | NormStage | ClassAttention, ...]:
    """Blocks, norms and class attention in the order of the file."""
    stages: list[Block | NormStage | ClassAttention] = []
    names: set[str] = set()
    before = "tokens"
    for place, item in enumerate(spec.items):
        if isinstance(item, syntax.BlockDeclaration | syntax.InverseDeclaration):
            before = item.role
            if blocks[place] is not None:
                stages.append(blocks[place])
        elif isinstance(item, syntax.ClassLine) and attention:
            stages.append(attention)
        elif isinstance(item, syntax.NormLine):
            word = word_of("norm", item.word, file.vocabulary.norms, file.scope, file.report)
            name, number = f"{before}_norm", 2
            while name in names:
                name, number = f"{before}_norm_{number}", number + 1
            names.add(name)
            if word:
                stages.append(NormStage(name, word, item.span))
    return tuple(stages)


def _warn_unused(spec: syntax.Spec, scope: Scope, report: Report) -> None:
    """Definitions that nothing refers to: allowed, but often a misspelt name elsewhere."""
    used = {name for item in (*spec.items, *used_energies(spec)) for name in names_in(item)}
    for declared in scope.declared:
        if declared.name not in used:
            report.warn(f'{declared.kind} "{declared.name}" is not used', declared.span)
    for name, learn in learned_names(spec).items():
        if name not in used:
            report.warn(f'learned scalar "{name}" is not used', within(learn.span, name))
    named = uses(spec)
    for energy in spec.all(syntax.EnergyDeclaration):
        if energy.name not in named:
            report.warn(f'energy "{energy.name}" is not used', within(energy.span, energy.name))
