"""The graph half of the certificate, and that it can fail."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import sympy

from crate_dsl.certificate import certificate
from crate_dsl.compiler import Compilation, compile_spec
from crate_dsl.mathematics.derivation import Derivation
from crate_dsl.operators.freeze import freeze
from crate_dsl.operators.lower import lower

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
