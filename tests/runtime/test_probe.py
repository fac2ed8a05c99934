"""What a probe reads, and that its classifiers are what the protocol says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import crate_dsl
from runtime import compare, probe
from runtime.errors import UserError
from runtime.network import Shape
from runtime.probing import linear_probe
from runtime.probing.features import Reading, collected, reading, unmasked
from runtime.probing.protocol import neighbours
from runtime.recipe.schema import SOURCES
from runtime.storage.trained import network_of
from tests.runtime.conftest import SPECS, TINY, Train, Weights

SIZES = {"image": 16, "patch": 4, "channels": 1, "d": 8, "K": 2, "L": 1}
IMAGES = torch.randn(5, 1, 16, 16)


def blobs(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Three overlapping clouds of different scales, one per class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    centres = torch.tensor([[0.0, 0.0, 1.0], [2.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    features = centres[labels] + torch.randn(count, 3, generator=generator)
    return features * torch.tensor([1.0, 100.0, 0.01]), labels


def test_the_linear_probe_is_the_stated_optimum() -> None:
    """The gradient of |W|^2 / 2 + C sum of cross-entropies vanishes, in features standardised by hand."""
    features, labels = blobs(90, seed=0)
    found = linear_probe.fitted((features, labels))
    assert found.converged and found.strength in linear_probe.STRENGTHS
    model = found.classifier[-1]
    wide = features.double()
    standard = (wide - wide.mean(0)) / wide.std(0, correction=0)
    weight = torch.tensor(model.coef_, requires_grad=True)
    bias = torch.tensor(model.intercept_, requires_grad=True)
    loss = F.cross_entropy(F.linear(standard, weight, bias), labels, reduction="sum")
    (weight.square().sum() / 2 + found.strength * loss).backward()
    scale = found.strength * len(labels)
    assert weight.grad.abs().max() < 1e-3 * scale and bias.grad.abs().max() < 1e-3 * scale
    logits = F.linear(standard, weight, bias)
    assert found.accuracy(features, labels) == pytest.approx((logits.argmax(1) == labels).double().mean().item())


def test_the_scale_of_features_has_no_say() -> None:
    features, labels = blobs(60, seed=1)
    found = linear_probe.fitted((features, labels))
    rescaled = linear_probe.fitted((features * torch.tensor([10.0, 0.1, 3.0]) + 5, labels))
    assert rescaled.strength == found.strength
    np.testing.assert_allclose(rescaled.classifier[-1].coef_, found.classifier[-1].coef_, rtol=1e-3, atol=1e-4)


def test_neighbours_vote_by_the_formula() -> None:
    train, held_out = blobs(60, seed=2), blobs(30, seed=3)
    similarity = F.normalize(held_out[0].double(), dim=1) @ F.normalize(train[0].double(), dim=1).T
    nearest = similarity.topk(20)
    votes = torch.zeros(30, 3).double()
    votes.scatter_add_(1, train[1][nearest.indices], (nearest.values / 0.07).exp())
    assert neighbours(train, held_out) == pytest.approx((votes.argmax(1) == held_out[1]).double().mean().item())


def test_too_few_images() -> None:
    features, labels = blobs(4, seed=0)
    with pytest.raises(UserError, match="do not allow a linear probe"):
        linear_probe.fitted((features, labels))


def test_what_is_read() -> None:
    network = crate_dsl.load(SPECS / "crate.crate", classes=10, **SIZES).eval()
    found = network.features(IMAGES)
    assert reading(network, IMAGES[:1]) == Reading("encoder_norm", "class_token")
    read = reading(network, IMAGES[:1], "encoder.0.compress", "mean")
    assert torch.equal(read.of(network, IMAGES), found["encoder.0.compress"][:, 1:].mean(1))
    # the class token after the norm is what the head reads
    assert torch.allclose(network.head(reading(network, IMAGES[:1]).of(network, IMAGES)), network(IMAGES), atol=1e-6)
    with pytest.raises(UserError, match='no step "encoder.0.compres".*\n?.*Did you mean "encoder.0.compress"'):
        reading(network, IMAGES[:1], "encoder.0.compres")
    with pytest.raises(UserError, match="head features"):
        reading(network, IMAGES[:1], pool="output")


def test_a_head_of_features_is_read_itself() -> None:
    network = crate_dsl.load(SPECS / "crate_dino.crate", **SIZES).eval()
    assert torch.equal(reading(network, IMAGES[:1]).of(network, IMAGES), network(IMAGES))
    with pytest.raises(UserError, match="no class token"):
        reading(network, IMAGES[:1], pool="class_token")


def test_the_token_of_class_attention_is_read_behind_it_alone() -> None:
    network = crate_dsl.load(SPECS / "tost_vision.crate", classes=10, **SIZES).eval()
    assert reading(network, IMAGES[:1]) == Reading("encoder_norm", "class_token")
    step, found = "encoder.0.compress_feed_forward", network.features(IMAGES)
    assert reading(network, IMAGES[:1], step) == Reading(step, "mean")
    assert torch.equal(Reading(step, "mean").of(network, IMAGES), found[step].mean(1))
    read = reading(network, IMAGES[:1], "class_attention", "mean")
    assert torch.equal(read.of(network, IMAGES), found["class_attention"][:, 1:].mean(1))
    with pytest.raises(UserError, match=f"no class token after {step}: choose the mean"):
        reading(network, IMAGES[:1], step, "class_token")


def test_nothing_is_masked(tmp_path: Path) -> None:
    """Features of a masked network are those of the same network without a mask."""
    spec = (SPECS / "crate_mae.crate").read_text(encoding="utf-8")
    bare = tmp_path / "bare.crate"
    bare.write_text("\n".join(line for line in spec.splitlines() if not line.startswith("mask ")), encoding="utf-8")
    masked = crate_dsl.load(SPECS / "crate_mae.crate", **SIZES)
    plain = crate_dsl.load(bare, **SIZES).eval()
    plain.load_state_dict({key: value for key, value in masked.state_dict().items() if key != "mask_token"})
    read = reading(masked, IMAGES[:1])
    assert read == Reading("encoder_norm", "class_token") and masked.mask_ratio == 0.75 and masked.training
    assert torch.equal(read.of(unmasked(masked), IMAGES), plain.features(IMAGES)["encoder_norm"][:, 0])


def test_every_image_is_read_once_in_order() -> None:
    splits = SOURCES["digits"](enlarge=2, turn=10.0).splits(Shape(1, 16, 16))
    features, labels = collected(lambda images: images.flatten(1), splits.train, 100, torch.device("cpu"), "float32")
    assert torch.equal(features, splits.train.images.flatten(1)) and torch.equal(labels, splits.train.labels)
    with pytest.raises(UserError, match="not finite"):
        collected(lambda images: images.flatten(1) / 0, splits.held_out, 100, torch.device("cpu"), "float32")


@pytest.mark.parametrize("spec", ["crate", "crate_mae", "crate_dino"])
def test_the_command(spec: str, tiny_run: Train, capsys: pytest.CaptureFixture[str]) -> None:
    run = tiny_run(spec, steps=2)
    probe.main([str(run)])
    printed = capsys.readouterr().out
    kept = json.loads((run / "probe.json").read_text())
    assert list(kept["rows"]) == ["trained network", "untrained network", "pixels"]
    assert all(line in printed for line in kept["protocol"])
    assert kept["rows"]["pixels"]["linear_accuracy"] > 0.9  # digits are nearly separable
    if spec == "crate_dino":  # the same k-NN as in training
        figures = json.loads((run / "evaluation-held_out.json").read_text())["figures"]
        assert kept["rows"]["trained network"]["knn_accuracy"] == pytest.approx(figures["knn_accuracy"])
        assert kept["rows"]["untrained network"]["knn_accuracy"] == pytest.approx(figures["knn_untrained"])


def test_a_file_is_probed_like_its_run(tiny_run: Train, tmp_path: Path) -> None:
    run = tiny_run("crate", steps=2)
    for source, out in ((run, "a"), (run / "weights.safetensors", "b")):
        probe.main([str(source), "--out", str(tmp_path / out), "--recipe", str(run / "recipe.yaml")])
    first, second = (json.loads((tmp_path / out / "probe.json").read_text()) for out in "ab")
    assert first["rows"] == second["rows"] and network_of(run).kind == "last"


def test_what_cannot_be_probed(tiny_run: Train, weights_of: Weights) -> None:
    with pytest.raises(UserError, match="a probe reads images; this network reads text"):
        probe.main([str(tiny_run("crate_gpt", "sizes.length=16", steps=1))])
    file = weights_of("crate_mae", image=32, patch=4, channels=3, d=8, K=2, L=1)
    with pytest.raises(UserError, match="data photographs has none"):
        probe.main([str(file), "--recipe", "mae_photographs"])


def test_the_transformer_is_not_taken_for_a_spec_of_its_name(tmp_path: Path) -> None:
    spec = tmp_path / "vit.crate"
    spec.write_text((SPECS / "crate.crate").read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(UserError, match='different file names, .*"vit" is that of --vit'):
        compare.main([str(spec), "--vit", *TINY, "epochs=null", "steps=1", "--out", str(tmp_path / "out")])


def test_crate_and_vit_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*TINY, "epochs=null", "steps=2", "--out", str(tmp_path / "out")]
    compare.main([str(SPECS / "crate.crate"), "--vit", "--probe", "--recipe", "classify_digits", *words])
    printed = capsys.readouterr().out
    for row in ("accuracy", "k-NN, trained network", "linear probe, trained network", "linear probe, pixels"):
        (line,) = (line for line in printed.splitlines() if line.startswith(f"│ {row} "))
        values = [float(cell) for cell in line.split("│")[2:4]]
        assert all(0 <= value <= 1 for value in values)
    with pytest.raises(UserError, match="reads text"):
        compare.main([str(SPECS / "crate_gpt.crate"), "--probe", "sizes.length=16", "--out", str(tmp_path / "text")])
    assert not (tmp_path / "text").exists()
