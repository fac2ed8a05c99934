"""What parts are good for and which images lie near, against the same counted by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from runtime.data.source import InMemory
from runtime.images.pictures import save
from runtime.inspection.effects import Examination, Score, removals
from runtime.inspection.nearest import Pool, nearest
from runtime.inspection.workload import WORK, affordable
from runtime.instruments import neighbourhood, prediction
from runtime.instruments.section import Section
from runtime.instruments.subject import Shown, Subject, spread
from runtime.scoring.measure import measure
from runtime.training.sampler import in_order
from tests.instruments.subjects import subject


def examination(of: Subject, batch: int = 256) -> Examination:
    """On all held-out inputs in their order; `batch` cuts them into parts."""
    recipe = of.recipe.model_copy(update={"evaluate_batch": batch})
    inputs, known = (next(in_order(split, 10_000)) for split in (of.splits.held_out, of.splits.train))
    return Examination(of.network, recipe, inputs, known)


@pytest.mark.parametrize(("spec", "name"), [("crate", "cross_entropy"), ("crate_mae", "masked_error")])
def test_the_loss_of_the_whole_network_is_the_one_that_is_evaluated(spec: str, name: str) -> None:
    of = subject(spec)
    look = examination(of, batch=100)
    wanted = measure(of.recipe.task, of.network, of.splits.held_out, 100, "float32")
    assert look.name == name
    assert look.whole.mean == pytest.approx(wanted[name], rel=1e-6)
    assert look.whole.accuracy == (pytest.approx(wanted["accuracy"]) if spec == "crate" else None)


def test_features_are_judged_by_their_neighbours() -> None:
    of = subject("crate_dino")
    look = examination(of)
    recipe = of.recipe
    reference = recipe.task.reference(of.network, in_order(of.splits.train, 10_000))
    wanted = measure(recipe.task, of.network, of.splits.held_out, 1000, "float32", reference)
    assert look.whole.mean == pytest.approx(1 - wanted["knn_accuracy"], abs=0.006)  # ties of the vote
    layer = of.network.encoder[1]
    part = next(each for each in removals(of.compilation, of.network) if each.layer == "encoder.1")
    found = look.score(part.change, part.layer)
    layer.forward = lambda z: z
    assert found.mean == pytest.approx(examination(of).whole.mean, abs=0.006)
    del layer.forward


def test_losses_without_parts_are_those_of_networks_without_them() -> None:
    of = subject("crate")
    look = examination(of, batch=128)
    images, labels = (
        torch.cat(each) for each in zip(*((b.images, b.labels) for b in in_order(of.splits.held_out, 99)), strict=True)
    )
    network, found = of.network, {}
    for part in removals(of.compilation, network):
        found[part.kind, part.layer, part.step, part.head] = look.score(part.change, part.layer)
    assert [key[0] for key in found].count("head") == 4
    z = network.encoder[0](network.tokens(images))
    cases = {
        ("layer", "encoder.1", None, None): z,
        ("step", "encoder.1", "sparsify", None): network.encoder[1].compress(z),
        ("layer", "encoder.0", None, None): network.encoder[1](network.tokens(images)),
    }
    for key, tokens in cases.items():
        logits = network.head(network.encoder_norm(tokens[:, 0]))
        losses = F.cross_entropy(logits, labels, reduction="none").double()
        torch.testing.assert_close(found[key].loss, losses, rtol=1e-5, atol=1e-6)
        assert found[key].accuracy == pytest.approx((logits.argmax(1) == labels).double().mean().item())
    difference = (found["layer", "encoder.1", None, None].loss - look.whole.loss).numpy()
    mean, error = found["layer", "encoder.1", None, None].rise(look.whole)
    assert mean == pytest.approx(difference.mean(), rel=1e-10)
    assert error == pytest.approx(difference.std(ddof=1) / np.sqrt(len(difference)), rel=1e-10)


def test_one_input_has_no_standard_error() -> None:
    assert Score(torch.tensor([2.0]), None).rise(Score(torch.tensor([0.5]), None)) == (1.5, None)


def test_the_weights_are_those_from_before() -> None:
    of = subject("crate_mae")
    before = {name: value.clone() for name, value in of.network.state_dict().items()}
    prediction.measured(of)
    assert all(torch.equal(value, before[name]) for name, value in of.network.state_dict().items())
    assert of.network.mask_ratio == 0.75
    assert "forward" not in vars(of.network.encoder[0])


# ---- neighbours --------------------------------------------------------------------------------------------------


def test_neighbours_are_those_that_brute_force_finds() -> None:
    of = subject("crate")
    generator = torch.Generator().manual_seed(0)
    images, queries = (torch.randn(n, 1, *of.network.image_size, generator=generator) for n in (60, 7))
    classes, labels = torch.randint(3, (60,), generator=generator), torch.randint(3, (7,), generator=generator)
    numbers = list(range(1, 60, 2))
    found = nearest(of.network, Pool(InMemory(images, classes), numbers, 8), queries, labels, 4, "float32")
    with torch.no_grad():
        far, near = (of.network.features(x)["encoder_norm"][:, 0].double().numpy() for x in (images[numbers], queries))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (near, far)]
    distances = 1 - unit[0] @ unit[1].T
    order = np.argsort(distances, axis=1)[:, :4]
    np.testing.assert_array_equal(found.numbers, np.array(numbers)[order])
    np.testing.assert_array_equal(found.classes, classes[numbers].numpy()[order])
    np.testing.assert_allclose(found.distances, np.take_along_axis(distances, order, 1), atol=1e-6)
    assert str(found.reading) == "the class token after encoder_norm"


def test_without_classes_neighbours_are_found_all_the_same() -> None:
    of = subject("crate_mae")
    images = torch.randn(9, 1, *of.network.image_size, generator=torch.Generator().manual_seed(0))
    found = nearest(of.network, Pool(InMemory(images), range(9), 4), images[:2], None, 20, "float32")
    assert found.classes is None
    assert found.right is None
    assert found.numbers.shape == (2, 9)
    assert found.numbers[:, 0].tolist() == [0, 1]


def test_pictures_of_the_user_are_queries_too() -> None:
    of = subject("crate")
    image = of.splits.train.take([5], None).images[0]
    of = dataclasses.replace(of, shown=(Shown("mine", image),))
    rows = [row for row in neighbourhood.found(of).sheets[0].rows if row[0] == "mine"]
    assert [row[2] for row in rows] == [1, 2, 3, 4, 5]
    assert rows[0][3] == 5
    assert rows[0][6] == pytest.approx(0, abs=1e-6)
    assert {row[1] for row in rows} == {row[5] for row in rows} == {None}


# ---- the section -------------------------------------------------------------------------------------------------


def drawn(section: Section, folder: object) -> list[str]:
    for panel in section.panels:
        assert save(panel.figure, folder / f"{panel.name}.png").stat().st_size > 1000
    return [panel.name for panel in section.panels]


@pytest.mark.parametrize(
    ("spec", "panels"),
    [
        ("crate", ["lens", "removed", "heads", "neighbours"]),
        ("crate_decoder", ["lens", "removed", "heads", "neighbours"]),
        ("crate_gpt", ["lens", "removed", "heads"]),
    ],
)
def test_the_section_of_every_kind_of_network(spec: str, panels: list[str], tmp_path: object) -> None:
    sizes = {"length": 8} if spec == "crate_gpt" else {}
    section = prediction.measured(subject(spec, **sizes))
    assert drawn(section, tmp_path) == panels
    for sheet in section.sheets:
        assert sheet.rows
        assert {len(row) for row in sheet.rows} == {len(sheet.columns)}
    removed = next(sheet for sheet in section.sheets if sheet.name == "removed")
    kinds = [row[0] for row in removed.rows]
    assert (kinds.count("layer"), kinds.count("step"), kinds.count("head")) == (2, 4, 4)
    quantities = {curve.quantity: curve for curve in section.curves}
    whole = removed.rows[0][4]
    lens = next(curve for name, curve in quantities.items() if name.startswith("loss of the head after each layer"))
    assert lens.values[-1] == pytest.approx(whole, rel=1e-6)
    assert len(lens.labels) == len(lens.values) == len(lens.spread) == 3


def test_expensive_networks_are_measured_on_fewer_inputs() -> None:
    of = subject("crate")
    flops = of.compilation.costs.flops
    assert affordable(of.compilation, 1, 100) == 100
    assert affordable(of.compilation, WORK / flops / 40, 100) == 40
    assert affordable(of.compilation, WORK, 100) == 16
    assert len(prediction.examined(of)[0]) == len(spread(of.splits.held_out, prediction.MOST))
