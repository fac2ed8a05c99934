"""The geometry of subspaces and dictionaries against scipy, numpy, autograd and brute force."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn import functional as F

import crate_dsl
from runtime.inspection import geometry
from runtime.inspection.dictionaries import coherences, dictionary, lipschitz, step_sizes, welch
from runtime.inspection.filters import patch_filters, strongest
from runtime.inspection.matrices import found, is_dictionary, is_family, is_freed
from runtime.inspection.places import Place, places
from runtime.inspection.subspaces import (
    cosines_of_columns,
    frame,
    freed,
    from_identity,
    mean_angle,
    orthonormality,
    pairwise_angles,
)
from runtime.instruments.dictionaries import filter_panel
from runtime.instruments.drawing.matrices import show_filter
from tests.instruments.subjects import subject

SPECS = Path(__file__).parents[2] / "specs"
NEAR = {"rtol": 1e-10, "atol": 1e-10}
TINY = {"d": 12, "K": 3, "L": 2}


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def network_of(spec: str | Path, **sizes: int) -> tuple[crate_dsl.Compilation, nn.Module]:
    """A spec in small with random matrices, in float64."""
    path = spec if isinstance(spec, Path) else SPECS / f"{spec}.crate"
    sizes = TINY | sizes
    torch.manual_seed(0)
    return crate_dsl.compile_spec(path, overrides=sizes), crate_dsl.load(path, **sizes).double()


# ---- subspaces -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("closeness", [1, 1e-3, 1e-9])
def test_angles_are_those_of_scipy(closeness: float) -> None:
    bases = random(3, 20, 4)
    bases[1] = bases[0] @ random(4, 4, seed=1) + closeness * bases[1]
    angles = pairwise_angles(bases)
    for i, j in angles.pairs:
        expected = np.degrees(scipy.linalg.subspace_angles(bases[i], bases[j]))
        numbers = [kind[i, j] for kind in (angles.smallest, angles.mean, angles.largest)]
        np.testing.assert_allclose(numbers, [expected.min(), expected.mean(), expected.max()], **NEAR)
        assert angles.mean[j, i] == angles.mean[i, j]
    assert np.isnan(np.diag(angles.smallest)).all()


def test_angles_of_a_basis_with_dependent_columns_are_those_of_its_span() -> None:
    bases = random(2, 9, 3)
    bases[0, :, 2] = bases[0, :, 0] - bases[0, :, 1]
    expected = np.degrees(scipy.linalg.subspace_angles(bases[0, :, :2], bases[1]))
    np.testing.assert_allclose(pairwise_angles(bases).mean[0, 1], expected.mean(), **NEAR)
    np.testing.assert_allclose(mean_angle(bases[0], bases[1]), expected.mean(), **NEAR)


def test_the_distance_from_the_identity_is_the_least_over_all_scales() -> None:
    gram = (basis := random(7, 5)).T @ basis
    measured = from_identity(gram)
    nearest = scipy.optimize.minimize_scalar(lambda c: np.linalg.norm(gram - c * np.eye(5)), options={"xtol": 1e-12})
    np.testing.assert_allclose(measured.scale, nearest.x, rtol=1e-7)
    np.testing.assert_allclose(measured.scaled, nearest.fun / (nearest.x * np.sqrt(5)), **NEAR)
    values = np.linalg.svd(basis, compute_uv=False) ** 2
    np.testing.assert_allclose(measured.scaled, values.std() / values.mean(), **NEAR)
    np.testing.assert_allclose(measured.plain, np.sqrt(np.square(values - 1).sum() / 5), **NEAR)
    assert np.isnan(from_identity(np.zeros((3, 3))).scaled)


def test_orthonormal_bases_of_the_whole_space_are_a_frame() -> None:
    whole = np.linalg.qr(random(12, 12)).Q
    bases = whole.reshape(12, 3, 4).transpose(1, 0, 2)
    assert max(each.plain for each in orthonormality(bases)) < 1e-12
    assert frame(bases).plain < 1e-12
    assert frame(3 * bases).scaled < 1e-12
    np.testing.assert_allclose(frame(3 * bases).plain, 8, **NEAR)
    np.testing.assert_allclose(frame(bases[:2]).scaled, np.sqrt(12 / 8 - 1), **NEAR)  # the least that rank 8 allows
    some = random(3, 12, 4)
    total = sum(u @ u.T for u in some)
    np.testing.assert_allclose(frame(some).plain, np.linalg.norm(total - np.eye(12)) / np.sqrt(12), **NEAR)


def test_cosines_of_columns() -> None:
    bases = random(2, 5, 3)
    bases[1, :, 2] = 0
    columns = [bases[k][:, j] for k in range(2) for j in range(3)]
    for i, left in enumerate(columns[:5]):
        for j, right in enumerate(columns[:5]):
            expected = abs(left @ right) / np.linalg.norm(left) / np.linalg.norm(right)
            np.testing.assert_allclose(cosines_of_columns(bases)[i, j], expected, **NEAR)
    assert not cosines_of_columns(bases)[5].any()


def test_freed_matrices_are_compared_with_the_best_multiple() -> None:
    inner, outer = random(2, 6, 3), random(2, 6, 3, seed=1)
    measured = freed(outer, inner)
    scale, rest, *_ = np.linalg.lstsq(inner.reshape(-1, 1), outer.ravel(), rcond=None)
    np.testing.assert_allclose(measured.scaled, np.sqrt(rest[0]) / np.linalg.norm(outer), **NEAR)
    np.testing.assert_allclose(measured.cosine, scale[0] * np.linalg.norm(inner) / np.linalg.norm(outer), **NEAR)
    tied = freed(-2 * inner, inner)
    np.testing.assert_allclose((tied.cosine, tied.distance, tied.scaled), (-1, 3, 0), atol=1e-12)
    assert np.isnan(freed(outer, 0 * inner).cosine)


# ---- dictionaries --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4)])
def test_numbers_of_a_dictionary(shape: tuple[int, int]) -> None:
    atoms = random(*shape)
    measured = dictionary(atoms)
    pairs = [
        abs(atoms[:, i] @ atoms[:, j]) / np.linalg.norm(atoms[:, i]) / np.linalg.norm(atoms[:, j])
        for i in range(shape[1])
        for j in range(shape[1])
        if i != j
    ]
    np.testing.assert_allclose((measured.coherence, measured.typical), (max(pairs), np.mean(pairs)), **NEAR)
    np.testing.assert_allclose(measured.condition, np.linalg.cond(atoms), **NEAR)
    values = np.linalg.svd(atoms, compute_uv=False) ** 2
    np.testing.assert_allclose(measured.tightness, values.std() / values.mean(), **NEAR)
    assert measured.coherence >= measured.welch


def test_three_vectors_in_the_plane_attain_the_welch_bound() -> None:
    turns = 2 * np.pi * np.arange(3) / 3
    measured = dictionary(5 * np.stack((np.cos(turns), np.sin(turns))))
    np.testing.assert_allclose((measured.coherence, measured.welch), 0.5, **NEAR)
    assert measured.tightness < 1e-12
    assert welch(7, 7) == welch(7, 3) == 0


def test_atoms_that_are_zero_have_no_cosine() -> None:
    atoms = random(5, 4)
    atoms[:, 2] = 0
    assert coherences(atoms)[2] == 1
    np.testing.assert_allclose(coherences(atoms)[:2], coherences(atoms[:, [0, 1, 3]])[:2], **NEAR)
    assert dictionary(np.eye(3)[:, :2] * 0).condition == np.inf


HALF = "1/2 * norm2(X - D * A) + lambda * l1(A) + nonnegative(A)"


def with_energy(folder: Path, body: str, step: str = "steps 2 of eta") -> Path:
    """CRATE-alpha with another energy."""
    text = (SPECS / "crate_alpha.crate").read_text(encoding="utf-8")
    assert HALF in text
    path = folder / "other.crate"
    path.write_text(text.replace(HALF, body).replace("steps    2 of eta", step), encoding="utf-8")
    return path


def dictionary_of(spec: str | Path, **sizes: int) -> tuple[Place, np.ndarray]:
    compilation, network = network_of(spec, **sizes)
    at = next(found(compilation, network, is_dictionary))
    return at.place, at.value


@pytest.mark.parametrize(
    "body", [HALF, "norm2(X - D * A) + lambda * l1(A)", "eta * norm2(D * A) / 2 + l1(A) - trace(X' * D * A)"]
)
def test_the_lipschitz_constant_is_the_largest_curvature(body: str, tmp_path: Path) -> None:
    place, atoms = dictionary_of(with_energy(tmp_path, body), m=15)
    given = torch.rand(1, 1, 12, dtype=torch.float64)
    positive = torch.rand(15, dtype=torch.float64)  # the penalty is linear here

    def energy(code: torch.Tensor) -> torch.Tensor:
        return place.module.energy(code[None, None], given)[0]

    hessian = torch.autograd.functional.hessian(energy, positive).detach().numpy()
    constant = lipschitz(place, "D", np.linalg.norm(atoms, 2))
    np.testing.assert_allclose(constant, np.linalg.eigvalsh(hessian)[-1], **NEAR)


@pytest.mark.parametrize(
    "body", ["norm2(X - D * A) + norm2(A) + l1(A)", "total(exp(D * A)) - trace(X' * D * A) + l1(A)"]
)
def test_other_smooth_parts(body: str, tmp_path: Path) -> None:
    """A square is a penalty of the entries and has its place in the prox; exp has no constant of this form."""
    place, atoms = dictionary_of(with_energy(tmp_path, body), m=15)
    norm = float(np.linalg.norm(atoms, 2))
    expected = None if "exp" in body else pytest.approx(2 * norm**2)
    assert lipschitz(place, "D", norm) == expected


def test_learned_step_sizes_are_those_of_the_weights(tmp_path: Path) -> None:
    text = with_energy(tmp_path, HALF, "steps 2 of theta").read_text(encoding="utf-8")
    path = tmp_path / "learned.crate"
    path.write_text(text.replace("encoder repeat L {", "encoder repeat L {\n learn theta > 0 = 0.1 per iteration"))
    place, _ = dictionary_of(path, m=15)
    np.testing.assert_allclose(step_sizes(place), [0.1, 0.1], rtol=1e-6)
    with torch.no_grad():
        place.module.log_theta_2.fill_(np.log(0.7))
    np.testing.assert_allclose(step_sizes(place), [0.1, 0.7], rtol=1e-6)


# ---- networks ------------------------------------------------------------------------------------------------------

KINDS = {  # families, dictionaries and freed matrices of two layers
    "crate": ("encoder.0.compress U", "encoder.0.sparsify D", "encoder.0.compress U_out"),
    "crate_alpha": ("encoder.0.compress U", "encoder.0.sparsify D", "encoder.0.compress U_out, encoder.0.sparsify D1"),
    "crate_exact": ("encoder.0.compress U", "encoder.0.sparsify D", ""),
    "crate_decoder": ("decoder.0.denoise_rate U", "decoder.0.denoise_lasso D", "decoder.0.denoise_rate U_out"),
    "tost": (
        "encoder.0.compress_variational_rate U",
        "",
        "encoder.0.compress_variational_rate U_out, encoder.0.compress_feed_forward W_out",
    ),
    "aot": ("encoder.0.compress U", "", ""),
    "redunet": ("", "", ""),
}


@pytest.mark.parametrize("spec", KINDS)
def test_which_matrices_are_what(spec: str) -> None:
    compilation, network = network_of(spec, **({"N": 5} if spec in ("aot", "redunet") else {"image": 4, "patch": 2}))
    named = tuple(
        ", ".join(
            f"{each.place.name} {each.parameter.name}"
            for each in found(compilation, network, kind)
            if each.place.layer == 0
        )
        for kind in (is_family, is_dictionary, is_freed)
    )
    assert named == KINDS[spec]


def test_numbers_of_a_network() -> None:
    """With an outer family that is tied, a dictionary that moved, and bounds that hold or do not."""
    compilation, network = network_of("crate", image=4, patch=2)
    _, initial = network_of("crate", image=4, patch=2)
    layer = network.encoder[1]
    with torch.no_grad():
        layer.compress.U_out.copy_(3 * layer.compress.U)
        layer.sparsify.D.copy_(1.5 * initial.encoder[1].sparsify.D)
    first, second = geometry.outers(compilation, network)
    assert abs(first.whole.cosine) < 0.5
    assert second.whole.cosine == pytest.approx(1)
    assert second.angles == pytest.approx([0, 0, 0], abs=1e-5)
    still, moved = geometry.dictionaries(compilation, network, initial)
    assert (still.moved, moved.moved) == (0, pytest.approx(0.5))
    square = np.linalg.eigvalsh(moved.at.value.T @ moved.at.value)[-1]
    assert moved.over_bound == pytest.approx(0.1 * square)
    assert moved.bound == pytest.approx(1 / square)
    (one, _) = geometry.families(compilation, network)
    stored = network.encoder[0].compress.U.detach().numpy().reshape(3, 4, 12)
    angles = [np.degrees(scipy.linalg.subspace_angles(stored[i].T, stored[j].T)) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert one.smallest == pytest.approx(np.min(angles))
    assert one.mean == pytest.approx(np.mean(angles))


@pytest.mark.parametrize("channels", [1, 3])
def test_filters_are_what_patches_are_multiplied_with(channels: int) -> None:
    _, network = network_of("crate_dino", image=8, patch=4, channels=channels)
    filters = patch_filters(network)
    images = torch.rand(2, channels, 8, 8, dtype=torch.float64)
    projection = network.patches.projection
    expected = projection(network.patchify(images)) - projection.bias
    by_convolution = F.conv2d(images, filters.double(), stride=4).flatten(2).mT
    torch.testing.assert_close(by_convolution, expected, atol=1e-5, rtol=1e-5)
    norms = filters.flatten(1).norm(dim=1)
    kept = strongest(filters, 3)
    assert norms[kept].min() >= norms[[n for n in range(12) if n not in kept]].max()
    assert patch_filters(network_of("crate_gpt", length=8, vocabulary=9)[1]) is None


def test_the_caption_names_the_colours_of_filters() -> None:
    axis, weights = Figure().subplots(), torch.tensor([[[-1.0, 1.0]]])
    show_filter(axis, weights)
    (image,) = axis.get_images()
    negative, positive = image.to_rgba(image.get_array())[0, :, :3]
    assert negative[0] > negative[1] > negative[2] and positive[2] > positive[0] > positive[1]  # orange, violet
    assert "Orange is negative, violet positive" in filter_panel(subject("crate", count=1)).caption


def test_every_step_is_at_its_place() -> None:
    compilation, network = network_of("crate_mae", image=4, patch=2)
    labels = [each.label for each in found(compilation, network, is_dictionary)]
    assert labels == [place.name for place in places(compilation, network) if "D" in place.matrices()]
