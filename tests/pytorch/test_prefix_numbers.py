"""A number that counts the tokens, held by a causal step: in column t that of the first t tokens."""

import pytest
import torch

from tests.pytorch.running import network_of
from tests.steps import program_of

STEP = "compress Z by weighed(Z, U, n, s) {{ {causal}let n = {number}; let s = 1 / N; step eta / 9 }}"


@pytest.mark.parametrize(
    "number", ["1 / N", "1 / N + mu", "gamma / N", "total(Z .* Z) / (N + 1)", "log(N + 1)", "exp(-gamma * N)"]
)
def test_number_of_every_prefix(number: str) -> None:
    texts = [STEP.format(causal=word, number=number) for word in ("causal; ", "")]
    causal, whole = (next(network_of(program_of(text), seed=3).encoder[0].children()) for text in texts)
    z = torch.randn(2, 9, 12, dtype=torch.float64)
    for count in range(1, 10):
        type(whole).forward.__globals__["N"] = count
        torch.testing.assert_close(causal(z)[:, count - 1], whole(z[:, :count])[:, -1], rtol=1e-10, atol=1e-10)


def test_token_by_token() -> None:
    """Functions of the number of tokens so far, which is a column for all tokens and a number for one."""
    text = STEP.format(causal="causal; ", number="log(N + 1) * exp(-N)")
    step = next(network_of(program_of(text)).encoder[0].children())
    z, memory = torch.randn(2, 6, 12, dtype=torch.float64), {}
    found = torch.cat([step.advance(z[:, t : t + 1], memory) for t in range(6)], dim=1)
    torch.testing.assert_close(found, step(z), rtol=1e-10, atol=1e-10)
