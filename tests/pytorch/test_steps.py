"""Every written step computes what its unoptimised graph means, and so does its energy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from crate_dsl.compiler import Compilation
from crate_dsl.errors import Source
from crate_dsl.loading import module_of
from crate_dsl.operators.interpret import interpret
from crate_dsl.operators.lower import held_name
from crate_dsl.operators.program import StepProgram
from crate_dsl.operators.uses import inputs_of
from tests.pytorch.running import columns, network_of, step_inputs
from tests.steps import CASES, program_of

CASE = pytest.mark.parametrize("case", CASES)
ESTIMATED = """network Estimated
size d = 6, K = 3, p = 2
energy shares(Z: d x N | U: K of d x p, Pi: K of N x 1) = 1/2 * sum(k in K) norm2(U[k]' * Z * diag(Pi[k]))
input vectors(d, 8)
tokens Z: d x N = vectors
encoder repeat 2 {
    learn V: K of d x p = linear
    compress Z by shares(Z | U, Pi) { given Pi[k in K] ~ softmax(k in K) column_norms(V[k]' * Z)' }
}
head tokens
"""


def assert_equal(ours: Tensor, oracle: np.ndarray) -> None:
    found = columns(ours) if ours.ndim == 3 else ours.detach().numpy()
    np.testing.assert_allclose(found, oracle, rtol=1e-10, atol=1e-10 * np.abs(oracle).max())


def read_tokens(module: nn.Module, step: StepProgram, z: Tensor) -> tuple[Tensor, dict[str, np.ndarray]]:
    v = module.norm(z) if step.derived.step.norm else z
    held = {held_name(step.derived): columns(v)}
    return v, {step.derived.raw.name: columns(z), step.derived.read.name: columns(v), **held}


@CASE
def test_forward(case: str) -> None:
    program = program_of(CASES[case])
    network = network_of(program)
    for step in program.steps:
        module = getattr(network.encoder[1], step.derived.step.label)
        z = torch.randn(2, 17, 12, dtype=torch.float64)
        v, tokens = read_tokens(module, step, z)
        inputs = step_inputs(module, step, program, tokens)
        if step.code:
            code = interpret(step.code, inputs)["code"][:, 0]
            assert_equal(module.code(v), code)
            for name in inputs_of(step.forward):
                inputs.matrices.setdefault(name, code)
        assert_equal(module(z), interpret(step.forward, inputs)["result"][:, 0])


@CASE
def test_energy(case: str) -> None:
    program = program_of(CASES[case])
    network = network_of(program)
    for step in program.steps:
        module, variable = getattr(network.encoder[0], step.derived.step.label), step.derived.objective.variable
        v, tokens = read_tokens(module, step, torch.randn(2, 17, 12, dtype=torch.float64))
        given = [name for name in inputs_of(step.energy) if name != variable.name]
        x = torch.randn(2, 17, step.block.sizes[variable.rows], dtype=torch.float64)
        inputs = step_inputs(module, step, program, {**tokens, variable.name: columns(x)})
        wanted = np.broadcast_to(interpret(step.energy, inputs)["energy"].ravel(), (2,))  # constraints alone: one zero
        assert_equal(module.energy(x, *(v for _ in given)), wanted)


@CASE
def test_gradients_reach_every_parameter(case: str) -> None:
    network = network_of(program_of(CASES[case]))
    network(torch.randn(3, 1, 8, 8, dtype=torch.float64)).square().sum().backward()
    trained = [(name, p.grad) for name, p in network.named_parameters() if p.requires_grad]
    assert [name for name, gradient in trained if gradient is None or not gradient.isfinite().all()] == []
    assert len(trained) == len(list(network.parameters())) or case == "fixed"


def test_energies_are_those_of_normed_and_of_raw_tokens() -> None:
    network = network_of(program_of(CASES["exact"]))
    images = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    step, z = network.encoder[0].compress, network.tokens(images)
    normed, raw = network.energies(images), network.energies(images, raw=True)
    assert list(normed) == ["encoder.0.compress", "encoder.1.compress"]
    torch.testing.assert_close(raw["encoder.0.compress"], (step.energy(z), step.energy(step(z))))
    expected = (step.energy(step.norm(z)), step.energy(step.norm(step(z))))
    torch.testing.assert_close(normed["encoder.0.compress"], expected)


def test_sparse_coding_lowers_its_energy() -> None:
    network = network_of(program_of(CASES["read_out"]))
    before, after = network.energies(torch.randn(2, 1, 8, 8, dtype=torch.float64))["encoder.0.sparsify"]
    assert (after < before).all()


def test_a_parameter_of_two_steps_is_one() -> None:
    network = network_of(program_of(CASES["one_parameter_in_two_steps"]))
    layer = network.encoder[0]
    assert layer.compress.U is layer.denoise.U
    assert layer.denoise.log_gamma is network.encoder[1].sparsify.log_gamma, "a scalar declared at the top"
    assert layer.compress.U is not network.encoder[1].compress.U


def test_shared_parameters_are_those_of_all_layers() -> None:
    first, second = network_of(program_of(CASES["shared_by_layers"])).encoder
    assert first.compress.U is second.compress.U
    assert first.sparsify.D is second.sparsify.D


def test_what_an_estimate_reads_is_trained_and_counted() -> None:
    """A matrix that stands in nothing but the estimate of a quantity: the forward pass makes that estimate."""
    compilation = Compilation(Source("estimated.crate", ESTIMATED), None, {})
    network = getattr(module_of(compilation.text, compilation.class_name), compilation.class_name)()
    network(torch.randn(2, 8, 6)).square().sum().backward()
    assert all(layer.compress.V.grad.any() for layer in network.encoder)
    assert compilation.costs.parameters == sum(parameter.numel() for parameter in network.parameters())
