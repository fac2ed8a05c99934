"""Explanations as text, Markdown, LaTeX and HTML: complete, well-formed, and safe for what users write."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from crate_dsl.errors import Source
from crate_dsl.language.check import check
from crate_dsl.language.parse import parse
from crate_dsl.library.vocabulary import VOCABULARY
from crate_dsl.mathematics import explain, latex_names, page
from crate_dsl.mathematics.derivation import Derivation
from crate_dsl.mathematics.derive import derive
from tests.specs import COMPRESS, ENERGIES, HEADER, SPARSIFY, derived, encoder, spec

SPECS = sorted((Path(__file__).parent.parent.parent / "specs").glob("*.crate"))
WRITERS = {"text": explain.text, "markdown": explain.markdown, "tex": page.tex, "html": page.html}
VOID = {"meta", "br", "hr", "link", "img"}
HOSTILE = (
    r"<script>alert(1)</script> $x$ \input{/etc/passwd} \end{document} %&#~^_{ `|` **b** [a](javascript:b) ]]> é √"
)
FAR = """
energy far(Z: d x N, U: K of d x p, beta: real) = 1/2 * sum(k in K) beta * logdet(I + beta * (U[k]' * Z)' * (U[k]' * Z))
    - logsumexp(Z' * Z) + lambda * total(exp(Z) .* Z .^ 2) + trace(Z * Z')
energy net(A: d x N | X: d x N, D: d x d) = 1/2 * norm2(X - D * A) + lambda * l1(A) + lambda^2 * norm2(A)
energy hard(A: d x N | X: d x N, D: d x d) = 1/2 * norm2(X - D * A) + lambda * l0(A)
energy boxed(A: d x N | X: d x N, D: d x d) = 1/2 * norm2(X - D * A) + box(A, -1, eta)
"""
FAR_STEPS = """learn kappa > 0 = 0.1 per head
compress Z by far(Z, U, kappa) { norm layer }
sparsify Z by net(A | Z, D) { norm layer; steps 3 of eta; residual }
sparsify Z by hard(A | Z, D) { steps 1 of eta; from 0 }
sparsify Z by boxed(A | Z, D) { steps 1 of eta; read D1 }
"""


@cache
def shipped(path: Path) -> Derivation:
    source = Source(f"specs/{path.name}", path.read_text(encoding="utf-8"))
    return derive(check(parse(source), VOCABULARY, None, {}))


@cache
def far() -> Derivation:
    """A spec that leaves the shipped ones behind: other atoms, several proximal maps, scalars per head."""
    return derived(spec(encoder(FAR_STEPS), energies=ENERGIES + FAR))


def hostile() -> Derivation:
    text = spec(encoder(COMPRESS + SPARSIFY), header=HEADER.replace("network Tiny", f'network Evil_1 "{HOSTILE}"'))
    return derived(f"# {HOSTILE}\t\n{text}")


ALL = {**{path.stem: lambda path=path: shipped(path) for path in SPECS}, "far": far, "hostile": hostile}


@pytest.fixture(params=ALL)
def derivation(request: pytest.FixtureRequest) -> Derivation:
    return ALL[request.param]()


def unbalanced(text: str) -> list[str]:
    """What is wrong with the nesting of a LaTeX text."""
    plain = re.sub(r"\\[{}\\%]|(?<!\\)%.*", "", text)
    depth, lowest = 0, 0
    for character in plain:
        depth += (character == "{") - (character == "}")
        lowest = min(lowest, depth)
    problems = [] if depth == 0 == lowest else ["braces"]
    commands = Counter(re.findall(r"\\(left|right)\b", plain))
    problems += [] if commands["left"] == commands["right"] else ["left and right"]
    environments: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+\*?)\}", plain):
        if kind == "begin":
            environments.append(name)
        elif not environments or environments.pop() != name:
            problems.append(name)
    return problems + environments


@pytest.mark.parametrize("text", ["{", "}{", r"\left( x", r"\begin{a}\end{b}", r"\begin{a}"])
def test_the_guard_of_balance_can_fail(text: str) -> None:
    assert unbalanced(text)


class Nesting(HTMLParser):
    """Collects elements that are not closed in order, ids, and links into the page."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.problems: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: Counter[str] = Counter()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.open += [] if tag in VOID else [tag]
        values = dict(attrs)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values["href"]] if "href" in values else []

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(tag)


def nesting(text: str) -> Nesting:
    parser = Nesting()
    parser.feed(text)
    parser.close()
    return parser


# ---- well-formed ----------------------------------------------------------------------------------------------------


def test_latex_is_balanced(derivation: Derivation) -> None:
    assert not unbalanced(page.tex(derivation))


def test_formulas_in_markdown_are_balanced(derivation: Derivation) -> None:
    formulas = re.findall(r"^\$\$\n(.*?)\n\$\$", explain.markdown(derivation), re.M | re.S)
    assert formulas
    assert not [formula for formula in formulas if unbalanced(formula)]


def test_html_is_well_formed(derivation: Derivation) -> None:
    found = nesting(page.html(derivation))
    assert not found.problems and not found.open
    assert len(set(found.ids)) == len(found.ids)
    assert {link.removeprefix("#") for link in found.links} <= set(found.ids)
    assert all(link.startswith("#") for link in found.links)  # nothing is fetched


def test_formulas_in_html_are_mathml(derivation: Derivation) -> None:
    formulas = re.findall(r"<math.*?</math>", page.html(derivation), re.S)
    assert formulas
    for formula in formulas:
        shown = "".join(ElementTree.fromstring(formula).itertext())
        assert "\\" not in shown and "&" not in shown and shown.strip()


def test_text_fits_a_terminal(derivation: Derivation) -> None:
    assert max(map(len, explain.text(derivation).splitlines())) <= explain.WIDTH


# ---- complete -------------------------------------------------------------------------------------------------------

ESCAPE = {"text": str, "markdown": explain.escaped, "tex": latex_names.escaped, "html": escape}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_line_of_the_record_appears(derivation: Derivation, writer: str) -> None:
    shown = " ".join(WRITERS[writer](derivation).split())
    for block in derivation.blocks:
        for line in (*block.record, *(line for step in block.steps for line in step.record)):
            assert ESCAPE[writer](line.rule) in shown
            assert ESCAPE[writer](line.why) in shown
            assert line.kind in shown


@pytest.mark.parametrize("writer", WRITERS)
def test_no_power_is_spelled_with_stars(writer: str) -> None:
    shown = WRITERS[writer](far())
    formulas = re.findall(r"\$\$(.*?)\$\$", shown, re.S) if writer == "markdown" else [shown]
    assert formulas and not [formula for formula in formulas if "**" in formula]


def test_the_chain_to_attention_reads_as_in_the_papers() -> None:
    text = explain.text(derived(spec(encoder(COMPRESS + SPARSIFY))))
    for line in (
        "rate(Z | U) = 1/2 * sum(k in K) logdet(I + (U[k]' * Z)' * (U[k]' * Z))",
        "grad_Z rate = sum(k in K) U[k] * W[k] * (I + W[k]' * W[k])^-1",
        "where W[k] = U[k]' * Z",
        "Z+ = Z + sum(k in K) U[k] * W[k] * softmax(1/sqrt(p) * W[k]' * W[k])",
        "prox[eta * g](v) = max(v - eta*lambda, 0)",
        "A^1 = prox[eta * g](norm(Z) + eta * D' * norm(Z) - eta * D' * D * norm(Z))",
    ):
        assert line in text


def test_learned_matrices_are_listed_with_their_sizes() -> None:
    text = explain.text(derived(spec(encoder(COMPRESS))))
    assert re.search(r"U_out +K of d x p +3 of 24 x 8 = 576", text)
    assert re.search(r"U_bias +d x 1 +24 x 1 = 24", text)


def test_an_inverse_shows_what_became_of_every_step() -> None:
    text = explain.text(derived(spec(encoder(COMPRESS + SPARSIFY) + "decoder repeat L = inverse(encoder)\n")))
    assert "derived as the inverse of the encoder" in text
    assert "to    denoise Z by lasso(Z | X, D)" in text


# ---- safe -----------------------------------------------------------------------------------------------------------


def test_html_shows_hostile_text_as_text() -> None:
    shown = page.html(hostile())
    assert nesting(shown).tags["script"] == 0
    assert escape(HOSTILE) in shown


def test_latex_obeys_no_user() -> None:
    shown = page.tex(hostile())
    assert r"\input" not in shown
    assert shown.count(r"\end{document}") == 1 and shown.rstrip().endswith(r"\end{document}")
    assert latex_names.escaped(HOSTILE) in shown
    shown.encode("latin-1")  # what lies beyond would need packages


def test_markdown_obeys_no_user() -> None:
    shown = explain.markdown(hostile())
    assert "<script" not in shown and "$x$" not in shown and "**b**" not in shown and "[a](" not in shown


def test_a_terminal_gets_no_control_characters() -> None:
    text = explain.text(derived(spec(encoder(COMPRESS), header=HEADER.replace("Tiny", 'Tiny "\x1b[31mred\x07"'))))
    assert "\x1b" not in text and "\x07" not in text
