"""The `loss` line: its terms, where they are evaluated, and the table of data losses."""

from __future__ import annotations

import pytest

from crate_dsl.errors import CrateError, Source
from crate_dsl.language.check import check
from crate_dsl.language.model import Loss, Model
from crate_dsl.language.parse import parse
from crate_dsl.library.atoms import ATOMS
from crate_dsl.library.vocabulary import VOCABULARY
from tests.specs import COMPRESS, ENERGIES, SPARSIFY, encoder, spec

BLOCK = encoder(COMPRESS + SPARSIFY)
EXTRA = ENERGIES + "energy any_name(Z: d x N) = l1(Z)\n"


def model(loss: str, head: str = "head classify(classes) of mean\n", body: str = BLOCK) -> Model:
    return check(parse(Source("t.crate", spec(body, head=head + loss, energies=EXTRA))), VOCABULARY)


def loss_of(line: str, **options: str) -> Loss:
    found = model(line, **options).loss
    assert found is not None
    return found


def test_no_line_no_loss() -> None:
    assert model("").loss is None


def test_terms_with_signs_and_places() -> None:
    found = loss_of(
        "loss cross_entropy - lambda / 2 * rate(Z, U)  # compress\n    + any_name(Z) + any_name(Z) in encoder\n"
    )
    assert found.data == "cross_entropy"
    assert [(p.energy.name, p.negative, p.block) for p in found.penalties] == [
        ("rate", True, "encoder"),
        ("any_name", False, None),
        ("any_name", False, "encoder"),
    ]
    assert found.penalties[0].actuals == {"Z": "Z", "U": "U"}
    assert found.text == "cross_entropy - lambda / 2 * rate(Z, U) + any_name(Z) + any_name(Z) in encoder"


def test_a_comment_ends_where_its_line_does() -> None:
    """A separator of lines elsewhere, U+2028, is one of its characters."""
    found = loss_of("loss cross_entropy +  # a\u2028remark\n    any_name(Z)\n")
    assert found.text == "cross_entropy + any_name(Z)"


def test_an_energy_of_the_loss_alone_is_used() -> None:
    warnings = model("loss cross_entropy + any_name(Z)\n").warnings
    assert 'energy "any_name" is not used' not in " ".join(map(str, warnings))
    assert 'energy "any_name" is not used' in " ".join(map(str, model("").warnings))


@pytest.mark.parametrize("head", sorted(set(VOCABULARY.heads) - {"tokens", "features"}))
def test_every_head_that_predicts_has_a_data_loss(head: str) -> None:
    """With a mask or without one: a head that nothing can train would be of no use."""
    assert [loss for loss in VOCABULARY.losses.values() if head in loss.heads]


@pytest.mark.parametrize("name", VOCABULARY.losses)
def test_every_data_loss_can_be_written(name: str) -> None:
    loss = VOCABULARY.losses[name]
    heads = {"classify": "head classify(classes) of mean\n", "patches": "head patches\n"}
    mask = "mask random(0.5) before encoder\n" if loss.masked else ""
    for head in (heads[head] for head in loss.heads if head in heads):
        found = check(parse(Source("t.crate", spec(mask + BLOCK, head=head + f"loss {name}\n"))), VOCABULARY)
        assert found.loss.data == name and found.loss.penalties == ()


def test_flat_atoms_are_those_without_a_slope() -> None:
    assert {name for name, atom in ATOMS.items() if atom.flat} == {"l0", "nonnegative", "box"}


def test_a_faulty_block_is_no_cause_for_further_errors() -> None:
    with pytest.raises(CrateError) as caught:
        model("loss cross_entropy + 0.1 * rate(Z, U)\n", body=BLOCK.replace("by rate(Z, U)", "by rat(Z, U)"))
    assert len(caught.value.diagnostics) == 1
