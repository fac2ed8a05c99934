"""The grid of variants of a spec: what was asked for, every combination compiled before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import crate_dsl
from crate_dsl import Compilation, CrateError, Variant, Variations
from runtime.errors import UserError
from runtime.recipe.schema import Recipe
from runtime.storage.file_names import as_file_name, numbered

LIMIT = 64  # variants of one grid
Axes = Mapping[str, tuple[str, ...]]  # what is varied -> to what


@dataclass(frozen=True)
class Candidate:
    """One combination, compiled. `problem` says why it cannot be trained, "" where it can; `sizes` are the recipe's."""

    name: str  # of its files
    variant: Variant
    changes: Mapping[str, str]
    sizes: Mapping[str, int | float]
    parameters: int = 0
    flops: int = 0
    problem: str = ""
    note: str = ""

    def compilation(self, preset: str | None) -> Compilation:
        """Of the variant's text, under the name of its file."""
        source = replace(self.variant.source, name=f"{self.name}.crate")
        return Compilation(source, preset, self.sizes)


def parse_axes(words: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """`gram=softmax,none` words; commas inside parentheses belong to a value.

    Raises:
        UserError: where something is not of this form, is varied twice, or has a value twice.
    """
    axes: dict[str, tuple[str, ...]] = {}
    for word in words:
        key, sign, text = word.partition("=")
        values = tuple(split(text))
        key = key.strip()
        if not (key and sign) or "" in values:
            raise UserError(f'"{word}" is not of the form WHAT=VALUE,VALUE, for instance --vary gram=softmax,none')
        if key in axes:
            raise UserError(
                f'"{key}" is varied twice: give all its values at once, --vary {key}={",".join((*axes[key], *values))}'
            )
        if repeated := {value for value in values if values.count(value) > 1}:
            raise UserError(f'--vary {word}: "{repeated.pop()}" stands there twice')
        axes[key] = values
    return axes


def split(text: str) -> list[str]:
    """The values between commas that stand in no parentheses.

    >>> split("threshold(0.1, 1/sqrt(p)), none")
    ['threshold(0.1, 1/sqrt(p))', 'none']
    """
    values, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            values.append("")
        else:
            values[-1] += character
    return [value.strip() for value in values]


def combinations(axes: Axes) -> list[dict[str, str]]:
    """Every combination, the first thing varied slowest; raises UserError beyond the limit."""
    count = 1
    for values in axes.values():
        count *= len(values)
    if count > LIMIT:
        sizes = " x ".join(str(len(values)) for values in axes.values())
        raise UserError(
            f"the grid has {count:,} variants ({sizes}), and at most {LIMIT} are trained at once: "
            "vary fewer things together, or give fewer values"
        )
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]


def candidates(base: Variations, axes: Axes, recipe: Recipe) -> list[Candidate]:
    """The grid, every variant compiled; what cannot be compiled, or is another one's twin, says so.

    Raises:
        CrateError: where the spec offers no such thing to vary.
    """
    found: list[Candidate] = []
    seen: dict[tuple[str, str], Candidate] = {}
    for changes in combinations(axes):
        variant = base.variant(changes)
        sizes = {name: value for name, value in recipe.sizes.items() if name not in variant.numbers}
        candidate = Candidate(_file_name(variant.label, found), variant, changes, sizes)
        twin = seen.setdefault((variant.text, str(sizes)), candidate)
        if twin is not candidate:
            candidate = replace(candidate, problem=f"the same as {twin.variant.label}")
        else:
            note = "as written" if variant.text == base.source.text else ""
            candidate = _compiled(replace(candidate, note=note), recipe.preset)
        found.append(candidate)
    return found


def _compiled(candidate: Candidate, preset: str | None) -> Candidate:
    compilation = candidate.compilation(preset)
    try:
        cost = crate_dsl.summary(compilation.optimised)
        compilation.text  # noqa: B018  # the whole pipeline, so that nothing can fail once training has begun
    except CrateError as error:
        return replace(candidate, problem=str(error).split("\n")[0].removeprefix(f"{candidate.name}.crate:"))
    return replace(candidate, parameters=cost.parameters, flops=cost.flops)


def _file_name(label: str, others: Sequence[Candidate]) -> str:
    return numbered(as_file_name(label, 100), {other.name for other in others})


def write_specs(found: Iterable[Candidate], preset: str | None, folder: Path) -> None:
    """Every variant as a spec file of its own, which needs no other; raises OSError where it cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    for candidate in found:
        text = candidate.compilation(preset).resolved
        (folder / f"{candidate.name}.crate").write_text(text, encoding="utf-8")
