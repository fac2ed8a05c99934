"""What is written for a GPU: here by Triton's interpreter and by the branches taken there, on a GPU as it stands."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import crate_dsl
from crate_dsl import module_of
from runtime.bench.workload import workload
from runtime.network import compile_network
from tests.pytorch.test_transforms import LEARNED
from tests.specs import small_preset

SPECS = Path(__file__).parents[2] / "specs"
CLOSE = {"rtol": 1e-10, "atol": 1e-10}
CRATE = SPECS / "crate.crate"
SMALL = {"image": 16, "patch": 4, "d": 16, "K": 2, "L": 2}
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def text_of(gpu: bool) -> str:
    return crate_dsl.compile_spec(CRATE, "digits", SMALL, gpu=gpu).text


@pytest.fixture
def kernels() -> ModuleType:
    """The file for a GPU; its kernels are run by Triton's interpreter where there is none."""
    pytest.importorskip("triton")
    return module_of(text_of(gpu=True), "Crate")


def attention_gradient(tokens: int, heads: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    torch.manual_seed(tokens)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return tuple(torch.randn(2, tokens, heads, width, device=device).to(dtype) for _ in range(2))


@pytest.mark.parametrize(("tokens", "heads", "width"), [(1, 1, 32), (33, 3, 32), (64, 2, 64), (97, 2, 64)])
def test_kernels_of_attention(kernels: ModuleType, tokens: int, heads: int, width: int) -> None:
    """Value and gradient against the softmax in float64; in float16, for the units of a GPU round float32."""
    w, upon = attention_gradient(tokens, heads, width, torch.float16)
    w.requires_grad_()
    value = kernels.KernelAttention.apply(w, 0.3)
    exact = w.detach().double().requires_grad_()
    rows = exact.transpose(1, 2)
    wanted = (0.3 * rows @ rows.mT).softmax(-1).matmul(rows).transpose(1, 2)
    found = torch.autograd.grad(value, w, upon)[0].double()
    gradient = torch.autograd.grad(wanted, exact, upon.double())[0]
    assert (value.double() - wanted).norm() < 1e-3 * wanted.norm()
    assert (found - gradient).norm() < 2e-3 * gradient.norm()


def test_kernels_compile_for_hopper() -> None:
    """Products run on the chip's matrix units."""
    pytest.importorskip("triton")
    ran = subprocess.run(
        [sys.executable, "-m", "tests.pytorch.hopper"],
        env=os.environ | {"TRITON_INTERPRET": "0"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.stdout.splitlines() == ["attend True", "inner_products False", "attend_backward True"], ran.stderr


def loss_and_gradients(network: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    loss = F.cross_entropy(network(images), torch.arange(len(images), device=images.device))
    return loss, *torch.autograd.grad(loss, list(network.parameters()))


def test_gain_and_shift_in_the_weight() -> None:
    """The branch that normed_linear takes on a GPU, taken here."""
    plain = text_of(gpu=False)
    there = plain.replace("if z.is_cuda:", "if True:")
    assert there != plain
    networks = [module_of(text, "Crate").Crate().double() for text in (plain, there)]
    torch.manual_seed(0)
    for parameter in networks[0].parameters():
        nn.init.normal_(parameter, std=0.3)
    networks[1].load_state_dict(networks[0].state_dict())
    images = torch.randn(3, 1, 16, 16, dtype=torch.float64)
    found, wanted = (loss_and_gradients(network, images) for network in networks)
    torch.testing.assert_close(found, wanted, **CLOSE)


def test_without_half_precision_the_file_is_the_same_function(kernels: ModuleType) -> None:
    networks = [module_of(text_of(gpu=False), "Crate").Crate().double(), kernels.Crate().double()]
    networks[1].load_state_dict(networks[0].state_dict())
    images = torch.randn(3, 1, 16, 16, dtype=torch.float64)
    found, wanted = (loss_and_gradients(network, images) for network in networks)
    torch.testing.assert_close(found, wanted, **CLOSE)


def test_causal_and_learned_attention_has_no_kernels() -> None:
    assert "triton" not in crate_dsl.compile_spec(SPECS / "crate_gpt.crate", gpu=True).text
    assert "triton" not in text_of(gpu=False)


# ---- on a GPU --------------------------------------------------------------------------------------------------------


def outcome(
    network: nn.Module, shape: object, device: str, precision: str, compiled: bool = False
) -> tuple[Tensor, Tensor]:
    """Output and gradient of all parameters, on the processor."""
    network = copy.deepcopy(network).to(device)
    work = workload(network, shape, 4, precision)
    work = work.double() if precision == "float64" else work
    network = network.double() if precision == "float64" else network
    call = torch.compile(network, dynamic=False) if compiled else network
    output = work.output(call).detach().double().cpu()
    work.training_step(network, call)
    gradients = [p.grad.double().flatten().cpu() for p in network.parameters() if p.grad is not None]
    return output, torch.cat(gradients)


@on_a_gpu
@pytest.mark.parametrize("spec", LEARNED, ids=lambda path: path.stem)
def test_every_spec_on_a_gpu(spec: Path) -> None:
    """Equal to the processor in float64, and near it in bfloat16."""
    preset = small_preset(spec.read_text())
    compiled = compile_network(spec, preset, {}, gpu=True)
    exact = outcome(compiled.module, compiled.shape, "cpu", "float64")
    torch.testing.assert_close(outcome(compiled.module, compiled.shape, "cuda", "float64"), exact, **CLOSE)
    for found, wanted in zip(outcome(compiled.module, compiled.shape, "cuda", "bfloat16"), exact, strict=True):
        assert (found - wanted).norm() < 0.3 * wanted.norm()


@on_a_gpu
@pytest.mark.parametrize("gpu", [True, False])
def test_under_torch_compile_on_a_gpu(gpu: bool) -> None:
    """Gradients by torch.compile, with heads of the width that the kernels take."""
    sizes = {"image": 32, "patch": 4, "d": 128, "K": 2, "L": 2}
    compiled = compile_network(CRATE, "digits", sizes, gpu=gpu)
    exact = outcome(compiled.module, compiled.shape, "cpu", "float64")
    found = outcome(compiled.module, compiled.shape, "cuda", "bfloat16", compiled=True)
    for value, wanted in zip(found, exact, strict=True):
        assert (value - wanted).norm() < 0.1 * wanted.norm()
