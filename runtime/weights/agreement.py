"""Whether a network computes what the official code computes of the same weights: names alone cannot tell.

A softmax in another place, another threshold or the epsilon of a norm leave all names and shapes as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from crate_dsl.language.model import Model
from runtime.baselines.alpha import CrateAlpha
from runtime.baselines.official import Crate, CrateMae, CrateText
from runtime.baselines.tost_text import TostText
from runtime.baselines.tost_vision import TostVision
from runtime.errors import UserError
from runtime.weights.names import CRATE, CRATE_ALPHA, CRATE_MAE, CRATE_TEXT, TOST, TOST_TEXT, Family

CLOSE = 1e-6  # in float64, relative; an epsilon of a norm that is another is about 1e-5


def difference(
    family: Family,
    official: Mapping[str, Tensor],
    network: nn.Module,
    weights: Mapping[str, Tensor],
    model: Model,
) -> float | None:
    """Of the outputs for one random input in float64, relative to the official form's.

    Args:
        family: whose form is meant.
        official: a whole state dict of it.
        network: the compiled one, which stays as it is.
        weights: the same weights under its own names.
        model: that the network was compiled of; it says how many heads there are, which no tensor does.

    Returns:
        None where there is nothing to compare with: heads are not called K, the architecture was not written out, or
        its output is not finite.

    Raises:
        UserError: where the official form has other entries, as that of one head as wide as the tokens.
    """
    heads = [block.sizes.get("K", model.sizes.get("K")) for block in model.blocks]
    if None in heads or not heads:
        return None
    form = form_of(family, official, network, heads, "mean" if model.head.of == "mean" else "cls")
    if form is None:
        return None
    inputs = example(network)
    ours, theirs = (
        output(module, state, inputs) for module, state in ((copy.deepcopy(network), weights), (form, official))
    )
    return float((ours - theirs).norm() / theirs.norm()) if theirs.isfinite().all() else None


def form_of(
    family: Family, official: Mapping[str, Tensor], network: nn.Module, heads: list[int], pool: str
) -> nn.Module | None:
    """The official architecture with its own constants, of the sizes of these weights."""
    depth = depth_of(official, "encoder", family)
    if family is TOST_TEXT:
        width = official["transformer.wpe.weight"].shape[1]
        return TostText(network.token_count, network.vocabulary, width, depth, heads[0])
    if family is TOST:
        width, facts = network.encoder_norm.weight.numel(), (network.channels, network.patch_size[0], network.classes)
        return TostVision(*facts, width, depth, heads[0])
    if family is CRATE_MAE:
        decoder, width = depth_of(official, "decoder", family), official["cls_token"].shape[-1]
        image = network.image_size, network.patch_size, network.channels
        return CrateMae(*image, width, depth, heads[0], decoder, heads[-1], mask_ratio=network.mask_ratio)
    inner, width = official.get("transformer.layers.0.0.fn.qkv.weight", torch.empty(0, 0)).shape
    if family is CRATE_TEXT:
        return CrateText(network.token_count, network.vocabulary, width, depth, heads[0], inner // heads[0])
    if family in (CRATE, CRATE_ALPHA):
        sizes = network.image_size, network.patch_size, network.channels, network.classes, width, depth, heads[0]
        return Crate(*sizes, inner // heads[0], pool) if family is CRATE else CrateAlpha(*sizes, inner // heads[0])
    return None


def depth_of(official: Mapping[str, Tensor], block: str, family: Family) -> int:
    """How many layers of a block a state dict has."""
    rule = family.rule_of(f"{block}.0.0.matrix")
    return len(rule.instances(list(official))) if rule else 0


def example(network: nn.Module) -> tuple[Tensor, ...]:
    """One random input of a network in float64, with the noise of its mask."""
    generator = torch.Generator().manual_seed(0)
    if network.input == "text":
        return (torch.randint(network.vocabulary, (1, network.token_count), generator=generator),)
    images = torch.randn(1, network.channels, *network.image_size, generator=generator, dtype=torch.float64)
    if network.mask_ratio is None:
        return (images,)
    patches = network.token_count - int("class_token" in network.state_dict())
    return images, torch.rand(1, patches, generator=generator, dtype=torch.float64)


@torch.no_grad()
def output(module: nn.Module, state: Mapping[str, Tensor], inputs: tuple[Tensor, ...]) -> Tensor:
    """What a module predicts with these weights, without the mask that a masked one also gives."""
    try:
        module.double().eval().load_state_dict(dict(state))
    except RuntimeError as error:
        raise UserError(f"the official form has other entries: {error}") from None
    found = module(*inputs)
    return found[0] if isinstance(found, tuple) else found
