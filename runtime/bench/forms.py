"""The baselines: the official architecture, a transformer and the exact rate gradient, of the sizes of a spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

import runtime
from runtime.baselines.official import Crate, CrateMae, CrateText
from runtime.baselines.transformers import MaskedTransformer, TextTransformer
from runtime.baselines.vit import VisionTransformer
from runtime.bench.case import Case, Sizes
from runtime.errors import UserError
from runtime.network import compile_network
from runtime.weights.conversion import convert_state

SPECS = Path(runtime.__file__).parents[1] / "specs"
EXACT = {  # the spec of the exact rate gradient, by kind of network
    "classify": "crate_exact.crate",
    "mae": "crate_mae_exact.crate",
    "language": "crate_gpt_exact.crate",
}
Found = TypeVar("Found")
SIGMA = 0.02  # of class token and positions of the transformers at the start


def official(case: Case) -> nn.Module:
    """The official architecture of the same sizes, freshly initialised."""
    network, sizes = case.network, case.sizes
    build = by_kind(case, "official", {"classify": official_classifier, "mae": official_mae, "language": official_text})
    torch.manual_seed(0)
    return build(network, sizes).to(next(network.parameters()).device)


def official_classifier(network: nn.Module, sizes: Sizes) -> nn.Module:
    return Crate(
        network.image_size, network.patch_size, network.channels, network.classes, sizes.width, sizes.depth,
        sizes.heads, sizes.head_width, sizes.pool, threshold(sizes, 0.1), sizes.step,
    )  # fmt: skip


def official_mae(network: nn.Module, sizes: Sizes) -> nn.Module:
    """Its positions are fixed: those of the compiled network, where that has such."""
    depth = sizes.decoder_depth or sizes.depth
    form = CrateMae(
        network.image_size, network.patch_size, network.channels, sizes.width, sizes.depth, sizes.heads, depth,
        sizes.decoder_heads, threshold(sizes, 0.5), sizes.step, network.mask_ratio,
    )  # fmt: skip
    position = network.state_dict().get("position")
    if position is not None and position.shape == form.decoder_pos_embed.shape:
        form.decoder_pos_embed.data.copy_(position)
    return form


def official_text(network: nn.Module, sizes: Sizes) -> nn.Module:
    return CrateText(
        network.token_count, network.vocabulary, sizes.width, sizes.depth, sizes.heads, sizes.head_width,
        threshold(sizes, 0.1), sizes.step,
    )  # fmt: skip


def threshold(sizes: Sizes, officially: float) -> float:
    return officially if sizes.threshold is None else sizes.threshold


def weights_of_official(form: nn.Module, network: nn.Module) -> dict[str, Tensor] | None:
    """The weights of the official form for the compiled network; None where the two are not of one architecture."""
    try:
        return convert_state(form.state_dict(), network)
    except UserError:
        return None


def transformer(case: Case) -> nn.Module:
    """The black box of the same width and depth, with the same input and the same kind of output."""
    network, sizes = case.network, case.sizes
    kinds = {"classify": VisionTransformer, "mae": MaskedTransformer, "language": TextTransformer}
    build = by_kind(case, "vit", kinds)
    torch.manual_seed(0)
    form = build(network, sizes.width, sizes.depth + sizes.decoder_depth, sizes.heads, SIGMA)
    return form.to(next(network.parameters()).device)


def exact(case: Case) -> nn.Module:
    """The network with the exact rate gradient; its spec is looked for beside the given one, then in the project."""
    name = by_kind(case, "exact", EXACT)
    places = (case.spec.parent / name, SPECS / name)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise UserError(f"--baseline exact needs {name}, beside {case.spec} or in {SPECS}")
    sizes = case.sizes
    chosen = {"d": sizes.width, "K": sizes.heads, "L": sizes.depth, "p": sizes.head_width} | input_sizes(case.network)
    module = compile_network(path, None, chosen).module
    return module.to(next(case.network.parameters()).device)


def input_sizes(network: nn.Module) -> dict[str, int]:
    """What the network reads and puts out, under the names of the specs of the exact gradient."""
    if network.input == "text":
        return {"length": network.token_count, "vocabulary": network.vocabulary}
    (height, width), (rows, columns) = network.image_size, network.patch_size
    if height != width or rows != columns:
        raise UserError(f"--baseline exact takes square images and patches, not {height} x {width}, {rows} x {columns}")
    classes = {"classes": network.classes} if network.classes else {}
    return {"image": height, "patch": rows, "channels": network.channels} | classes


def by_kind(case: Case, baseline: str, choices: Mapping[str, Found]) -> Found:
    """What stands for the network's kind; raises UserError where the baseline has no such form."""
    kind = case.network.task
    if kind not in choices:
        raise UserError(
            f'{case.spec}: there is no baseline "{baseline}" for a network of the kind "{kind}", only for '
            f"{', '.join(choices)}; --baseline none measures the network alone"
        )
    return choices[kind]


FORMS: dict[str, Callable[[Case], nn.Module]] = {"official": official, "vit": transformer, "exact": exact}
NOTES = {
    "official": "the official architecture",
    "vit": "a transformer of the same width and depth",
    "exact": "the exact rate gradient",
}
