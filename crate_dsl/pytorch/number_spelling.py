"""How operators on numbers alone are written in torch.

A 1 x 1 value is a number per sample or head there, without the axes of a matrix: what asks for those of matrices of any
other size is arithmetic here.
"""

from __future__ import annotations

from collections.abc import Callable

from crate_dsl.operators.graph import Operator
from crate_dsl.pytorch.expressions import POWER, PRODUCT, Code
from crate_dsl.pytorch.spelling import SPELLINGS, Speaker

NUMBERS: dict[str, Callable[..., Code]] = {
    "product": lambda x, y: Code(f"{x.at(PRODUCT)} * {y.at(POWER)}", PRODUCT),
    "solve": lambda matrix, x: Code(f"{x.at(PRODUCT)} / {matrix.at(POWER)}", PRODUCT),
    "inverse": lambda x: Code(f"torch.reciprocal({x.text})"),
    "logdet": lambda x: Code(f"torch.log({x.text})"),
    "diagonal": lambda x: x,
    "row_sums": lambda x: x,
    "column_sums": lambda x: x,
    "column_logsumexp": lambda x: x,
    "column_norms": lambda x: Code(f"torch.abs({x.text})"),
}


def spelled(op: Operator, speaker: Speaker) -> Code:
    """An operator of any kind; where it makes a number of numbers, as what it does to them."""
    if op.type.is_scalar and all(speaker.operator(n).type.is_scalar for n in op.inputs):
        if op.kind in ("identity", "ones"):
            return Code(f"{speaker.reference()}.new_ones(())")
        name = op.attributes[0] if op.kind == "lines" else op.kind
        if name in NUMBERS:
            return NUMBERS[name](*(speaker.code(n, False, op.type) for n in op.inputs))
    return SPELLINGS[op.kind].write(op, speaker)
