"""Written networks that read text: what they depend on, what they share, and texts shorter than declared."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from crate_dsl.compiler import Compilation
from crate_dsl.errors import Source
from crate_dsl.loading import module_of
from crate_dsl.operators.summary import summary
from tests.specs import COMPRESS, ENERGIES, SPARSIFY, encoder

HEADER = """network Tiny
size length = 12, vocabulary = 17, classes = 5
size d = 24, K = 3, L = 2, p = 8
real eta = 0.1, lambda = 0.5
"""
CAUSAL = COMPRESS.replace("norm layer;", "norm layer; causal;")
FROM_ZERO = SPARSIFY.replace("from Z; steps 1", "from 0; steps 2")


def compiled(steps: str, head: str = "vocabulary(tied)", extra: str = "", position: str = "learned") -> Compilation:
    front = f"input text(length, vocabulary)\ntokens Z: d x N = embedding + position({position})\n{extra}\n"
    text = HEADER + ENERGIES + front + encoder(steps) + f"norm layer\nhead {head}\n"
    return Compilation(Source("text.crate", text), None, {})


def network_of(compilation: Compilation) -> nn.Module:
    torch.manual_seed(0)
    return module_of(compilation.text, "Tiny").Tiny().double()


def text_of(batch: int = 3, length: int = 12) -> Tensor:
    return torch.randint(17, (batch, length), generator=torch.Generator().manual_seed(1))


def test_a_later_token_changes_nothing_before_it() -> None:
    network = network_of(compiled(CAUSAL + SPARSIFY))
    assert network.causal and network.task == "language"
    text = text_of()
    changed = text.clone()
    changed[:, 7] = (changed[:, 7] + 1) % 17
    first, second = network.features(text), network.features(changed)
    for name in first:
        assert torch.equal(first[name][:, :7], second[name][:, :7]), name
    assert (network(text)[:, 7:] != network(changed)[:, 7:]).any(dim=-1).all(), "and everything from it on"


def test_without_the_option_tokens_see_what_comes() -> None:
    network = network_of(compiled(COMPRESS + SPARSIFY))
    text = text_of()
    changed = text.clone()
    changed[:, 7] = (changed[:, 7] + 1) % 17
    assert not network.causal
    assert (network(text)[:, :7] != network(changed)[:, :7]).any(dim=-1).all()


@pytest.mark.parametrize("position", ["learned", "sincos"])
def test_a_shorter_text_is_the_beginning_of_a_longer_one(position: str) -> None:
    """Where nothing looks ahead; energies of unfinished texts can be asked for too."""
    network = network_of(compiled(CAUSAL + FROM_ZERO, position=position))
    text = text_of()
    for length in (1, 5):
        torch.testing.assert_close(network(text[:, :length]), network(text)[:, :length], rtol=1e-12, atol=1e-12)
        found = network.energies(text[:, :length])
        assert all(torch.isfinite(value).all() for pair in found.values() for value in pair)


@pytest.mark.parametrize("steps", ["compress Z by rate(Z, U) { norm layer }\n", FROM_ZERO, COMPRESS])
def test_nothing_written_fixes_the_number_of_tokens(steps: str) -> None:
    """Without learned positions a network reads any length; the exact step here has an inverse of the tokens' size."""
    text = compiled(steps).source.text.replace(" + position(learned)", "").replace("p = 8", "p = 30")
    network = network_of(Compilation(Source("text.crate", text), None, {}))
    for length in (3, 12, 20):
        assert network(text_of(length=length)).shape == (3, length, 17)
        network.energies(text_of(length=length))


def test_a_tied_head_is_one_parameter() -> None:
    tied, free = compiled(CAUSAL + SPARSIFY), compiled(CAUSAL + SPARSIFY, head="vocabulary")
    one, two = network_of(tied), network_of(free)
    count = [sum(p.numel() for p in network.parameters()) for network in (one, two)]
    assert count[1] - count[0] == 17 * 24 and not any("head" in name for name in one.state_dict())
    assert [summary(each.optimised).parameters for each in (tied, free)] == count
    text = text_of()
    found = one.features(text)["encoder_norm"]
    torch.testing.assert_close(one(text), found @ one.embedding.weight.T)
    one(text)[..., 0].sum().backward()
    absent = [token for token in range(1, 17) if not (text == token).any()]
    assert not one.embedding.weight.grad[absent].any() and one.embedding.weight.grad[0].any()


def test_the_mask_hides_tokens_and_follows_the_noise() -> None:
    network = network_of(compiled(COMPRESS + SPARSIFY, extra="mask random(0.25) before encoder"))
    assert network.task == "masked_language" and network.mask_ratio == 0.25
    text, noise = text_of(), torch.rand(3, 12, dtype=torch.float64)
    logits, mask = network(text, noise)
    assert logits.shape == (3, 12, 17) and (mask.sum(dim=1) == 3).all()
    assert (noise.masked_fill(mask == 1, 0).amax(1) < noise.masked_fill(mask == 0, 1).amin(1)).all()
    other = torch.where(mask == 1, (text + 1) % 17, text)
    assert torch.equal(network(other, noise)[0], logits), "a removed token is not seen"


def test_a_text_can_be_classified() -> None:
    network = network_of(compiled(COMPRESS, head="classify(classes) of mean"))
    assert network.task == "classify" and network.classes == 5
    assert network(text_of()).shape == (3, 5)


def test_positions_of_a_sequence() -> None:
    """Sines, then cosines, of the place over 10000^(2 i / d) (Vaswani et al. 2017)."""
    network = network_of(compiled(COMPRESS, position="sincos"))
    angle = np.arange(12)[:, None] / 10000 ** (np.arange(12) / 12)
    wanted = np.concatenate([np.sin(angle), np.cos(angle)], axis=1)
    assert np.abs(network.position[0].numpy() - wanted).max() < 1e-6
    assert "position" not in dict(network.named_parameters())


@pytest.mark.parametrize(("word", "largest"), [("normal(0.02)", 0.1), ("linear", 24**-0.5), ("zeros", 0.0)])
def test_the_embedding_starts_as_stated(word: str, largest: float) -> None:
    network = network_of(compiled(COMPRESS, extra=f"init embedding {word}"))
    found = float(network.embedding.weight.detach().abs().max())
    assert 0.5 * largest <= found <= largest


def test_one_graph_and_export() -> None:
    network = network_of(compiled(CAUSAL + SPARSIFY))
    text = text_of()
    compiled_network = torch.compile(network, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled_network(text), network(text))
    torch.testing.assert_close(torch.export.export(network, (text,)).module()(text), network(text))
