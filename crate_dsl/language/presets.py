"""Presets and `--set`: which values replace those that the file declares."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from fractions import Fraction

from crate_dsl.errors import CrateError, Source, Span, known
from crate_dsl.language import syntax
from crate_dsl.language.report import Report, TooMany, within
from crate_dsl.language.sizes import Broken, Given, Scope, declare, evaluate, given_number, setting, settle
from crate_dsl.language.vectors import reads_vectors

Replaced = dict[str, tuple[syntax.Expression | Fraction, Span]]


def learned_names(spec: syntax.Spec) -> dict[str, syntax.Learn]:
    """All learned scalars of a file, at the top and in blocks: their start values can be replaced too."""
    groups = spec.all(syntax.Learns)
    for block in spec.all(syntax.BlockDeclaration):
        groups += block.all(syntax.Learns)
    return {learn.name: learn for group in groups for learn in group.learns}


def scope_of(
    spec: syntax.Spec, preset: str | None, overrides: Mapping[str, Given], report: Report
) -> tuple[Scope, dict[str, Fraction]]:
    """The values in force, and the overrides as exact numbers.

    The command line wins over the preset, the preset over the file.
    """
    declared = declare(spec, report)
    names = {d.name for d in declared} | set(learned_names(spec))
    tokens = next(iter(spec.all(syntax.TokensLine)), None)
    cols = tokens.dimensions.cols if tokens else None
    free = isinstance(cols, syntax.Name) and (cols.name not in names or reads_vectors(spec))
    axis = cols.name if free else None  # vectors may be as many as a declared size says
    presets = _presets(spec, names, report)
    chosen = _chosen(preset, presets, report)
    numbers, replaced = _overridden(overrides, names, axis, report)
    base = Scope(declared, {**chosen, **replaced}, tokens_axis=axis)
    before = len(report.errors)
    scope = settle(base, report)
    if len(report.errors) == before:
        _try_presets(presets, base, report)
    return scope, numbers


def _presets(spec: syntax.Spec, names: set[str], report: Report) -> dict[str, syntax.Preset]:
    found: dict[str, syntax.Preset] = {}
    for preset in spec.all(syntax.Preset):
        place = within(preset.span, preset.name)
        if preset.name in found:
            first = within(found[preset.name].span, preset.name)
            report.error(f'preset "{preset.name}" is declared twice', place, "", [(first, "the first is here")])
        found.setdefault(preset.name, preset)
        _preset_names(preset, names, report)
    return found


def _preset_names(preset: syntax.Preset, names: set[str], report: Report) -> None:
    seen: dict[str, Span] = {}
    for binding in preset.bindings:
        place = within(binding.span, binding.name)
        if binding.name not in names:
            hint = known("sizes, reals and learned scalars", binding.name, names)
            report.error(f'preset "{preset.name}" sets "{binding.name}", which is not declared', place, hint)
        elif binding.name in seen:
            note = (seen[binding.name], "the first is here")
            report.error(f'preset "{preset.name}" sets "{binding.name}" twice', place, "", [note])
        seen.setdefault(binding.name, place)


def _replacements(preset: syntax.Preset) -> Replaced:
    return {binding.name: (binding.value, binding.span) for binding in preset.bindings}


def _chosen(preset: str | None, presets: Mapping[str, syntax.Preset], report: Report) -> Replaced:
    if preset is None:
        return {}
    if preset not in presets:
        span = Span(Source("--preset", preset), 0, len(preset))
        report.error(f'unknown preset "{preset}"', span, known("presets", preset, presets))
        return {}
    return _replacements(presets[preset])


def _overridden(
    overrides: Mapping[str, Given], names: set[str], axis: str | None, report: Report
) -> tuple[dict, Replaced]:
    numbers, replaced = {}, {}
    for name, given in overrides.items():
        if name not in names:
            hint = known("sizes, reals and learned scalars", name, names)
            hint = f"{name} follows from the input and the patches" if name == axis else hint
            hint = "a preset is chosen with --preset" if name == "preset" else hint
            report.error(f'there is no "{name}" to be set', within(setting(name, given), name), hint)
            continue
        try:
            number, span = given_number(name, given)
        except CrateError as error:
            report.absorb(*error.diagnostics)
        else:
            numbers[name], replaced[name] = number, (number, span)
    return numbers, replaced


def _try_presets(presets: Mapping[str, syntax.Preset], base: Scope, report: Report) -> None:
    """Presets that were not chosen must be sound too, without the command line's values."""
    for preset in presets.values():
        trial = Report(report.source)
        with suppress(TooMany):
            settle(Scope(base.declared, _replacements(preset), tokens_axis=base.tokens_axis), trial)
        for error in trial.errors:
            note = (within(preset.span, preset.name), f'with preset "{preset.name}"')
            report.error(error.message, error.span, error.hint, (*error.notes, note))


def changed(scope: Scope, changes: tuple[syntax.Binding, ...], report: Report) -> Scope:
    """The scope of a decoder `with K = 8`: derived sizes are derived anew."""
    replaced: Replaced = dict(scope.replaced)
    for binding in changes:
        try:
            replaced[binding.name] = (evaluate(binding.value, scope), binding.span)
        except (CrateError, Broken) as error:
            report.absorb(*getattr(error, "diagnostics", ()))
    return settle(Scope(scope.declared, replaced, tokens_axis=scope.tokens_axis), report)
