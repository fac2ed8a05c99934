"""Optimisers on parameters that `fully_shard` has split over two processes (gloo, on the CPU)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict, set_optimizer_state_dict
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import init_device_mesh

from tests.runtime.optimising import OPTIONS, network_of, options_of

STEPS = 4


def losses(network: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        images = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(step))
        network(images).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def sharded(network: nn.Module) -> nn.Module:
    mesh = init_device_mesh("cpu", (2,))
    for layer in network.encoder:
        fully_shard(layer, mesh=mesh)
    return fully_shard(network, mesh=mesh)


def whole(network: nn.Module) -> list[Tensor]:
    return [value.full_tensor().detach() for value in network.parameters()]


def work(rank: int, folder: Path) -> None:
    """Each optimiser sharded; then stopped halfway, its full state kept, and continued from that."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    everything = StateDictOptions(full_state_dict=True)
    for name in OPTIONS:
        options = options_of(name, 0)
        network = sharded(network_of("crate_dino", dtype=torch.float32))
        optimizer = options.build(network)
        losses(network, optimizer, range(STEPS))
        halves = sharded(network_of("crate_dino", dtype=torch.float32))
        first = options.build(halves)
        losses(halves, first, range(STEPS // 2))
        state = get_optimizer_state_dict(halves, first, options=everything)
        second = options.build(halves)
        set_optimizer_state_dict(halves, second, state, options=everything)
        losses(halves, second, range(STEPS // 2, STEPS))
        result = {"straight": whole(network), "halves": whole(halves), "names": sorted(state["state"])}
        if rank == 0:
            torch.save(result, folder / f"{name}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sharded")
    multiprocessing.spawn(work, (path,), nprocs=2)
    return path


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As in the two processes: AdamW's first steps are as large for a gradient that is rounding alone."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.usefixtures("one_thread")
def test_sharded_steps_are_the_plain_ones(name: str, folder: Path) -> None:
    """Exactly for what acts entry by entry; Muon orthogonalises in bfloat16, where sums of other order show."""
    network = network_of("crate_dino", dtype=torch.float32)
    start = [value.detach().clone() for value in network.parameters()]
    losses(network, options_of(name, 0).build(network), range(STEPS))
    kept = torch.load(folder / f"{name}.pt", weights_only=True)
    assert kept["names"] == sorted(name for name, _ in network.named_parameters())
    for one, other, halves, before in zip(network.parameters(), kept["straight"], kept["halves"], start, strict=True):
        assert torch.equal(other, halves)
        if name == "muon":
            assert (one - other).abs().max() < 0.1 * (one - before).abs().max() + 1e-5
        else:
            assert torch.allclose(one, other, rtol=1e-5, atol=1e-6)
        assert not torch.equal(one, before)
