"""Energies, exact steps and coding rates against numpy formulas written here, and the official plot's numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import crate_dsl
from crate_dsl.mathematics.evaluate import step_result
from runtime.errors import Inapplicable
from runtime.inspection.descent import Movement, departures, movements, states_before
from runtime.inspection.mixing import adds_its_operator, mixture
from runtime.inspection.places import columns, places
from runtime.inspection.rates import as_plotted, as_stated, family_of, share_of_nonzeros
from runtime.instruments import energies, rates
from runtime.instruments.naming import Asked, Named, subject_named
from tests.instruments.small import inputs_of, small
from tests.runtime.conftest import DATA, SPECS, Train, tiny_run  # noqa: F401

TEXT = {"length": 6, "vocabulary": 11}


def logdet(matrix: np.ndarray) -> float:
    sign, value = np.linalg.slogdet(matrix)
    assert sign > 0
    return value


@pytest.mark.parametrize(
    "spec",
    ["crate", "crate_exact", "crate_paper", "crate_mae", "crate_alpha", "tost", "crate_bisoftmax", "crate_decoder"],
)
def test_places_have_the_meaning_of_the_written_network(spec: str) -> None:
    """The derivation, evaluated in numpy with a network's own weights, gives what the network gives."""
    compilation, network = small(spec)
    features = network.features(inputs_of(network))
    met = 0
    for place, tokens in states_before(features, places(compilation, network)):
        point = place.point(columns(place.read(tokens))[0])
        point = point.with_matrix(place.derived.raw.name, columns(tokens)[0])
        found, expected = step_result(place.derived, point), columns(features[place.name])[0]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * max(1, abs(expected).max()))
        met += 1
    assert met == sum(len(block.steps) * block.block.repeat for block in compilation.derivation.blocks)


def rate(tokens: np.ndarray, family: np.ndarray, scale: float) -> float:
    """1/2 sum_k logdet(I + scale (U_k' Z)' (U_k' Z)), tokens as columns."""
    count = tokens.shape[1]
    return 0.5 * sum(logdet(np.eye(count) + scale * (u.T @ tokens).T @ (u.T @ tokens)) for u in family)


def norm(tokens: np.ndarray, module: torch.nn.LayerNorm) -> np.ndarray:
    centred = tokens - tokens.mean(0)
    gain, shift = module.weight.numpy()[:, None], module.bias.numpy()[:, None]
    return centred / np.sqrt(tokens.var(0) + module.eps) * gain + shift


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("spec", ["crate", "crate_exact", "crate_paper", "crate_mae"])
def test_energies_against_numpy(spec: str, raw: bool) -> None:
    """Rate and lasso before and after every step, of every input."""
    compilation, network = small(spec)
    inputs = inputs_of(network)
    features = network.features(inputs)
    before = {place.name: tokens for place, tokens in states_before(features, places(compilation, network))}
    found = movements(compilation, network, (inputs,), raw)
    assert len(found) == len(before)
    for each in found:
        step, module = each.place.derived.step, each.place.module
        for image in range(len(inputs)):
            z, after = columns(before[each.place.name])[image], columns(features[each.place.name])[image]
            read = z if raw or not step.norm else norm(z, module.norm)
            if step.energy.name == "rate":
                ends = read, after if raw or not step.norm else norm(after, module.norm)
                family, scalars = each.place.matrices()["U"], each.place.scalars()
                scale = scalars.get("beta", 1.0)
                if spec == "crate_paper":
                    scale = (12 / 2) / (z.shape[1] * 0.5**2)
                expected = [rate(end, family, scale) for end in ends]
            else:
                dictionary = each.place.matrices()["D"]
                weight = float(compilation.model.reals["lambda"])
                codes = (read, after) if step.verb == "sparsify" else None
                if codes is None:
                    continue
                expected = [
                    0.5 * np.linalg.norm(read - dictionary @ code) ** 2 + weight * abs(code).sum() for code in codes
                ]
            assert each.before[image].item() == pytest.approx(expected[0], rel=1e-10)
            assert each.after[image].item() == pytest.approx(expected[1], rel=1e-10)


def test_a_step_goes_as_meant_by_its_direction() -> None:
    compilation, network = small("crate_mae")
    found = {each.place.label: each.place for each in movements(compilation, network, (inputs_of(network),), False)}
    lower, upper = torch.tensor([1.0, 2.0]), torch.tensor([1.5, 2.5])
    assert Movement(found["encoder.compress"], upper, lower).goes_as_meant
    assert not Movement(found["encoder.compress"], lower, upper).goes_as_meant
    assert Movement(found["decoder.denoise_rate"], lower, upper).goes_as_meant
    assert not Movement(found["decoder.denoise_rate"], upper, lower).goes_as_meant


def test_departures_against_the_exact_gradient() -> None:
    """The exact displacement by torch's autograd of the stated energy; the last one is the network's own."""
    compilation, network = small("crate")
    features = network.features(inputs_of(network))
    place, tokens = next(iter(states_before(features, places(compilation, network))))
    found = list(departures(place, tokens))
    assert [each.rule for each in found] == [
        "inverse ~ neumann", "frame ~ identity", "gram ~ softmax", "coefficients ~ absorbed", "adjoint ~ free",
    ]  # fmt: skip
    read = place.read(tokens).requires_grad_()
    (gradient,) = torch.autograd.grad(place.module.energy(read).sum(), read)
    exact, own = -gradient, place.module(tokens) - tokens
    errors = [((b - a).norm() / a.norm()).item() for a, b in zip(exact, own, strict=True)]
    cosines = [F.cosine_similarity(a.flatten(), b.flatten(), dim=0).item() for a, b in zip(exact, own, strict=True)]
    assert found[-1].error == pytest.approx(np.mean(errors), rel=1e-9)
    assert found[-1].cosine == pytest.approx(np.mean(cosines), rel=1e-9)
    w = (place.read(tokens).detach() @ torch.as_tensor(place.matrices()["U"]).unsqueeze(1)).mT  # (K, batch, p, N)
    radii = torch.linalg.eigvalsh(w.mT @ w).amax(dim=(0, 2))
    assert found[0].radius == pytest.approx(radii.mean().item(), rel=1e-9)
    assert all(each.radius is None for each in found[1:])


def test_an_exact_step_departs_from_nothing() -> None:
    compilation, network = small("crate_exact")
    features = network.features(inputs_of(network))
    assert not [
        each for place, z in states_before(features, places(compilation, network)) for each in departures(place, z)
    ]


def test_mixtures_by_hand() -> None:
    compilation, network = small("crate")
    features = network.features(inputs_of(network))
    place, tokens = next(iter(states_before(features, places(compilation, network))))
    found = mixture(place, tokens)
    read, operator = place.module.norm(tokens), features[place.name] - tokens
    family = place.matrices()["U"]
    for image in range(len(tokens)):
        v, o = columns(read)[image], columns(operator)[image]
        for value, made in [(found.start, v), (found.added, v + o), (found.averaged[0.1], 0.9 * v + 0.1 * o)]:
            assert value[image].item() == pytest.approx(rate(made, family, 1.0), rel=1e-10)


def test_what_adds_no_operator_is_not_mixed() -> None:
    compilation, network = small("crate_exact")
    place = next(places(compilation, network))
    assert not adds_its_operator(place)
    with pytest.raises(Inapplicable):
        mixture(place, torch.zeros(1, 17, 12, dtype=torch.float64))


def test_the_official_plot() -> None:
    """The golden's projections, taken as tokens of one family that is the identity."""
    golden = np.load(Path(DATA) / "coding_rate.npz")
    projections = torch.as_tensor(golden["in/X"])  # (batch, heads, N, p)
    batch, heads, count, width = projections.shape
    tokens = projections.transpose(1, 2).flatten(2)
    family = torch.eye(heads * width, dtype=torch.float64).unflatten(1, (heads, width)).transpose(0, 1)
    found = as_plotted(tokens, family, epsilon=0.01)
    assert found.mean().item() == pytest.approx(float(golden["out/mean"]), rel=1e-10)
    assert found.std().item() == pytest.approx(float(golden["out/std"]), rel=1e-10)
    again = tokens.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(as_plotted(again, family, 0.01).mean(), again)
    expected = torch.as_tensor(golden["grad_in/X"]).transpose(1, 2).flatten(2)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)


def test_rates_as_stated_against_numpy() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 7, 6, generator=generator, dtype=torch.float64)
    family = torch.randn(2, 6, 3, generator=generator, dtype=torch.float64)
    found = as_stated(tokens, family, epsilon=0.5)
    for image, z in enumerate(columns(tokens)):
        assert found.compressed[image].item() == pytest.approx(rate(z, family.numpy(), 3 / (7 * 0.25)), rel=1e-10)
        whole = 0.5 * logdet(np.eye(6) + 6 / (7 * 0.25) * z @ z.T)
        assert found.whole[image].item() == pytest.approx(whole, rel=1e-10)


def test_shares_of_nonzeros() -> None:
    assert share_of_nonzeros(torch.tensor([[[0.0, 1.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, -1.0]]])).tolist() == [0.25, 1]


def test_the_family_is_the_one_that_tokens_are_projected_onto() -> None:
    compilation, network = small("crate")
    first, second, *_ = places(compilation, network)
    stored = first.module.U  # K * p x d
    expected = stored.unflatten(0, (2, 6)).mT
    assert torch.equal(family_of(first), expected) and family_of(second) is None


def test_the_sections_of_a_run(tiny_run: Train) -> None:  # noqa: F811
    """Numbers in the tables are those of the network's own energies, and the texts count what the tables say."""
    subject = subject_named(Named("run", tiny_run("crate", "sizes.L=2")), Asked(None, None, [], None, {}, 5))
    section = energies.measured(subject)
    sheets = {sheet.name: sheet for sheet in section.sheets}
    own = subject.network.energies(*subject.arguments(subject.held_out))
    for row in sheets["energies"].rows:
        cells = dict(zip(sheets["energies"].columns, row, strict=True))
        if (cells["network"], cells["split"], cells["tokens"]) == ("trained", "held out", "as read"):
            role, label = cells["step"].split(".")
            before, after = own[f"{role}.{cells['layer']}.{label}"]
            assert (cells["before"], cells["after"]) == (before.mean().item(), after.mean().item())
    assert {
        (row[0], row[5], row[6]) for row in sheets["descent"].rows if row[1:4] == ("trained", "held out", "as read")
    } == {
        (
            label,
            sum(
                bool(
                    own[f"encoder.{n}.{label.split('.')[1]}"][1].mean()
                    < own[f"encoder.{n}.{label.split('.')[1]}"][0].mean()
                )
                for n in range(2)
            ),
            2,
        )
        for label in ("encoder.compress", "encoder.sparsify")
    }
    nonzeros = [row for row in rates.measured(subject).sheets[0].rows if row[0] == "share of non-zero entries"]
    features = subject.network.features(*subject.arguments(subject.held_out))
    expected = [(features[f"encoder.{n}.sparsify"] != 0).double().mean().item() for n in range(2)]
    assert [row[5] for row in nonzeros if row[3:5] == ("trained", "held out")] == pytest.approx(expected)


@pytest.mark.parametrize("spec", sorted(path.stem for path in SPECS.glob("*.crate")))
def test_every_shipped_spec_is_measured_or_says_why_not(spec: str) -> None:
    if crate_dsl.compile_spec(SPECS / f"{spec}.crate").task == "tokens":
        pytest.skip("no recipe: its tokens are its output")
    asked = Asked(None, None, ["batch=4"], None, {}, 2)
    subject = subject_named(Named(spec, None, SPECS / f"{spec}.crate"), asked)
    for instrument in (energies, rates):
        try:
            section = instrument.measured(subject)
        except Inapplicable as reason:
            assert str(reason)
        else:
            assert section.panels and section.sheets and section.curves
