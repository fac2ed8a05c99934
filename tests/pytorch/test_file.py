"""The written file as a file: its looks, its names, and the uses that torch makes of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from crate_dsl.library.atoms import ATOMS
from crate_dsl.library.functions import FUNCTIONS
from crate_dsl.library.grams import SCALED
from crate_dsl.library.vocabulary import VOCABULARY
from crate_dsl.operators.kinds import KINDS
from crate_dsl.operators.lower import lower
from crate_dsl.operators.passes import optimise
from crate_dsl.operators.program import Program
from crate_dsl.pytorch import spelling
from crate_dsl.pytorch.names import Names, mangle
from crate_dsl.pytorch.write import write
from tests.pytorch.running import network_of, written
from tests.specs import derived, small_preset
from tests.steps import CASES, program_of

SPECS = sorted((Path(__file__).parents[2] / "specs").glob("*.crate"))
DATA = Path(__file__).parents[1] / "data"


def digits(name: str) -> Program:
    path = next(path for path in SPECS if path.stem == name)
    return lower(derived(path.read_text(), preset="digits"))


def text_of(program: Program) -> str:
    return write(optimise(program), "test")


# ---- looks -----------------------------------------------------------------------------------------------------------


def ruff(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "ruff", *arguments], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode else ""


def test_files_are_clean_and_formatted(tmp_path: Path) -> None:
    for path in SPECS:
        program = lower(derived(path.read_text(), preset=small_preset(path.read_text())))
        (tmp_path / f"{path.stem}.py").write_text(text_of(program))
    for case, steps in CASES.items():
        (tmp_path / f"case_{case}.py").write_text(text_of(program_of(steps)))
    assert ruff("check", "--isolated", "--line-length=120", str(tmp_path)) == ""
    assert ruff("format", "--isolated", "--diff", "--line-length=120", *map(str, tmp_path.glob("crate*.py"))) == ""


def test_layers_are_written_once() -> None:
    text = next(path for path in SPECS if path.stem == "crate").read_text()
    few, many = (text_of(lower(derived(text, preset="digits", L=layers))) for layers in (12, 96))
    changed = [(a, b) for a, b in zip(few.splitlines(), many.splitlines(), strict=True) if a != b]
    assert all("12" in a and a.replace("12", "96") == b for a, b in changed)


def test_text_of_the_user_is_escaped() -> None:
    text = next(path for path in SPECS if path.stem == "crate").read_text()
    first, rest = text.split('"', 1)
    nasty = first + "\"ends in a backslash \\\\ and ''' {x} %s \\\\\"" + rest.split('"', 1)[1]
    program = lower(derived(nasty, preset="digits"))
    assert "backslash" in written(program).__doc__


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["lambda", "torch", "nn", "F", "Tensor", "self", "checkpoint", "l", "I", "print", "match", "GramSolve", "place_of"],
)
def test_reserved_names_are_mangled(name: str) -> None:
    assert mangle(name) == f"{name}_"


def test_one_name_per_object() -> None:
    outer = Names()
    inner = Names(outer)
    assert [outer.new("w"), inner.new("w"), inner.new("w")] == ["w", "w2", "w3"]


def test_names_of_python_and_of_modules_work_as_parameters() -> None:
    steps = "compress Z by rate(Z, norm_) { step eta }\n sparsify Z by lasso(A | Z, float) { from Z; steps 1 of eta }"
    network = network_of(program_of(steps))
    assert network(torch.zeros(1, 1, 8, 8, dtype=torch.float64)).shape == (1, 3)


# ---- registries ------------------------------------------------------------------------------------------------------


def test_everything_that_has_a_meaning_has_a_spelling() -> None:
    assert KINDS.keys() - {"input", "parameter", "transpose"} == spelling.SPELLINGS.keys()
    assert spelling.FUNCTIONS.keys() == FUNCTIONS.keys() - {SCALED}
    reductions = {n for n, atom in ATOMS.items() if atom.form is None and not atom.constraint and n != "logdet"}
    assert reductions <= spelling.REDUCTIONS.keys() | {"plus", "minus", "times", "transpose"}


@pytest.mark.parametrize("word", VOCABULARY.inits)
def test_every_initialisation_is_written(word: str) -> None:
    argument = "(0.5)" if VOCABULARY.inits[word].required else ""
    steps = f"compress Z by rate(Z, U) {{ norm layer; init U {word}{argument}; adjoint ~ free(bias) }}"
    step = network_of(program_of(steps)).encoder[0].compress
    if word == "orthogonal":
        torch.testing.assert_close(step.U.T @ step.U, torch.eye(12, dtype=torch.float64), atol=1e-6, rtol=0)
    elif word == "zeros":
        assert not step.U.any()
    elif word == "constant":
        assert (step.U == 0.5).all()
    else:
        bounds = {"normal": 4 * 0.5, "kaiming": (6 / 12) ** 0.5, "xavier": (6 / 27) ** 0.5, "linear": 12**-0.5}
        assert 0.5 * bounds[word] / 4 < float(step.U.detach().abs().max()) <= 2 * bounds[word]


def test_official_defaults() -> None:
    network = network_of(digits("crate"))
    compress, sparsify = network.encoder[0].compress, network.encoder[0].sparsify
    for parameter, bound in (
        (compress.U, 96**-0.5), (compress.U_out, 96**-0.5), (compress.U_bias, 96**-0.5), (sparsify.D, (6 / 96) ** 0.5)
    ):  # fmt: skip
        assert 0.9 * bound < float(parameter.detach().abs().max()) <= bound


# ---- torch -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["crate", "crate_exact", "crate_mae"])
def test_compiles_as_one_graph(name: str) -> None:
    network = network_of(digits(name))
    images, noise = torch.randn(2, 1, 8, 8, dtype=torch.float64), torch.rand(2, 16, dtype=torch.float64)
    arguments = (images, noise) if network.task == "mae" else (images,)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(gradients(compiled, network, arguments), gradients(network, network, arguments))


def gradients(call: Callable[..., Any], network: nn.Module, arguments: tuple[Tensor, ...]) -> list[Tensor]:
    """The output, and the gradients of its mean square."""
    output = call(*arguments)
    output = output if isinstance(output, Tensor) else output[0]
    return [output, *torch.autograd.grad(output.square().mean(), list(network.parameters()))]


@pytest.mark.parametrize("name", ["crate", "crate_exact"])
def test_exports(name: str) -> None:
    network = network_of(digits(name))
    images = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    exported = torch.export.export(network, (images,)).module()
    torch.testing.assert_close(exported(images), network(images))


@pytest.mark.parametrize("name", ["crate", "crate_exact", "crate_mae_exact"])
def test_half_precision_stays_near(name: str) -> None:
    """Under autocast the solves and log-determinants are done in float32."""
    network = network_of(digits(name)).float()
    images = torch.randn(2, 1, 8, 8)
    noise = (torch.rand(2, 16),) if network.task == "mae" else ()
    wanted, exact = network.features(images, *noise), network.energies(images, *noise)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, energies = network.features(images, *noise), network.energies(images, *noise)
    for step, tokens in wanted.items():
        assert (found[step] - tokens).norm() < 0.1 * tokens.norm(), step
    rates = [name for name in energies if name.endswith(("compress", "denoise_rate"))]
    assert all(value.dtype == torch.float32 for name in rates for value in energies[name])
    for name in rates:
        torch.testing.assert_close(energies[name], exact[name], rtol=0.05, atol=0.1)


def test_features_name_every_step() -> None:
    network = network_of(digits("crate_mae"))
    found = network.features(torch.randn(2, 1, 8, 8, dtype=torch.float64))
    steps = [f"encoder.{i}.{s}" for i in range(2) for s in ("compress", "sparsify")]
    steps += ["encoder_norm"]
    steps += [f"decoder.{i}.{s}" for i in range(2) for s in ("denoise_lasso", "denoise_rate")]
    assert list(found) == ["tokens", *steps, "decoder_norm"]
    assert all(tokens.shape == (2, 17, 64) for tokens in found.values())


def test_the_mask_keeps_the_smallest_noise() -> None:
    network = network_of(digits("crate_mae"))
    noise = torch.rand(3, 16, dtype=torch.float64)
    patches, mask = network(torch.randn(3, 1, 8, 8, dtype=torch.float64), noise)
    assert patches.shape == (3, 16, 4)
    assert (mask.sum(1) == 12).all()
    assert (noise.masked_fill(mask == 1, 0).amax(1) < noise.masked_fill(mask == 0, 1).amin(1)).all()


def test_hidden_patches_are_not_embedded() -> None:
    """Values and gradients are those of embedding all patches first, as the official code does."""
    network = network_of(digits("crate_mae"))
    images, noise = torch.randn(3, 1, 8, 8, dtype=torch.float64), torch.rand(3, 16, dtype=torch.float64)
    seen = []
    network.patches.register_forward_pre_hook(lambda module, given: seen.append(given[0].shape[1]))
    z, mask = network.tokens(images, noise)
    assert seen == [4]
    embedded = network.patches(network.patchify(images))
    wanted = torch.where(mask.unsqueeze(-1) == 1, network.mask_token, embedded)
    wanted = torch.cat((network.class_token.expand(3, -1, -1), wanted), dim=1) + network.position
    torch.testing.assert_close(z, wanted, rtol=1e-12, atol=1e-12)
    upstream, stem = torch.randn_like(z), [*network.patches.parameters(), network.mask_token]
    torch.testing.assert_close(
        torch.autograd.grad(z, stem, upstream), torch.autograd.grad(wanted, stem, upstream), rtol=1e-10, atol=1e-12
    )


def test_patches_are_undone() -> None:
    network = network_of(digits("crate_decoder"))
    images = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    assert torch.equal(network.unpatchify(network.patchify(images)), images)
    assert torch.equal(network.patchify(images)[0, 1], images[0, 0, :2, 2:4].flatten())


@pytest.mark.parametrize(("rows", "width"), [(4, 32), (3, 24)])
def test_positions_are_the_official_ones(rows: int, width: int) -> None:
    table = written(digits("crate_mae")).sincos_positions(rows, rows, width)
    golden = np.load(DATA / "pos_embed.npz")[f"out/d{width}_g{rows}_nocls"]
    assert np.abs(table.numpy() - golden).max() < 1e-7, "numpy's power, which made these, depends on the processor"
    assert width == 24 or np.array_equal(table.double().numpy(), golden)


def test_positions_of_a_rectangle_encode_the_column_first() -> None:
    table = written(digits("crate_mae")).sincos_positions(2, 3, 8).view(2, 3, 8)
    assert torch.equal(table[0, :, :4], table[1, :, :4])
    assert torch.equal(table[:, 0, 4:], table[:, 2, 4:])
