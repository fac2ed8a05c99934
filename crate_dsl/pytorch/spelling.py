"""How every kind of operator is written in torch, tokens as rows: one entry per kind.

A spelling gets the operator and a `Speaker`, which gives the code of its inputs in the orientation that it asks for:
flipped is the transposed value (tokens as rows), else the value as it stands in the mathematics.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Protocol

import sympy

from crate_dsl.operators.graph import FIRST, IDENTITY, Operator, Type
from crate_dsl.operators.kinds import is_causal
from crate_dsl.operators.passes.bias import is_heads
from crate_dsl.pytorch.expressions import ATOM, POWER, PRODUCT, SUM, Code, scalar_code
from crate_dsl.pytorch.helpers import HELPERS
from crate_dsl.pytorch.proximal import proximal_code


class Speaker(Protocol):
    """What a spelling may ask of the body that it is written into."""

    def operator(self, number: int) -> Operator: ...
    def code(self, number: int, flipped: bool, wide: Type | None = None) -> Code: ...
    def named(self, number: int, flipped: bool) -> str: ...
    def scalar(self, value: sympy.Expr, like: Type) -> Code: ...
    def is_learned(self, value: sympy.Expr) -> bool: ...
    def size(self, axis: str) -> str: ...
    def helper(self, name: str) -> str: ...
    def reference(self) -> str: ...
    def flipped(self, kind: Type) -> bool: ...
    def narrowing(self, number: int, into: Operator | None = None) -> str: ...
    def slot(self, key: Hashable) -> str: ...
    def count(self) -> str: ...
    @property
    def gpu(self) -> bool: ...
    def norm_of(self, number: int) -> tuple[str, str] | None: ...


Write = Callable[[Operator, Speaker], Code]


@dataclass(frozen=True)
class Spelling:
    """`write` makes the code; `always` values get a name even where they are used once."""

    write: Write
    name: str = "value"
    always: bool = False


SPELLINGS: dict[str, Spelling] = {}


def spell(kind: str, name: str = "value", always: bool = False) -> Callable[[Write], Write]:
    def register(write: Write) -> Write:
        SPELLINGS[kind] = Spelling(write, name, always)
        return write

    return register


# ---- leaves ----------------------------------------------------------------------------------------------------


@spell("identity", "identity")
def identity_code(op: Operator, speaker: Speaker) -> Code:
    reference = speaker.reference()
    return Code(f"torch.eye({speaker.size(op.type.rows)}, dtype={reference}.dtype, device={reference}.device)")


@spell("ones", "ones")
def _ones(op: Operator, speaker: Speaker) -> Code:
    return Code(f"{speaker.reference()}.new_ones({speaker.size(op.type.rows)}, 1)")


@spell("zero", "zeros")
def _zero(op: Operator, speaker: Speaker) -> Code:
    if op.type.is_scalar:
        return Code(f"{speaker.reference()}.new_zeros(())")
    return Code(f"{speaker.reference()}.new_zeros({speaker.size(op.type.rows)}, {speaker.size(op.type.cols)})")


@spell("constant", "constant")
def _constant(op: Operator, speaker: Speaker) -> Code:
    return speaker.scalar(op.attributes[0], op.type)


@spell("fill", "bias")
def _fill(op: Operator, speaker: Speaker) -> Code:
    """A vector of one number, stored as (rows,)."""
    value, rows = speaker.scalar(op.attributes[0], Type("1", "1")), speaker.size(op.type.rows)
    if speaker.is_learned(op.attributes[0]):
        return Code(f"{value.at(ATOM)}.expand({rows})", ATOM, True)
    return Code(f"{speaker.reference()}.new_full(({rows},), {value.text})", ATOM, True)


# ---- linear algebra --------------------------------------------------------------------------------------------


@spell("first", "first")
def _first(op: Operator, speaker: Speaker) -> Code:
    """The first token, kept as an axis of one; tokens are rows."""
    before = bool(op.type.family) + bool(op.type.batch)  # axes
    return Code(f"{speaker.code(op.inputs[0], True).at(ATOM)}[{':, ' * before}:1]", ATOM, True)


def _factor(number: int, flipped: bool, wide: Type | None, op: Operator, speaker: Speaker) -> Code:
    """What a product reads, in the precision of what it meets there."""
    code, narrow = speaker.code(number, flipped, wide), speaker.narrowing(number, op)
    return replace(code, text=code.at(ATOM) + narrow, level=ATOM) if narrow else code


def _is_weight(kind: Type) -> bool:
    return not kind.batch and not kind.family and not kind.is_scalar


@spell("product", "product")
def _product(op: Operator, speaker: Speaker) -> Code:
    """Transposed, `(A B)' = B' A'`; a matrix of weights on tokens is `F.linear`, a family of them splits the heads."""
    left, right = op.inputs
    a, b = speaker.operator(left), speaker.operator(right)
    if not speaker.flipped(op.type):
        first, second = (_factor(n, False, op.type, op, speaker) for n in op.inputs)
        text = f"{first.at(PRODUCT)} @ {second.at(POWER)}"
        return Code(f"({text})[..., 0, 0]") if op.type.is_scalar else Code(text, PRODUCT)
    if is_heads(a, speaker.operator) and not b.type.family and b.type.batch:
        return _heads(op, speaker, "")
    if _is_weight(a.type) and b.type.batch and a.kind != "transpose":
        return Code(_linear(op, _factor(left, False, None, op, speaker).text, "", speaker), ATOM, True)
    if op.type.cols == FIRST and a.type.family and b.type.family and not a.type.batch:
        weights = _factor(left, True, op.type, op, speaker).at(POWER)  # not copied for every sample, as by `@`
        tokens = _factor(right, True, None, op, speaker).at(ATOM)
        return Code(f"({tokens}.transpose(0, 2) @ {weights}).transpose(0, 2)", ATOM, True)
    first, second = (_factor(n, True, op.type, op, speaker) for n in (right, left))
    return Code(f"{first.at(PRODUCT)} @ {second.at(POWER)}", PRODUCT, True)


def is_linear(op: Operator, tokens: int, at: Callable[[int], Operator]) -> bool:
    """Whether an operator is written as a linear map of the tokens in a value."""
    if op.kind not in ("product", "affine") or op.inputs[1] != tokens or op.inputs[0] == tokens:
        return False
    weights = at(op.inputs[0])
    return is_heads(weights, at) or (_is_weight(weights.type) and weights.kind != "transpose")


def _linear(op: Operator, weight: str, bias: str, speaker: Speaker) -> str:
    """A map of every token; with the norm before it in one, where nothing else reads the normed tokens."""
    normed = speaker.norm_of(op.inputs[1])
    if normed:
        return f"{speaker.helper('normed_linear')}({', '.join(normed)}, {weight}{bias})"
    return f"F.linear({_factor(op.inputs[1], True, None, op, speaker).text}, {weight}{bias})"


def _unflattened(family: str, speaker: Speaker) -> str:
    return f".unflatten(0, ({speaker.size(family)}, -1))"


def _stacked(family: int, wide: Type, speaker: Speaker) -> str:
    """The members of a family below each other, as it is stored, but for numbers and in full precision."""
    code, apart = speaker.code(family, True, wide), _unflattened(speaker.operator(family).type.family, speaker)
    return code.text.removesuffix(apart) if code.text.endswith(apart) else f"{code.at(ATOM)}.flatten(0, 1)"


def _heads(op: Operator, speaker: Speaker, bias: str) -> Code:
    """`U[k]' Z` for all k at once: one product with the stacked maps, then the heads apart."""
    maps = speaker.operator(op.inputs[0])
    if maps.kind == "transpose":
        weight = _stacked(maps.inputs[0], op.type, speaker)
    else:  # made once, of frozen weights
        weight = f"{speaker.code(op.inputs[0], False, op.type).at(ATOM)}.flatten(0, 1)"
    call = _linear(op, weight + speaker.narrowing(op.inputs[0], op), bias, speaker)
    return Code(f"{speaker.helper('split_heads')}({call}, {speaker.size(maps.type.family)})", ATOM, True)


@spell("merged", "merged")
def _merged(op: Operator, speaker: Speaker) -> Code:
    """`sum_k U_k X_k`: the heads beside each other, times the stacked maps."""
    weight = _stacked(op.inputs[0], op.type, speaker) + speaker.narrowing(op.inputs[0], op)
    value = speaker.code(op.inputs[1], True, op.type).text
    merged = f"{speaker.helper('merge_heads')}({value}){speaker.narrowing(op.inputs[1], op)}"
    bias = _vector(op, speaker) if len(op.inputs) > 2 else ""
    if op.attributes == (IDENTITY,):
        return Code(f"{merged} + {bias}", SUM, True) if bias else Code(merged, ATOM, True)
    turned = weight.removesuffix(".T") if weight.endswith(".T") else f"{weight}.T"
    return Code(f"F.linear({merged}, {turned}{', ' + bias if bias else ''})", ATOM, True)


@spell("affine", "product")
def _affine(op: Operator, speaker: Speaker) -> Code:
    if op.type.family:
        bias = _factor(speaker.operator(op.inputs[2]).inputs[0], True, None, op, speaker).text
        return _heads(op, speaker, f", {bias.removesuffix(_unflattened(op.type.family, speaker))}.flatten()")
    weight, bias = _factor(op.inputs[0], False, None, op, speaker).text, f", {_vector(op, speaker)}"
    return Code(_linear(op, weight, bias, speaker), ATOM, True)


def _vector(op: Operator, speaker: Speaker) -> str:
    """The bias of an operator, the vector of a column, as (rows,)."""
    number = speaker.operator(op.inputs[2]).inputs[0]
    code = _factor(number, True, None, op, speaker)
    if code.text.endswith(".unsqueeze(0)") or speaker.operator(number).kind == "fill":
        return code.text.removesuffix(".unsqueeze(0)")
    return f"{code.at(ATOM)}.flatten()"


@spell("column", "column")
def _column(op: Operator, speaker: Speaker) -> Code:
    """A vector for every token, as a view that holds it once."""
    before = "-1, " * (bool(op.type.family) + op.type.batch)
    count = "1" if op.type.cols == FIRST else speaker.size(op.type.cols)
    vector = column_vector(op, op.type, speaker)
    return Code(f"{vector.at(ATOM)}.expand({before}{count}, -1)", ATOM, True)


def column_vector(column: Operator, wide: Type, speaker: Speaker) -> Code:
    """The vector of a column, which broadcasts over tokens that stand beside it."""
    vector = speaker.code(column.inputs[0], True, wide)
    return replace(vector, text=vector.text.removesuffix(".unsqueeze(0)"), flipped=True)


@spell("family_sum", "total")
def _family_sum(op: Operator, speaker: Speaker) -> Code:
    flipped = speaker.flipped(op.type)
    return Code(f"{speaker.code(op.inputs[0], flipped).at(ATOM)}.sum({-1 if op.type.is_scalar else -3})", ATOM, flipped)


# ---- entry by entry, and reductions ----------------------------------------------------------------------------

FUNCTIONS: dict[str, Callable[[list[Code], bool], str]] = {
    "softmax": lambda x, flipped: f"torch.softmax({x[0].text}, dim={-1 if flipped else -2})",
    "threshold": lambda x, flipped: f"threshold({x[0].text}, {x[1].text})",
    "onto_sphere": lambda x, flipped: f"F.normalize({x[0].text}, dim={-1 if flipped else -2})",
    "onto_simplex": lambda x, flipped: f"onto_simplex({x[0].text}, dim={-1 if flipped else -2})",
    "exp": lambda x, flipped: f"torch.exp({x[0].text})",
    "log": lambda x, flipped: f"torch.log({x[0].text})",
    "reciprocal": lambda x, flipped: f"torch.reciprocal({x[0].text})",
    "hadamard": lambda x, flipped: (
        f"{x[0].at(ATOM)}.square()" if x[0] == x[1] else f"{x[0].at(PRODUCT)} * {x[1].at(POWER)}"
    ),
    "log1p": lambda x, flipped: f"torch.log1p({x[0].text})",
    "root": lambda x, flipped: f"torch.sqrt({x[0].text})",
    "unit_rows": lambda x, flipped: f"F.normalize({x[0].text}, dim={-2 if flipped else -1})",
    "gelu": lambda x, flipped: f"F.gelu({x[0].text})",
    "gelu_slope": lambda x, flipped: f"gelu_slope({x[0].text})",
    "gelu_potential": lambda x, flipped: f"gelu_potential({x[0].text})",
    "sigmoid": lambda x, flipped: f"torch.sigmoid({x[0].text})",
    "softplus": lambda x, flipped: f"F.softplus({x[0].text}, threshold=40.0)",  # of 20, it is off by 2e-9
}

EVERY = "dim=(-2, -1)"
REDUCTIONS: dict[str, Callable[[Code, bool], str]] = {
    "norm2": lambda x, flipped: f"{x.at(ATOM)}.square().sum({EVERY})",
    "total": lambda x, flipped: f"{x.at(ATOM)}.sum({EVERY})",
    "l1": lambda x, flipped: f"{x.at(ATOM)}.abs().sum({EVERY})",
    "l0": lambda x, flipped: f"{x.at(ATOM)}.sign().abs().sum({EVERY})",
    "trace": lambda x, flipped: f"{x.at(ATOM)}.diagonal(dim1=-2, dim2=-1).sum(-1)",
    "logsumexp": lambda x, flipped: f"torch.logsumexp({x.text}, dim={-1 if flipped else -2}).sum(-1)",
}


@spell("function", "weights")
def _function(op: Operator, speaker: Speaker) -> Code:
    flipped = speaker.flipped(op.type)
    name, parameters = op.attributes
    arguments = [speaker.code(n, flipped, op.type) for n in op.inputs]
    text = FUNCTIONS[name]([*arguments, *(speaker.scalar(p, op.type) for p in parameters)], flipped)
    if name in HELPERS:
        speaker.helper(name)
    return Code(text, PRODUCT if name == "hadamard" and arguments[0] != arguments[1] else ATOM, flipped)


# ---- diagonals, quantities and numbers computed from values ----------------------------------------------------


@spell("diagonal", "diagonal")
def _diagonal(op: Operator, speaker: Speaker) -> Code:
    """As a matrix, where it stands among others in a sum."""
    column = speaker.code(op.inputs[0], False, op.type)
    if speaker.operator(op.inputs[0]).type.is_scalar:
        return Code(f"{column.at(PRODUCT)} * {identity_code(op, speaker).text}", PRODUCT)
    return Code(f"torch.diag_embed({column.at(ATOM)}.squeeze(-1))")


@spell("broadcast", "scaled")
def _broadcast(op: Operator, speaker: Speaker) -> Code:
    """`Diag(v) X` or `X Diag(v)`: the column, or the row, broadcasts over the matrix."""
    flipped, rows = speaker.flipped(op.type), op.attributes[0] == "rows"
    column, value = speaker.code(op.inputs[0], flipped == rows, op.type), speaker.code(op.inputs[1], flipped, op.type)
    column = Code(column.text.removesuffix(".unsqueeze(0)"), column.level)
    left, right = (column, value) if rows else (value, column)
    return Code(f"{left.at(PRODUCT)} * {right.at(POWER)}", PRODUCT, flipped)


@spell("lines", "sums")
def _lines(op: Operator, speaker: Speaker) -> Code:
    """Sums or norms of the columns or the rows, kept as a row or a column."""
    argument = speaker.operator(op.inputs[0]).type
    flipped, name = speaker.flipped(argument), op.attributes[0]
    value = speaker.code(op.inputs[0], flipped)
    dim = f"dim={-1 if flipped == name.startswith('column') else -2}, keepdim=True"
    dim = EVERY if op.type.is_scalar else dim
    if name.endswith("norms"):
        return Code(f"torch.linalg.vector_norm({value.text}, {dim})", ATOM, flipped)
    if name.endswith("logsumexp"):
        return Code(f"torch.logsumexp({value.text}, {dim})", ATOM, flipped)
    return Code(f"{value.at(ATOM)}.sum({dim})", ATOM, flipped)


@spell("formula", "factor")
def _formula(op: Operator, speaker: Speaker) -> Code:
    value, names = op.attributes
    numbers, flipped = dict(zip(names, op.inputs, strict=True)), speaker.flipped(op.type)

    def lookup(symbol: sympy.Symbol) -> Code:
        if symbol in numbers:
            return replace(speaker.code(numbers[symbol], flipped, op.type), is_tensor=True)
        return speaker.scalar(symbol, op.type)

    return replace(scalar_code(value, lookup), flipped=flipped)


@spell("quantity", "held", always=True)
def _quantity(op: Operator, speaker: Speaker) -> Code:
    flipped = speaker.flipped(op.type)
    code = speaker.code(op.inputs[0], flipped, op.type)
    return Code(code.text, code.level, flipped)


@spell("family_softmax", "shares")
def _family_softmax(op: Operator, speaker: Speaker) -> Code:
    flipped = speaker.flipped(op.type)
    text = speaker.code(op.inputs[0], flipped, op.type).text
    return Code(f"torch.softmax({text}, dim={int(op.type.batch)})", ATOM, flipped)


@spell("family_logsumexp", "total")
def _family_logsumexp(op: Operator, speaker: Speaker) -> Code:
    flipped = speaker.flipped(op.type)
    text = speaker.code(op.inputs[0], flipped).text
    return Code(f"torch.logsumexp({text}, dim={-1 if op.type.is_scalar else -3})", ATOM, flipped)


@spell("reduce", "energy")
def _reduce(op: Operator, speaker: Speaker) -> Code:
    argument = speaker.operator(op.inputs[0]).type
    flipped = speaker.flipped(argument)
    if argument.is_scalar:
        return Code(f"{speaker.code(op.inputs[0], flipped).at(ATOM)}")
    return Code(REDUCTIONS[op.attributes[0]](speaker.code(op.inputs[0], flipped), flipped))


@spell("prox", "code", always=True)
def _prox(op: Operator, speaker: Speaker) -> Code:
    flipped, prox = speaker.flipped(op.type), op.attributes[0]

    def scalar(value: sympy.Expr) -> Code:
        return speaker.scalar(value, op.type)

    whole = speaker.code(op.inputs[0], flipped)
    code = proximal_code(prox, whole, lambda: speaker.named(op.inputs[0], flipped), scalar, speaker.is_learned)
    return Code(code.text, code.level, flipped)


@spell("attention", "attention", always=True)
def _attention(op: Operator, speaker: Speaker) -> Code:
    """`V softmax(s K' Q)`; a learned scale goes into the queries, since the fused operator takes a number only."""
    heads = [speaker.operator(n).type.family for n in op.inputs]
    of_one = op.type.cols == FIRST and heads[2] is not None and heads[:2] == [None, None]
    value, key, query = (_factor(n, True, None if of_one else op.type, op, speaker) for n in op.inputs)
    scale, asked = op.attributes[0], query.text
    text, learned = speaker.scalar(scale, op.type).text, speaker.is_learned(scale)
    if learned:
        asked, text = f"{speaker.scalar(scale, op.type).at(PRODUCT)} * {query.at(PRODUCT)}", "1.0"
    slot = speaker.slot(op) if is_causal(op) else ""
    if slot:
        call = f"{asked}, {key.text}, {value.text}, {text}, {slot}"
        return Code(f"{speaker.helper('attention_now')}({call})", ATOM, True)
    last = ", is_causal=True" if is_causal(op) else ""
    if len(set(op.inputs)) == 1 and not learned:
        name = "kernel_attention" if speaker.gpu and not last else "shared_attention"
        return Code(f"{speaker.helper(name)}({asked}, scale={text}{last})", ATOM, True)
    call = speaker.helper("attention_of_one") if of_one else "F.scaled_dot_product_attention"
    return Code(f"{call}({asked}, {key.text}, {value.text}, scale={text}{last})", ATOM, True)
