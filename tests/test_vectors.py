"""Networks of vectors: the tokens as they are, with what may be added, under every head that fits."""

from __future__ import annotations

import pytest
import torch

from crate_dsl.compiler import Compilation
from crate_dsl.errors import Source
from crate_dsl.loading import module_of
from crate_dsl.mathematics.explain import text as explanation
from crate_dsl.operators.summary import summary

SPEC = """network Vectors
size d = 12, K = 3, p = 4, L = 2, count = 10
energy rate(Z: d x N, U: K of d x p) = 1/2 * sum(k in K) logdet(I + 1/N * (U[k]' * Z)' * (U[k]' * Z))
input vectors(d, count)
tokens Z: d x N = vectors ADDED
encoder repeat L { compress Z by rate(Z, U) { norm layer } }
norm layer
head HEAD
"""


def compiled(head: str, added: str = "", **sizes: int) -> Compilation:
    text = SPEC.replace("ADDED", added).replace("HEAD", head)
    return Compilation(Source("vectors.crate", text), None, sizes)


@pytest.mark.parametrize(
    ("head", "added", "shape"),
    [
        ("tokens", "", (2, 10, 12)),
        ("tokens", "+ class_token + position(learned)", (2, 11, 12)),
        ("classify(5) of mean", "+ position(learned)", (2, 5)),
        ("classify(5) of class_token", "+ class_token", (2, 5)),
    ],
)
def test_heads_and_what_is_added(head: str, added: str, shape: tuple[int, ...]) -> None:
    compilation = compiled(head, added)
    network = module_of(compilation.text, "Vectors").Vectors().double()
    vectors = torch.randn(2, 10, 12, dtype=torch.float64)
    assert network(vectors).shape == shape
    tokens = network.tokens(vectors)
    position = network.position if "position" in added else torch.zeros(1, tokens.shape[1], 12)
    torch.testing.assert_close((tokens - position)[:, -10:], vectors)
    assert network.token_count == tokens.shape[1]
    assert set(network.energies(vectors)) == {f"encoder.{n}.compress" for n in range(2)}
    trained = sum(p.numel() for p in network.parameters())
    assert summary(compilation.optimised).parameters == trained
    assert f"{tokens.shape[1]} tokens, 10 of them vectors" in explanation(compilation.derivation)


def test_the_number_of_vectors_may_be_the_number_of_tokens() -> None:
    """`input vectors(d, N)` with N a declared size, which can then be set."""
    text = SPEC.replace("count = 10", "N = 10").replace("(d, count)", "(d, N)").replace("ADDED", "")
    compilation = Compilation(Source("vectors.crate", text.replace("HEAD", "tokens")), None, {"N": 7})
    assert compilation.model.tokens.count == compilation.model.sizes["N"] == 7
    network = module_of(compilation.text, "Vectors").Vectors()
    assert network(torch.randn(1, 7, 12)).shape == (1, 7, 12)
