"""A head of features: the pooled token itself, which is what a classifying head would have read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import crate_dsl

SPECS = Path(__file__).parents[2] / "specs"
HEAD = "head classify(classes) of class_token"
DIGITS = {"preset": "digits", "d": 24, "K": 3, "L": 2}

# Widths and patch of Yu et al. 2023 (arXiv 2308.16271): their parameters with a head of 21,841 classes, a class token
# with its position, and a stem between two norms.
PUBLISHED = {"tiny": (192, 5_743_057), "small": (384, 14_118_097), "base": (768, 38_830_801)}


@pytest.mark.parametrize("pool", ["class_token", "mean"])
def test_features_are_what_a_classifying_head_reads(pool: str, tmp_path: Path) -> None:
    text = (SPECS / "crate.crate").read_text(encoding="utf-8")
    assert HEAD in text
    for name, head in {"logits": f"head classify(classes) of {pool}", "features": f"head features of {pool}"}.items():
        (tmp_path / f"{name}.crate").write_text(text.replace(HEAD, head), encoding="utf-8")
    classifier = crate_dsl.load(tmp_path / "logits.crate", **DIGITS).double()
    network = crate_dsl.load(tmp_path / "features.crate", **DIGITS).double()
    wrong = network.load_state_dict(classifier.state_dict(), strict=False)
    assert wrong.missing_keys == [] and set(wrong.unexpected_keys) == {"head.weight", "head.bias"}
    images = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    features = network(images)
    assert features.shape == (3, network.features_size) == (3, 24)
    assert torch.allclose(classifier.head(features), classifier(images), atol=1e-12)


@pytest.mark.parametrize("preset", PUBLISHED)
def test_parameter_counts_are_the_published_ones_less_what_the_spec_leaves_out(preset: str) -> None:
    width, published = PUBLISHED[preset]
    with torch.device("meta"):
        network = crate_dsl.load(SPECS / "crate_dino.crate", preset=preset)
    head, class_token, norms = 21_841 * (width + 1), 2 * width, 2 * (3 * 8 * 8) + 2 * width
    assert sum(value.numel() for value in network.parameters()) == published - head - class_token - norms
    assert network.task == "features"
