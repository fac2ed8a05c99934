"""Half precision: under autocast, and in a network whose own weights are narrow, values and gradients stay near."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from runtime.bench.workload import Workload, workload
from runtime.network import compile_network
from tests.pytorch.running import in_parts
from tests.pytorch.test_transforms import LEARNED
from tests.specs import small_preset

SPECS = Path(__file__).parents[2] / "specs"


def network_and_work(path: Path) -> tuple[nn.Module, Workload]:
    compiled = compile_network(path, small_preset(path.read_text()), {})
    return compiled.module.eval(), workload(compiled.module, compiled.shape, 8, "float32")


def gradients(network: nn.Module, work: Workload, within: AbstractContextManager) -> dict[str, Tensor]:
    network.zero_grad()
    with within:
        loss = work.loss(network)
    loss.float().backward()
    return {name: weight.grad.float() for name, weight in network.named_parameters()}


def error(found: dict[str, Tensor], wanted: dict[str, Tensor], *names: str) -> float:
    """Relative, of all gradients, or of those whose names contain one of the given parts."""
    chosen = [name for name in wanted if not names or any(part in name for part in names)]
    away = sum((found[name] - wanted[name]).square().sum() for name in chosen)
    return float((away / sum(wanted[name].square().sum() for name in chosen)).sqrt())


@pytest.mark.parametrize("path", LEARNED, ids=lambda path: path.stem)
def test_networks_with_narrow_weights_run_and_learn(path: Path) -> None:
    """Solves and running sums are widened, and what comes out of them is narrowed again."""
    network, work = network_and_work(path)
    wanted, exact = gradients(network, work, nullcontext()), work.output(network).detach()
    narrow, inputs = copy.deepcopy(network).bfloat16(), work.batch.inputs
    if inputs.is_floating_point():
        work = replace(work, batch=replace(work.batch, inputs=inputs.bfloat16()))
    output = work.output(narrow)
    assert output.dtype == torch.bfloat16
    assert (output.float() - exact).norm() < 0.2 * exact.norm()
    found = gradients(narrow, work, nullcontext())
    assert all(value.isfinite().all() for value in found.values())
    assert error(found, wanted) < 0.4  # most in crate_neumann2: powers of Gram matrices


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_running_sums_over_tokens_keep_their_gradients(seed: int) -> None:
    """At the first token what is summed is divided by itself: gradients cancel, unless each is rounded apart."""
    torch.manual_seed(seed)
    network, work = network_and_work(SPECS / "tost_causal.crate")
    wanted = gradients(network, work, nullcontext())
    found = gradients(network, work, torch.autocast("cpu", torch.bfloat16))
    assert error(found, wanted) < 0.01
    assert error(found, wanted, "variational_rate.U") < 0.1


@pytest.mark.parametrize("sizes", [(1,) * 40, (40,), (3, 5, 1, 31)], ids=["single", "whole", "parts"])
@pytest.mark.parametrize("name", ["crate_gpt", "crate_gpt_exact", "tost_causal"])
def test_texts_in_parts(name: str, sizes: tuple[int, ...]) -> None:
    """Under autocast, and by narrow weights."""
    network, _ = network_and_work(SPECS / f"{name}.crate")
    text = torch.randint(network.vocabulary, (2, 40))
    with torch.no_grad():
        wanted = network(text)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = in_parts(network.advance, text, *sizes)
        narrow = in_parts(copy.deepcopy(network).bfloat16().advance, text, *sizes)
    assert mixed.dtype == narrow.dtype == torch.bfloat16
    assert (mixed.float() - wanted).norm() < 0.02 * wanted.norm()
    assert (narrow.float() - wanted).norm() < 0.1 * wanted.norm()
