"""What a drawing says of a network, against the model, the derivation and the table of costs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from crate_dsl.compiler import Compilation
from crate_dsl.errors import Source
from crate_dsl.operators.summary import summary
from crate_dsl.pictures.draw import draw
from crate_dsl.pictures.drawing import Arrow, Box, Drawing, Frame
from crate_dsl.pictures.typeset import whole
from tests.pictures.drawings import CASES, NAMES, ROOT, SPECS, compiled, drawing, drawn
from tests.specs import HEADER, encoder

CRATE, MAE, PAPER = (ROOT / f"specs/{name}.crate" for name in ("crate", "crate_mae", "crate_paper"))


def said(box: Box) -> list[str]:
    return [whole(text) for text in box.texts]


def skips(shown: Drawing) -> list[Arrow]:
    return [arrow for arrow in shown.arrows if arrow.kind == "skip"]


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_every_block_and_step_is_there_in_order(path: Path) -> None:
    derivation, shown = compiled(path).derivation, drawing(path)
    model = derivation.model
    frames = [item for item in shown.items if isinstance(item, Frame)]
    assert [(f.name, f.repeat, len(f.boxes)) for f in frames] == [
        (b.role, b.repeat, len(block.steps)) for b, block in zip(model.blocks, derivation.blocks, strict=True)
    ]
    kinds = [item.kind if isinstance(item, Box) else "frame" for item in shown.items]
    assert kinds[:2] == ["input", "tokens"]
    assert kinds.count("norm") + kinds.count("attention") == len(model.stages) - len(model.blocks)
    assert kinds.index("head") < kinds.index("output")


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_the_flow_is_one_chain_through_all_nodes(path: Path) -> None:
    shown = drawing(path)
    names = [node.name for node in shown.nodes]
    assert len(set(names)) == len(names)
    flow = [(a.source, a.target) for a in shown.arrows if a.kind != "skip"]
    assert flow == list(zip(names, names[1:], strict=False))


@pytest.mark.parametrize(("path", "preset"), CASES, ids=NAMES)
def test_parameters_add_up_to_those_of_the_summary(path: Path, preset: str | None) -> None:
    table, total = summary(compiled(path, preset).optimised), 0
    for item in drawing(path, preset).items:
        texts = list(item.notes) if isinstance(item, Frame) else said(item)
        total += sum(int(n.replace(",", "")) for text in texts for n in re.findall(r"([\d,]+) parameters?\b", text))
    assert total == table.parameters
    assert f"{table.parameters:,} parameters" in drawing(path, preset).notes[0]


def test_a_step_says_what_it_optimises_computes_approximates_learns_and_costs() -> None:
    compress = next(box for box in drawing(CRATE).boxes if box.accent == "compress")
    title, objective, operator, where, learned, cost = said(compress)
    assert title == "compress Z by rate(Z, U)"
    assert objective == "rate(Z | U) = ½ Σₖ log det(I + (Uₖᵀ Z)ᵀ (Uₖᵀ Z))"
    assert operator == "Z⁺ = Z + Σₖ Uₖᵒᵘᵗ Vₖ softmax(1/√p · Vₖᵀ Vₖ) + Uᵇⁱᵃˢ 1_Nᵀ"
    assert where == "where Vₖ = Uₖᵀ norm(Z)"
    assert learned == "learned: U (12 of 768 × 64), U_out (12 of 768 × 64), U_bias (768 × 1)"
    assert cost.startswith("1,181,952 parameters, ") and cost.endswith("FLOP per layer")
    assert [(tag.kind, tag.words) for tag in compress.tags] == [
        ("approximation", "inverse ~ neumann(1)"),
        ("approximation", "frame ~ identity"),
        ("approximation", "gram ~ softmax(1/sqrt(p))"),
        ("approximation", "coefficients ~ absorbed"),
        ("choice", "adjoint ~ free(bias)"),
    ]


def test_sizes_along_the_flow() -> None:
    labels = [arrow.label for arrow in drawing(MAE).arrows if arrow.label and arrow.kind == "flow"]
    assert labels[0] == "3 × 224 × 224" and labels[-1] == "196 × 768"
    assert set(labels[1:-1]) == {"197 × 768"}
    labels = [arrow.label for arrow in drawing(CRATE, "digits").arrows if arrow.label and arrow.kind == "flow"]
    assert labels == ["1 × 8 × 8", "17 × 96", "17 × 96", "17 × 96", "96 (of class_token)", "10"]


def test_skips_are_read_off_the_operator() -> None:
    assert [(a.target, a.label) for a in skips(drawing(CRATE))] == [("encoder.compress.sum", "raw")]
    assert [(a.source, a.label) for a in skips(drawing(PAPER))] == [("encoder.compress.norm", "normed")]


@pytest.mark.parametrize(
    ("options", "labels"),
    [("norm layer", ["raw"]), ("", ["raw"]), ("norm layer; residual normed", ["normed"]),
     ("norm layer; inverse ~ neumann(1); frame ~ identity", [])],
)  # fmt: skip
def test_skip_of_a_gradient_step(options: str, labels: list[str]) -> None:
    """With a step size of one the identity of the frame takes the tokens' own word away: then nothing goes around."""
    shown = drawn(encoder(f"compress Z by rate(Z, U) {{ {options} }}\n"))
    assert [arrow.label for arrow in skips(shown)] == labels


@pytest.mark.parametrize(
    ("options", "labels"), [("from Z", []), ("residual", ["raw"]), ("residual normed", ["normed"])]
)
def test_skip_of_a_proximal_step(options: str, labels: list[str]) -> None:
    shown = drawn(encoder(f"sparsify Z by lasso(A | Z, D) {{ norm layer; steps 2 of eta; {options} }}\n"))
    assert [arrow.label for arrow in skips(shown)] == labels


def test_energies_of_any_name_are_drawn_alike() -> None:
    text = CRATE.read_text()
    renamed = re.sub(r"\brate\b", "foo", re.sub(r"\blasso\b", "bar", text))
    assert "foo(Z, U)" in renamed
    before, after = (drawing_of(t) for t in (text, renamed))
    texts = [[re.sub(r"\bfoo\b", "rate", re.sub(r"\bbar\b", "lasso", t)) for box in after.boxes for t in said(box)]]
    assert texts == [[t for box in before.boxes for t in said(box)]]


def drawing_of(text: str) -> Drawing:
    return draw(Compilation(Source("a.crate", text), "tiny", {}).optimised)


def test_parameters_that_layers_share_are_counted_over_all_of_them() -> None:
    shown = drawn(encoder("shared D\nsparsify Z by lasso(A | Z, D) { norm layer; steps 1 of eta }\n"))
    step = next(box for box in shown.boxes if box.kind == "step")
    assert any("D (24 × 24, shared)" in text for text in said(step))
    assert any(text.startswith("672 parameters in all layers") for text in said(step))  # 24 * 24 + 2 layers * 2 * 24
    assert "L = 2" in HEADER
