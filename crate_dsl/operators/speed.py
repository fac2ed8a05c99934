"""What every pass gained: behind `--explain-speed` one row per pass, behind `--emit passes` every operator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from crate_dsl.operators.cost import BALANCE, Cost, Workload, cost, price, quantity, table
from crate_dsl.operators.graph import Graph, Operator
from crate_dsl.operators.passes import stages
from crate_dsl.operators.program import Program, StepProgram
from crate_dsl.operators.rewrite import of_one_token
from crate_dsl.operators.summary import summary
from crate_dsl.operators.uses import forward_graphs, runs

PREFIX = "what stands before the pass causal is the longest prefix alone, so no ratio is given across it"
FROZEN = "what depends on weights alone is made once and kept: it is counted, but has no price"


@dataclass(frozen=True)
class Stage:
    """A graph as lowered, or after a pass that changed it."""

    name: str
    graph: Graph
    does: str = ""
    reason: str = ""


@dataclass(frozen=True)
class History:
    """A graph from the lowered to the written one, and the passes that found nothing to do."""

    stages: tuple[Stage, ...]
    idle: tuple[str, ...]

    @property
    def name(self) -> str:
        graph = self.stages[0].graph
        return graph.name + (", the code" if graph.outputs[0][0] == "code" else "")


def history(graph: Graph, workload: Workload) -> History:
    """All passes, one after the other.

    Raises:
        NoCausalForm: where `optimise` would.
    """
    found, idle = [Stage("as lowered", graph)], []
    for each, after in stages(graph, workload):
        if same(found[-1].graph, after):
            idle.append(each.name)
        else:
            found.append(Stage(each.name, after, each.does, each.reason))
    return History(tuple(found), tuple(idle))


def same(before: Graph, after: Graph) -> bool:
    """Whether two graphs do the same, however their operators are numbered."""
    known: dict[Operator, int] = {}
    return before.causal == after.causal and _outputs(before, known) == _outputs(after, known)


def _outputs(graph: Graph, known: dict[Operator, int]) -> list[tuple[str, int]]:
    """The outputs by numbers that both graphs have in common: equal operators get equal ones."""
    numbers: dict[int, int] = {}
    for number in graph:
        operator = replace(graph[number], inputs=tuple(numbers[n] for n in graph[number].inputs))
        numbers[number] = known.setdefault(operator, len(known))
    return [(name, numbers[number]) for name, number in graph.outputs]


# ---- every operator --------------------------------------------------------------------------------------------


def emitted(program: Program, workload: Workload) -> str:
    """Every graph of a lowered program, after every pass that changed it, with the cost of every operator."""
    parts = [part for graph in program.graphs for part in _emitted(history(graph, workload), workload)]
    return "\n\n".join(parts) + "\n"


def _emitted(found: History, workload: Workload) -> Iterator[str]:
    for stage in found.stages:
        title = f"# {found.name}, {stage.name}" if not stage.does else f"# {found.name}, after {stage.name}"
        lines = [title, f"# {stage.does}", f"# {stage.reason}"] if stage.does else [title]
        yield "\n".join([*lines, table(stage.graph, workload.batch)])


# ---- every pass ------------------------------------------------------------------------------------------------

PASS_COLUMNS = ("pass", "nodes", "FLOPs", "bytes", "price", "gain", "")
NETWORK_COLUMNS = ("step", "layers", "FLOPs derived", "written", "ratio", "bytes derived", "written", "ratio")


def speed(lowered: Program, optimised: Program, workload: Workload) -> str:
    """A table for every step and every penalty, and one for the network."""
    model, batch = lowered.derivation.model, workload.batch
    title = f"{model.name}: what each pass gained, in a forward pass over {batch} {model.example}{'s' * (batch > 1)}"
    price_of = f"price: operations, and {BALANCE:g} for every byte moved; gain: over the price in the row before"
    written = {step.forward.name: step for step in optimised.steps}
    steps = [(step.block.repeat, graph) for step in lowered.steps for graph in forward_graphs(step)]
    penalties = [(p.derived.block.repeat if p.derived.block else 1, p.graph) for p in lowered.penalties]
    graphs = [
        _passes(history(graph, workload), layers, workload, written.get(graph.name))
        for layers, graph in (*steps, *penalties)
    ]
    notes = [PREFIX] * any(graph.causal for _, graph in steps) + [FROZEN] * workload.frozen
    return "\n\n".join(["\n".join([title, price_of, *notes]), *graphs, _network(lowered, optimised, batch)]) + "\n"


def _passes(found: History, layers: int, workload: Workload, written: StepProgram | None) -> str:
    """The rows of one graph; the total is over all rows, where they may be compared."""
    first, last = found.stages[0].graph, found.stages[-1].graph
    rows = [PASS_COLUMNS, _row("as lowered", first, workload)]
    for before, after in zip(found.stages, found.stages[1:], strict=False):
        rows.append(_row(after.name, after.graph, workload, before.graph, after.does))
    rows.append(_row("as written", last, workload, first, "all passes together"))
    if written and written.pruned:
        rows.append(_row("last layer", written.pruned, workload, last, "for the one token that the head reads"))
    elif written and written.single:
        rows.append(_row("one token", written.single, workload, of_one_token(last), "of a text that grows"))
    idle = f"  nothing to do: {', '.join(found.idle)}" if found.idle else "  every pass did something"
    head = f"{found.name}, {layers} layer{'s' * (layers > 1)}, {first.tokens} {first.size(first.tokens)}"
    return "\n".join([head, *_aligned(rows, "lrrrrrl"), idle])


def _row(name: str, graph: Graph, workload: Workload, before: Graph | None = None, does: str = "") -> tuple[str, ...]:
    own, now = cost(graph, workload.batch), price(graph, workload)
    comparable = before is not None and before.causal == graph.causal
    gain = ("" if before is None else "-") if not comparable else _ratio(price(before, workload), now)
    counts = (str(len(graph.numbered)), *(quantity(value).strip() for value in (own.flops, own.bytes, now)))
    return (name, *counts, gain, does)


def _ratio(before: float, after: float) -> str:
    return f"{before / after:.2f} x" if after else "-"


# ---- the network -----------------------------------------------------------------------------------------------


def _network(lowered: Program, optimised: Program, batch: int) -> str:
    """Operations and bytes of one input through all layers, as derived and as written."""
    rows, totals = [NETWORK_COLUMNS], [Cost(0, 0), Cost(0, 0)]
    for (before, derived), (_, written) in zip(_runs(lowered), _runs(optimised), strict=True):
        costs = [_of_all_layers(graphs, batch) for graphs in (derived, written)]
        totals = [total + own for total, own in zip(totals, costs, strict=True)]
        rows.append(_compared(before.forward.name, str(before.block.repeat), costs, before.forward.causal))
    rows.append(_compared("total", "", totals, any(step.forward.causal for step in lowered.steps)))
    example, rest = lowered.derivation.model.example, summary(optimised, batch).flops - totals[1].flops
    over = f" (of {batch}, divided by {batch})" if batch > 1 else ""
    note = f"  stem, norms and head, which no pass touches, take another {quantity(rest)}FLOP"
    return "\n".join([f"the network, one {example}{over}", *_aligned(rows, "lrrrrrrr"), note])


def _runs(program: Program) -> Iterator[tuple[StepProgram, list[tuple[Graph, int]]]]:
    for block in program.blocks:
        yield from runs(block)


def _of_all_layers(graphs: list[tuple[Graph, int]], batch: int) -> Cost:
    costs = [(cost(graph, batch), layers) for graph, layers in graphs]
    return Cost(*(sum(getattr(own, what) * n for own, n in costs) // batch for what in ("flops", "bytes")))


def _compared(name: str, layers: str, costs: Sequence[Cost], causal: bool) -> tuple[str, ...]:
    cells = []
    for before, after in (tuple(own.flops for own in costs), tuple(own.bytes for own in costs)):
        cells += [quantity(before).strip(), quantity(after).strip(), "-" if causal else _ratio(before, after)]
    return (name, layers, *cells)


def _aligned(rows: list[tuple[str, ...]], sides: str) -> Iterator[str]:
    """Rows of one table, cells on the left or on the right of their columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(sides))]
    for row in rows:
        cells = zip(row, sides, widths, strict=True)
        yield "  " + "  ".join(c.ljust(w) if side == "l" else c.rjust(w) for c, side, w in cells).rstrip()
