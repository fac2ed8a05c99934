"""Which parameters share learning rate and weight decay."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

import crate_dsl
from runtime.errors import UserError
from runtime.network import compile_network
from runtime.optimisers.adamw import AdamW
from runtime.optimisers.muon import Muon
from runtime.recipe.schema import TASKS
from runtime.training.groups import Depth, hidden
from tests.runtime.conftest import SPECS
from tests.runtime.optimising import network_of

SHARED = """
network Shared
size image = 8, patch = 4, channels = 1, classes = 3, d = 8, K = 2, L = 3, p = d / K
include rates
input  image(channels, image, image)
tokens Z: d x N = patches(patch)
encoder repeat L {
    shared U
    compress Z by rate(Z, U) { norm layer; step 1 }
}
head classify(classes) of mean
"""


def scales(network: nn.Module, layer_decay: float = 0.5, **options: object) -> dict[str, tuple[float, float]]:
    """By parameter: its group's scale and weight decay."""
    names = {id(value): name for name, value in network.named_parameters()}
    groups = AdamW(layer_decay=layer_decay, weight_decay=0.3, **options).build(network).param_groups
    return {names[id(value)]: (group["scale"], group["weight_decay"]) for group in groups for value in group["params"]}


def test_only_matrices_decay() -> None:
    network = network_of()
    names = {id(value): name for name, value in network.named_parameters()}
    decayed, others = AdamW(weight_decay=0.3).build(network).param_groups
    assert decayed["weight_decay"] == 0.3 and others["weight_decay"] == 0.0
    assert (decayed["decays"], others["decays"], decayed["scale"]) == (True, False, 1.0)
    assert {names[id(value)].split(".")[-1] for value in decayed["params"]} == {"U", "U_out", "D", "weight"}
    assert {"class_token", "mask_token", "head.bias"} <= {names[id(value)] for value in others["params"]}
    assert len(decayed["params"]) + len(others["params"]) == len(names)
    assert len(AdamW(decay_all=True).build(network).param_groups) == 1


def test_layers_are_those_of_mae() -> None:
    """`get_layer_id_for_vit` of facebookresearch/mae for a network of 12 blocks: stem 0, block i 1 + i, all else 13."""
    depth = Depth.of(f"encoder.{layer}.compress.U" for layer in range(12))
    names = ["class_token", "position", "patches.projection.bias", "encoder.0.x", "encoder.11.x", "encoder_norm.weight"]
    assert [depth.layer(name) for name in [*names, "head.weight"]] == [0, 0, 0, 1, 12, 13, 13]


def test_decay_by_layers_with_a_decoder() -> None:
    """Two layers and two: the head has 1, every layer below it half of the one above."""
    found = scales(network_of())
    assert found["head.weight"] == (1, 0.3) and found["head.bias"] == (1, 0)
    assert found["decoder_norm.weight"] == (1, 0)
    assert found["decoder.1.denoise_rate.U"] == (1 / 2, 0.3)
    assert found["decoder.0.denoise_rate.U_bias"] == (1 / 4, 0)
    assert found["encoder_norm.bias"] == (1 / 4, 0)  # what the decoder's first layer reads
    assert found["encoder.1.sparsify.D"] == (1 / 8, 0.3)
    assert found["encoder.0.compress.norm.weight"] == (1 / 16, 0)
    assert found["patches.projection.weight"] == (1 / 32, 0.3)
    assert found["mask_token"] == found["class_token"] == found["patches.projection.bias"] == (1 / 32, 0)


def test_decay_by_layers_of_text() -> None:
    found = scales(network_of("crate_bert", "text"))
    assert found["embedding.weight"] == (1 / 8, 0.3)  # also the head's matrix
    assert found["tokens_norm.bias"] == found["position"] == (1 / 8, 0)
    assert found["encoder.1.compress.U"] == (1 / 2, 0.3) and found["encoder_norm.weight"] == (1, 0)


def test_decay_by_layers_within_an_apparatus() -> None:
    """The student's layers count, the heads of self-distillation are heads, the teacher is not trained."""
    task = TASKS["dino"](head={"hidden": 6, "bottleneck": 5, "prototypes": 7})
    found = scales(task.apparatus(network_of("crate_dino")))
    assert found["network.patches.projection.weight"] == (1 / 8, 0.3)
    assert found["network.encoder.1.compress.U"] == (1 / 2, 0.3)
    assert found["head.layers.0.weight"] == (1, 0.3) and found["head.layers.0.bias"] == (1, 0)
    assert not any(name.startswith("teacher") for name in found)


def test_what_layers_share_belongs_to_the_last(tmp_path: Path) -> None:
    (tmp_path / "shared.crate").write_text(SHARED, encoding="utf-8")
    network = crate_dsl.load(tmp_path / "shared.crate")
    found = scales(network)
    assert {name for name in found if name.endswith(".U")} == {"encoder.0.compress.U"}
    assert found["encoder.0.compress.U"] == (1 / 2, 0.3)
    assert found["encoder.0.compress.norm.weight"] == (1 / 8, 0)


def test_decay_by_layers_needs_layers() -> None:
    with pytest.raises(UserError, match="no blocks of layers"):
        scales(nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("spec", "preset", "kinds"),
    [
        ("crate", "digits", {"U", "U_out", "D"}),
        ("crate_alpha", "digits", {"U", "U_out", "D", "D1"}),
        ("crate_exact", "digits", {"U", "D"}),
        ("crate_dino", "digits", {"U", "U_out", "D"}),
        ("tost", "digits", {"U", "U_out", "W", "W_out"}),
        ("tost_vision", "digits", {"U", "U_out", "W", "W_out"}),
        ("tost_causal", "text", {"U", "U_out", "W", "W_out"}),
    ],
)
def test_muon_has_the_matrices_of_the_blocks(spec: str, preset: str, kinds: set[str]) -> None:
    """Neither stem nor head, and no bias of every head, though stored as a matrix (ToST's `b` and `bias`)."""
    network = network_of(spec, preset)
    assert {name.split(".")[-1] for name in hidden(network)} == kinds
    assert all(name.startswith("encoder.") for name in hidden(network))


@pytest.mark.parametrize("within", [False, True])
def test_biases_of_heads_do_not_decay(within: bool) -> None:
    """ToST's b and bias are a vector for every head; the official b is a vector of all of them."""
    network = compile_network(SPECS / "tost_causal.crate", "text", {"L": 1, "length": 64}).module
    found = scales(nn.ModuleDict({"network": network}) if within else network, layer_decay=1)
    step = ("network." if within else "") + "encoder.0.compress_variational_rate."
    assert {name: found[step + name][1] for name in ("b", "bias", "temp", "U", "U_out")} == {
        "b": 0, "bias": 0, "temp": 0, "U": 0.3, "U_out": 0.3,
    }  # fmt: skip
    assert step + "bias" not in hidden(nn.ModuleDict({"network": network}) if within else network)


def test_muon_and_adamw_have_rates_of_their_own() -> None:
    network = network_of("crate")
    groups = Muon(lr=0.02, adamw_lr=0.001, layer_decay=0.5).build(network).param_groups
    names = {id(value): name for name, value in network.named_parameters()}
    rates = {names[id(value)]: 0.02 * group["scale"] for group in groups for value in group["params"]}
    assert rates["encoder.1.compress.U"] == pytest.approx(0.02 / 2)
    assert rates["encoder.1.compress.U_bias"] == pytest.approx(0.001 / 2)
    assert rates["head.weight"] == pytest.approx(0.001)
    assert rates["patches.projection.weight"] == pytest.approx(0.001 / 8)


def test_the_vectors_of_a_network_without_a_stem() -> None:
    network = crate_dsl.load(SPECS / "aot.crate", preset="small")
    assert hidden(network) == {"encoder.0.compress.U", "encoder.1.compress.U"}


def test_what_decays_around_the_layers_of_tost() -> None:
    """Convolutions, the map of the positions and the matrices of class attention; vectors and the token do not."""
    network = network_of("tost_vision")
    names = {id(value): name for name, value in network.named_parameters()}
    decayed, *_ = AdamW(lr=0.1, weight_decay=0.3).build(network).param_groups
    around = {names[id(value)] for value in decayed["params"] if not names[id(value)].startswith("encoder.")}
    blocks = [f"class_attention.blocks.{n}.{name}.weight" for n in (0, 1) for name in ("qkv", "out", "fc1", "fc2")]
    assert decayed["weight_decay"] == 0.3
    assert around == {"patches.projection.0.0.weight", "position.weight", "head.weight", *blocks}
    depth = Depth.of(names.values())
    layers = [depth.layer(f"{name}.weight") for name in ("patches.projection.0.0", "position", "class_attention.norm1")]
    assert layers == [0, 0, depth.top]
