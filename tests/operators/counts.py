"""Operators, operations and bytes of every shipped spec as `tests/data/counts.json` holds them.

`python -m tests.operators.counts` counts anew, says what changed and rewrites the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from crate_dsl.compiler import Compilation, compile_spec
from crate_dsl.language.syntax import Preset
from crate_dsl.operators.cost import BATCH, cost
from crate_dsl.operators.graph import Graph
from crate_dsl.operators.program import Program
from crate_dsl.operators.uses import forward_graphs

ROOT = Path(__file__).parents[2]
FILE = ROOT / "tests/data/counts.json"
SPECS = sorted((ROOT / "specs").glob("*.crate"))
COMMAND = "python -m tests.operators.counts"
COUNTED = ("nodes", "flops", "bytes")
Counts = dict[str, dict[str, list[int]]]  # per preset and graph: as lowered and as optimised


@cache
def forms(path: Path) -> dict[str, tuple[Graph, Graph]]:
    """The graphs of the forward pass, of estimates and of penalties, lowered and optimised, per preset."""
    presets = [item.name for item in compile_spec(path).spec.items if isinstance(item, Preset)]
    return {name: pair for preset in (None, *presets) for name, pair in _forms(compile_spec(path, preset))}


def _forms(compilation: Compilation) -> Iterator[tuple[str, tuple[Graph, Graph]]]:
    pairs = zip(_graphs(compilation.program), _graphs(compilation.optimised), strict=True)
    for (name, lowered), (_, optimised) in pairs:
        yield f"{compilation.preset or 'default'} {name}", (lowered, optimised)
    for step in compilation.optimised.steps:
        if step.pruned:  # beside the whole
            yield f"{compilation.preset or 'default'} {step.pruned.name}.first", (step.forward, step.pruned)
        if step.single and not step.pruned:
            yield f"{compilation.preset or 'default'} {step.single.name}.single", (step.forward, step.single)


def _graphs(program: Program) -> Iterator[tuple[str, Graph]]:
    for graph in (graph for step in program.steps for graph in forward_graphs(step)):
        yield graph.name + (".code" if graph.outputs[0][0] == "code" else ""), graph
    yield from ((penalty.graph.name, penalty.graph) for penalty in program.penalties)


def counted(path: Path) -> Counts:
    """What the compiler makes of a spec now."""
    return {name: {"lowered": _count(a), "optimised": _count(b)} for name, (a, b) in forms(path).items()}


def _count(graph: Graph) -> list[int]:
    own = cost(graph, BATCH)
    return [len(graph.numbered), own.flops, own.bytes]


def stored() -> dict[str, Counts]:
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


def differences(spec: str, old: Counts, new: Counts) -> list[str]:
    """One line for every number that is another one, with both."""
    lines = [f"{spec} {name}: {'new' if name in new else 'gone'}" for name in old.keys() ^ new.keys()]
    for name in (name for name in new if name in old):
        for form, what, before, after in _numbers(old[name], new[name]):
            if before != after:
                share = f" ({100 * (after / before - 1):+.2f} %)" if before else ""
                lines.append(f"{spec} {name}, {form}: {what} {before:,} -> {after:,}{share}")
    return sorted(lines)


def _numbers(old: dict[str, list[int]], new: dict[str, list[int]]) -> Iterator[tuple[str, str, int, int]]:
    for form in new:
        yield from ((form, *each) for each in zip(COUNTED, old[form], new[form], strict=True))


def text(counts: dict[str, Counts]) -> str:
    """JSON with one line for every graph."""
    specs = []
    for spec, rows in counts.items():
        width = max(map(len, rows)) + 3
        lines = [f"    {json.dumps(name) + ':':<{width}} {json.dumps(row)}" for name, row in rows.items()]
        specs.append(f"  {json.dumps(spec)}: {{\n" + ",\n".join(lines) + "\n  }")
    return "{\n" + ",\n".join(specs) + "\n}\n"


def main() -> None:
    old, new = stored(), {path.stem: counted(path) for path in SPECS}
    changes = [line for spec in sorted(old | new) for line in differences(spec, old.get(spec, {}), new.get(spec, {}))]
    FILE.write_text(text(new), encoding="utf-8")
    print("\n".join([*changes, f"{len(changes)} changes, written to {FILE.relative_to(ROOT)}"]))


if __name__ == "__main__":
    main()
