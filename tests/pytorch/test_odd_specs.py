"""Specs at the edge of the language: what is written for them runs, learns, and is the same function in every form."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import crate_dsl
from crate_dsl import CrateError
from tests.pytorch.running import in_parts

HEAD = """network T
size {sizes}
size d = 6, K = 2, L = 2, p = d / K, m = 4
real eta = 0.1, lambda = 0.1, mu = 0.5
"""
IMAGES = """
input image(channels, image, image)
tokens Z: d x N = patches(patch, norm) + class_token + position(learned)
encoder repeat L {{ {step} }}
norm layer
head classify(classes) of class_token
"""
TEXTS = """
input text(length, vocabulary)
tokens Z: d x N = embedding + position(learned)
encoder repeat L {{ {step} }}
head vocabulary(tied)
"""
RATE = "energy rate(Z: d x N, U: K of d x p) = 1/2 * sum(k in K) logdet(I + (U[k]' * Z)' * (U[k]' * Z))"
MSSA = "compress Z by rate(Z, U) {{norm layer; inverse ~ neumann(1); frame ~ identity; gram ~ {gram}}}"
ODD = {
    "sums of rows": ("energy e(Z: d x N) = norm2(row_sums(Z))", "compress Z by e(Z) {step 0.05}"),
    "equal weights": (RATE, MSSA.format(gram="softmax(0)")),
    "equal weights both ways": (RATE, MSSA.format(gram="bisoftmax(0)")),
    "no weights": (RATE, MSSA.format(gram="threshold(0.5, 0)")),
    "an affine map": (
        "energy e(Z: d x N, W: d x m, c: m x 1) = norm2(W' * Z .+ c)",
        "learn c: m x 1 = constant(0.1)\ncompress Z by e(Z, W, c) {norm layer; step 0.05}",
    ),
    "a constant gradient": ("energy e(Z: d x N) = total(Z)", "compress Z by e(Z) {step 0.05}"),
    "sums of columns": ("energy e(Z: d x N) = norm2(column_sums(Z))", "compress Z by e(Z) {norm layer; step 0.05}"),
    "a constant penalty": (
        "energy s(A: d x N | X: d x N, D: d x d) = 1/2 * norm2(X - D * A) + lambda * total(A) + nonnegative(A)",
        "sparsify Z by s(A | Z, D) {norm layer; from Z; steps 1 of eta}",
    ),
    "a learned diagonal": (
        "energy e(Z: d x N, v: d x 1) = total(diag(v) * Z .^ 2)",
        "learn v: d x 1 = constant(0.4)\ncompress Z by e(Z, v) {step 0.05}",
    ),
    "a solve of what its matrix is made of": (
        "energy e(Z: d x N) = logdet(I + (Z' * Z) * (Z' * Z)) + norm2(Z' * Z)",
        "compress Z by e(Z) {norm layer; step 0.02}",
    ),
    "a solve for one token": (
        "energy e(Z: d x N) = logdet(I + 0.1 * (Z' * Z) * (Z' * Z) * (Z' * Z))",
        "compress Z by e(Z) {norm layer; step 0.02}",
    ),
    "a solve of a number": (
        "energy e(Z: d x N, v: d x 1) = logdet(I + (v * column_sums(Z)) * (v * column_sums(Z))')",
        "compress Z by e(Z, v) {norm layer; step 0.02}",
    ),
    "a solve": ("include codes", "solve Z by ridge(A | Z, D, mu) {norm layer}"),
    "a number by name": (
        "energy e(Z: d x N, n: real) = n * total(Z .^ 3) + norm2(Z) / n",
        "learn beta = 2\ncompress Z by e(Z, n) {norm layer; let q = 1 / N; let n = beta + q; step 0.05}",
    ),
    "a fixed number by name": (
        "energy e(Z: d x N, n: real) = n * total(Z .^ 3)",
        "compress Z by e(Z, n) {norm layer; let n = 1 / N; step 0.05}",
    ),
    "the number e": ("energy e(Z: d x N) = exp(1) * norm2(Z)", "compress Z by e(Z) {step 0.05}"),
    "a large number": ("energy e(Z: d x N) = 1e30 * norm2(Z)", "compress Z by e(Z) {step 1e-31}"),
}


def spec_of(
    energy: str, step: str, body: str = IMAGES, sizes: str = "image = 8, patch = 4, channels = 2, classes = 3"
) -> str:
    return HEAD.format(sizes=sizes) + energy + body.format(step=step)


def network(folder: Path, text: str, freeze: bool = False) -> nn.Module:
    (folder / "odd.crate").write_text(text)
    torch.manual_seed(0)
    return crate_dsl.load(folder / "odd.crate", freeze=freeze).double()


@pytest.mark.parametrize("name", ODD)
def test_all_forms_are_one_function(name: str, tmp_path: Path) -> None:
    """As trained, without the pruned last layer, and frozen; it learns, also under autocast."""
    whole, frozen = (network(tmp_path, spec_of(*ODD[name]), freeze) for freeze in (False, True))
    frozen.load_state_dict(whole.state_dict())
    images = torch.randn(3, 2, 8, 8, dtype=torch.float64)
    value = whole(images)
    z = whole.tokens(images)
    for layer in whole.encoder:
        z = layer(z)
    for other in (whole.head(whole.encoder_norm(z[:, 0])), frozen(images)):
        torch.testing.assert_close(other, value, rtol=1e-10, atol=1e-10)
    value.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in whole.parameters() if parameter.grad is not None)
    whole, images = whole.float(), images.float()
    with torch.autocast("cpu", torch.bfloat16):
        assert whole(images).isfinite().all()
        assert all(value.isfinite().all() for pair in whole.energies(images).values() for value in pair)


def test_a_number_of_tokens_that_stands_twice(tmp_path: Path) -> None:
    """In a text that comes in parts it is counted once per part."""
    energy, step = (
        "energy e(Z: d x N) = norm2(Z) / N",
        "compress Z by e(Z) {causal; norm layer; residual normed; step 0.05}",
    )
    causal = network(tmp_path, spec_of(energy, step, TEXTS, "length = 5, vocabulary = 7"))
    text = torch.randint(7, (2, 5))
    for sizes in ((1,) * 5, (5,), (2, 3)):
        torch.testing.assert_close(in_parts(causal.advance, text, *sizes), causal(text), rtol=1e-10, atol=1e-10)


PLACED = {
    "a gradient": (
        "energy e(Z: d x N, c: N x 1) = norm2(Z * diag(c))",
        "learn c: N x 1 = normal(1)\ncompress Z by e(Z, c) {norm layer; step 0.05}",
    ),
    "a code": (
        "energy e(A: d x N | X: d x N, B: d x N) = 1/2 * norm2(X - A) + total(B .* A) + lambda * l1(A)",
        "learn B: d x N = normal(1)\nsparsify Z by e(A | Z, B) {norm layer; from Z; steps 2 of eta}",
    ),
}


@pytest.mark.parametrize("freeze", [False, True])
@pytest.mark.parametrize("name", PLACED)
def test_what_is_learned_for_every_place_is_taken_from_there(name: str, freeze: bool, tmp_path: Path) -> None:
    """In a text that comes in parts too, by a step that mixes no tokens; it ends with the places."""
    body = TEXTS.replace(" + position(learned)", "")
    spec = spec_of(*PLACED[name], body, "length = 5, vocabulary = 7")
    placed, text = network(tmp_path, spec, freeze), torch.randint(7, (2, 5))
    for sizes in ((1,) * 5, (5,), (2, 3)):
        torch.testing.assert_close(in_parts(placed.advance, text, *sizes), placed(text), rtol=1e-10, atol=1e-10)
    with pytest.raises(ValueError, match="1 further tokens after 5"):
        in_parts(placed.advance, torch.cat((text, text[:, :1]), dim=1), 5, 1)


@pytest.mark.parametrize(
    ("energy", "step", "message"),
    [
        ("energy e(Z: d x N) = norm2(Z) / 0", "compress Z by e(Z) {step 0.05}", ":5:33: division by zero"),
        (RATE, MSSA.format(gram="scaled(0)"), "a scale of 0 leaves nothing of the Gram"),
        ("energy e(Z: d x N) = norm2(Z) ^ 2", "compress Z by e(Z) {step 0.05}", "what a power is taken of"),
    ],
)
def test_what_is_refused(energy: str, step: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(CrateError) as error:
        network(tmp_path, spec_of(energy, step))
    assert message in str(error.value)


def test_an_identity_beside_what_is_learned_for_every_pair_of_places(tmp_path: Path) -> None:
    """The step adds B (I - S'), a value without tokens; what is learned of S is sliced to the tokens that are there."""
    spec = (
        "network T; size d = 6, N = 5; energy e(Z: d x N | S: N x N, B: d x N) = total((Z - Z * S) .* B)\n"
        "input vectors(d, N); tokens Z: d x N = vectors\n"
        "encoder repeat 1 { learn S: N x N = normal(1), B: d x N = normal(1); descend Z by e(Z | S, B) { step 0.1 } }\n"
        "head tokens\n"
    )
    written, z = network(tmp_path, spec.replace("; ", "\n")), torch.randn(2, 5, 6, dtype=torch.float64)
    step = written.encoder[0].descend
    torch.testing.assert_close(step(z), z - 0.1 * (step.B - step.B @ step.S.T).T, rtol=1e-10, atol=1e-10)
