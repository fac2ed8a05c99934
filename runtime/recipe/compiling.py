"""The network that a recipe trains; what the spec does not know is blamed on the recipe, which has brought it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from crate_dsl import CrateError
from crate_dsl.errors import Diagnostic, Source, Span
from runtime.network import Compiled, compile_network
from runtime.recipe.schema import Recipe

ENTRIES = {  # by the option of the compiler: the entry of a recipe, and how to do without
    "--preset": ("preset=", "preset=null takes the sizes that the spec states by itself"),
    "--set": ("sizes.", "sizes.{}=null leaves it out"),
}


def compile_recipe(spec: Path, recipe: Recipe, gpu: bool = False) -> Compiled:
    """The network at the recipe's preset and sizes, initialised from its seed; raises as `compile_network` does."""
    with blaming_the_recipe():
        return compile_network(spec, recipe.preset, recipe.sizes, recipe.seed, gpu=gpu)


@contextmanager
def blaming_the_recipe() -> Iterator[None]:
    """Within, preset and sizes are those of a recipe."""
    try:
        yield
    except CrateError as error:
        raise CrateError(*map(of_recipe, error.diagnostics)) from None


def of_recipe(told: Diagnostic) -> Diagnostic:
    """A diagnostic of an option that nobody gave, as one of the recipe's entry."""
    if told.span is None or told.span.source.name not in ENTRIES:
        return told
    entry, advice = ENTRIES[told.span.source.name]
    text = told.span.source.text
    place = Span(Source("recipe", entry + text), told.span.start + len(entry), told.span.end + len(entry))
    return replace(told, span=place, hint=f"{told.hint}\n{advice.format(text.partition('=')[0])}".strip())
