"""The derivation, evaluated in numpy with a network's own weights, gives what the written network gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crate_dsl.mathematics.evaluate import step_result
from runtime.inspection.descent import states_before
from runtime.inspection.places import columns, places
from tests.instruments.small import inputs_of, small
from tests.runtime.conftest import SPECS

FITTED = "redunet"  # its matrices come from data that it is fitted to
SMALL = {"text(": {"length": 6, "vocabulary": 11}, "vectors(": {"N": 7}}  # causal steps are taken prefix by prefix


def few_tokens(spec: str) -> dict[str, int]:
    text = (SPECS / f"{spec}.crate").read_text()
    return next((sizes for word, sizes in SMALL.items() if word in text), {})


@pytest.mark.parametrize("spec", sorted({path.stem for path in SPECS.glob("*.crate")} - {FITTED}))
def test_places_have_the_meaning_of_the_written_network(spec: str) -> None:
    """Of every step of every layer, at the tokens that come into it, raw and read."""
    compilation, network = small(spec, **few_tokens(spec))
    features = network.features(inputs_of(network))
    met = 0
    for place, tokens in states_before(features, places(compilation, network)):
        point = place.point(columns(place.read(tokens))[0])
        point = point.with_matrix(place.derived.raw.name, columns(tokens)[0])
        found, expected = step_result(place.derived, point), columns(features[place.name])[0]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * max(1, abs(expected).max()))
        met += 1
    assert met == sum(len(block.steps) * block.block.repeat for block in compilation.derivation.blocks)


def test_a_family_is_laid_out_as_the_spec_states_it() -> None:
    """K x d x p: member k maps tokens to the k-th part of what the stored matrix makes of them, and no other does."""
    compilation, network = small("crate")
    place, tokens = next(iter(states_before(network.features(inputs_of(network)), places(compilation, network))))
    members = place.matrices()["U"]
    assert members.shape == (2, 12, 6)
    whole = columns(tokens @ place.module.U.mT)[0]
    parts = [u.T @ columns(tokens)[0] for u in members]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-12)
    assert abs(np.concatenate(parts[::-1]) - whole).max() > 0.1


def test_scalars_are_themselves() -> None:
    """Learned ones that are stored as logarithms, and fixed ones of the spec."""
    compilation, network = small("crate_exact")
    place = next(places(compilation, network))
    found = place.scalars()
    assert found["beta"] == pytest.approx(torch.exp(place.module.log_beta).item(), rel=1e-12)
    assert found["kappa"] == pytest.approx(place.module.kappa.item(), rel=1e-12)
    assert found["eta"] == 0.1
