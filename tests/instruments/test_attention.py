"""Attention weights, masks and normalised cuts against brute force and what the networks themselves compute."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.kernel_ridge import KernelRidge
from torch.nn import functional as F

import crate_dsl
from crate_dsl.library.form import Form, Leaf, Word
from crate_dsl.mathematics.evaluate import form_value
from runtime.errors import Inapplicable
from runtime.inspection import class_maps, segmentation
from runtime.inspection.attention import Recorder, attention_maps
from runtime.inspection.derived_maps import derived_maps, kind_of, mixing, mixing_values, split
from runtime.inspection.descent import states_before
from runtime.inspection.places import columns, places
from runtime.instruments import attention, overlaps
from runtime.instruments.naming import Asked, Named, subject_named
from tests.instruments.small import inputs_of, small
from tests.runtime.conftest import SPECS

ASKED = Asked(None, None, ["batch=4", "sizes.d=12", "sizes.K=2", "sizes.L=2"], None, {}, 5)


@pytest.mark.parametrize(("mask", "causal"), [(None, False), (None, True), ("boolean", False), ("added", False)])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_weights_are_those_of_the_fused_product(mask: str | None, causal: bool, scale: float | None) -> None:
    """With the identity as values, the product gives its weights away."""
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
    """The matrix of the formula in numpy is what the written network's fused product weighs with."""
    compilation, network = small(spec)
    inputs = inputs_of(network)
    found = attention_maps(network, inputs)
    met = 0
    for place, tokens in states_before(network.features(inputs), places(compilation, network)):
        if place.name in found:
            torch.testing.assert_close(derived_maps(place, tokens), found[place.name], rtol=1e-9, atol=1e-11)
            met += 1
    assert met == len(found) > 0


@pytest.mark.parametrize("spec", ["crate", "crate_exact", "crate_bisoftmax", "crate_neumann2", "tost"])
def test_the_matrix_makes_the_step(spec: str) -> None:
    """With its numbers in the place of T, the formula gives the tokens that the written network gives."""
    compilation, network = small(spec)
    features = network.features(inputs_of(network))
    place, tokens = next(iter(states_before(features, places(compilation, network))))
    found, axis = mixing(place), place.derived.raw.cols
    read, raw = columns(place.read(tokens))[0], columns(tokens)[0]
    values = mixing_values(place, read)
    assert values.shape == (2, raw.shape[1], raw.shape[1])
    ((index, _),) = found.first.over
    leaf = Leaf("T", axis, axis, index)
    point = place.point(read).with_matrix("T", values).with_matrix(place.derived.raw.name, raw)
    for number, assignment in enumerate(place.derived.assignments):
        value, others = assignment.value, assignment.value.words
        if number == found.number:
            members = [word for word, prefix, _ in split(others, axis) if prefix == found.prefix]
            assert len(members) == len(found.words)
            mixed = Word(found.first.coefficient, (*found.prefix, leaf), found.first.over)
            value = Form(value.rows, value.cols, (*(word for word in others if word not in members), mixed))
        point = point.with_matrix(assignment.target.name, form_value(value, point))
    made = point.matrices[place.derived.result.name]
    np.testing.assert_allclose(made, columns(features[place.name])[0], atol=1e-10)
    assert np.abs(made - raw).max() > 1e-3


def test_the_map_of_an_inverse_is_a_ridge_regression() -> None:
    """Row i of I - (I + a G)^-1 = G (G + I / a)^-1 holds the weights of token i's fit, as scikit-learn makes it."""
    compilation, network = small("crate_exact")
    features = network.features(inputs_of(network))
    place, tokens = next(iter(states_before(features, places(compilation, network))))
    read, beta = place.read(tokens)[0].numpy(), place.scalars()["beta"]
    found = derived_maps(place, tokens[:1])[0].numpy()
    for head, basis in enumerate(place.matrices()["U"]):
        gram = read @ basis @ basis.T @ read.T
        fitted = KernelRidge(alpha=1 / beta, kernel="precomputed").fit(gram, np.eye(len(read)))
        np.testing.assert_allclose(found[head], np.abs(fitted.predict(gram)), atol=1e-10)


def test_memberships_are_the_map_where_statistics_move_tokens() -> None:
    """Softmax over the heads of the squared lengths, by hand."""
    compilation, network = small("tost")
    features = network.features(inputs_of(network))
    place, tokens = next(iter(states_before(features, places(compilation, network))))
    found = derived_maps(place, tokens)
    torch.testing.assert_close(found.sum(dim=1), torch.ones_like(found[:, 0]))
    assert torch.equal(found[:, :, :1].expand_as(found), found) and found[0, 0, 0].std() > 0


def test_a_step_that_mixes_no_tokens_has_no_matrix() -> None:
    compilation, network = small("crate")
    _, sparsify, *_ = places(compilation, network)
    with pytest.raises(Inapplicable):
        mixing(sparsify)


@pytest.mark.parametrize("parts", [1, 3])
def test_step_maps_do_not_depend_on_how_many_images_go_at_once(monkeypatch: pytest.MonkeyPatch, parts: int) -> None:
    """Fused and derived maps of the class token, of the encoder alone."""
    compilation, network = small("crate_mae")
    images = inputs_of(network)
    monkeypatch.setattr(class_maps, "WEIGHTS", len(images) // parts * sum(
        weights[0].numel() for name, weights in attention_maps(network, images).items() if name.startswith("encoder.")
    ))  # fmt: skip
    assert len(class_maps.batches(compilation, network, images)) == parts
    found = class_maps.step_maps(compilation, network, images)
    assert list(found) == ["encoder.0.compress", "encoder.1.compress"]
    expected = attention_maps(network, images)["encoder.1.compress"][:, :, 0, 1:].unflatten(-1, (4, 4))
    torch.testing.assert_close(found["encoder.1.compress"].maps, expected)
    assert found["encoder.1.compress"].queries == "the class token"


def test_projections_are_those_of_the_patches() -> None:
    compilation, network = small("crate")
    images = inputs_of(network)
    found = list(class_maps.projections(compilation, network, images))
    assert [place.name for place, _ in found] == ["encoder.0.compress", "encoder.1.compress"]
    place, values = found[0]
    tokens = place.read(network.features(images)["tokens"])[:, 1:].numpy()
    expected = np.concatenate([tokens @ basis for basis in place.matrices()["U"]], axis=2)
    np.testing.assert_allclose(values, expected, atol=1e-12)


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


def test_a_cut_does_not_depend_on_the_sign_of_an_eigenvector(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(2).standard_normal((36, 4))
    similarity, own = segmentation.affinity(values), segmentation.second_eigenvector
    found = segmentation.mask_cut(similarity, (6, 6))
    monkeypatch.setattr(segmentation, "second_eigenvector", lambda weights: -own(weights))
    turned = segmentation.mask_cut(similarity, (6, 6))
    assert found and all(np.array_equal(a, b) for a, b in zip(found, turned, strict=True))


def test_later_objects_that_are_specks_are_none() -> None:
    """A square and one patch of 144, which is less than a hundredth of the image."""
    grid = np.zeros((12, 12), dtype=int)
    grid[2:6, 2:6], grid[9, 9] = 1, 2
    found = segmentation.mask_cut(segmentation.affinity(np.eye(3)[grid.ravel()]), (12, 12))
    assert (grid == 1).tobytes() in {mask.tobytes() for mask in found}
    assert (grid == 2).tobytes() not in {mask.tobytes() for mask in found[1:]}


def test_what_needs_no_network() -> None:
    box = segmentation.centred_box(0.25, (8, 12))
    assert box[2:6, 3:9].all() and box.sum() == 24
    masks = torch.zeros(1, 4, 4, dtype=torch.bool)
    masks[0, 0, :], masks[0, 1, 0] = True, True  # of the four patches: 3/4, 2/4, 0, 0
    found = overlaps.beside(masks, (2, 2), heads=3, seed=0)
    assert found["whole image"].item() == pytest.approx(5 / 16)
    assert found["best choice of patches"].item() == pytest.approx(
        5 / 8
    )  # both upper ones; 3/6 with the left one alone
    assert found["a random map"] < found["best of 3 random maps"] < 5 / 8 + 1e-6


# ---- the section ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["crate_exact", "crate_mae", "crate_decoder", "tost_vision"])
def test_the_section_of_a_spec(spec: str) -> None:
    subject = subject_named(Named(spec, None, SPECS / f"{spec}.crate"), ASKED)
    ratio = subject.network.mask_ratio
    section = attention.measured(subject)
    assert {"maps-last", "maps-last-but-one", "depth"} < {panel.name for panel in section.panels}
    assert "no mIoU" in section.text[-1] and [sheet.name for sheet in section.sheets] == ["heads"]
    assert subject.network.mask_ratio == ratio
    (curve,) = section.curves
    heads = section.sheets[0].rows
    assert curve.labels[:2] == ("0", "1")
    for step, value in zip(dict.fromkeys(row[0] for row in heads), curve.values, strict=True):
        count = sum(row[0] == step for row in heads)
        assert [row[1] for row in heads if row[0] == step] == list(range(count))  # as layers, subspaces, other parts
        assert value == pytest.approx(np.mean([row[3] for row in heads if row[0] == step]))


def test_directions_are_counted_without_the_tokens_themselves(tmp_path: Path) -> None:
    """Where the skip stays in T, one softmax is still one direction."""
    text = (SPECS / "crate.crate").read_text(encoding="utf-8")
    kept = [line for line in text.splitlines() if not line.strip().startswith(("frame ", "coefficients "))]
    (tmp_path / "kept.crate").write_text("\n".join(kept), encoding="utf-8")
    compilation = crate_dsl.compile_spec(tmp_path / "kept.crate", overrides=SMALL | {"channels": 1})
    written = crate_dsl.module_of(compilation.text, compilation.class_name)
    place = next(places(compilation, getattr(written, compilation.class_name)()))
    assert len(mixing(place).words) == 2 and kind_of(place) == "softmax of the Gram matrix"
    both = next(places(*small("crate_bisoftmax")))
    assert kind_of(both) == "sum of both directions of the softmax of the Gram matrix"


def test_overlaps_with_masks_by_brute_force(tmp_path: Path) -> None:
    """Digits over photographs and a picture of the user: numpy counts pixels of the kept patches, image by image."""
    asked = Asked(None, "classify_digits", ["data=composites", "data.held_out_images=6", "data.held_out_crops=4"], None,
                  SMALL | {"channels": 3}, 6, *pictures(tmp_path))  # fmt: skip
    subject = subject_named(Named("crate", None, SPECS / "crate.crate"), asked)
    section = attention.measured(subject)
    sheets = {sheet.name: sheet.rows for sheet in section.sheets}
    names = {curve.quantity: curve for curve in section.curves}
    weights = attention_maps(subject.network, subject.held_out.images)
    for step, best in zip(weights, names["coarse mIoU of the best head, held out"].values, strict=True):
        ious = np.array([
            [brute_force(head[0, 1:].numpy().reshape(4, 4), mask.numpy()) for head in image]
            for image, mask in zip(weights[step], subject.masks, strict=True)
        ])  # fmt: skip
        assert best == pytest.approx(ious.max(axis=1).mean(), abs=1e-6)
        best_heads = [row[3] for row in sheets["images"] if row[0] == "held out" and row[2] == step]
        np.testing.assert_allclose(ious[range(6), best_heads], ious.max(axis=1))
        rows = [row[4:] for row in sheets["images"] if row[0] == "held out" and row[2] == step]
        np.testing.assert_allclose([row[0] for row in rows], ious.max(axis=1), atol=1e-6)
        found = {row[1]: row[4] for row in sheets["miou"] if row[0] == "held out" and row[2] == step}
        assert found["mean over heads"] == pytest.approx(ious.mean(), abs=1e-6)
        assert found["best single head"] == pytest.approx(ious.mean(axis=0).max(), abs=1e-6)
        assert found["best cut object"] == pytest.approx(np.mean([row[1] for row in rows]), abs=1e-6)
    whole = {row[0]: row[4] for row in sheets["miou"] if row[1] == "whole image"}
    assert whole == {"held out": pytest.approx(subject.masks.double().mean().item()), "pictures": pytest.approx(0.25)}
    assert {"miou-held-out", "miou-pictures", "objects"} < {panel.name for panel in section.panels}


SMALL = {"image": 16, "patch": 4, "d": 12, "K": 2, "L": 2, "classes": 10}


def pictures(folder: Path) -> tuple[list[Path], Path]:
    """A picture of noise and, of the same name in another folder, the mask of its upper left quarter."""
    (folder / "masks").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    mask = np.zeros((16, 16), dtype=np.uint8)
    mask[:8, :8] = 255
    Image.fromarray(mask).save(folder / "masks" / "noise.png")
    return [folder / "noise.png"], folder / "masks"


def brute_force(values: np.ndarray, mask: np.ndarray) -> float:
    """IoU at pixel size of the fewest patches, the largest first, that hold 60 %."""
    kept, held = np.zeros(mask.shape, dtype=bool), 0.0
    size = mask.shape[0] // values.shape[0]
    for place in np.argsort(-values.ravel()):
        row, column = divmod(int(place), values.shape[1])
        kept[row * size : (row + 1) * size, column * size : (column + 1) * size] = True
        held += values[row, column] / values.sum()
        if held >= 0.6:
            break
    return (kept & mask).sum() / (kept | mask).sum()


def test_a_network_that_has_diverged_has_no_maps() -> None:
    compilation, network = small("crate")
    network.encoder[1].compress.U.fill_(float("nan"))
    with pytest.raises(Inapplicable, match=r"encoder\.1\.compress are not finite"):
        class_maps.step_maps(compilation, network, inputs_of(network))


def test_what_is_no_image_has_no_maps() -> None:
    subject = subject_named(Named("crate_gpt", None, SPECS / "crate_gpt.crate"), ASKED)
    with pytest.raises(Inapplicable, match="no images"):
        attention.measured(subject)
