"""Numbers of a spec that are no finite real numbers, or none that a network could hold, are refused in their place."""

from __future__ import annotations

import pytest

from crate_dsl.errors import CrateError
from tests.specs import derived

TEXT = """network T
size d = 6, K = 2, p = 3, N = 4
real mu = 0.7, eta = 0.02
preset even {{ mu = 1 }}
energy e(Z: d x N) = {energy}
input vectors(d, N)
tokens Z: d x N = vectors
encoder repeat 1 {{ {learn}; compress Z by e(Z) {{ step {step} }} }}
head tokens
"""


def spec(energy: str = "norm2(Z)", step: str = "eta", learn: str = "learn U0: d x 1 = zeros") -> str:
    return TEXT.format(energy=energy, step=step, learn=learn)


REFUSED = {
    "1/0": "division by zero",
    "0^-1": "division by zero",
    "1/0.0": "division by zero",
    "1/(d - 6)": "division by zero\n.*\n.*\nwith d = 6",
    "1/(mu - 0.7)": "division by zero\n.*\n.*\nwith mu = 7/10",
    "(mu - 0.7)^-2": "division by zero",
    "log(0)": "log is defined for numbers greater than 0",
    "log(-2)": "log is defined for numbers greater than 0",
    "log1p(mu - 2)": "log1p is defined for numbers greater than -1\n.*\n.*\nwith mu = 7/10",
    "sqrt(-1)": "the square root of a negative number is no real number",
    "sqrt(mu - 1)": "the square root of a negative number is no real number\n.*\n.*\nwith mu = 7/10",
    "(-2)^0.5": "this power of a negative number is no real number",
    "10^1000": "this power is not a number of reasonable size\n.*\n.*\nexponents go from -60 to 60",
    "10^10^10": "this power is not a number of reasonable size",
    "2^1000000000": "this power is not a number of reasonable size",
    "2^(1000000000 * d)": "this power is not a number of reasonable size",
    "(10^60)^2": "this number is not of reasonable size\n.*\n.*\nnumbers go from",
    "exp(1000)": "this number is not of reasonable size",
    "exp(-1000)": "this number is not of reasonable size",
    "(1 + 10^-40)^60": "this number is absurdly long",
}


@pytest.mark.parametrize("number", REFUSED)
def test_is_refused_with_its_place(number: str) -> None:
    for text in (spec(f"{number} * norm2(Z)"), spec(step=number)):
        with pytest.raises(CrateError, match=REFUSED[number]) as error:
            derived(text)
        span = error.value.diagnostics[0].span
        assert span.source.text[span.start : span.end] == number


def test_a_divisor_of_a_matrix() -> None:
    with pytest.raises(CrateError, match="division by zero"):
        derived(spec("norm2(Z) / (mu - 0.7)"))


def test_the_numbers_in_force_count() -> None:
    """Those of a preset, and those of the command line."""
    text = spec("1/(mu - 1) * norm2(Z)")
    derived(text)
    for preset, overrides in (("even", {}), (None, {"mu": 1})):
        with pytest.raises(CrateError, match="division by zero\n.*\n.*\nwith mu = 1"):
            derived(text, preset, **overrides)


@pytest.mark.parametrize("learn", ["learn kappa = 1", "learn kappa = 0"])
@pytest.mark.parametrize("number", ["1/kappa", "sqrt(kappa)", "log(kappa)", "2^kappa"])
def test_learned_scalars_have_no_fixed_value(number: str, learn: str) -> None:
    derived(spec(step=number, learn=learn))


def test_their_sign_is_known() -> None:
    with pytest.raises(CrateError, match="square root of a negative number"):
        derived(spec(step="sqrt(-kappa)", learn="learn kappa > 0 = 1"))


@pytest.mark.parametrize("number", ["sqrt(2)", "2^(1/3)", "(-2)^3", "mu^60", "1e60", "log(10^60 + 7)", "(mu - 0.7)^0"])
def test_other_numbers_are_taken(number: str) -> None:
    derived(spec(f"{number} * norm2(Z)"))
