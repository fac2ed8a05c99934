"""Formulas as runs of characters."""

from __future__ import annotations

import pytest

from crate_dsl.library.atoms import ATOMS
from crate_dsl.mathematics import latex
from crate_dsl.pictures.measure import SLACK, cut, width, wrapped
from crate_dsl.pictures.notation import Run, formula, unicode, words


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        (r"\frac{1}{2} \sum_{k=1}^{K} \log\det\left(I + W_{k}^{\top} W_{k}\right)", "½ Σₖ log det(I + Wₖᵀ Wₖ)"),
        (r"\frac{\kappa p}{N \varepsilon^{2}} \bar{Z}", "κ p/(N ε²) · norm(Z)"),
        (r"\frac{a + b}{c}", "(a + b)/c"),
        (r"-D^{\top} Z", "−Dᵀ Z"),
        (r"+ D Z", "+ D Z"),
        (r"\left\lVert A \right\rVert_1", "||A||₁"),
        (r"\iota_{\geq 0}\left(A\right)", "ι_(≥0)(A)"),
        (r"U^{\mathrm{out}}_{k} \mathbf{1}_{N}^{\top}", "Uᵒᵘᵗₖ 1_Nᵀ"),
        (r"\mathrm{my\_energy}(Z \mid U)", "my_energy(Z | U)"),
        (r"\operatorname{prox}_{\eta g}(v)", "prox_(ηg)(v)"),
        (r"\frac{\sqrt{p}}{\sqrt{d + 1}}", "√p/√(d + 1)"),
        (r"\begin{cases} 0 & \text{if } v \leq 1 \\ v & \text{if } v \geq 1 \end{cases}", "0 if v ≤ 1; v if v ≥ 1"),
        (r"\frac{1}{100000000}", "10⁻⁸"),
        (r"\Pi_{k} \odot \lambda", "Πₖ ⊙ λ"),
        (r"\neverheard(x)", "neverheard(x)"),
        ("a_{b", "a_b"),
        ("", ""),
    ],
)
def test_formulas(source: str, shown: str) -> None:
    assert " ".join(unicode(formula(source)).split()) == shown


@pytest.mark.parametrize("name", [name for name, atom in ATOMS.items() if atom.latex])
def test_every_atom_is_set_without_a_trace_of_latex(name: str) -> None:
    shown = unicode(formula(ATOMS[name].latex.format("A", "B", "C")))
    assert "A" in shown and not set("\\{}$&") & set(shown)


def test_styles_of_a_formula() -> None:
    runs = formula(r"\bar{Z} + U_{k}")
    assert runs[:3] == (Run("norm("), Run("Z", italic=True), Run(") + "))
    assert Run("k", italic=True, level=-1) in runs
    assert formula(r"\operatorname{softmax}(A)")[:2] == (Run("softmax("), Run("A", italic=True))


def test_control_characters_become_blanks() -> None:
    assert unicode(words("a\x1b[2J\x00b\u202ec")) == "a [2J b c"


def test_lines_fit_their_room_and_lose_nothing() -> None:
    pieces = [formula(piece) for piece in ("Z^{+} = Z", r"+ \sum_{k=1}^{K} U_{k} W_{k}", "+ b", "- " + "A B " * 40)]
    lines = wrapped(pieces, 150, 15, serif=True)
    assert len(lines) > 3 and all(width(line, 15, serif=True) <= 150 for line in lines)
    text = "".join(unicode(line) for line in lines).replace(" ", "")
    assert text == "".join(unicode(piece) for piece in pieces).replace(" ", "")


def test_what_fits_no_line_is_cut_with_an_ellipsis() -> None:
    short = cut(words("W" * 10_000), 100, 12)
    assert unicode(short).endswith("…") and width(short, 12) <= 100
    assert cut(words("short"), 100, 12) == words("short")


def test_widths_are_those_of_the_metric_compatible_fonts() -> None:
    """Advance widths of the PostScript core fonts: "Hamburg" in Helvetica and in Times, thousandths of the size."""
    helvetica = 722 + 556 + 833 + 556 + 556 + 333 + 556
    times = 722 + 444 + 778 + 500 + 500 + 333 + 500
    assert width(words("Hamburg"), 1) == pytest.approx(SLACK * helvetica / 1000)
    assert width(words("Hamburg"), 1, serif=True) == pytest.approx(SLACK * times / 1000)


def test_the_commands_of_our_printers_are_known() -> None:
    """What `latex.py` writes itself, outside of the atoms' templates, leaves no bare command name behind."""
    for template in latex.TEMPLATES.values():
        assert not set("\\{}") & set(unicode(formula(template.format("A", "B"))))
