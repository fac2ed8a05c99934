"""Causal steps: token t of the result depends on tokens 1..t alone, and descends the energy of that prefix."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from crate_dsl import load
from crate_dsl.certificate import certificate
from crate_dsl.compiler import Compilation
from crate_dsl.errors import CrateError, Source
from tests.pytorch.running import in_parts, network_of
from tests.steps import CASES, program_of, text_of

SPECS = Path(__file__).parents[2] / "specs"
CAUSAL = [case for case in CASES if case.startswith("causal")]
HELD = {"Pi[k", "A"}  # quantities of every token: those of the tokens before stay as they were
CLOSE = {"rtol": 1e-10, "atol": 1e-10}
ATTENTION = "inverse ~ neumann(1); frame ~ identity; gram ~ softmax(1/sqrt(p)); coefficients ~ absorbed"


def first_step(network: nn.Module) -> nn.Module:
    return next(network.encoder[0].children())


@pytest.mark.parametrize("case", CAUSAL)
def test_a_later_token_changes_nothing_before_it(case: str) -> None:
    network = network_of(program_of(CASES[case]))
    step, z = first_step(network), torch.randn(2, 17, 12, dtype=torch.float64)
    changed = z.clone()
    changed[:, 9:] = torch.randn(2, 8, 12)
    before, after = step(z), step(changed)
    assert torch.equal(before[:, :9], after[:, :9])
    assert not torch.allclose(before[:, 9:], after[:, 9:])
    assert network.causal is True


@pytest.mark.parametrize("case", [case for case in CAUSAL if not HELD & set(CASES[case].split())])
def test_the_last_token_is_that_of_the_step_on_its_prefix(case: str) -> None:
    """Against the same step without the word `causal`, run on every prefix."""
    networks = [network_of(program_of(text), seed=3) for text in (CASES[case], CASES[case].replace("causal; ", ""))]
    causal, whole = map(first_step, networks)
    z = torch.randn(2, 17, 12, dtype=torch.float64)
    torch.testing.assert_close(causal(z), torch.stack([last(whole, z[:, :t]) for t in range(1, 18)], 1), **CLOSE)


def last(step: nn.Module, prefix: Tensor) -> Tensor:
    """The last token of a written step, N meaning the number of tokens that it is given."""
    type(step).forward.__globals__["N"] = prefix.shape[1]
    return step(prefix)[:, -1]


@pytest.mark.parametrize("sizes", [(1,) * 17, (17,), (3, 5, 1, 8), (1, 16)], ids=str)
@pytest.mark.parametrize("case", CAUSAL)
def test_tokens_in_parts_give_the_same(case: str, sizes: tuple[int, ...]) -> None:
    """One after another, all at once, and otherwise; gradients too."""
    step = first_step(network_of(program_of(CASES[case])))
    z = torch.randn(2, 17, 12, dtype=torch.float64, requires_grad=True)
    found, wanted = in_parts(step.advance, z, *sizes), step(z)
    torch.testing.assert_close(found, wanted, **CLOSE)
    weights = torch.randn_like(found)
    slopes = (torch.autograd.grad((value * weights).sum(), z)[0] for value in (found, wanted))
    torch.testing.assert_close(*slopes, **CLOSE)


@pytest.mark.parametrize(("case", "grows"), [("causal_exact", False), ("causal_linear", False), ("causal", True)])
def test_what_is_kept_from_token_to_token(case: str, grows: bool) -> None:
    """A p x p matrix per head where sums suffice; keys and values of every token where softmax attention stays."""
    step, memory, sizes = first_step(network_of(program_of(CASES[case]))), {}, []
    for count in (1, 7, 1, 1, 3):
        step.advance(torch.randn(2, count, 12, dtype=torch.float64), memory)
        sizes.append(sum(held.untyped_storage().nbytes() // 8 for held in memory.values()))
    assert (sizes[-1] > sizes[0]) is grows
    assert grows or sizes[0] == 2 * 3 * 5 * 5


@pytest.mark.parametrize("freeze", [False, True])
def test_weights_are_collected_for_many_tokens_alone(freeze: bool) -> None:
    """Of a text in parts: there are 64 features; a frozen network has them collected."""
    network = load(SPECS / "crate_gpt.crate", preset="text", L=1, freeze=freeze)
    text, memory, calls = torch.randint(256, (2, 100)), {}, []
    network.encoder[0].sparsify.register_forward_hook(lambda *_: calls.append("collected"))
    for part, collected in zip(text.split((1, 31, 33, 35), dim=1), (False, False, True, True), strict=True):
        calls.clear()
        network.advance(part, memory)
        assert bool(calls) is (collected or freeze)


def test_a_network_is_causal_where_every_step_that_mixes_tokens_is() -> None:
    steps = "compress Z by rate(Z, U) { %s%s; norm layer }\n sparsify Z by lasso(A | Z, D) { from Z; steps 2 of eta }"
    assert network_of(program_of(steps % ("causal; ", ATTENTION))).causal is True
    assert network_of(program_of(steps % ("", ATTENTION))).causal is False
    assert network_of(program_of("compress Z by smooth(Z, W) { step eta }")).causal is True, "no tokens are mixed"


@pytest.mark.parametrize("case", CAUSAL)
def test_is_certified(case: str) -> None:
    report, passed = certificate(Compilation(Source("causal.crate", text_of(CASES[case])), None, {}))
    assert passed and "finite differences in token t" in report


def test_what_has_no_causal_form_is_named() -> None:
    steps = "compress Z by rate(Z, U) { causal; inverse ~ neumann(2); gram ~ softmax(1/sqrt(p)) }"
    with pytest.raises(CrateError, match=r"no causal form: \(U\[K\]' \* Z\) \* softmax"):
        _ = Compilation(Source("causal.crate", text_of(steps)), None, {}).optimised
