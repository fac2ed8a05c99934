"""The graph half of the certificate, and that it can fail."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sympy

from crate_dsl.certificate import certificate
from crate_dsl.compiler import Compilation, compile_spec
from crate_dsl.errors import CrateError, Source
from crate_dsl.mathematics.derivation import Derivation
from crate_dsl.operators.freeze import freeze
from crate_dsl.operators.interpret import interpret
from crate_dsl.operators.lower import lower
from crate_dsl.operators.verify import distinct_sizes, random_inputs

SPEC = Path(__file__).parent.parent / "specs" / "crate.crate"


def compiled() -> Compilation:
    return compile_spec(SPEC, preset="digits")


def tampered(derivation: Derivation) -> Derivation:
    """The same derivation with the first assignment of the first step doubled."""
    block = derivation.blocks[0]
    step = block.steps[0]
    first = step.assignments[0]
    wrong = replace(first, value=first.value.scaled(sympy.Integer(2)))
    steps = (replace(step, assignments=(wrong, *step.assignments[1:])), *block.steps[1:])
    return replace(derivation, blocks=(replace(block, steps=steps), *derivation.blocks[1:]))


def test_graphs_are_certified() -> None:
    text, passed = certificate(compiled())
    assert passed and text.count("optimised graphs") == 2 and "FAILED" not in text


def test_frozen_graphs_are_certified() -> None:
    compilation = compile_spec(SPEC, preset="digits", freeze=True)
    text, passed = certificate(compilation)
    assert passed and text.count("folded and frozen graphs") == 2
    compilation.__dict__["optimised"] = freeze(lower(tampered(compilation.derivation)))
    text, passed = certificate(compilation)
    assert not passed and "FAILED" in text


def test_a_wrong_lowering_is_caught() -> None:
    compilation = compiled()
    compilation.__dict__["program"] = lower(tampered(compilation.derivation))
    text, passed = certificate(compilation)
    assert not passed and text.count("FAILED") == 1


def test_a_wrong_pass_is_caught() -> None:
    compilation = compiled()
    compilation.__dict__["optimised"] = lower(tampered(compilation.derivation))
    text, passed = certificate(compilation)
    assert not passed and "FAILED" in text


def of_energy(energy: str, loss: str = "", head: str = "head tokens") -> Compilation:
    text = (
        f"network Odd\nsize d = 6, N = 4\nreal eta = 0.02, zero = 0\nenergy e(Z: d x N) = {energy}\n{loss}\n"
        "input vectors(d, N)\ntokens Z: d x N = vectors\n"
        f"encoder repeat 1 {{ compress Z by e(Z) {{ step eta }} }}\n{head}\n"
    )
    return Compilation(Source("odd.crate", text), None, {})


@pytest.mark.parametrize(
    "energy", ["norm2(Z) + 1e60", "logdet(I + zero * Z' * Z)", "zero * norm2(Z)", "total(exp(1e-60 * Z))"]
)
def test_rounding_of_an_energy_is_no_failure(energy: str) -> None:
    assert certificate(of_energy(energy))[1]


@pytest.mark.parametrize("energy", ["total(exp(1e60 * Z))", "total(log(Z - 9 * Z .* Z))"])
def test_an_energy_without_a_value_is_not_verified(energy: str) -> None:
    text, passed = certificate(of_energy(energy))
    assert not passed and "the energy has no finite value at the reference point" in text


def test_a_singular_matrix_is_an_error_with_a_place() -> None:
    with pytest.raises(CrateError, match="odd.crate:8:20: this step cannot be computed"):
        certificate(of_energy("logdet(I - 1e60 * Z' * Z) + logdet(I + 1e60 * Z * Z')"))


@pytest.mark.parametrize("energy", ["1/(d - 7) * norm2(Z)", "sqrt(d - 5.5) * norm2(Z)", "log(N - 3) * norm2(Z)"])
def test_sizes_at_which_a_number_has_no_value_are_left_out(energy: str) -> None:
    """Graphs are compared at small random sizes, which a spec need not allow for."""
    compilation = of_energy(energy)
    assert certificate(compilation)[1]
    before = compilation.program.blocks[0].steps[0].forward
    with np.errstate(all="raise"):
        interpret(replace(before, sizes=distinct_sizes(before)), random_inputs(before))


@pytest.mark.parametrize("n", ["d - 7", "(d - 7) * total(Z .* Z)"])
def test_held_numbers_are_verified_where_they_have_a_value(n: str) -> None:
    """Also numbers of which 1/n is taken, and those free of the tokens."""
    text = (
        "network Odd\nsize d = 6, N = 4\nenergy e(Z: d x N, n: real) = norm2(Z) / n\ninput vectors(d, N)\n"
        "tokens Z: d x N = vectors\nhead tokens\n"
        f"encoder repeat 1 {{ compress Z by e(Z, n) {{ let n = {n}; step 0.1 }} }}\n"
    )
    compilation = Compilation(Source("odd.crate", text), None, {})
    assert certificate(compilation)[1]
    before = compilation.program.blocks[0].steps[0].forward
    before = replace(before, sizes=distinct_sizes(before))
    assert all(np.isfinite(value).all() for value in interpret(before, random_inputs(before)).values())


@pytest.mark.parametrize("loss", ["0 * e(Z)", "0 * e(Z) + 0.1 * e(Z)", "zero * e(Z)", "1/(N - 5) * e(Z)"])
def test_penalties_may_weigh_nothing(loss: str) -> None:
    text, passed = certificate(of_energy("norm2(Z)", f"loss cross_entropy + {loss}", "head classify(3) of mean"))
    assert passed and "stated energies" in text
