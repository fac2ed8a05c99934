"""The least time that the network's matrix products take: their operations over the rate measured at their shapes.

The operations of layers are those of the compiler's cost model. Backward, every product takes two more, one for each
factor; that of the patches takes one, images have no gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crate_dsl import Compilation
from crate_dsl.operators.cost import operator_cost
from crate_dsl.operators.graph import Graph, Operator, Type
from crate_dsl.operators.kinds import SOFTMAX_FLOPS
from crate_dsl.operators.uses import runs
from runtime.bench.race import Action

LARGEST = 1 << 26  # entries of a result at which a rate is measured; more copies of a product run at the same rate
BOTH_FACTORS, ONE_FACTOR = 2, 1
SOLVES = ("solve", "gram_solve", "prefix_solve", "causal_product")  # counted at the rate of products of their shape


@dataclass(frozen=True, order=True)
class ProductShape:
    """`copies` products of (rows x inner) by (inner x columns); one copy is one linear layer over all tokens."""

    copies: int
    rows: int
    inner: int
    columns: int


@dataclass(frozen=True)
class Product:
    """All products of one shape in one place of the network: operations of a forward pass over the whole batch."""

    shape: ProductShape
    flops: int
    backward: int = BOTH_FACTORS


@dataclass(frozen=True)
class Floor:
    """Seconds of a forward pass and of a training step, with operations, and operations per second by shape."""

    forward: float
    training: float
    forward_flops: int
    training_flops: int
    rates: Mapping[ProductShape, float]


def floor(products: Sequence[Product], seconds: Mapping[ProductShape, Sequence[float]]) -> Floor:
    """From seconds of one call of every shape, in every round."""
    rates = {shape: operations(shape) / median(values) for shape, values in seconds.items()}
    return Floor(
        forward=sum(p.flops / rates[p.shape] for p in products),
        training=sum((1 + p.backward) * p.flops / rates[p.shape] for p in products),
        forward_flops=sum(p.flops for p in products),
        training_flops=sum((1 + p.backward) * p.flops for p in products),
        rates=rates,
    )


def operations(shape: ProductShape) -> int:
    return 2 * measured_copies(shape) * shape.rows * shape.inner * shape.columns


def measured_copies(shape: ProductShape) -> int:
    return max(1, min(shape.copies, LARGEST // (shape.rows * shape.columns)))


def calls(shapes: Sequence[ProductShape], dtype: torch.dtype, device: torch.device) -> dict[ProductShape, Action]:
    """What is timed to know the rates: one linear layer, or products of stacks of matrices."""
    return {shape: call(shape, dtype, device) for shape in dict.fromkeys(shapes)}


def call(shape: ProductShape, dtype: torch.dtype, device: torch.device) -> Action:
    def normal(*sizes: int) -> Tensor:
        return torch.randn(*sizes, dtype=dtype, device=device)

    if shape.copies == 1:
        tokens, weight = normal(shape.rows, shape.inner), normal(shape.columns, shape.inner)
        return lambda: F.linear(tokens, weight)
    copies = measured_copies(shape)
    left, right = normal(copies, shape.rows, shape.inner), normal(copies, shape.inner, shape.columns)
    return lambda: left @ right


# ---- the products of a network -------------------------------------------------------------------------------------


def products(compilation: Compilation, network: nn.Module, batch: int) -> list[Product]:
    """All of stem, layers and head."""
    layers = (
        Product(shape, flops * times)
        for block in compilation.optimised.blocks
        for _, graphs in runs(block)
        for graph, times in graphs
        for shape, flops in of_graph(graph, batch)
    )
    return [*ends(compilation, network, batch), *layers]


def ends(compilation: Compilation, network: nn.Module, batch: int) -> Iterator[Product]:
    """The embedding of patches and the linear head, which have no graphs."""
    model = compilation.model
    width = model.sizes[model.tokens.rows]
    if "patches" in {word.name for word in model.tokens.words}:
        yield linear(batch * model.tokens.patches, network.patches.projection.in_features, width, ONE_FACTOR)
    match model.head.word.name:
        case "classify":
            yield linear(batch, width, network.classes)
        case "patches":
            yield linear(batch * model.tokens.patches, width, network.head.out_features)
        case "vocabulary":
            yield linear(batch * model.tokens.count, width, network.vocabulary)


def linear(rows: int, inner: int, columns: int, backward: int = BOTH_FACTORS) -> Product:
    return Product(ProductShape(1, rows, inner, columns), 2 * rows * inner * columns, backward)


def of_graph(graph: Graph, batch: int) -> Iterator[tuple[ProductShape, int]]:
    """Shapes and operations of the products of one layer."""
    for number in graph:
        operator = graph[number]
        types = [graph[n].type for n in operator.inputs]
        flops = operator_cost(graph, number, batch).flops
        if operator.kind in ("product", "affine", "merged") and not any(t.diagonal for t in types):
            yield of_matrices(graph, operator, types, batch), flops
        elif operator.kind == "attention":
            yield of_attention(graph, types, flops, batch)
        elif operator.kind in SOLVES:
            size = graph.size(operator.type.rows)
            yield ProductShape(copies(graph, operator.type, batch), graph.size(operator.type.cols), size, size), flops


def of_matrices(graph: Graph, operator: Operator, types: Sequence[Type], batch: int) -> ProductShape:
    """One linear layer where one factor is a weight: the heads of a weight lie side by side."""
    left, right = types[0], types[1]
    rows, inner, columns = graph.size(left.rows), graph.size(left.cols), graph.size(right.cols)
    if left.batch and right.batch:
        return ProductShape(copies(graph, operator.type, batch), rows, inner, columns)
    heads = graph.size(left.family or right.family) if left.family or right.family else 1
    over, under = (1, heads) if operator.kind == "merged" else (heads, 1)
    if right.batch:  # tokens are columns: W X
        return ProductShape(1, batch * columns, under * inner, over * rows)
    return ProductShape(1, (batch if left.batch else 1) * rows, under * inner, over * columns)


def of_attention(graph: Graph, types: Sequence[Type], flops: int, batch: int) -> tuple[ProductShape, int]:
    """Scores and mixtures, without the softmax between them."""
    value, key, query = types
    width = 2 * (graph.size(key.rows) + graph.size(value.rows))
    tokens = graph.size(query.cols)
    shape = ProductShape(copies(graph, value, batch), tokens, graph.size(key.rows), graph.size(key.cols))
    return shape, flops * width // (width + SOFTMAX_FLOPS)


def copies(graph: Graph, kind: Type, batch: int) -> int:
    return (batch if kind.batch else 1) * (graph.size(kind.family) if kind.family else 1)
