"""Syntax to model: sizes and presets, roles of names, defaults, derived decoders."""

from __future__ import annotations

from fractions import Fraction

import pytest

from crate_dsl.errors import CrateError, Source
from crate_dsl.language.check import check
from crate_dsl.language.model import Block, Model, NormStage, Shape, Step, Word
from crate_dsl.language.parse import parse
from crate_dsl.library.vocabulary import VOCABULARY
from tests.specs import COMPRESS, ENERGIES, HEADER, SPARSIFY, encoder, spec

BLOCK = encoder(COMPRESS + SPARSIFY)
PRESETS = "preset wide { d = 48, eta = 0.2 }\npreset deep { L = 4, K = 2, p = d / K }\n"


def model(text: str, preset: str | None = None, **overrides: str | float | Fraction) -> Model:
    return check(parse(Source("t.crate", text)), VOCABULARY, preset, overrides)


def step(text: str, label: str | None = None) -> Step:
    """The only step of a block, or the one with the label."""
    steps = model(spec(encoder(text))).blocks[0].steps
    return next(s for s in steps if label in (None, s.label))


def messages(text: str, preset: str | None = None, **overrides: str | float) -> str:
    with pytest.raises(CrateError) as caught:
        model(text, preset, **overrides)
    return str(caught.value)


# ---- sizes, presets, overrides ---------------------------------------------------------------------------------------


def test_sizes_and_tokens() -> None:
    checked = model(spec(BLOCK))
    assert checked.sizes["N"] == checked.tokens.count == 5 and checked.tokens.patches == 4
    assert checked.sizes["p"] == 8 and checked.reals == {"eta": Fraction(1, 10), "lambda": Fraction(1, 2)}
    assert checked.input == Word("image", (1, 8, 8)) and checked.tokens.words[0] == Word("patches", (4,))


def test_rectangles() -> None:
    text = spec(BLOCK).replace("image(channels, image, image)", "image(channels, 12, image)")
    checked = model(text.replace("patches(patch)", "patches(3, 2, norm)"))
    assert checked.tokens.patches == 4 * 4 and checked.tokens.words[0].arguments == (3, 2, "norm")


def test_the_preset_wins_over_the_file_and_the_command_line_over_the_preset() -> None:
    text = spec(BLOCK, header=HEADER.replace("p = 8", "p = d / K") + PRESETS)
    assert model(text, "wide").sizes["p"] == 16 and model(text, "wide").reals["eta"] == Fraction(1, 5)
    assert model(text, "deep").sizes["p"] == 12 and model(text, "deep").blocks[0].repeat == 4
    checked = model(text, "wide", d="12", eta=0.3)
    assert checked.sizes["p"] == 4 and checked.reals["eta"] == Fraction(3, 10)
    assert checked.overrides == {"d": 12, "eta": Fraction(3, 10)} and checked.preset == "wide"


def test_derived_sizes_can_be_set() -> None:
    assert model(spec(BLOCK, header=HEADER.replace("p = 8", "p = d / K")), p=5).blocks[0].sizes["p"] == 5


def test_learned_scalars_can_be_set() -> None:
    text = spec(encoder("learn kappa = 5\ncompress Z by rate(Z, U) { step kappa }"))
    assert model(text, kappa="1/3").blocks[0].scalars[0].start == Fraction(1, 3)


@pytest.mark.parametrize("value", ["abc", "", "nan", "inf", "1e999999", "1/0", True, "0", "2.5", "10000000", "0x10"])
def test_wrong_values_are_refused(value: str) -> None:
    assert "--set" in messages(spec(BLOCK), d=value)


def test_sizes_that_do_not_divide_show_where_they_come_from() -> None:
    text = messages(spec(BLOCK, header=HEADER.replace("p = 8", "p = d / K")), K=5)
    assert "24/5" in text and "--set:1:1: K = 5 comes from here" in text


# ---- roles and shapes ------------------------------------------------------------------------------------------------


def test_roles() -> None:
    lasso = step(SPARSIFY)
    assert lasso.unknown == "A" and lasso.actuals == {"A": "A", "X": "Z", "D": "D"}
    synthesis = step("denoise Z by lasso(Z | X, D) { norm layer }")
    assert synthesis.unknown == "X" and synthesis.actuals == {"A": "Z", "X": "X", "D": "D"}
    assert step(COMPRESS).unknown is None


def test_parameters_take_their_shape_from_the_energy() -> None:
    block = model(spec(BLOCK)).blocks[0]
    assert [(p.name, p.shape, p.shared) for p in block.parameters] == [
        ("U", Shape("d", "p", "K"), False), ("D", Shape("d", "d"), False),
    ]  # fmt: skip


def test_one_name_in_two_steps_is_one_parameter() -> None:
    block = model(spec(encoder(SPARSIFY + "denoise Z by lasso(Z | X, D)\n"))).blocks[0]
    assert [p.name for p in block.parameters] == ["D"]


def test_energies_are_known_by_their_meaning_not_by_their_names() -> None:
    renamed = ENERGIES.replace("energy rate", "energy foo").replace("energy lasso", "energy rate")
    text = spec(encoder("compress Z by foo(Z, V)\nsparsify Z by rate(B | Z, E)"), energies=renamed)
    assert [s.unknown for s in model(text).blocks[0].steps] == [None, "B"]


def test_an_overcomplete_code_is_read_out() -> None:
    wide = ENERGIES.replace("A: d x N | X: d x N, D: d x d", "A: m x N | X: d x N, D: d x m")
    text = spec(encoder("sparsify Z by lasso(A | Z, D) { read D1 }"), header=HEADER + "size m = 40\n", energies=wide)
    block = model(text).blocks[0]
    assert block.parameters[1].name == "D1" and block.parameters[1].shape == Shape("d", "m")
    assert block.steps[0].start == "zero" and block.steps[0].read == "D1"


def test_init_and_shared() -> None:
    steps = (
        "shared U, kappa\nlearn kappa = 1\ninit D zeros\ncompress Z by rate(Z, U) { init U orthogonal; step kappa }\n"
    )
    block = model(spec(encoder(steps + SPARSIFY))).blocks[0]
    assert [(p.init, p.shared) for p in block.parameters] == [(Word("orthogonal"), True), (Word("zeros"), False)]
    assert block.scalars[0].shared


def test_per_head_takes_the_family_of_the_energy() -> None:
    text = "learn kappa = 1 per head, beta > 0 = 0.1 per head\ncompress Z by scaled_rate(Z, U, beta) { step kappa }"
    assert [s.family for s in model(spec(encoder(text))).blocks[0].scalars] == ["K", "K"]


def test_per_head_without_heads_is_one_mistake() -> None:
    energies = ENERGIES + "energy own(A: d x N | X: d x N, D: d x d, mu: real) = norm2(X - D * A) + mu * l1(A)\n"
    text = "learn mu > 0 = 0.1 per head\nsparsify Z by own(A | Z, D, mu) { from Z; steps 1 of eta }"
    said = messages(spec(encoder(text), energies=energies))
    assert "there are no heads here" in said and "None" not in said


def test_the_number_of_tokens_is_a_number_in_energies_and_options() -> None:
    energies = ENERGIES.replace("1/2 * sum", "1/N * sum")
    assert model(spec(encoder("compress Z by rate(Z, U) { step 1/N; gram ~ softmax(1/sqrt(N)) }"), energies=energies))


# ---- defaults --------------------------------------------------------------------------------------------------------


def test_defaults() -> None:
    compress, sparsify = step("compress Z by rate(Z, U)"), step("sparsify Z by lasso(A | Z, D)")
    assert (compress.residual, compress.size, compress.norm) == ("raw", None, None)
    assert (sparsify.residual, sparsify.start, sparsify.iterations) == (None, "tokens", 1)
    assert step("denoise Z by rate(Z, U)").residual == "raw"
    assert step("denoise Z by lasso(Z | X, D)").residual is None
    assert step("sparsify Z by lasso(A | Z, D) { residual }").residual == "raw"
    assert step("sparsify Z by lasso(A | Z, D) { from 0 }").start == "zero"


def test_labels() -> None:
    text = "compress Z by rate(Z, U)\ndenoise Z by rate(Z, V)\ndenoise Z by rate(Z, W)\ndenoise Z by lasso(Z | X, D)\n"
    labels = [s.label for s in model(spec(encoder(text))).blocks[0].steps]
    assert labels == ["compress", "denoise_rate", "denoise_rate_2", "denoise_lasso"]


def test_stages_in_the_order_of_the_file() -> None:
    checked = model(
        spec("norm layer\n" + BLOCK + "norm layer\nnorm layer(1e-6)\ndecoder = inverse(encoder)\nnorm layer\n")
    )
    names = [stage.name if isinstance(stage, NormStage) else stage.role for stage in checked.stages]
    assert names == ["tokens_norm", "encoder", "encoder_norm", "encoder_norm_2", "decoder", "decoder_norm"]


# ---- derived decoders ------------------------------------------------------------------------------------------------


def decoder(line: str, header: str = HEADER.replace("p = 8", "p = d / K"), **overrides: int) -> Block:
    return model(spec(BLOCK + line, header=header), **overrides).blocks[1]


def test_a_decoder_has_sizes_of_its_own() -> None:
    block = decoder("decoder repeat 3 = inverse(encoder) with K = 8\n")
    assert (block.repeat, block.sizes["K"], block.sizes["p"], block.inverse_of) == (3, 8, 3, "encoder")
    assert block.sizes["N"] == 5 and [s.label for s in block.steps] == ["compress", "sparsify"]


def test_a_decoder_repeats_as_its_encoder_does() -> None:
    assert decoder("decoder = inverse(encoder)\n").repeat == 2
    assert decoder("decoder = inverse(encoder)\n", L=3).repeat == 3


def test_a_derived_size_may_be_changed_too() -> None:
    block = decoder("decoder = inverse(encoder) with K = 8, p = 4\n")
    assert (block.sizes["K"], block.sizes["p"]) == (8, 4)
    assert decoder("decoder = inverse(encoder) with K = 8\n", p=6).sizes["p"] == 6


def test_a_decoder_may_stand_before_its_encoder() -> None:
    assert [b.role for b in model(spec("decoder = inverse(encoder)\n" + BLOCK)).blocks] == ["decoder", "encoder"]


# ---- several errors in one run ---------------------------------------------------------------------------------------


def test_errors_are_collected_and_sorted() -> None:
    text = spec(encoder("compress Z by rat(Z, U)\nsparsify Z by lasso(A | Z) { nrm ~ x }"), head="head classify(3)\n")
    with pytest.raises(CrateError) as caught:
        model(text.replace("eta = 0.1", "eta = ets"))
    starts = [diagnostic.span.start for diagnostic in caught.value.diagnostics]
    assert len(starts) == 5 and starts == sorted(starts)


def test_not_more_errors_than_can_be_read() -> None:
    with pytest.raises(CrateError) as caught:
        model(spec(BLOCK, header=HEADER + "".join(f"size a{n} = b{n}\n" for n in range(2000))))
    assert len(caught.value.diagnostics) <= 50


HOSTILE = {
    "power": "real a = 10^60, b = a^60, c = b^60",
    "tower": "real a = 2^64, b = a^64",
    "root": "real a = sqrt(10^60)^64",
    "zero": "real a = 0^(0-1)",
    "layers": "size M = 100001\nencoder repeat M { compress Z by rate(Z, U) }",
    "steps": "encoder {" + "compress Z by rate(Z, U)\n" * 100 + "}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_absurd_numbers_are_refused(name: str) -> None:
    assert len(messages(spec(HOSTILE[name] + "\n"))) < 20_000
