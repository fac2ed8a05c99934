"""The operators of the papers come out of the stated energies: compared with numbers of the official code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sympy

from crate_dsl.errors import CrateError
from crate_dsl.mathematics.certify import certify
from crate_dsl.mathematics.derivation import APPROXIMATION, CHOICE, EXACT, DerivedStep
from crate_dsl.mathematics.evaluate import Point, execute
from tests.specs import COMPRESS, HEADER, MSSA, SPARSIFY, derived, encoder, spec

DATA = Path(__file__).parent.parent / "data"
ASCENT = f"denoise Z by rate(Z, U) {{ {MSSA} }}\n"
SYNTHESIS = "denoise Z by lasso(Z | X, D) { norm layer }\n"
SIZES = {"d": 24, "K": 3, "p": 8, "N": 10}


def layer_norm(rows: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * weight + bias


def run(
    step: DerivedStep, tokens: np.ndarray, golden: dict, place: str, names: dict[str, str], sizes: dict
) -> np.ndarray:
    """Execute a derived step on rows of tokens with the parameters of an official block."""
    p = {name.removeprefix(f"param/layers.0.{place}."): golden[name] for name in golden if name.startswith("param/")}
    heads, width = sizes["K"], sizes["p"]
    families = {"U": lambda w: w.reshape(heads, width, -1).transpose(0, 2, 1), "D": lambda w: w}
    families |= {"U_out": lambda w: w.T.reshape(heads, width, -1).transpose(0, 2, 1), "U_bias": lambda w: w[:, None]}
    matrices = {ours: families[ours](p[theirs]) for ours, theirs in names.items()}
    normed = layer_norm(tokens, p["norm.weight"], p["norm.bias"])
    results = []
    for raw, read in zip(tokens, normed, strict=True):
        point = Point(sizes, {"eta": 0.1, "lambda": 0.5}, {**matrices, step.raw.name: raw.T, step.read.name: read.T})
        results.append(execute(step.assignments, point).matrices[step.result.name].T)
    return np.stack(results)


def golden(name: str) -> dict[str, np.ndarray]:
    data = np.load(DATA / f"{name}.npz")
    return {key: data[key] for key in data.files if key != "meta"}


OUT = {"U": "fn.qkv.weight", "U_out": "fn.to_out.0.weight", "U_bias": "fn.to_out.0.bias"}


def assert_close(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert np.linalg.norm(ours - theirs) <= 1e-10 * np.linalg.norm(theirs)


def test_freezing_needs_an_inverse_left_of_the_tokens() -> None:
    with pytest.raises(CrateError, match="frozen. does not apply: no inverse stands left of the tokens"):
        derived(spec(encoder("compress Z by rate(Z, U) { inverse ~ frozen(fit) }")))


def test_encoder_block() -> None:
    data = golden("encoder_block")
    compress, sparsify = derived(spec(encoder(COMPRESS + SPARSIFY))).blocks[0].steps
    half = run(compress, data["in/Z"], data, "0", OUT, SIZES)
    assert_close(half, data["out/half"])
    assert_close(run(sparsify, half, data, "1", {"D": "fn.weight"}, SIZES), data["out/Z"])


DECODERS = {
    "inverse": encoder(COMPRESS + SPARSIFY) + "decoder = inverse(encoder)\n",
    "explicit": "decoder repeat L {\n" + SYNTHESIS + ASCENT + "}\n",
}


@pytest.mark.parametrize("body", DECODERS.values(), ids=DECODERS)
def test_decoder_block(body: str) -> None:
    data = golden("decoder_block")
    synthesis, ascent = derived(spec(body)).blocks[-1].steps
    half = run(synthesis, data["in/Y"], data, "0", {"D": "fn.weight"}, SIZES)
    assert_close(half, data["out/half"])
    assert_close(run(ascent, half, data, "1", OUT, SIZES), data["out/Y"])


def test_inverse_and_explicit_decoder_have_the_same_operators() -> None:
    derived_block = derived(spec(encoder(COMPRESS + SPARSIFY) + "decoder = inverse(encoder)\n")).blocks[-1]
    stated_block = derived(spec("decoder repeat L {\n" + SYNTHESIS + ASCENT + "}\n")).blocks[0]
    for one, two in zip(derived_block.steps, stated_block.steps, strict=True):
        assert one.step.label == two.step.label
        assert [str(a.value) for a in one.assignments] == [str(a.value) for a in two.assignments]


def test_decoder_without_softmax() -> None:
    data = golden("decoder_block_nosoftmax")
    body = "decoder repeat L {\n" + SYNTHESIS + ASCENT.replace("softmax", "scaled") + "}\n"
    synthesis, ascent = derived(spec(body)).blocks[0].steps
    half = run(synthesis, data["in/Y"], data, "0", {"D": "fn.weight"}, SIZES)
    assert_close(run(ascent, half, data, "1", OUT, SIZES), data["out/Y"])


def test_one_head_without_outer_map() -> None:
    data, sizes = golden("encoder_block_1head"), {"d": 20, "K": 1, "p": 20, "N": 7}
    text = spec(encoder(COMPRESS.replace("free(bias)", "dropped") + SPARSIFY))
    compress, sparsify = derived(text, d=20, K=1, p=20).blocks[0].steps
    half = run(compress, data["in/Z"], data, "0", {"U": "fn.qkv.weight"}, sizes)
    assert_close(half, data["out/half"])
    assert_close(run(sparsify, half, data, "1", {"D": "fn.weight"}, sizes), data["out/Z"])


def test_chain_is_recorded() -> None:
    record = derived(spec(encoder(COMPRESS + SPARSIFY))).blocks[0].steps[0].record
    rules = ["energy", "gradient", "step", "inverse ~ neumann", "frame ~ identity", "gram ~ softmax",
             "coefficients ~ absorbed", "adjoint ~ free", "norm"]  # fmt: skip
    assert [line.rule for line in record] == rules
    assert [line.kind for line in record] == [EXACT] * 3 + [APPROXIMATION] * 4 + [CHOICE] * 2
    assert all(line.why for line in record)


def test_exact_form_needs_no_site() -> None:
    text = spec(
        encoder(
            "learn kappa = 5, beta > 0 = 0.1\ncompress Z by scaled_rate(Z, U, beta) { norm layer; step kappa }\n"
            + SPARSIFY
        )
    )
    compress = derived(text).blocks[0].steps[0]
    (assignment,) = compress.assignments
    assert str(assignment.value) == (
        "Z - beta*kappa * sum(k in K) U[k] * U[k]' * norm(Z) * (I + beta * norm(Z)' * U[k] * U[k]' * norm(Z))^-1"
    )


def test_an_energy_of_any_name_is_treated_alike() -> None:
    text = spec(encoder(COMPRESS.replace("rate", "foo") + SPARSIFY)).replace("energy rate", "energy foo")
    one, two = (derived(t).blocks[0].steps[0].assignments for t in (text, spec(encoder(COMPRESS + SPARSIFY))))
    assert one == two


def test_convex_coefficients() -> None:
    options = "step 1/4; inverse ~ neumann(1); frame ~ identity; gram ~ softmax(1); coefficients ~ convex"
    steps = f"compress Z by scaled_rate(Z, U, b) {{ {options} }}\n"
    text = spec(encoder(steps + SPARSIFY), header=HEADER + "real b = 0.5\n")
    (assignment,) = derived(text).blocks[0].steps[0].assignments
    b = sympy.Symbol("b", positive=True)
    assert [word.coefficient for word in assignment.value.words] == [1 - b / 4, b / 4]


def test_neumann_of_higher_order() -> None:
    options = "inverse ~ neumann(2); frame ~ identity; gram ~ softmax(1/sqrt(p)); coefficients ~ absorbed"
    steps = f"compress Z by rate(Z, U) {{ {options} }}\n"
    (assignment,) = derived(spec(encoder(steps + SPARSIFY))).blocks[0].steps[0].assignments
    assert [word.coefficient for word in assignment.value.words] == [1, 1, -1]


def test_kappa_per_head_stays_inside_the_sum() -> None:
    steps = "learn kappa = 1 per head\ncompress Z by rate(Z, U) { step kappa }\n"
    (assignment,) = derived(spec(encoder(steps + SPARSIFY))).blocks[0].steps[0].assignments
    assert "kappa[k]" in str(assignment.value.words[1].coefficient) and assignment.value.words[1].over == (("k", "K"),)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("gram ~ softmax(1)", "these sites: inverse, coefficients, adjoint"),
        ("frame ~ identity", "no site"),
        ("inverse ~ neumann(1); frame ~ identity; adjoint ~ dropped", "K = 1 and p = d"),
    ],
)
def test_absent_sites_name_what_is_there(options: str, message: str) -> None:
    with pytest.raises(CrateError, match=message):
        derived(spec(encoder(f"compress Z by rate(Z, U) {{ {options} }}\n" + SPARSIFY)))


def test_certificate_passes() -> None:
    derivation = derived(spec(encoder(COMPRESS + SPARSIFY) + "decoder = inverse(encoder)\n"))
    findings = certify(derivation)
    assert all(f.passed is not False for f in findings)
    assert sum(f.passed is True for f in findings) == 6
    assert any("round trip" in f.claim for f in findings)


def test_certificate_catches_a_wrong_gradient() -> None:
    derivation = derived(spec(encoder(COMPRESS + SPARSIFY)))
    step = derivation.blocks[0].steps[0]
    record = tuple(
        replace(x, after=x.after.scaled(sympy.Integer(2))) if x.rule == "gradient" else x for x in step.record
    )
    block = replace(derivation.blocks[0], steps=(replace(step, record=record),))
    findings = certify(replace(derivation, blocks=(block,)))
    assert [f.passed for f in findings if "finite differences" in f.claim] == [False]


def test_sums_over_one_family_may_be_multiplied() -> None:
    """The index of one sum is renamed, also where the new name is taken already."""
    energy = "energy e(Z: d x N, U: K of d x p) = norm2((sum(k in K) U[k]*U[k]') * (sum(k in K) U[k]*U[k]') * Z)\n"
    text = spec(encoder("compress Z by e(Z, U) {}\n"), energies=energy)
    assert all(f.passed is not False for f in certify(derived(text)))


@pytest.mark.parametrize(
    ("penalty", "message"),
    [
        ("box(A, 1, -1)", "no value satisfies"),
        ("box(A, lambda, eta)", "no value satisfies"),
        ("box(A, 0, 0)", "leave one value, 0"),
        ("l0(A) + l1(A)", "use l0 alone, or with nonnegative"),
        ("lambda * l1(A) - nonnegative(A)", "can only be added"),
        ("l1(A) - 2 * l1(A)", "no proximal rule"),
    ],
)
def test_impossible_penalties_are_refused(penalty: str, message: str) -> None:
    energy = f"energy e(A: d x N | X: d x N, D: d x d) = 1/2 * norm2(X - D * A) + {penalty}\n"
    with pytest.raises(CrateError, match=message):
        derived(spec(encoder("sparsify Z by e(A | Z, D) { steps 1 of eta }\n"), energies=energy))


def test_a_skip_is_not_undone_by_a_synthesis() -> None:
    body = encoder(SPARSIFY.replace("from Z", "from Z; residual")) + "decoder = inverse(encoder)\n"
    with pytest.raises(CrateError, match="not undone"):
        derived(spec(body))
