"""Variants of a spec: edits of its text that state exactly what was asked for, and leave everything else alone."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import pytest

import crate_dsl
from crate_dsl.compiler import Compilation
from crate_dsl.errors import CrateError, Source
from crate_dsl.library.vocabulary import VOCABULARY
from crate_dsl.variants import Variations, choices, vary
from runtime.variants.grid import split
from tests.specs import ENERGIES, HEAD, HEADER, encoder, small_preset, spec

SPECS = sorted((Path(__file__).parent.parent / "specs").glob("*.crate"))
ARGUMENTS = {"size": "1", "scalar": "1/2", "positive": "1/2", "fraction": "1/2", "real": "1/2"}
OF_OPTIONS = {
    "norm": ["layer", "layer(1e-6)", "none"],
    "residual": ["raw", "normed", "none"],
    "read": ["D1", "none"],
    "steps": ["2", "1 of 1/2"],
    "sites": ["kept", "none"],
    "mask": ["random(1/2)", "random(0.3) before encoder"],
    "head": ["patches", "classify(5) of mean"],
    "loss": ["cross_entropy", "none"],
}


def words(signatures: dict) -> list[str]:
    """Every word of a kind with arguments that it can take."""
    given = {name: [ARGUMENTS.get(kind, kind.split("|")[0]) for kind in s.required] for name, s in signatures.items()}
    return [f"{name}({', '.join(values)})" if values else name for name, values in given.items()]


def values(choice: crate_dsl.Choice) -> list[str]:
    """Values of every form for one choice, from what is registered."""
    what = choice.name.split(".")[-1]
    if choice.name.split(".")[-2:-1] == ["init"]:
        return [*words(VOCABULARY.inits), *(["none"] if "none" in choice.usage else [])]
    if what in VOCABULARY.sites:
        return [*words(VOCABULARY.sites[what]), *VOCABULARY.sites[what], "none"]
    if what in ("verb", "by", "from"):
        return [value for value in split(choice.usage) if value != "none"]
    if choice.usage == "yes, no":
        return ["yes", "no"]
    return OF_OPTIONS.get(what, ["2"])


def body(compilation: Compilation) -> str:
    """The written network without its banner and the hash of the spec."""
    return re.sub('sha256 = ".*"', "", compilation.text.partition("from __future__")[2])


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_whatever_is_offered_can_be_varied(path: Path) -> None:
    """One place is touched, what was asked for stands there, and the result compiles or is refused in words."""
    text = path.read_text(encoding="utf-8")
    preset, compiled = small_preset(text), 0
    base = Variations(Source(str(path), text), preset)
    for choice in base.choices:
        for value in values(choice):
            variant = base.variant({choice.name: value})
            changed = [line for line in difflib.ndiff(text.split("\n"), variant.text.split("\n")) if line[0] in "+-"]
            several = choice.name == "sites" or choice.name.endswith(".sites")
            assert len(changed) <= 2 or several, (choice, value, changed)
            if value not in ("none", "no", "kept") and variant.text != text:
                written = choice.name.split(".")[-1] if value == "yes" else value
                assert written in "\n".join(line for line in changed if line[0] == "+"), (choice, value)
            try:
                compiled += bool(Compilation(variant.source, preset, {}).model)
            except CrateError as error:
                assert error.diagnostics[0].span is not None, (choice, value)
    assert compiled > 20


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_what_stands_there_changes_nothing(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    base = Variations(Source(str(path), text))
    for choice in base.choices:
        if choice.now is not None:
            assert base.variant({choice.name: choice.now}).text == text, choice
        elif choice.name.split(".")[-1] not in ("verb", "by") and "none" in choice.usage:
            assert base.variant({choice.name: "none"}).text == text, choice


NUMBERS = [({"d": "48"}, "digits"), ({"p": "5"}, "digits"), ({"lambda": "1/3", "K": "2"}, "digits"), ({"p": "7"}, None)]


@pytest.mark.parametrize(("changes", "preset"), NUMBERS)
@pytest.mark.parametrize("name", ["crate_paper", "crate_exact", "crate_mae"])
def test_numbers_are_what_overrides_are(name: str, changes: dict[str, str], preset: str | None) -> None:
    path = next(path for path in SPECS if path.stem == name)
    variant = vary(path.read_text(encoding="utf-8"), changes, preset)
    assert variant.numbers == set(changes)
    edited, overridden = Compilation(variant.source, preset, {}), crate_dsl.compile_spec(path, preset, changes)
    assert body(edited) == body(overridden) != body(crate_dsl.compile_spec(path, preset))


def test_start_values_and_empty_presets() -> None:
    steps = "learn kappa = 5\ncompress Z by rate(Z, U) { step kappa }\n"
    text = spec("preset digits {}\n" + encoder(steps), header=HEADER, energies=ENERGIES)
    assert "learn kappa = 1/2\n" in vary(text, {"kappa": "1/2"}).text
    assert "preset digits { kappa = 1/2 }" in vary(text, {"kappa": "1/2"}, "digits").text


CHAIN = "inverse ~ neumann(1); frame ~ identity; gram ~ softmax(1/sqrt(p))"
MULTI = """{
    norm   layer   # before
    frame  ~ identity   # none
    gram   ~ softmax(1/sqrt(p))   # of tokens
}"""
# options before, what is varied, options after
EDITS = [
    (f"{{ norm layer; {CHAIN} }}", {"gram": "scaled"}, f"{{ norm layer; {CHAIN.replace('softmax', 'scaled')} }}"),
    (f"{{ norm layer; {CHAIN} }}", {"gram": "scaled(2)"},
     "{ norm layer; inverse ~ neumann(1); frame ~ identity; gram ~ scaled(2) }"),
    (f"{{ norm layer; {CHAIN} }}", {"gram": "none"}, "{ norm layer; inverse ~ neumann(1); frame ~ identity }"),
    (f"{{ norm layer; {CHAIN} }}", {"norm": "none"}, f"{{ {CHAIN} }}"),
    (f"{{ {CHAIN}; norm layer }}", {"sites": "none"}, "{ norm layer }"),
    (f"{{ norm layer; {CHAIN} }}", {"sites": "none", "norm": "none"}, "{ }"),
    (f"{{ {CHAIN} }}", {"sites": "none"}, "{  }"),
    (f"{{ {CHAIN} }}", {"adjoint": "free"}, f"{{ {CHAIN}; adjoint ~ free }}"),
    ("{ gram ~ softmax(1); adjoint ~ free(bias) }", {"adjoint": "free", "inverse": "neumann(1)", "frame": "identity"},
     "{ inverse ~ neumann(1); frame ~ identity; gram ~ softmax(1); adjoint ~ free(bias) }"),
    ("{ adjoint ~ free(bias) }", {"adjoint": "free()"}, "{ adjoint ~ free() }"),
    ("{ adjoint ~ free(bias) }", {"adjoint": "dropped"}, "{ adjoint ~ dropped }"),
    ("{ adjoint ~ free(bias) }", {"adjoint": "tied"}, "{  }"),
    ("", {"adjoint": "free"}, "{ adjoint ~ free }"),
    ("{}", {"adjoint": "free"}, "{ adjoint ~ free }"),
    ("{ step eta }", {"step": "0.1", "norm": "layer", "residual": "normed", "init.U": "orthogonal"},
     "{ norm layer; residual normed; init U orthogonal; step 0.1 }"),
    (MULTI, {"gram": "none"}, "{\n    norm   layer   # before\n    frame  ~ identity   # none\n}"),
    (MULTI, {"frame": "none", "norm": "layer(1e-6)"},
     "{\n    norm   layer(1e-6)\n    gram   ~ softmax(1/sqrt(p))   # of tokens\n}"),
    (MULTI, {"gram": "scaled", "coefficients": "skip", "inverse": "neumann(1)"},
     "{\n    norm   layer   # before\n    inverse ~ neumann(1)\n    frame  ~ identity   # none\n"
     "    gram   ~ scaled(1/sqrt(p))\n    coefficients ~ skip\n}"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "changes", "after"), EDITS)
def test_edits(before: str, changes: dict[str, str], after: str) -> None:
    text, wanted = (spec(encoder(f"compress Z by rate(Z, U) {options}\n")) for options in (before, after))
    text, wanted = text.replace("U) \n", "U)\n"), wanted.replace("U) \n", "U)\n")
    assert vary(text, changes).text == wanted


PROXIMAL = [
    ("{ steps 1 of eta }", {"steps": "3"}, "{ steps 3 of eta }"),
    ("{ steps 1 of eta }", {"steps": "2 of 1/2", "from": "0"}, "{ from 0; steps 2 of 1/2 }"),
    ("{ step eta }", {"steps": "2"}, "{ steps 2 of eta }"),
    ("{ norm layer }", {"steps": "2 of 1/2", "residual": "raw"}, "{ norm layer; residual raw; steps 2 of 1/2 }"),
    ("{ residual }", {"residual": "raw"}, "{ residual raw }"),
    ("{ norm layer }", {"read": "D1", "by": "lasso"}, "{ norm layer; read D1 }"),
]


@pytest.mark.parametrize(("before", "changes", "after"), PROXIMAL)
def test_edits_of_a_proximal_step(before: str, changes: dict[str, str], after: str) -> None:
    text, wanted = (spec(encoder(f"sparsify Z by lasso(A | Z, D) {options}\n")) for options in (before, after))
    assert vary(text, changes).text == wanted
    assert Compilation(Source("wanted", wanted), None, {}).model


def test_a_word_that_stands_or_not() -> None:
    text = spec(encoder("compress Z by rate(Z, U) { norm layer; step eta }\n"))
    causal = vary(text, {"causal": "yes"}).text
    assert "{ norm layer; step eta; causal }" in causal and vary(text, {"causal": "no"}).text == text
    assert vary(causal, {"causal": "yes"}).text == causal and vary(causal, {"causal": "no"}).text == text


def test_energies_and_verbs() -> None:
    energies = ENERGIES + "energy spread(Z: d x N, U: K of d x p) = sum(k in K) total((U[k]' * Z) .^ 4)\n"
    text = spec(encoder("compress Z by rate(Z, U) { norm layer }\n"), energies=energies)
    variant = vary(text, {"verb": "denoise", "by": "spread"})
    assert "denoise Z by spread(Z, U) { norm layer }" in variant.text and variant.label == "verb=denoise by=spread"
    assert Compilation(variant.source, None, {}).text
    assert "compress Z by spread(Z, W) {" in vary(text, {"compress.by": "spread(Z, W)"}).text


def test_lines_around_the_blocks() -> None:
    text = next(path for path in SPECS if path.stem == "crate_mae").read_text(encoding="utf-8")
    assert "\nmask random(0.5) before encoder\n" in vary(text, {"mask": "random(0.5)"}).text
    loss = "masked_squared_error + 0.01 * rate(Z, U) in encoder"
    added = vary(text, {"loss": loss}).text
    assert added == f"{text.rstrip()}\nloss {loss}\n" and vary(added, {"loss": "none"}).text == text
    assert Compilation(Source("loss", added), "digits", {}).text


def test_included_energies_are_offered() -> None:
    path = next(path for path in SPECS if path.stem == "crate_srr")
    source = crate_dsl.compile_spec(path).source
    assert "scaled_rate" in next(c for c in Variations(source).choices if c.name == "compress.by").usage
    variant = Variations(source).variant({"compress.by": "scaled_rate(Z, U, eta)", "loss": "cross_entropy"})
    assert Compilation(variant.source, "digits", {}).text


TWO = "compress Z by rate(Z, U) { norm layer; adjoint ~ free }\nsparsify Z by lasso(A | Z, D) { norm layer }\n"
DECODED = encoder(TWO) + "decoder repeat L {\ndenoise Z by rate(Z, V) { adjoint ~ free(bias) }\n}\n"


def test_only_sites_that_the_step_has_are_offered() -> None:
    """What another change brings can be varied together with it."""

    def offered(name: str) -> set[str]:
        text = (SPECS[0].parent / f"{name}.crate").read_text(encoding="utf-8")
        return {choice.name for choice in choices(text) if choice.name in VOCABULARY.sites}

    assert offered("crate") == set(VOCABULARY.sites)
    assert offered("crate_exact") == {"inverse", "coefficients", "adjoint"}
    text = (SPECS[0].parent / "crate_exact.crate").read_text(encoding="utf-8")
    compiled = vary(text, {"inverse": "neumann(1)", "frame": "identity"})
    assert "frame ~ identity" in " ".join(compiled.text.split())


def test_an_energy_with_other_arguments_is_offered_with_them() -> None:
    step = "sparsify Z by nonnegative_lasso(A | Z, D, lambda) { norm layer; from Z; steps 1 of eta }\n"
    text = spec("include codes\n" + encoder(step), energies="")
    usage = next(choice.usage for choice in choices(text) if choice.name == "by")
    assert "nonnegative_lasso, " in usage and "elastic_net(A | X, D, lambda, mu)" in usage


def test_a_name_means_every_step_that_has_it() -> None:
    text = spec(DECODED)
    assert vary(text, {"adjoint": "tied"}).text.count("adjoint") == 0
    assert vary(text, {"encoder.adjoint": "tied"}).text.count("adjoint ~ free(bias)") == 1
    assert vary(text, {"denoise.adjoint": "tied"}).text.count("adjoint ~ free ") == 1
    assert vary(text, {"norm": "none"}).text.count("norm layer") == 0
    assert vary(text, {"decoder.denoise.norm": "layer"}).text.count("norm layer") == 3
    names = {choice.name: choice.step for choice in choices(text)}
    assert names["compress.adjoint"] == "encoder.compress" and "adjoint" not in names and names["steps"]


MISTAKES = {
    "unknown thing": ({"grm": "none"}, 'there is no "grm" to be varied.*Did you mean'),
    "unknown rule": ({"gram": "sofmax"}, '"sofmax" cannot stand for encoder.compress.gram.*Did you mean "softmax"'),
    "unknown energy": ({"compress.by": "rat"}, '"rat" cannot stand.*Did you mean "rate"'),
    "unknown verb": ({"compress.verb": "shrink"}, "known values of verb: ascend, compress, denoise, descend"),
    "no value": ({"gram": ""}, '"" cannot stand for encoder.compress.gram'),
    "more than a value": ({"d": "3 } preset x { d = 4"}, "cannot stand for d"),
    "unbalanced": ({"gram": "softmax(1"}, '"softmax\\(1" cannot stand for encoder.compress.gram'),
    "two numbers": ({"d": "3, K = 2"}, "cannot stand for d"),
    "which step": ({"residual": "raw"}, "several things.*compress.residual, sparsify.residual"),
    "which energy": ({"by": "rate"}, "several things.*compress.by, sparsify.by"),
    "not of this step": ({"compress.from": "0"}, 'there is no "compress.from"'),
    "derived": ({"decoder.gram": "none"}, "the decoder is derived as an inverse"),
    "no step size": ({"sparsify.steps": "2"}, None),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str) -> None:
    changes, message = MISTAKES[name]
    text = next(path for path in SPECS if path.stem == "crate_mae").read_text(encoding="utf-8")
    if message is None:
        text, message = text.replace("        steps 1 of eta\n", ""), "needs a step size"
    with pytest.raises(CrateError, match=f"(?s){message}"):
        vary(text, changes)


def test_a_number_named_like_a_site_is_asked_about() -> None:
    text = spec(encoder("compress Z by rate(Z, U) { step gram; adjoint ~ free }\n"), HEAD, HEADER + "real gram = 0.1\n")
    with pytest.raises(CrateError, match="(?s)several things.*name one of them: gram, compress.gram"):
        vary(text, {"gram": "0.2"})
    assert "gram ~ softmax(1)" in vary(text, {"compress.gram": "softmax(1)"}).text


def test_a_spec_that_is_not_sound_is_not_varied() -> None:
    with pytest.raises(CrateError, match="unknown energy"):
        vary(spec(encoder("compress Z by rat(Z, U) {}\n")), {"norm": "layer"})
