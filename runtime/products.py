"""The matrix products of a network: their shapes, and their operations by the compiler's cost model.

Backward, every product takes two more, one for each factor; that of the patches takes one, images have no gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from crate_dsl import Compilation
from crate_dsl.language.model import ClassAttention
from crate_dsl.operators.cost import copies_of, operator_cost
from crate_dsl.operators.graph import Graph, Operator, Type
from crate_dsl.operators.kinds import SOFTMAX_FLOPS
from crate_dsl.operators.summary import WAVES, convolution_sizes
from crate_dsl.operators.uses import runs

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
    """The embedding of patches, class attention and the linear head, which have no graphs."""
    model = compilation.model
    width, words = model.sizes[model.tokens.rows], {word.name: word.arguments for word in model.tokens.words}
    if "convolutions" in words:
        yield from (
            linear(batch * places, 9 * inner, outer, BOTH_FACTORS if number else ONE_FACTOR)
            for number, (places, inner, outer) in enumerate(convolution_sizes(model))
        )
    if words.get("position") == ("fourier",):
        yield linear(model.tokens.patches, WAVES, width, ONE_FACTOR)
    for stage in (stage for stage in model.stages if isinstance(stage, ClassAttention)):
        yield from of_class_attention(stage, model.tokens.count + 1, width, batch)
    if "patches" in words:
        yield linear(batch * model.visible, network.patches.projection.in_features, width, ONE_FACTOR)
    match model.head.word.name:
        case "classify":
            yield linear(batch, width, network.classes)
        case "patches":
            yield linear(batch * model.tokens.patches, width, network.head.out_features)
        case "vocabulary":
            yield linear(batch * model.tokens.count, width, network.vocabulary)


def of_class_attention(stage: ClassAttention, tokens: int, width: int, batch: int) -> Iterator[Product]:
    """Keys and values of all tokens; the query, what it reads and the perceptron of the class token alone."""
    reading = ProductShape(batch * stage.heads, 1, width // stage.heads, tokens)
    for _ in range(stage.blocks):
        yield linear(batch * tokens, width, 2 * width)
        yield from (linear(batch, width, width) for _ in range(2))
        yield Product(reading, 4 * batch * width * tokens)
        yield linear(batch, width, 4 * width)
        yield linear(batch, 4 * width, width)


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
            size, columns = graph.size(operator.type.rows), graph.size(operator.type.cols)
            yield ProductShape(copies_of(graph, operator.type, batch), columns, size, size), flops


def of_matrices(graph: Graph, operator: Operator, types: Sequence[Type], batch: int) -> ProductShape:
    """One linear layer where one factor is a weight: the heads of a weight lie side by side."""
    left, right = types[0], types[1]
    rows, inner, columns = graph.size(left.rows), graph.size(left.cols), graph.size(right.cols)
    if left.batch and right.batch:
        return ProductShape(copies_of(graph, operator.type, batch), rows, inner, columns)
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
    shape = ProductShape(copies_of(graph, value, batch), tokens, graph.size(key.rows), graph.size(key.cols))
    return shape, flops * width // (width + SOFTMAX_FLOPS)


def training_flops(compilation: Compilation, network: nn.Module, batch: int) -> int:
    """Of a forward and a backward pass over `batch` inputs: those of its products alone, as an MFU counts them.

    Products of weights alone, as in `I + eta D' - eta D'D`, are made once per pass, however many inputs it has.
    """
    return sum((1 + product.backward) * product.flops for product in products(compilation, network, batch))


def forward_flops(compilation: Compilation, network: nn.Module, batch: int) -> int:
    """Of a forward pass over `batch` inputs."""
    return sum(product.flops for product in products(compilation, network, batch))
