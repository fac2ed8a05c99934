"""The attention-only transformer on its own data model: the growth that the theory states, and where it ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import crate_dsl
from runtime import seeds, subspaces
from runtime.errors import UserError
from tests.runtime.conftest import SPECS

AOT = SPECS / "aot.crate"
SPEC = AOT.read_text(encoding="utf-8")


def growths(spec: Path, noise: float, **sizes: float) -> tuple[list[float], float]:
    """The measured growth per layer, and the predicted one."""
    compilation = crate_dsl.compile_spec(spec, overrides=sizes)
    network = crate_dsl.load(spec, **sizes).double()
    outcome = subspaces.measure(compilation, network, noise, draws=4, seed=0)
    return [b / a for a, b in zip(outcome.ratios, outcome.ratios[1:], strict=False)], outcome.growth


def test_the_signal_grows_as_stated_until_norms_are_large() -> None:
    measured, predicted = growths(AOT, 0.1)
    assert predicted == pytest.approx(1.25)
    assert measured[:4] == pytest.approx([1.25] * 4, abs=1e-3)
    assert measured[6] < 1


@pytest.mark.parametrize(("eta", "tau"), [(0.2, 0.9), (0.8, 0.55)])
def test_the_growth_follows_step_and_level(eta: float, tau: float) -> None:
    measured, predicted = growths(AOT, 0.05, eta=eta, tau=tau)
    assert predicted == pytest.approx(1 + eta * tau)
    assert measured[:2] == pytest.approx([predicted] * 2, abs=2e-3)


def test_the_theorem_needs_the_threshold(tmp_path: Path) -> None:
    """Plain softmax gives every token of other subspaces a share, at the same predicted growth."""
    path = tmp_path / "soft.crate"
    path.write_text(SPEC.replace("threshold(tau, 1)", "softmax(1)").replace("tau = 0.625", "tau = 1"))
    measured, predicted = growths(path, 0.1, eta=0.25)
    assert predicted == pytest.approx(1.25)
    assert measured[0] < 1.2 and measured[2] < 0.9


def test_what_stays_of_a_token_counts(tmp_path: Path) -> None:
    """(1 - eta) Z + eta .. shrinks signal and noise before the signal is added to."""
    path = tmp_path / "convex.crate"
    path.write_text(SPEC.replace("coefficients ~ skip ", "coefficients ~ convex "))
    measured, predicted = growths(path, 0.05, eta=0.2, L=2)
    assert predicted == pytest.approx(1 + 0.2 * 0.625 / 0.8)
    assert measured[0] == pytest.approx(predicted, abs=2e-3)


@pytest.mark.parametrize(
    ("line", "added"),
    [("step eta", "norm layer"), ("~ skip", "adjoint ~ identity"), ("~ skip", "adjoint ~ transposed")],
)
def test_the_theory_does_not_speak_of_every_step(line: str, added: str, tmp_path: Path) -> None:
    """Measured, the signal grows by 1.34 behind a norm and falls to less than half where bases do not map it back."""
    path = tmp_path / "other.crate"
    path.write_text(SPEC.replace(line, f"{line}; {added}"))
    _, predicted = growths(path, 0.1, d=32, K=2, L=1, N=16)
    assert predicted is None


def test_vectors_come_in_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "moved.crate"
    path.write_text(SPEC.replace("N = vectors", "N = vectors + position(learned)"))
    with pytest.raises(UserError, match="bare vectors in"):
        subspaces.main([str(path)])


def test_the_data_model_against_numpy() -> None:
    generator = seeds.torch_generator(3)
    bases = subspaces.orthonormal(3, 20, 5, generator)
    data = subspaces.draw(30, bases, 0.25, generator)
    stacked = np.concatenate(list(bases.numpy()), axis=1)
    np.testing.assert_allclose(stacked.T @ stacked, np.eye(15), atol=1e-12)
    codes = (data.tokens.numpy() @ stacked).reshape(30, 3, 5)
    own = np.arange(30) % 3
    inside = codes[np.arange(30), own]
    outside = codes[np.arange(3) != own[:, None]]
    assert abs(inside.std() - 1) < 0.15 and abs(outside.std() - 0.25) < 0.05
    wanted = []
    for k in range(3):
        rest = np.linalg.norm(np.delete(codes[own == k], k, axis=1))
        wanted.append(np.linalg.norm(codes[own == k][:, k]) / rest)
    assert subspaces.signal_to_noise(data.tokens, data) == pytest.approx(np.mean(wanted))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(AOT), "--preset", "small", "--draws", "1", "--noise", "0.05", "--out", str(tmp_path / "out")]
    subspaces.main(words)
    assert "1.250" in capsys.readouterr().out
    assert (tmp_path / "out" / "signal_to_noise.png").read_bytes()[:4] == b"\x89PNG"


def test_an_exact_step_has_no_stated_growth(tmp_path: Path) -> None:
    """Whatever learns one family of subspaces may be measured."""
    path = tmp_path / "exact.crate"
    lines = [line for line in SPEC.splitlines() if "~" not in line and "tau" not in line]
    path.write_text("\n".join([*lines, "real eta = 0.4"]).replace("step eta", "step eta; norm layer"))
    compilation = crate_dsl.compile_spec(path, "small")
    network = crate_dsl.load(path, "small").double()
    outcome = subspaces.measure(compilation, network, 0.1, draws=1, seed=0)
    assert outcome.growth is None and outcome.predicted(1) is None
    subspaces.show(outcome, "exact")
    subspaces.plot(outcome, tmp_path / "exact.png")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([str(SPECS / "crate.crate")], "needs another network"),
        ([str(AOT), "--set", "p=64"], "do not fit into 128 dimensions"),
        ([str(AOT), "--set", "N=2"], "2 tokens are fewer than the . subspaces"),
        ([str(AOT), "--set", "K=1"], "no others for the noise to lie in"),
        ([str(AOT), "--draws", "0"], "at least 1"),
        ([str(AOT), "--noise", "-1"], "greater than 0"),
        ([str(AOT), "--out", "/dev/null/x"], "cannot be made a folder"),
    ],
)
def test_mistakes_are_said(words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--preset", "small", "--draws", "1"] if "--out" in words else []
    with pytest.raises(UserError, match=complaint):
        subspaces.main([*words, *small])


def test_vectors_are_the_tokens() -> None:
    network = crate_dsl.load(AOT, "small").double()
    vectors = torch.randn(3, 16, 32, dtype=torch.float64)
    assert network.task == "tokens" and (network.vector_length, network.vector_count) == (32, 16)
    assert network.tokens(vectors) is vectors
    assert network(vectors).shape == vectors.shape
    assert list(network.features(vectors)) == ["tokens", "encoder.0.compress", "encoder.1.compress"]
