"""Errors at several levels against the task's own, and layer pairs against compositions written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import ortho_group
from torch import Tensor, nn

from runtime.data.source import Batch
from runtime.errors import Inapplicable
from runtime.inspection.layers import between, layers, round_trips
from runtime.inspection.levels import figures, levels, pictures
from runtime.inspection.pairs import MOST, chosen, compared, groups
from runtime.inspection.similarity import alignment, cosines, scaled_error
from runtime.instruments import reconstruction
from runtime.scoring.measure import held_out_draw, measure, reference_of
from runtime.training.sampler import in_order
from tests.instruments.subjects import subject
from tests.instruments.test_prediction import drawn
from tests.instruments.test_removal import inputs_of, network_of

# ---- levels ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spec", "level"), [("crate_mae", 0.75), ("crate_decoder", 0.5), ("crate_autoencoder", None)])
def test_at_its_own_level_a_network_has_the_error_that_is_evaluated(spec: str, level: float | None) -> None:
    of = subject(spec)
    task, split = of.recipe.task, of.splits.held_out
    reference = reference_of(task, of.network, of.splits.train, 256)
    wanted = measure(task, of.network, split, 1000, "float32", reference)
    own = next(each for each in levels(of.network, task) if each.value == level)
    found = figures(own, of.recipe, next(in_order(split, 1000)), reference)
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, rel=1e-5)


def test_what_is_hidden_at_one_ratio_is_hidden_at_every_larger_one() -> None:
    of = subject("crate_mae")
    images = next(in_order(of.splits.held_out, 5)).images
    noise = held_out_draw(of.recipe.task, of.network, 0, 5)
    at = levels(of.network, of.recipe.task)
    assert [each.value for each in at] == [0.25, 0.5, 0.75, 0.9]
    masks = [each.network(images, noise)[1] for each in at]
    assert [mask.sum(1).tolist() for mask in masks] == [[n] * 5 for n in (4.0, 8.0, 12.0, 15.0)]
    assert all((more >= less).all() for less, more in zip(masks, masks[1:], strict=False))
    assert of.network.mask_ratio == 0.75


def test_ratios_that_leave_nothing_to_see_are_left_out() -> None:
    of = subject("crate_mae", patch=4)
    assert of.network.token_count == 5
    assert [each.value for each in levels(of.network, of.recipe.task)] == [0.25, 0.5, 0.75]


def test_noise_is_the_same_draw_at_every_level() -> None:
    of = subject("crate_decoder")
    images = next(in_order(of.splits.held_out, 3)).images
    at = levels(of.network, of.recipe.task)
    assert [each.value for each in at] == [0.25, 0.5, 0.75, 1.0]
    noisy = [list(pictures(each, images).values())[1] for each in at]
    for each, shown in zip(at, noisy, strict=True):
        torch.testing.assert_close((shown - images) / each.value, (noisy[1] - images) / 0.5, rtol=0, atol=1e-5)
    first, more = (pictures(at[0], part) for part in (images[:1], images))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(list(first.values())[:2], list(more.values())[:2], strict=True))


# ---- layer pairs -------------------------------------------------------------------------------------------------


def test_states_between_layers_are_those_of_the_layers_called_one_by_one() -> None:
    network = network_of("crate_mae").module
    images, noise = inputs_of(network)
    z, _ = network.tokens(images, noise)
    expected: dict[str, list[Tensor]] = {"encoder": [z], "decoder": []}
    for layer in network.encoder:
        expected["encoder"].append(layer(expected["encoder"][-1]))
    expected["decoder"].append(network.encoder_norm(expected["encoder"][-1]))
    for layer in network.decoder:
        expected["decoder"].append(layer(expected["decoder"][-1]))
    found = between(network, images, noise)
    assert {role: len(states) for role, states in found.items()} == {"encoder": 3, "decoder": 3}
    for role, states in found.items():
        for state, wanted in zip(states, expected[role], strict=True):
            assert torch.equal(state, wanted)
    assert [name for name, _ in layers(network)] == ["encoder.0", "encoder.1", "decoder.0", "decoder.1"]
    trips = round_trips(network, found["encoder"])
    assert torch.equal(trips[0], network.decoder[1](network.encoder[0](z)))
    assert torch.equal(trips[1], network.decoder[0](network.encoder[1](expected["encoder"][1])))


class Turned(nn.Module):
    """An autoencoder whose layers are rotations; the decoder undoes them, the last encoder layer first."""

    mask_ratio = None

    def __init__(self, turns: list[Tensor]) -> None:
        super().__init__()
        maps = [turns, [turn.T for turn in reversed(turns)]]
        self.encoder, self.decoder = (nn.ModuleList(map(self.linear, each)) for each in maps)

    @staticmethod
    def linear(turn: Tensor) -> nn.Module:
        layer = nn.Linear(*turn.shape, bias=False, dtype=turn.dtype)
        layer.weight = nn.Parameter(turn)
        return layer

    def tokens(self, images: Tensor) -> Tensor:
        return images

    def features(self, images: Tensor) -> dict[str, Tensor]:
        found = {"tokens": images}
        for name, layer in layers(self):
            if name == "decoder.0":
                found["encoder_norm"] = list(found.values())[-1]
            found[f"{name}.turn"] = layer(list(found.values())[-1])
        return found


def test_pairs_of_a_decoder_that_is_the_inverse_are_alike() -> None:
    turns = [torch.as_tensor(ortho_group.rvs(6, random_state=seed)) for seed in range(3)]
    images = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = compared(Turned(turns), images)["visible"]
    assert found.tokens == 20
    assert [each.cosine for each in found.pairs] == pytest.approx([1, 1, 1], abs=1e-10)
    assert [each.error for each in found.pairs] == pytest.approx([0, 0, 0], abs=1e-10)
    assert [trip.both.error for trip in found.trips] == pytest.approx([0, 0, 0], abs=1e-10)
    assert min(trip.encoded.error for trip in found.trips) > 0.3
    np.testing.assert_allclose(np.diag(found.cosine.numpy()[:, ::-1]), np.ones(4), atol=1e-10)
    assert found.cosine[0, 0] < 0.7
    np.testing.assert_allclose(found.alignment.numpy(), np.ones((4, 4)), atol=1e-10)  # it is blind to rotations


def test_visible_and_hidden_tokens_are_compared_apart() -> None:
    network = network_of("crate_mae").module
    images, noise = inputs_of(network)
    mask = network(images, noise)[1]
    found = groups(network, images, noise)
    assert torch.equal(found["hidden"], torch.cat((torch.zeros(3, 1), mask), 1) == 1)
    assert torch.equal(found["visible"], torch.cat((torch.zeros(3, 1), 1 - mask), 1) == 1)
    states, pairs = between(network, images, noise), compared(network, images, noise)
    for name, own in found.items():
        encoder, decoder = ([tokens[own] for tokens in states[role]] for role in ("encoder", "decoder"))
        torch.testing.assert_close(pairs[name].alignment, alignment(encoder, decoder), rtol=1e-10, atol=0)
        assert pairs[name].tokens == int(own.sum())
        for layer, match in enumerate(pairs[name].pairs):
            wanted, given = encoder[layer], decoder[2 - layer]
            assert match.cosine == pytest.approx(float(cosines(wanted, given).mean()), rel=1e-10)
            assert match.error == pytest.approx(scaled_error(wanted, given), rel=1e-10)


def test_a_network_without_a_mask_or_class_token_has_one_group() -> None:
    network = network_of("crate_autoencoder").module
    assert {name: own.all().item() for name, own in groups(network, *inputs_of(network)).items()} == {"visible": True}


def test_many_tokens_are_thinned_out_evenly() -> None:
    own = torch.ones(3, 2000, dtype=torch.bool)
    own[0] = False
    numbers = torch.arange(6000.0).view(3, 2000, 1)
    (kept,) = chosen([numbers], own)
    assert kept.flatten().tolist() == [2000 + n * 4000 // MOST for n in range(MOST)]


# ---- the section -------------------------------------------------------------------------------------------------


PAIRS = ["states-alignment", "states-cosine", "pairs", "round-trips"]


@pytest.mark.parametrize(
    ("spec", "panels", "levels_measured"),
    [
        ("crate_mae", ["images", "errors", *PAIRS], 4),
        ("crate_decoder", ["images", "errors"], 4),
        ("crate_autoencoder", ["images", *PAIRS], 1),
    ],
)
def test_the_section_of_every_kind_of_network(
    spec: str, panels: list[str], levels_measured: int, tmp_path: object
) -> None:
    section = reconstruction.measured(subject(spec))
    assert drawn(section, tmp_path) == panels
    for sheet in section.sheets:
        assert {len(row) for row in sheet.rows} == {len(sheet.columns)}
    errors = next(sheet for sheet in section.sheets if sheet.name == "errors")
    assert len(errors.rows) == levels_measured
    assert all(len(curve.labels) == len(curve.values) == 2 for curve in section.curves)
    assert len(section.curves) == (3 if "pairs" in panels else 0)


def test_a_network_that_gives_no_images_says_so() -> None:
    with pytest.raises(Inapplicable, match="gives no images"):
        reconstruction.measured(subject("crate"))


def test_the_error_of_an_autoencoder_is_that_of_all_pixels() -> None:
    of = subject("crate_autoencoder")
    batch = next(in_order(of.splits.held_out, 4))
    (level,) = levels(of.network, of.recipe.task)
    error = (of.network(batch.images) - of.network.patchify(batch.images)).square().mean().item()
    assert figures(level, of.recipe, Batch(batch.images), None)["error"] == pytest.approx(error, rel=1e-5)
