"""A norm that nothing reads is refused; one that only a held number or a skip reads is not."""

import pytest

from crate_dsl.errors import CrateError
from tests.specs import derived

NETWORK = """network Reading
size d = 6, N = 4
energy half(Z: d x N) = 1/2 * norm2(Z)
energy scaled(Z: d x N, n: real) = n * norm2(Z)
input vectors(d, N)
tokens Z: d x N = vectors
encoder repeat 2 {{
    {step}
}}
head tokens
"""


@pytest.mark.parametrize(
    "step",
    [
        "compress Z by half(Z) { norm layer; residual normed; step 1/2 }",
        "compress Z by scaled(Z, n) { norm layer; let n = total(Z .* Z) / (d * N); step 1/4 }",
        "prox Z by half(Z) { norm layer; step 1/2 }",
    ],
)
def test_norm_is_read(step: str) -> None:
    assert derived(NETWORK.format(step=step)).blocks[0].steps


def test_norm_is_not_read() -> None:
    with pytest.raises(CrateError, match="nothing reads this norm"):
        derived(NETWORK.format(step="compress Z by half(Z) { norm layer; step 1/2 }"))


def test_step_that_forgets_the_tokens() -> None:
    with pytest.raises(CrateError, match="nothing of Z is left"):
        derived(NETWORK.format(step="compress Z by half(Z) { step 1 }"))
