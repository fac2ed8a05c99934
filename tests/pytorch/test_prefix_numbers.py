"""A number that counts the tokens, held by a causal step: in column t that of the first t tokens."""

import pytest
import torch

from tests.pytorch.running import network_of
from tests.steps import program_of

STEP = "compress Z by weighed(Z, U, n, s) {{ {causal}let n = {number}; let s = 1 / N; step eta / 9 }}"


@pytest.mark.parametrize("number", ["1 / N", "1 / N + mu", "gamma / N", "total(Z .* Z) / (N + 1)"])
def test_number_of_every_prefix(number: str) -> None:
    texts = [STEP.format(causal=word, number=number) for word in ("causal; ", "")]
    causal, whole = (next(network_of(program_of(text), seed=3).encoder[0].children()) for text in texts)
    z = torch.randn(2, 9, 12, dtype=torch.float64)
    for count in range(1, 10):
        type(whole).forward.__globals__["N"] = count
        torch.testing.assert_close(causal(z)[:, count - 1], whole(z[:, :count])[:, -1], rtol=1e-10, atol=1e-10)
