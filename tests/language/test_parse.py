"""Text to syntax: precedence, newlines, places, soft words, numbers, limits."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from crate_dsl.errors import CrateError, Source, Span
from crate_dsl.language import syntax
from crate_dsl.language.parse import parse

SPECS = sorted((Path(__file__).parents[2] / "specs").glob("*.crate"))


def items(text: str) -> tuple[syntax.Item, ...]:
    return parse(Source("t.crate", "network T\n" + text)).items


def expression(text: str) -> syntax.Expression:
    """Parsed as the body of an energy."""
    return items(f"energy f(Z: d x N) = {text}")[0].body


def written(node: syntax.Expression) -> str:
    """An expression with every grouping made visible."""
    match node:
        case syntax.Number():
            return str(node.value)
        case syntax.Name():
            return node.name + (f"[{node.index}]" if node.index else "")
        case syntax.Negate():
            return f"(-{written(node.operand)})"
        case syntax.Transpose():
            return f"{written(node.operand)}'"
        case syntax.Call():
            return f"{node.name}({', '.join(map(written, node.arguments))})"
        case syntax.FamilySum():
            return f"sum({node.index} in {node.family}){{{written(node.body)}}}"
        case syntax.Binary():
            return f"({written(node.left)} {node.operator} {written(node.right)})"


PRECEDENCE = {
    "a + b * c": "(a + (b * c))",
    "a - b - c": "((a - b) - c)",
    "a / b * c": "((a / b) * c)",
    "-a * b": "((-a) * b)",
    "-a^2": "(-(a ^ 2))",
    "a^-2": "(a ^ (-2))",
    "a^b^c": "(a ^ (b ^ c))",
    "a * b'": "(a * b')",
    "a'^2": "(a' ^ 2)",
    "A''": "A''",
    "(A * B)'": "(A * B)'",
    "U[k]' * Z": "(U[k]' * Z)",
    "A .* B + C ./ D": "((A .* B) + (C ./ D))",
    "A .^ 2 * B": "((A .^ 2) * B)",
    "2.^b": "(2 .^ b)",
    "2.*b": "(2 .* b)",
    "2.5.^b": "(5/2 .^ b)",
    "1/2 * sum(k in K) a * b + c": "(((1 / 2) * sum(k in K){(a * b)}) + c)",
    "sum(k in K) a / b - c": "(sum(k in K){(a / b)} - c)",
    "a - sum(k in K) b": "(a - sum(k in K){b})",
    "-sum(k in K) b * c": "(-sum(k in K){(b * c)})",
    "sum(k in K) sum(j in J) b": "sum(k in K){sum(j in J){b}}",
    "sum(k in K) (a + b)": "sum(k in K){(a + b)}",
    "f(a, g(b))": "f(a, g(b))",
    "steps1 * off": "(steps1 * off)",
    "summary + input_": "(summary + input_)",
}


@pytest.mark.parametrize("text", PRECEDENCE)
def test_precedence(text: str) -> None:
    assert written(expression(text)) == PRECEDENCE[text]


NUMBERS = {"0.1": Fraction(1, 10), "1e-6": Fraction(1, 10**6), ".5": Fraction(1, 2), "2.5E+3": Fraction(2500)}


@pytest.mark.parametrize("text", NUMBERS)
def test_numbers_are_exact(text: str) -> None:
    assert expression(text).value == NUMBERS[text]


ONE_ITEM = [
    "energy f(\n  Z: d x N\n) =\n  a",
    "energy f(Z: d x N) = a +\n b",
    "energy f(Z: d x N) = a\n + b",
    "energy f(Z: d x N)\n = (a\n\n + b # why\n )",
    "energy f(Z: d x N\n | X: d x N) = a",
    "energy f(Z: d x N, beta:\nreal) = beta",
    "size a = 1,\n b = 2",
    "decoder = inverse(\nencoder\n)\n with K = 2",
    "mask random(0.75)\n before encoder",
    "head classify(3)\n of mean",
    "encoder repeat 2\n{\n compress Z by r(Z)\n}",
    "encoder repeat 2 { compress Z by r(Z) { norm layer; step a; } }",
    "encoder {\n compress Z by r(Z) {\n\n norm layer\n\n\n step a\n }\n\n }",
    "preset a { d = 1, K = 2 }",
    "preset a {\n d = 1\n K = 2,\n L = 3; M = 4\n}",
]


@pytest.mark.parametrize("text", ONE_ITEM)
def test_newlines_that_mean_nothing(text: str) -> None:
    assert len(items(text)) == 1


def test_newlines_that_separate() -> None:
    assert len(items("norm layer\nnorm layer; norm layer\n\n# end\nsize a = 1\n")) == 4
    block = items("encoder {\n compress Z by r(Z)\n compress Z by r(Z); shared U\n}")[0]
    assert len(block.body) == 3


def test_a_call_does_not_begin_on_the_next_line() -> None:
    with pytest.raises(CrateError, match="cannot start with"):
        items("head classify\n(3)")


def test_soft_words() -> None:
    """`x` separates rows from columns, and may be a name; so may the words of the library."""
    energy = items("energy x(x: x x x, per: real) = per * x")[0]
    assert energy.variables[0].name == "x" and energy.variables[0].dimensions.rows.name == "x"
    step = items("encoder { compress x by frame(x, inverse) { inverse ~ raw } }")[0].body[0]
    assert step.use.given[1].name == "inverse" and step.options[0].site == "inverse"


def test_places() -> None:
    text = "network T\nenergy f(Z: d x N) =\n  norm2(Z)'\n"
    body = parse(Source("t.crate", text)).items[0].body
    assert text[body.span.start : body.span.end] == "norm2(Z)'" and str(body.span) == "t.crate:3:3"


def test_a_step() -> None:
    text = "denoise Z by f(A | Z, D) { norm layer(1e-6); from 0; steps 2 of eta; residual; read D1; init D normal(1) }"
    step = items(f"decoder repeat L {{ {text} }}")[0].body[0]
    assert isinstance(step, syntax.StepStatement) and step.use.bar and len(step.use.variables) == 1
    assert [type(option).__name__ for option in step.options] == [
        "NormLine", "FromOption", "StepsOption", "ResidualOption", "ReadOption", "InitLine",
    ]  # fmt: skip


def test_learned_scalars() -> None:
    kappa, beta = items("learn kappa = 5, beta > 0 = 0.1 per head")[0].learns
    assert kappa.above is None and not kappa.per_head
    assert beta.above.value == 0 and beta.start.value == Fraction(1, 10) and beta.per_head


def test_a_block_without_repeat_has_one_layer() -> None:
    assert items("encoder { compress Z by r(Z) }")[0].repeat.value == 1
    assert items("decoder = inverse(encoder)")[0].repeat is None


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_shipped_specs(path: Path) -> None:
    spec = parse(Source(path.name, path.read_text(encoding="utf-8")))
    assert spec.name and spec.description and len(spec.items) > 8


HOSTILE = {
    "nesting": "real a = " + "(" * 5000 + "1" + ")" * 5000,
    "minus": "real a = " + "-" * 5000 + "1",
    "chain": "real a = " + "1+" * 5000 + "1",
    "sums": "energy f(Z: d x N) = " + "sum(k in K) " * 2000 + "1",
    "open": "real a = " + "(" * 15000,
    "digits": "real a = " + "9" * 100_000,
    "exponent": "real a = 1e999999999",
    "name": "real " + "a" * 100_000 + " = 1",
    "words": "norm layer\n" * 20_000,
    "newlines": "\n" * 900_000,
    "size": "#" * 1_000_001,
    "blocks": "encoder {" * 3000,
    "control": "real a\x00\x1b = 1",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_refused(name: str) -> None:
    with pytest.raises(CrateError) as caught:
        items(HOSTILE[name])
    assert "\x1b" not in str(caught.value) and len(str(caught.value)) < 20_000


def test_a_place_in_a_long_line_is_windowed() -> None:
    source = Source("t", "\t" + "a" * 1000 + "!" + "b" * 1000)
    shown, carets = Span(source, 1001, 1002).frame().split("\n")
    assert len(shown) < 200 and shown[carets.index("^")] == "!"


def test_several_mistakes_in_one_block() -> None:
    text = "encoder {\n compress Z bye r(Z)\n sparsify Z by f(Z |)\n denoise Z by g(Z) { norm; from }\n}"
    with pytest.raises(CrateError) as caught:
        items(text)
    assert [diagnostic.span.source.position(diagnostic.span.start)[0] for diagnostic in caught.value.diagnostics] == [
        3,
        4,
        5,
        5,
    ]
