"""The written language models against hand-written ones: logits and every gradient to 1e-10."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

import crate_dsl
from tests.parity.language import CrateText
from tests.parity.perturb import perturb
from tests.parity.test_parity import SPECS, assert_close

SIZES = {"length": 11, "vocabulary": 13, "d": 24, "K": 3, "L": 2}
RULES = {
    r"wte\.weight": "embedding.weight",
    r"wpe\.weight": "position",
    r"mask_token": "mask_token",
    r"ln_in\.(\w+)": r"tokens_norm.\1",
    r"ln_f\.(\w+)": r"encoder_norm.\1",
    r"layers\.(\d)\.0\.norm\.(\w+)": r"encoder.\1.compress.norm.\2",
    r"layers\.(\d)\.1\.norm\.(\w+)": r"encoder.\1.sparsify.norm.\2",
    r"layers\.(\d)\.0\.fn\.qkv\.weight": r"encoder.\1.compress.U",
    r"layers\.(\d)\.0\.fn\.to_out\.weight": r"encoder.\1.compress.U_out",
    r"layers\.(\d)\.0\.fn\.to_out\.bias": r"encoder.\1.compress.U_bias",
    r"layers\.(\d)\.1\.fn\.weight": r"encoder.\1.sparsify.D",
}


def ours(values: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Values of the hand-written network's parameters under our names and in our shapes."""
    found = {}
    for name, value in values.items():
        target = next(re.sub(pattern, new, name) for pattern, new in RULES.items() if re.fullmatch(pattern, name))
        value = value.T if target.endswith("U_out") else value
        found[target] = value.reshape(network.state_dict()[target].shape)
    return found


def pair(spec: str, causal: bool) -> tuple[nn.Module, CrateText]:
    torch.manual_seed(0)
    reference = CrateText(11, 13, 24, 2, 3, causal).double()
    perturb(reference, 1)
    network = crate_dsl.load(SPECS / f"{spec}.crate", **SIZES).double()
    network.load_state_dict(ours(dict(reference.named_parameters()), network))
    return network, reference


def assert_same_gradients(network: nn.Module, reference: nn.Module) -> None:
    wanted = ours({name: value.grad for name, value in reference.named_parameters()}, network)
    assert wanted.keys() == dict(network.named_parameters()).keys()
    for name, parameter in network.named_parameters():
        assert_close(parameter.grad, wanted[name])


@pytest.mark.parametrize("length", [11, 7, 1])
def test_the_causal_network(length: int) -> None:
    network, reference = pair("crate_gpt", causal=True)
    text = torch.randint(13, (3, length))
    mine, theirs = network(text), reference(text)
    assert_close(mine, theirs)
    mine.square().sum().backward()
    theirs.square().sum().backward()
    assert_same_gradients(network, reference)


def test_the_masked_network() -> None:
    network, reference = pair("crate_bert", causal=False)
    text, noise = torch.randint(13, (3, 11)), torch.rand(3, 11)
    mine, mask = network(text, noise)
    theirs = reference(text, mask == 1)
    assert (mask.sum(dim=1) == 11 - int(11 * 0.85)).all()
    assert_close(mine, theirs)
    mine.square().sum().backward()
    theirs.square().sum().backward()
    assert_same_gradients(network, reference)


def test_a_missing_mask_is_noticed() -> None:
    network, reference = pair("crate_gpt", causal=True)
    for attention, _ in reference.layers:
        attention.fn.causal = False
    text = torch.randint(13, (3, 11))
    with pytest.raises(AssertionError), torch.no_grad():
        assert_close(network(text), reference(text))
