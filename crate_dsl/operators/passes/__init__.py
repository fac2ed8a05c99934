"""The passes that make a program fast, each `(Graph, workload) -> Graph`, in order, with the reason for its place.

None looks at names. Where several forms mean the same, the cost model decides. Tests hold each against
`pass_error` on every graph.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from crate_dsl.errors import CrateError, fail
from crate_dsl.operators.columns import acts_on_every_token
from crate_dsl.operators.cost import TRAINING, Workload, price
from crate_dsl.operators.graph import Graph
from crate_dsl.operators.passes.attention import attention
from crate_dsl.operators.passes.bias import fold_bias
from crate_dsl.operators.passes.causal import NoCausalForm, causal
from crate_dsl.operators.passes.chain import chain
from crate_dsl.operators.passes.distribute import distribute
from crate_dsl.operators.passes.factor import factor
from crate_dsl.operators.passes.gather import gather
from crate_dsl.operators.passes.gram_solve import gram_solve
from crate_dsl.operators.passes.hoist import hoist
from crate_dsl.operators.passes.merge import merge
from crate_dsl.operators.passes.narrow import narrow
from crate_dsl.operators.passes.push_through import push_through
from crate_dsl.operators.passes.share import share
from crate_dsl.operators.passes.solve import solve
from crate_dsl.operators.passes.spread import spread
from crate_dsl.operators.passes.stable import stable
from crate_dsl.operators.passes.sylvester import sylvester
from crate_dsl.operators.program import Program, StepProgram
from crate_dsl.operators.prune import has_one_graph, prune
from crate_dsl.operators.rewrite import of_one_token


@dataclass(frozen=True)
class Pass:
    name: str
    apply: Callable[[Graph, Workload], Graph]
    reason: str  # why it stands where it stands

    @property
    def does(self) -> str:
        """What, in a few words: how the docstring of its module begins."""
        first = (sys.modules[self.apply.__module__].__doc__ or self.name).split("\n")[0]
        return re.split(r"[:,] | \(|\.$", first)[0]


PASSES = (
    Pass("stable", stable, "before all that moves factors: exponentials stand beside their sums as they were derived"),
    Pass("share", share, "early: later passes recognise `W = U'Z` as one value, not as two factors"),
    Pass("attention", attention, "before the order of chains is fixed, which might split the softmax from its value"),
    Pass("push_through", push_through, "needs W on both sides of an inverse as one value, and inverses as such"),
    Pass("sylvester", sylvester, "the same identity for log-determinants"),
    Pass("narrow", narrow, "after sharing, which needs all factors of a family's products side by side"),
    Pass("gather", gather, "before factoring, which it prepares"),
    Pass("hoist", hoist, "before factoring, which would take the terms apart that a hoisted matrix is made of"),
    Pass("factor", factor, "after hoisting: what stays among the tokens, and the hoisted matrix, shares factors"),
    Pass("distribute", distribute, "for frozen weights: after factoring, which would undo it; before orders are fixed"),
    Pass("causal", causal, "after all identities of matrices, which hold of every prefix; before anything is ordered"),
    Pass("solve", solve, "after push-through has chosen which matrix is inverted, before chains are ordered around it"),
    Pass("chain", chain, "after all products have their final factors"),
    Pass("gram_solve", gram_solve, "after solves and the order of chains: the matrix is a product of two by then"),
    Pass("spread", spread, "needs products of two; before it, diagonal matrices move about as factors like any other"),
    Pass("merge", merge, "needs products of two: `sum_k U_k X_k` as one product of stacked heads"),
    Pass("fold_bias", fold_bias, "last: it closes products over what is added to them"),
)  # fmt: skip


def stages(graph: Graph, workload: Workload = TRAINING) -> Iterator[tuple[Pass, Graph]]:
    """Every pass with the graph after it; what shows where time was gained."""
    for each in PASSES:
        graph = each.apply(graph, workload)
        yield each, graph


def optimise_graph(graph: Graph, workload: Workload = TRAINING) -> Graph:
    *_, (_, result) = stages(graph, workload)
    return result


def optimise(program: Program, workload: Workload = TRAINING) -> Program:
    """All passes on all graphs, decisions made for a workload.

    Raises:
        CrateError: where a causal step has a part without a causal form.
    """
    streams = any(step.derived.step.causal for step in program.steps)
    alone = streams or program.derivation.model.head.of == "class_token"  # one token may come by itself, or be left
    blocks = (replace(b, steps=tuple(_optimised(step, workload, alone) for step in b.steps)) for b in program.blocks)
    penalties = (replace(p, graph=optimise_graph(p.graph, workload)) for p in program.penalties)
    return prune(replace(program, blocks=tuple(blocks), penalties=tuple(penalties)), workload)


def _optimised(step: StepProgram, workload: Workload, alone: bool) -> StepProgram:
    try:
        result = step.mapped(lambda graph: optimise_graph(graph, workload))
    except NoCausalForm as found:
        raise _refused(step, found) from None
    return replace(result, single=_single(step, result.forward, workload) if alone else None)


def _single(step: StepProgram, written: Graph, workload: Workload) -> Graph | None:
    """One token is no reason to collect weights."""
    if not (has_one_graph(step) and acts_on_every_token(step)):
        return None
    single = optimise_graph(of_one_token(step.forward), workload)
    return single if price(single, workload) < price(of_one_token(written), workload) else None


def _refused(step: StepProgram, found: NoCausalForm) -> CrateError:
    """The error at the quantity that has no causal form, or at the step."""
    lets = {let.name: let for let in step.derived.step.lets}
    let = next((lets[name] for name in found.quantities if name in lets), None)
    what, other = ("quantity", "compute it otherwise") if let else ("step", "choose another approximation")
    hint = f"no rule computes it for every prefix of the tokens at once; {other}, or no causal"
    return fail(f"this {what} has no causal form: {found}", (let or step.derived.step).span, hint)
