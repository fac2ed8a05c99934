"""Compiled networks against the official implementations: outputs and gradients, in float64, to 1e-10."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import crate_dsl
from runtime.baselines.official import Crate, CrateMae, patchify
from runtime.weights.conversion import convert_state
from tests.parity.perturb import perturb

ROOT = Path(__file__).parent.parent.parent
SPECS, DATA = ROOT / "specs", ROOT / "tests" / "data"


def assert_close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-10) -> None:
    assert ours.shape == theirs.shape
    assert float((ours - theirs).detach().norm()) <= tolerance * float(theirs.detach().norm())


def load_official(network: nn.Module, official: dict[str, Tensor]) -> None:
    network.load_state_dict(convert_state(official, network))


def gradients(network: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in network.named_parameters()}


class Golden:
    """One stored file: tensors by their prefix."""

    def __init__(self, name: str) -> None:
        self.data = np.load(DATA / f"{name}.npz")
        self.ctor = json.loads(str(self.data["meta"]))["ctor"]

    def __call__(self, prefix: str) -> dict[str, Tensor]:
        keys = (k for k in self.data.files if k.startswith(prefix + "/"))
        return {k[len(prefix) + 1 :]: torch.from_numpy(np.array(self.data[k])) for k in keys}


def compare_gradients(network: nn.Module, official: dict[str, Tensor]) -> None:
    """Gradients carried over by the same table as the weights: it is linear, so it holds for both."""
    ours = gradients(network)
    zeros = {name: torch.zeros_like(value) for name, value in network.state_dict().items()}
    theirs = zeros | convert_state(official, network, complete=False)
    for name, gradient in ours.items():
        assert_close(gradient, theirs[name])


def test_crate_classifier() -> None:
    golden = Golden("crate_cls")
    network = crate_dsl.load(SPECS / "crate.crate", image=16, patch=4, classes=5, d=24, K=3, L=2).double()
    load_official(network, golden("param"))
    images = golden("in")["img"].requires_grad_()
    logits = network(images)
    assert_close(logits, golden("out")["logits"])
    loss = F.cross_entropy(logits, golden("in")["labels"])
    loss.backward()
    assert_close(images.grad, golden("grad_in")["img"])
    compare_gradients(network, golden("grad"))
    features, out = network.features(images), golden("out")
    assert_close(features["tokens"], out["tokens_in"])
    for layer in range(2):
        assert_close(features[f"encoder.{layer}.compress"], out[f"layer{layer}/half"])
        assert_close(features[f"encoder.{layer}.sparsify"], out[f"layer{layer}/out"])


def test_crate_alpha() -> None:
    golden = Golden("crate_alpha")
    network = crate_dsl.load(SPECS / "crate_alpha.crate", image=16, patch=4, classes=5, d=24, K=3, L=2).double()
    load_official(network, golden("param"))
    images, out = golden("in")["img"].requires_grad_(), golden("out")
    logits = network(images)
    assert_close(logits, out["logits"])
    loss = F.cross_entropy(logits, golden("in")["labels"])
    assert_close(loss, out["loss"])
    loss.backward()
    assert_close(images.grad, golden("grad_in")["img"])
    compare_gradients(network, golden("grad"))
    assert set(convert_state(golden("grad"), network)) == set(gradients(network))  # none is left out
    features = network.features(images)
    assert_close(features["tokens"], out["tokens_in"])
    for layer in range(2):
        half = features[f"encoder.{layer}.compress"]
        assert_close(half, out[f"layer{layer}/half"])
        assert_close(features[f"encoder.{layer}.sparsify"], half + out[f"layer{layer}/odl"])
    assert_close(features["encoder.1.sparsify"], out["tokens_out"])


def masked_loss(patches: Tensor, mask: Tensor, target: Tensor, normalise: bool) -> Tensor:
    if normalise:
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
    return (((patches - target) ** 2).mean(-1) * mask).sum() / mask.sum()


@pytest.mark.parametrize("name", ["mae_normpix_false", "mae_normpix_true"])
def test_crate_mae(name: str) -> None:
    golden = Golden(name)
    network = crate_dsl.load(SPECS / "crate_mae.crate", image=16, patch=4, d=32, K=4, L=2).double()
    load_official(network, golden("param"))
    inputs, out = golden("in"), golden("out")
    images = inputs["imgs"].requires_grad_()
    patches, mask = network(images, inputs["noise"])
    assert_close(patches, out["pred"])
    assert torch.equal(mask, out["mask"])
    assert_close(network.patchify(images), out["patchify"])
    assert_close(network.unpatchify(patches), out["unpatchify_pred"])
    loss = masked_loss(patches, mask, network.patchify(images), golden.ctor["norm_pix_loss"])
    assert_close(loss, out["loss"])
    loss.backward()
    assert_close(images.grad, golden("grad_in")["imgs"])
    compare_gradients(network, golden("grad"))
    features = network.features(images, inputs["noise"])
    assert_close(features["tokens"], out["tokens_in"])
    assert_close(features["encoder_norm"], out["latent"])
    for layer in range(2):
        assert_close(features[f"encoder.{layer}.sparsify"], out[f"enc{layer}/out"])
        assert_close(features[f"decoder.{layer}.denoise_lasso"], out[f"dec{layer}/half"])
        assert_close(features[f"decoder.{layer}.denoise_rate"], out[f"dec{layer}/out"])


# ---- shapes that the stored numbers do not cover -------------------------------------------------------------------


def edited(name: str, tmp_path: Path, *edits: tuple[str, str]) -> Path:
    """A spec of the project with lines changed, as a user would."""
    text = (SPECS / name).read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / name
    path.write_text(text)
    return path


RECTANGLE = (
    ("size image = 224, patch = 16", "size height = 12, width = 10, ph = 3, pw = 5"),
    ("image(channels, image, image)", "image(channels, height, width)"),
)


def test_reference_agrees_with_the_stored_numbers() -> None:
    golden = Golden("crate_cls")
    reference = Crate((16, 16), (4, 4), 3, 5, 24, 2, 3, 8, "cls").double()
    reference.load_state_dict(golden("param"))
    assert_close(reference(golden("in")["img"]), golden("out")["logits"])
    golden = Golden("mae_normpix_false")
    mae = CrateMae((16, 16), (4, 4), 3, 32, 2, 4, 2, 4).double()
    mae.load_state_dict(golden("param"))
    patches, mask = mae(golden("in")["imgs"], golden("in")["noise"])
    assert_close(patches, golden("out")["pred"])


@pytest.mark.parametrize(
    ("pool", "channels", "heads", "dim_head"),
    [("class_token", 3, 3, 8), ("mean", 1, 2, 7), ("class_token", 2, 1, 20), ("mean", 4, 1, 9)],
)
def test_rectangles_pools_and_head_sizes(tmp_path: Path, pool: str, channels: int, heads: int, dim_head: int) -> None:
    edits = [*RECTANGLE, ("patches(patch, norm)", "patches(ph, pw, norm)"), ("of class_token", f"of {pool}"),
             ("preset digits", "# preset digits")]  # fmt: skip
    if heads == 1 and dim_head == 20:
        edits.append(("free(bias) ", "dropped "))
    path = edited("crate.crate", tmp_path, *edits)
    network = crate_dsl.load(path, channels=channels, classes=4, d=20, K=heads, p=dim_head, L=2).double()
    official = Crate(
        (12, 10), (3, 5), channels, 4, 20, 2, heads, dim_head, "mean" if pool == "mean" else "cls"
    ).double()
    perturb(official, 0)
    load_official(network, official.state_dict())
    images = torch.randn(2, channels, 12, 10, dtype=torch.float64)
    ours, theirs = network(images), official(images)
    assert_close(ours, theirs)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    compare_gradients(network, {n: p.grad for n, p in official.named_parameters() if p.grad is not None})


@pytest.mark.parametrize(("layers", "heads"), [(1, 4), (3, 2)])
def test_mae_with_a_decoder_of_its_own(tmp_path: Path, layers: int, heads: int) -> None:
    decoder = f"decoder repeat {layers} = inverse(encoder) with K = {heads}"
    edits = [*RECTANGLE, ("patches(patch)", "patches(ph, pw)"), ("preset digits", "# preset digits"),
             ("decoder repeat L = inverse(encoder) ", decoder)]  # fmt: skip
    path = edited("crate_mae.crate", tmp_path, *edits)
    network = crate_dsl.load(path, channels=2, d=16, K=4, L=2).double()
    official = CrateMae((12, 10), (3, 5), 2, 16, 2, 4, layers, heads).double()
    perturb(official, 1)
    load_official(network, official.state_dict())
    images, noise = torch.randn(3, 2, 12, 10, dtype=torch.float64), torch.rand(3, 8, dtype=torch.float64)
    (ours, mask), (theirs, their_mask) = network(images, noise), official(images, noise)
    assert_close(ours, theirs)
    assert torch.equal(mask, their_mask)
    assert_close(network.patchify(images), patchify(images, 3, 5))
    (ours.square().mean(-1) * mask).sum().backward()
    (theirs.square().mean(-1) * mask).sum().backward()
    compare_gradients(network, {n: p.grad for n, p in official.named_parameters() if p.grad is not None})


# ---- sizes ---------------------------------------------------------------------------------------------------------

COUNTS = {
    ("crate.crate", "tiny"): 6_090_856, ("crate.crate", "small"): 13_116_328,
    ("crate.crate", "base"): 22_796_008, ("crate.crate", "large"): 77_641_192,
    ("crate_mae.crate", "tiny"): 11_256_192, ("crate_mae.crate", "small"): 24_846_528,
    ("crate_mae.crate", "base"): 43_745_280, ("crate_mae.crate", "large"): 152_821_504,
    ("crate_alpha.crate", "base"): 72_328_936, ("crate_alpha.crate", "large"): 253_650_920,
}  # fmt: skip


@pytest.mark.parametrize(("name", "preset"), COUNTS)
def test_parameter_counts(name: str, preset: str) -> None:
    with torch.device("meta"):
        network = crate_dsl.load(SPECS / name, preset=preset)
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == COUNTS[name, preset]
