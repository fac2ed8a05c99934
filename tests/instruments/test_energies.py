"""Energies, exact steps and coding rates against numpy formulas written here, and the official plot's numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from torch.nn import functional as F

import crate_dsl
from runtime.errors import Inapplicable, UserError
from runtime.inspection.descent import Movement, departures, movements, start_of, states_before
from runtime.inspection.mixing import RAW, READ, Mixture, adds_its_operator, mixtures
from runtime.inspection.places import columns, places
from runtime.inspection.rates import (
    as_plotted,
    as_stated,
    by_own_formula,
    family_of,
    leaves_a_code,
    share_of_nonzeros,
)
from runtime.instruments import energies, rates
from runtime.instruments.naming import Asked, Named, subject_named
from tests.instruments.small import inputs_of, small
from tests.instruments.subjects import subject
from tests.runtime.conftest import DATA, SPECS, Train, tiny_run  # noqa: F401


def logdet(matrix: np.ndarray) -> float:
    sign, value = np.linalg.slogdet(matrix)
    assert sign > 0
    return value


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


def test_energies_of_the_token_statistics_against_numpy() -> None:
    """The variational rate, whose memberships are held at the tokens before the step, and the feed-forward energy."""
    compilation, network = small("tost")
    inputs = inputs_of(network)
    features = network.features(inputs)
    before = {place.name: tokens for place, tokens in states_before(features, places(compilation, network))}
    for each in movements(compilation, network, (inputs,), raw=False):
        place, matrices = each.place, each.place.matrices()
        for image in range(len(inputs)):
            z = norm(columns(before[place.name])[image], place.module.norm)
            after = norm(columns(features[place.name])[image], place.module.norm)
            if place.derived.step.energy.name == "variational_rate":
                pi = memberships(z, matrices["U"], matrices["b"], place.scalars()["temp"])
                expected = [variational_rate(x, pi, matrices["U"], matrices["b"]) for x in (z, after)]
            else:
                expected = [-gelu_potential(matrices["W"].T @ x + matrices["c"]).sum() for x in (z, after)]
            assert each.before[image].item() == pytest.approx(expected[0], rel=1e-10)
            assert each.after[image].item() == pytest.approx(expected[1], rel=1e-10)


def memberships(z: np.ndarray, family: np.ndarray, biases: np.ndarray, temperatures: np.ndarray) -> np.ndarray:
    """K x N: softmax over the members of temp_k times the squared norms of columns, every row of unit length."""
    logits = []
    for u, b, temperature in zip(family, biases, temperatures, strict=True):
        w = u.T @ z + b
        w = w / np.linalg.norm(w, axis=1, keepdims=True)
        logits.append(temperature * (w**2).sum(0))
    powers = np.exp(logits)
    return powers / powers.sum(0)


def variational_rate(z: np.ndarray, pi: np.ndarray, family: np.ndarray, biases: np.ndarray) -> float:
    total = 0.0
    for share, u, b in zip(pi, family, biases, strict=True):
        mass = share.sum() + 1e-8
        total += mass / z.shape[1] * np.log(1 + ((u.T @ z + b) ** 2 @ share) / mass).sum() / 2
    return total


def gelu_potential(x: np.ndarray) -> np.ndarray:
    """The antiderivative of t Phi(t) that vanishes at minus infinity."""
    return ((x**2 - 1) * scipy.stats.norm.cdf(x) + x * scipy.stats.norm.pdf(x)) / 2


def test_the_formula_of_the_potential() -> None:
    for x in (-1.3, 0.0, 2.1):
        integral, _ = scipy.integrate.quad(lambda t: t * scipy.stats.norm.cdf(t), -np.inf, x)
        assert gelu_potential(np.array(x)) == pytest.approx(integral, abs=1e-9)


def test_energies_of_an_overcomplete_code_against_numpy() -> None:
    """Two proximal steps from zero, carried out here: the energy of the code, not of the tokens read out of it."""
    compilation, network = small("crate_alpha")
    inputs = inputs_of(network)
    features = network.features(inputs)
    before = {place.name: tokens for place, tokens in states_before(features, places(compilation, network))}
    found = [
        each for each in movements(compilation, network, (inputs,), False) if each.place.label.endswith("sparsify")
    ]
    assert len(found) == 2
    eta, weight = (float(compilation.model.reals[name]) for name in ("eta", "lambda"))
    for each in found:
        dictionary = each.place.matrices()["D"]
        for image in range(len(inputs)):
            x = norm(columns(before[each.place.name])[image], each.place.module.norm)
            code = np.zeros((dictionary.shape[1], x.shape[1]))
            for _ in range(2):
                code = np.maximum(code - eta * dictionary.T @ (dictionary @ code - x) - eta * weight, 0)
            expected = 0.5 * np.linalg.norm(x - dictionary @ code) ** 2 + weight * code.sum()
            assert each.before[image].item() == pytest.approx(0.5 * np.linalg.norm(x) ** 2, rel=1e-10)
            assert each.after[image].item() == pytest.approx(expected, rel=1e-10)


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


def test_the_figure_says_whose_weights_these_are() -> None:
    section = energies.measured(subject("crate", count=2, L=1))
    captions = {panel.name: panel.caption for panel in section.panels}
    assert captions["departures"].endswith("at the weights of the initial network.")


def test_an_exact_step_departs_from_nothing() -> None:
    compilation, network = small("crate_exact")
    features = network.features(inputs_of(network))
    assert not [
        each for place, z in states_before(features, places(compilation, network)) for each in departures(place, z)
    ]


def test_mixtures_by_hand() -> None:
    """Raw tokens and those read, with what the network itself adds to them."""
    compilation, network = small("crate")
    features = network.features(inputs_of(network))
    place, tokens = next(iter(states_before(features, places(compilation, network))))
    raw, read = mixtures(place, tokens)
    assert (raw.tokens, read.tokens) == (RAW, READ)
    operator, family = features[place.name] - tokens, place.matrices()["U"]
    for image in range(len(tokens)):
        o, after = columns(operator)[image], columns(features[place.name])[image]
        assert raw.added[image].item() == pytest.approx(rate(after, family, 1.0), rel=1e-10)
        for found, x in [(raw, columns(tokens)[image]), (read, norm(columns(tokens)[image], place.module.norm))]:
            made = [
                (found.start, x),
                (found.added, x + o),
                (found.renormed, norm(x + o, place.module.norm)),
                (found.averaged[0.1], 0.9 * x + 0.1 * o),
                (found.averaged[0.5], 0.5 * x + 0.5 * o),
                (found.shrunk[0.1], 0.9 * x),
            ]
            for value, tokens_made in made:
                assert value[image].item() == pytest.approx(rate(tokens_made, family, 1.0), rel=1e-10)


def test_what_a_mixture_says_of_its_tokens() -> None:
    compilation, network = small("crate")
    place = next(places(compilation, network))
    low, high = torch.tensor([1.0, 2.0]), torch.tensor([1.5, 2.5])
    raises = Mixture(place, RAW, low, high, low, {0.1: low - 1}, {0.1: low})
    falls = Mixture(place, RAW, high, low, low, {0.1: high + 1}, {0.1: low})
    assert raises.adding_raises and raises.averaging_lowers(0.1) and raises.averaging_lowers_more_than_shrinking(0.1)
    assert not (falls.adding_raises or falls.averaging_lowers(0.1) or falls.averaging_lowers_more_than_shrinking(0.1))


def test_what_adds_no_operator_is_not_mixed() -> None:
    compilation, network = small("crate_exact")
    place = next(places(compilation, network))
    assert not adds_its_operator(place)
    with pytest.raises(Inapplicable):
        next(mixtures(place, torch.zeros(1, 17, 12, dtype=torch.float64)))


def test_starts_outside_a_constraint() -> None:
    """A code that starts at the tokens is outside where one of them is negative, one that starts at zero never is."""
    compilation, network = small("crate")
    compress, sparsify, *_ = places(compilation, network)
    tokens = network.features(inputs_of(network))["encoder.0.compress"]
    assert start_of(compress, tokens) is None
    with torch.no_grad():
        sparsify.module.norm.bias += 10 * torch.arange(3.0).repeat(4)  # a third of the entries may still be negative
    expected = int((sparsify.module.norm(tokens) < 0).flatten(1).any(1).sum())
    found = start_of(sparsify, tokens)
    assert (found.outside, found.inputs) == (expected, 3) and expected
    with torch.no_grad():
        sparsify.module.norm.bias += 100
    assert start_of(sparsify, tokens).outside == 0
    compilation, network = small("crate_alpha")  # from 0
    place, tokens = list(states_before(network.features(inputs_of(network)), places(compilation, network)))[1]
    assert start_of(place, tokens).outside == 0


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


@pytest.mark.parametrize(("spec", "constant"), [("crate", lambda n, beta: 1.0), ("crate_exact", lambda n, beta: beta),
                                               ("crate_paper", lambda n, beta: 6 / (n * 0.5**2)),
                                               ("crate_neumann2", lambda n, beta: beta / n)])  # fmt: skip
def test_rates_by_the_specs_own_formula(spec: str, constant: Callable[[int, float], float]) -> None:
    compilation, network = small(spec)
    place = next(places(compilation, network))
    tokens = network.features(inputs_of(network))["encoder.0.sparsify"]
    found, beta = by_own_formula(place, tokens), place.scalars().get("beta", 0.0)
    for image, z in enumerate(columns(tokens)):
        expected = rate(z, place.matrices()["U"], constant(z.shape[1], beta))
        assert found[image].item() == pytest.approx(expected, rel=1e-10)


def test_what_states_no_rate_and_what_is_no_code() -> None:
    found = {}
    for spec in ("crate", "crate_bisoftmax", "tost", "crate_alpha", "crate_decoder"):
        compilation, network = small(spec)
        tokens = network.features(inputs_of(network))["tokens"]
        layer = [place for place in places(compilation, network) if place.layer == 0]
        family = next(place for place in layer if family_of(place) is not None)
        found[spec] = (by_own_formula(family, tokens) is not None, leaves_a_code(layer[-1]))
    assert found == {
        "crate": (True, True),
        "crate_bisoftmax": (False, True),  # an attraction of tokens
        "tost": (False, False),  # a variational form, and no dictionary
        "crate_alpha": (True, False),  # read out, and added to the tokens
        "crate_decoder": (True, False),
    }


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
    assert "where it finds a code, to the tokens that it reads" in section.text[0]
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
    raw = {row[1]: row[3:5] for row in sheets["mixing"].rows if row[2] == RAW}
    own = subject.network.energies(*subject.arguments(subject.held_out), raw=True)
    assert raw == {n: tuple(e.mean().item() for e in own[f"encoder.{n}.compress"]) for n in range(2)}
    nonzeros = [row for row in rates.measured(subject).sheets[0].rows if row[0] == "share of non-zero entries"]
    features = subject.network.features(*subject.arguments(subject.held_out))
    expected = [(features[f"encoder.{n}.sparsify"] != 0).double().mean().item() for n in range(2)]
    assert [row[5] for row in nonzeros if row[3:5] == ("trained", "held out")] == pytest.approx(expected)


@pytest.mark.parametrize("spec", sorted(path.stem for path in SPECS.glob("*.crate")))
def test_every_shipped_spec_is_measured_or_says_why_not(spec: str) -> None:
    asked, named = Asked(None, None, ["batch=4"], None, {}, 2), Named(spec, None, SPECS / f"{spec}.crate")
    if crate_dsl.compile_spec(named.spec).task == "tokens":
        with pytest.raises(UserError, match="its tokens are its output, without a loss"):
            subject_named(named, asked)
        return
    subject = subject_named(named, asked)
    for instrument in (energies, rates):
        try:
            section = instrument.measured(subject)
        except Inapplicable as reason:
            assert str(reason)
        else:
            assert section.panels and section.sheets and section.curves
