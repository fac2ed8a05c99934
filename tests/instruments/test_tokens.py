"""The numbers of tokens against numpy, scipy, the compiler's own evaluation and brute force."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, nn

from crate_dsl.mathematics.evaluate import execute
from runtime import seeds
from runtime.inspection import token_numbers
from runtime.inspection.places import array, columns, places
from runtime.inspection.subspaces import agreement, agreement_by_chance, shares
from runtime.inspection.tokens import code, effective_rank, singular_values, stable_rank, step_inputs
from runtime.instruments.catalogue import INSTRUMENTS
from runtime.instruments.drawing.token_maps import kind_colours, region_places
from runtime.instruments.naming import Asked, Named, subject_named
from runtime.pages.files import Measured, write_numbers
from runtime.subspaces import draw, orthonormal, put
from tests.instruments.test_dictionaries import SPECS, network_of, random

NEAR = {"rtol": 1e-10, "atol": 1e-10}
IMAGES = {"image": 6, "patch": 2, "channels": 1}


def images_for(network: nn.Module, count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, network.channels, *network.image_size, generator=generator, dtype=torch.float64)


# ---- ranks ---------------------------------------------------------------------------------------------------------


def test_ranks_are_those_of_numpy_and_scipy() -> None:
    tokens = random(2, 5, 8)
    values = singular_values(torch.tensor(tokens))
    for matrix, found, effective, stable in zip(
        tokens, values, effective_rank(values), stable_rank(values), strict=True
    ):
        expected = np.linalg.svd(matrix, compute_uv=False)
        np.testing.assert_allclose(found, expected, **NEAR)
        np.testing.assert_allclose(effective, np.exp(scipy.stats.entropy(expected)), **NEAR)
        np.testing.assert_allclose(stable, (np.linalg.norm(matrix) / np.linalg.norm(matrix, 2)) ** 2, **NEAR)


def test_ranks_of_extremes() -> None:
    matrices = torch.stack((torch.eye(4), torch.ones(4, 4), torch.zeros(4, 4)))
    values = singular_values(matrices)
    np.testing.assert_allclose(effective_rank(values), [4, 1, 0], atol=1e-6)
    np.testing.assert_allclose(stable_rank(values), [4, 1, 0], atol=1e-6)


def test_ranks_along_depth_are_those_of_the_features(monkeypatch: pytest.MonkeyPatch) -> None:
    _, network = network_of("crate", **IMAGES)
    images = images_for(network, 3)
    monkeypatch.setattr(token_numbers, "AT_ONCE", 2)
    found = token_numbers.ranks(network, (images,))
    features = network.features(images)
    assert [each.label for each in found] == list(features)
    for each, tokens in zip(found, features.values(), strict=True):
        expected = np.linalg.svd(array(tokens), compute_uv=False)
        np.testing.assert_allclose(each.spectrum, (expected / expected[:, :1]).mean(0), **NEAR)
        assert each.effective.shape == (3,)
    monkeypatch.setattr(token_numbers, "WORK", 1)
    assert token_numbers.ranks(network, (images,))[0].effective.shape == (1,)


# ---- nearest subspaces ---------------------------------------------------------------------------------------------


def test_shares_one_by_one() -> None:
    tokens, bases = random(2, 3, 6), random(4, 6, 2, seed=1)
    tokens[1, 2] = 0
    found = shares(tokens, bases)
    for image, token, k in np.ndindex(2, 3, 4):
        z = tokens[image, token]
        expected = np.sum((bases[k].T @ z) ** 2) / (z @ z) if z.any() else 0
        np.testing.assert_allclose(found[image, token, k], expected, **NEAR)


def test_neighbours_one_by_one() -> None:
    kinds = np.random.default_rng(0).integers(0, 3, (4, 5, 6))
    pairs = [kinds[i, row, column] == kinds[i, row, column + 1] for i, row, column in np.ndindex(4, 5, 5)]
    assert agreement(kinds) == pytest.approx(np.mean(pairs))
    drawn = [a == b for a in kinds.ravel() for b in kinds.ravel()]
    assert agreement_by_chance(kinds, 3) == pytest.approx(np.mean(drawn))
    assert np.isnan(agreement(kinds[..., :1]))


def test_tokens_of_known_subspaces_are_found() -> None:
    compilation, network = network_of("aot", d=12, K=3, N=30)
    bases = orthonormal(3, 12, 4, seeds.torch_generator(0))
    data = draw(30, bases, 0.05, seeds.torch_generator(1))
    put(network, bases)
    first, second = token_numbers.nearest(compilation, network, (data.tokens[None].double(),))
    assert (first.kinds[0] == data.labels.numpy()).mean() > 0.95
    assert first.same == 1
    assert first.inside > 0.9
    np.testing.assert_allclose(first.shares, 1 / 3, atol=0.05)
    assert second.label == "encoder.1.compress"
    assert np.isnan(first.agreement)


def test_maps_leave_the_class_token_out_and_follow_the_image() -> None:
    compilation, network = network_of("crate", **IMAGES)
    images = images_for(network)
    found = token_numbers.nearest(compilation, network, (images,))[1]
    place = next(place for place in places(compilation, network) if place.name == found.label)
    tokens = array(place.read(network.features(images)["encoder.0.sparsify"]))
    family = place.matrices()["U"]
    for image, row, column in np.ndindex(3, 3, 3):
        z = tokens[image, 1 + 3 * row + column]
        lengths = [np.linalg.norm(basis.T @ z) for basis in family]
        assert found.maps[image, row, column] == np.argmax(lengths)
    assert found.shares.sum() == pytest.approx(1)


# ---- sparse codes --------------------------------------------------------------------------------------------------


def test_inputs_of_steps_are_the_features_before_them() -> None:
    compilation, network = network_of("crate_mae", **IMAGES)
    images, noise = images_for(network), torch.rand(3, 9, dtype=torch.float64)
    given = step_inputs(network, places(compilation, network), images, noise)
    features = network.features(images, noise)
    before = dict(zip(list(features)[1:], features, strict=False))
    assert set(given) == {name for name in features if "." in name}
    for name, tokens in given.items():
        torch.testing.assert_close(tokens, features[before[name]], rtol=0, atol=0)
    assert not any(module._forward_pre_hooks for module in network.modules())


@pytest.mark.parametrize("spec", ["crate", "crate_alpha"])
def test_codes_are_those_of_the_derivation(spec: str) -> None:
    compilation, network = network_of(spec, **IMAGES)
    with torch.no_grad():
        for layer in network.encoder:
            layer.sparsify.norm.weight.uniform_(0.5, 2)
    images = images_for(network, 1)
    codes = token_numbers.codes(compilation, network, (images,))
    assert list(codes) == ["encoder.0.sparsify", "encoder.1.sparsify"]
    features = network.features(images)
    for place in places(compilation, network):
        if place.name in codes:
            derived = place.derived
            last = [assignment for assignment in derived.assignments if assignment.prox][-1]
            raw = features[f"encoder.{place.layer}.compress"][0]
            point = place.point(columns(raw)).with_matrix(derived.read.name, columns(place.read(raw)))
            expected = execute(derived.assignments, point).matrices[last.target.name]
            np.testing.assert_allclose(codes[place.name], expected, **NEAR)
            assert 0 < (expected == 0).mean() < 1


def test_activity_counts_every_token_and_finds_dead_features(monkeypatch: pytest.MonkeyPatch) -> None:
    compilation, network = network_of("crate_alpha", **IMAGES)
    with torch.no_grad():
        network.encoder[1].sparsify.D[:, 5] = 0
    images = images_for(network, 5)
    monkeypatch.setattr(token_numbers, "AT_ONCE", 2)
    first, second = token_numbers.activity(compilation, network, (images,))
    place = next(place for place in places(compilation, network) if place.name == second.label)
    tokens = code(place, network.features(images)["encoder.1.compress"])
    expected = [sum(float(z[m] != 0) for image in tokens for z in image) / 50 for m in range(48)]
    np.testing.assert_allclose(second.shares, expected, **NEAR)
    assert second.shares[5] == 0
    assert second.dead == pytest.approx(np.mean(np.array(expected) == 0))
    assert second.active == pytest.approx(float((tokens != 0).double().mean()))
    assert (first.tokens, second.tokens) == (50, 50)
    assert token_numbers.activity(*network_of("aot_vision", **IMAGES), (images,)) == []


# ---- drawing and the whole -----------------------------------------------------------------------------------------


def test_regions_are_numbered_inside_themselves() -> None:
    kinds = np.zeros((5, 6), dtype=int)
    kinds[1:4, 1:4] = 1
    kinds[0, 5] = kinds[2, 2] = 2
    places_of = region_places(kinds)
    assert [kinds[place] for place in places_of] == [0, 1]  # the single patches have no room for a number
    assert region_places(np.zeros((3, 3), dtype=int)) == [(1, 1)]


def test_colours_of_many_subspaces_differ() -> None:
    colours = kind_colours(20)
    assert len(set(colours)) == 20
    assert np.min(colours) >= 0
    assert np.max(colours) <= 1


def test_what_a_report_says_of_a_masked_network(tmp_path: Path) -> None:
    """Both instruments on the digits: complete tables, and curves with a value for every step."""
    sizes = {"d": 8, "K": 2, "L": 1}
    asked = Asked(None, None, [], "digits", sizes, count=3)
    subject = subject_named(Named("mae", None, SPECS / "crate_mae.crate"), asked)
    sections = [INSTRUMENTS[name].of(subject) for name in ("dictionaries", "tokens")]
    write_numbers([Measured("mae", sections, {})], None, tmp_path)
    (network,) = json.loads((tmp_path / "report.json").read_text())["networks"]
    named = {curve["quantity"]: curve for section in network["sections"] for curve in section["curves"]}
    steps = ["encoder.0.compress", "decoder.0.denoise_rate"]
    assert named["smallest principal angle between subspaces, degrees"]["labels"] == steps
    assert named["tokens nearest to the same subspace as their right neighbour, held out"]["labels"] == steps
    assert named["dead features of the sparse code, held out"]["labels"] == ["encoder.0.sparsify"]
    assert len(named["effective rank of the tokens, held out"]["values"]) == 7
    assert all(np.isfinite(curve["values"]).all() for curve in named.values())
    with (tmp_path / "tables" / "tokens-maps.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert all(set(row["nearest subspaces"]) <= set("01 /") for row in rows)
    assert "maps-initial" in network["sections"][1]["figures"]
    assert "patch-filters" in network["sections"][0]["figures"]
