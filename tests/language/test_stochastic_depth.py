"""The `stochastic depth` line: its rule and its rate, which presets and the command line may set."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from crate_dsl.compiler import compile_spec
from crate_dsl.errors import CrateError
from crate_dsl.language.model import Word
from crate_dsl.mathematics.explain import text as explained
from tests.specs import COMPRESS, HEADER, derived, encoder, spec

TOST = Path(__file__).parents[2] / "specs" / "tost.crate"
NUMBERS = HEADER + "real drop = 0.1\npreset deep { drop = 0.2 }\n"


def text(line: str, header: str = NUMBERS) -> str:
    return spec(encoder(COMPRESS), head=f"head patches\n{line}\n", header=header)


def word(line: str, preset: str | None = None, **overrides: str) -> Word | None:
    return derived(text(line), preset, **overrides).model.depth


def test_no_line_no_depth() -> None:
    assert word("") is None


def test_a_number_or_a_real_that_presets_and_overrides_replace() -> None:
    assert word("stochastic depth uniform(0.25)") == Word("uniform", (Fraction(1, 4),))
    assert word("stochastic depth linear(drop)") == Word("linear", (Fraction(1, 10),))
    assert word("stochastic depth linear(2 * drop)", "deep") == Word("linear", (Fraction(2, 5),))
    assert word("stochastic depth linear(drop)", "deep", drop="0") == Word("linear", (Fraction(0),))


def test_the_real_is_used() -> None:
    unused = 'real "drop" is not used'
    assert unused in str(derived(text("")).model.warnings)
    assert unused not in str(derived(text("stochastic depth linear(drop)")).model.warnings)


@pytest.mark.parametrize("rate", ["-0.1", "1", "0.99999999999999999999"])
def test_a_rate_is_less_than_one_also_as_a_float(rate: str) -> None:
    with pytest.raises(CrateError, match="must be a number from 0 to below 1"):
        word("stochastic depth linear(drop)", drop=rate)


def test_depth_is_no_reserved_word() -> None:
    named = text("stochastic depth linear(0.1)", NUMBERS.replace("L = 2", "depth = 2")).replace(
        "repeat L", "repeat depth"
    )
    assert derived(named).model.blocks[0].repeat == 2


def test_explained() -> None:
    said = " ".join(explained(derived(text("stochastic depth linear(drop)"))).split())
    assert "stochastic depth linear(0.1) in training, at this rate, rising from 0 to 0.1 over the layers" in said
    assert "stochastic depth" not in explained(derived(text("")))


@pytest.mark.parametrize(("preset", "rate"), [("tiny", 0), ("small", 0.05), ("medium", 0.15)])
def test_tost_has_its_official_rates(preset: str, rate: float) -> None:
    """`--drop-path` in tost_vision/README.md; every layer has the same: `dpr` in tost_vision/tost.py."""
    found = compile_spec(TOST, preset).model.depth
    assert (found.name, float(found.arguments[0])) == ("uniform", rate)
