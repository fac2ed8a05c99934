"""The exact causal network against a solve for every prefix, and its gradients against autograd of that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor, nn

from crate_dsl import load
from crate_dsl.compiler import compile_spec
from crate_dsl.operators.cost import cost
from crate_dsl.operators.graph import Graph
from runtime import sample
from runtime.sample import Reader
from tests.pytorch.running import in_parts

SPEC = Path(__file__).parents[1] / "specs" / "crate_gpt_exact.crate"
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return load(SPEC, preset="text", L=2).double()


def by_prefix(step: nn.Module, z: Tensor) -> Tensor:
    """`z_t - beta kappa sum_k U_k (I + beta S_t)^-1 w_t`, S_t the Gram of `w = U_k' norm(z)` at tokens 1..t."""
    w = torch.einsum("bnd,kpd->bknp", step.norm(z), step.U.unflatten(0, (4, 16)))
    beta, identity = step.log_beta.exp(), torch.eye(16, dtype=z.dtype)
    grams = [identity + beta * w[..., :t, :].mT @ w[..., :t, :] for t in range(1, z.shape[1] + 1)]
    solved = [torch.linalg.solve(gram, w[..., t, :, None]).squeeze(-1) for t, gram in enumerate(grams)]
    moved = torch.einsum("bknp,kpd->bnd", torch.stack(solved, dim=2), step.U.unflatten(0, (4, 16)))
    return z - beta * step.kappa * moved


@pytest.mark.parametrize("beta", [0.1, 10.0])
def test_every_prefix_and_its_gradients(network: nn.Module, beta: float) -> None:
    step, z = network.encoder[1].compress, torch.randn(2, 128, 64, dtype=torch.float64, requires_grad=True)
    nn.init.constant_(step.log_beta, torch.tensor(beta).log().item())
    found, wanted = step(z), by_prefix(step, z)
    torch.testing.assert_close(found, wanted, **CLOSE)
    leaves, weights = (z, *step.parameters()), torch.randn_like(found)
    ours, theirs = (torch.autograd.grad((value * weights).sum(), leaves) for value in (found, wanted))
    torch.testing.assert_close(ours, theirs, **CLOSE)


def test_a_later_word_changes_no_prediction_before_it(network: nn.Module) -> None:
    words = torch.randint(256, (2, 128))
    later = words.clone()
    later[:, 100:] = (later[:, 100:] + 1) % 256
    before, after = network(words), network(later)
    torch.testing.assert_close(before[:, :100], after[:, :100], rtol=1e-12, atol=1e-12)
    assert not torch.isclose(before[:, 100:], after[:, 100:]).all(-1).any()
    assert network.causal is True


@pytest.mark.parametrize("name", ["crate_gpt", "crate_gpt_exact"])
def test_words_in_parts_give_the_same_predictions(name: str) -> None:
    network = load(SPEC.with_stem(name), preset="text", L=2).double()
    words = torch.randint(256, (2, 128))
    for sizes in ((1,) * 128, (128,), (3, 5, 1, 119), (70, 1, 57)):
        torch.testing.assert_close(in_parts(network.advance, words, *sizes), network(words), **CLOSE)


def test_the_last_prediction_alone() -> None:
    network = load(SPEC, preset="text", L=1, length=8).double()
    words, memory = torch.randint(256, (2, 8)), {}
    for part in words.split((3, 1, 4), dim=1):
        last = network.advance(part, memory, only_last=True)
    torch.testing.assert_close(last, network(words)[:, -1:], **CLOSE)


def test_a_text_that_outgrows_the_positions_is_refused() -> None:
    """With a word, before the memory has changed; no position is taken twice."""
    network, memory = load(SPEC, preset="text", L=1, length=8), {}
    words = torch.randint(256, (1, 8))
    network.advance(words[:, :7], memory)
    for count in (0, 2, 3):
        with pytest.raises(ValueError, match=f"{count} further tokens after 7: at least 1 is needed, 8 fit in all"):
            network.advance(words[:, :count], memory)
    torch.testing.assert_close(network.advance(words[:, 7:], memory)[:, 0], network(words)[:, -1])


def test_sampling_reads_a_prompt_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a long one in a few parts."""
    network = load(SPEC, preset="text", L=1).double()
    monkeypatch.setattr(sample, "AT_ONCE", 16)
    monkeypatch.setattr(network, "advance", Mock(side_effect=network.advance))
    words = torch.randint(256, (40,))
    torch.testing.assert_close(Reader(network)(words), network(words[None])[0, -1], **CLOSE)
    assert [call.args[0].shape for call in network.advance.call_args_list] == [(1, 16), (1, 16), (1, 8)]


def test_sampling_reads_each_word_once_until_the_text_is_too_long() -> None:
    network = load(SPEC, preset="text", L=1, length=8).double()
    words, read = torch.randint(256, (20,)), Reader(network)
    wanted = [network(words[None, max(0, n - 8) : n])[0, -1] for n in range(3, 21)]
    found = [read(words[:3]), *(read(word.view(1)) for word in words[3:])]
    torch.testing.assert_close(torch.stack(found), torch.stack(wanted), **CLOSE)


def test_cost_is_linear_in_the_length() -> None:
    graph: Graph = next(iter(compile_spec(SPEC, preset="text", overrides={"length": 1024}).optimised.steps)).forward
    flops = [cost(replace(graph, sizes={**graph.sizes, "N": n})).flops for n in (1024, 2048, 4096)]
    assert graph.operators("prefix_solve") and not any(graph[n].type.rows == "N" for n in graph)
    assert flops[1] < 2.001 * flops[0] and flops[2] < 2.001 * flops[1]
