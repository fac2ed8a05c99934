"""A layer is derived, lowered and optimised once: the compiler's work does not depend on the number of layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from crate_dsl.compiler import Compilation, compile_spec
from crate_dsl.mathematics import derive
from crate_dsl.operators import lower, passes

PATHS = sorted((Path(__file__).parents[1] / "specs").glob("*.crate"))
STAGES = ((derive, "derive_step"), (lower, "lower_step"), (passes, "optimise_graph"))


def counted(counts: Counter[str], name: str, function: Callable) -> Callable:
    def counting(*arguments: object) -> object:
        counts[name] += 1
        return function(*arguments)

    return counting


def work(path: Path, layers: int) -> tuple[Counter[str], int, Compilation]:
    """Calls of every stage, graphs at the end, and the compilation of a network with so many layers."""
    counts: Counter[str] = Counter()
    with pytest.MonkeyPatch.context() as patch:
        for module, name in STAGES:
            patch.setattr(module, name, counted(counts, name, getattr(module, name)))
        compilation = compile_spec(path, overrides={"L": layers})
        graphs = sum(len(step.graphs) for step in compilation.optimised.steps)
    return counts, graphs, compilation


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_work_does_not_depend_on_the_layers(path: Path) -> None:
    (few, graphs, shallow), (many, as_many, deep) = work(path, 12), work(path, 96)
    assert few == many and graphs == as_many
    assert set(few) == {name for _, name in STAGES}
    assert len(shallow.text.splitlines()) == len(deep.text.splitlines())
    assert max(block.block.repeat for block in deep.program.blocks) == 96
