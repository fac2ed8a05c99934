"""Attention weights, masks and normalised cuts against brute force and what the networks themselves compute."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from runtime.errors import Inapplicable
from runtime.inspection import segmentation
from runtime.inspection.attention import Recorder, attention_maps
from runtime.inspection.derived_maps import derived_maps, factor_values, token_factor
from runtime.inspection.descent import states_before
from runtime.inspection.places import columns, places
from runtime.instruments import attention
from runtime.instruments.naming import Asked, Named, subject_named
from tests.instruments.small import inputs_of, small
from tests.runtime.conftest import SPECS

ASKED = Asked(None, None, ["batch=4"], None, {}, 5)


@pytest.mark.parametrize("mask", [None, "boolean", "added"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_weights_are_those_of_the_fused_product(mask: str | None, causal: bool, scale: float | None) -> None:
    """With the identity as values, the product gives its weights away."""
    if mask and causal:
        pytest.skip("torch takes one of them")
    q, k = torch.randn(2, 3, 5, 4, dtype=torch.float64), torch.randn(2, 3, 5, 4, dtype=torch.float64)
    chosen = torch.rand(5, 5) > 0.3
    chosen.fill_diagonal_(True)
    given = {None: None, "boolean": chosen, "added": torch.randn(5, 5, dtype=torch.float64)}[mask]
    identity = torch.eye(5, dtype=torch.float64).expand(2, 3, 5, 5)
    expected = F.scaled_dot_product_attention(q, k, identity, attn_mask=given, is_causal=causal, scale=scale)
    with Recorder() as recorder:
        F.scaled_dot_product_attention(q, k, identity, attn_mask=given, is_causal=causal, scale=scale)
    torch.testing.assert_close(recorder.found[0], expected, rtol=1e-10, atol=1e-12)


def test_looking_leaves_nothing_behind() -> None:
    _, network = small("crate")
    inputs = inputs_of(network)
    before = network(inputs)
    attention_maps(network, inputs)
    assert torch.equal(network(inputs), before)
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("spec", ["crate", "crate_alpha", "crate_paper", "crate_mae"])
def test_derived_maps_are_the_attention_maps(spec: str) -> None:
    """The factor of the formula in numpy is what the written network's fused product weighs with."""
    compilation, network = small(spec)
    inputs = inputs_of(network)
    found = attention_maps(network, inputs)
    met = 0
    for place, tokens in states_before(network.features(inputs), places(compilation, network)):
        if place.name in found:
            torch.testing.assert_close(derived_maps(place, tokens), found[place.name], rtol=1e-9, atol=1e-11)
            met += 1
    assert met == len(found) > 0


@pytest.mark.parametrize("spec", ["crate_exact", "tost", "crate_bisoftmax"])
def test_the_factor_makes_the_step(spec: str) -> None:
    """What stands left of the factor times the factor is the step's displacement, up to what has no factor."""
    compilation, network = small(spec)
    features = network.features(inputs_of(network))
    place, tokens = next(iter(states_before(features, places(compilation, network))))
    values = factor_values(place, columns(place.read(tokens))[0])
    assert values.shape == (2, 17 if spec != "tost" else 16, values.shape[1])
    if spec == "crate_exact":
        z, matrices, scalars = columns(place.read(tokens))[0], place.matrices(), place.scalars()
        whole = sum(u @ u.T @ z @ value for u, value in zip(matrices["U"], values, strict=True))
        moved = columns(features[place.name] - tokens)[0]
        np.testing.assert_allclose(moved, -scalars["beta"] * scalars["kappa"] * whole, atol=1e-11)
    elif spec == "tost":
        assert np.allclose(values.sum(0).diagonal(), 1) and not (values - values * np.eye(16)).any()


def test_a_step_that_mixes_no_tokens_has_no_factor() -> None:
    compilation, network = small("crate")
    _, sparsify, *_ = places(compilation, network)
    with pytest.raises(Inapplicable):
        token_factor(sparsify)


def test_class_maps() -> None:
    weights = torch.rand(2, 3, 7, 7)
    by_class = segmentation.class_maps(weights, (2, 3))
    assert torch.equal(by_class[1, 2, 1, 0], weights[1, 2, 0, 4])
    without = segmentation.class_maps(weights[:, :, 1:, 1:], (2, 3))
    assert torch.allclose(without[0, 1, 1, 2], weights[0, 1, 1:, 6].mean())


def test_the_top_mass_is_the_smallest_set_that_holds_it() -> None:
    """By trying all sets of six patches."""
    values = torch.rand(6, generator=torch.Generator().manual_seed(0)).double()
    share = values / values.sum()
    holding = [
        set(np.nonzero(chosen)[0])
        for chosen in product((0, 1), repeat=6)
        if share[list(map(bool, chosen))].sum() >= 0.6
    ]
    smallest = min(map(len, holding))
    best = max((each for each in holding if len(each) == smallest), key=lambda each: share[list(each)].sum())
    found = segmentation.top_mass(values.reshape(2, 3), 0.6)
    assert set(found.flatten().nonzero().flatten().tolist()) == best


def test_iou_by_hand() -> None:
    a, b = torch.zeros(4, 4, dtype=torch.bool), torch.zeros(4, 4, dtype=torch.bool)
    a[:2], b[:, :2] = True, True  # 8 + 8 pixels, 4 of them both
    assert segmentation.iou(a, b).item() == pytest.approx(4 / 12)
    assert segmentation.iou(torch.zeros_like(a), torch.zeros_like(a)).item() == 0


def test_the_best_head_is_taken_for_every_image() -> None:
    masks = torch.zeros(2, 8, 8, dtype=torch.bool)
    masks[0, :4, :4], masks[1, 4:, 4:] = True, True
    maps = torch.full((2, 2, 2, 2), 1e-6)
    maps[0, 1, 0, 0] = maps[1, 0, 1, 1] = 1.0  # the right corner, by another head in each image
    maps[0, 0, 1, 1] = maps[1, 1, 0, 0] = 1.0
    assert segmentation.coarse_ious(maps, masks).tolist() == [[0, 1], [1, 0]]
    assert segmentation.coarse_iou(maps, masks).tolist() == [1, 1]


def test_components_against_an_eigendecomposition() -> None:
    values = np.random.default_rng(0).standard_normal((40, 5)) * [3, 2, 1, 0.5, 0.1]
    found = segmentation.components(values, 2)
    eigenvalues, vectors = np.linalg.eigh(np.cov(values.T, bias=True))
    expected = (values - values.mean(0)) @ vectors[:, ::-1][:, :2]
    np.testing.assert_allclose(abs(found), abs(expected), atol=1e-12)
    np.testing.assert_allclose((found**2).mean(0), eigenvalues[::-1][:2], rtol=1e-12)
    assert ((found > 0).mean(axis=0) <= 0.5).all()


def test_cuts_find_the_objects() -> None:
    """Two squares of like patches on a ground of like patches: both are found, and nothing else."""
    grid = np.zeros((8, 8), dtype=int)
    grid[1:4, 1:4], grid[5:7, 4:7] = 1, 2
    directions = np.eye(3)[grid.ravel()] + 0.02 * np.random.default_rng(0).standard_normal((64, 3))
    found = segmentation.mask_cut(segmentation.affinity(directions), (8, 8), objects=2)
    masks = {mask.tobytes() for mask in found}
    assert masks == {(grid == 1).tobytes(), (grid == 2).tobytes()}


def test_the_second_eigenvector_is_the_relaxed_cut() -> None:
    """It minimises x' (D - W) x / x' D x over x with 1' D x = 0."""
    rng = np.random.default_rng(1)
    weights = rng.random((7, 7))
    weights = weights + weights.T
    degrees = np.diag(weights.sum(1))
    found = segmentation.second_eigenvector(weights)
    assert abs(found @ degrees @ np.ones(7)) < 1e-10

    def quotient(x: np.ndarray) -> float:
        return x @ (degrees - weights) @ x / (x @ degrees @ x)

    ones = np.ones(7)
    for _ in range(50):
        other = found + 0.1 * rng.standard_normal(7)
        other -= ones * (other @ degrees @ ones) / degrees.sum()
        assert quotient(found) <= quotient(other) + 1e-12


@pytest.mark.parametrize("spec", ["crate", "crate_exact", "tost", "crate_mae", "crate_dino", "aot_vision"])
def test_the_section_of_a_spec(spec: str) -> None:
    subject = subject_named(Named(spec, None, SPECS / f"{spec}.crate"), ASKED)
    ratio = subject.network.mask_ratio
    section = attention.measured(subject)
    assert section.panels[0].name == "maps" and "No mIoU" in section.text[-1]
    assert subject.network.mask_ratio == ratio


def test_text_has_no_place_in_an_image() -> None:
    subject = subject_named(Named("crate_gpt", None, SPECS / "crate_gpt.crate"), ASKED)
    with pytest.raises(Inapplicable, match="no images"):
        attention.measured(subject)
