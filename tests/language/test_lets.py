"""Lets and declared learned matrices as the checker leaves them."""

from __future__ import annotations

import pytest
import torch

from crate_dsl.compiler import Compilation
from crate_dsl.errors import Source
from crate_dsl.language.check import check
from crate_dsl.language.model import Block, Model, Shape
from crate_dsl.language.parse import parse
from crate_dsl.library.vocabulary import VOCABULARY
from crate_dsl.loading import module_of
from crate_dsl.mathematics.explain import text as explained
from crate_dsl.operators.summary import summary
from tests.specs import derived
from tests.steps import CASES, text_of

TOP = """network Shared
size image = 8, patch = 4, channels = 1, d = 12, K = 3, p = 5, L = 2
learn gain: d x 1 = constant(0.1), b: K of p x 1 = normal(0.5)
energy e(Z: d x N | U: K of d x p, b: K of p x 1) = 1/2 * sum(k in K) norm2(U[k]' * Z .+ b[k])
input image(channels, image, image)
tokens Z: d x N = patches(patch)
encoder repeat L { compress Z by e(Z | U, b) { norm layer; step gain } }
decoder repeat L = inverse(encoder)
head patches
"""


def model_of(text: str) -> Model:
    return check(parse(Source("lets.crate", text)), VOCABULARY)


def block_of(case: str) -> Block:
    return model_of(text_of(CASES[case])).blocks[0]


def test_a_let_has_the_shape_of_its_value() -> None:
    (let,) = block_of("memberships").steps[0].lets
    assert (let.name, let.index, let.shape) == ("Pi", "k", Shape("N", "1", "K"))
    numbers = block_of("held_numbers").steps[0].lets
    assert [let.shape for let in numbers] == [Shape("1", "1", "K"), Shape("1", "1")]


def test_declared_matrices_are_parameters_with_their_start() -> None:
    parameters = {p.name: p for p in block_of("memberships").parameters}
    assert parameters["b"].shape == Shape("p", "1", "K") and parameters["b"].init.name == "normal"
    assert parameters["gain"].shape == Shape("d", "1") and not parameters["gain"].shared


def test_a_matrix_may_run_over_the_tokens_where_it_is_declared() -> None:
    parameters = {p.name: p for p in block_of("position_logits").parameters}
    assert parameters["bias"].shape == Shape("N", "1", "K")


def test_a_scalar_per_head_takes_its_family_from_the_let() -> None:
    (temp,) = block_of("memberships").scalars
    assert temp.family == "K"


@pytest.mark.parametrize("case", ["memberships", "held_numbers"])
def test_the_explanation_shows_every_let(case: str) -> None:
    page = explained(derived(text_of(CASES[case])))
    for let in block_of(case).steps[0].lets:
        assert f"{let.name}[k] = " in page if let.index else f"{let.name} = " in page
    assert page.count("let  [choice]") == len(block_of(case).steps[0].lets)


def test_a_matrix_declared_at_the_top_is_one_for_the_network() -> None:
    compilation = Compilation(Source("shared.crate", TOP), None, {})
    network = module_of(compilation.text, "Shared").Shared()
    steps = [*(layer.compress for layer in network.encoder), *(layer.denoise for layer in network.decoder)]
    assert len({id(step.gain) for step in steps}) == len({id(step.b) for step in steps}) == 1
    assert len({id(step.U) for step in steps}) == 4
    assert summary(compilation.optimised).parameters == sum(p.numel() for p in network.parameters())
    assert torch.equal(steps[0].gain, torch.full((12,), 0.1))
