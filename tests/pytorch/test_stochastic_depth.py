"""Stochastic depth in the written file, against its formula (Huang et al. 2016) with the same draws."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from crate_dsl.compiler import Compilation
from crate_dsl.errors import Source
from crate_dsl.loading import module_of

SPECS = Path(__file__).parents[2] / "specs"
LINE = "stochastic depth linear(0.4)"
PROJECTED = """network Projected
size d = 6, L = 3
energy whole(Z: d x N) = 1/2 * logdet(I + Z * Z')
input vectors(d, 8)
tokens Z: d x N = vectors
stochastic depth uniform(0.5)
encoder repeat L { ascend Z by whole(Z) { step 0.1 }; project sphere }
head tokens
"""


def text_of(name: str, line: str = LINE, freeze: bool = False, loss: str = "", **numbers: float) -> str:
    """The file of a shipped spec with a line more, small."""
    text = (SPECS / f"{name}.crate").read_text("utf-8")
    preset = "text" if "preset text" in text else "digits"
    text = re.sub(r"^encoder", f"{line}\nencoder", text, count=1, flags=re.MULTILINE) + loss
    return Compilation(Source(f"{name}.crate", text), preset, numbers, freeze=freeze).text


def network_of(text: str, seed: int = 0) -> nn.Module:
    """In training mode, in float64."""
    name = re.findall(r"^class (\w+)\(nn.Module\)", text, re.MULTILINE)[-1]
    torch.manual_seed(seed)
    return getattr(module_of(text, name), name)().double()


def inputs(network: nn.Module, count: int = 5) -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    if network.input == "text":
        return (torch.randint(50, (count, 16)),)
    images = torch.randn(count, 1, *network.image_size, dtype=torch.float64)
    noise = torch.rand(count, 16, dtype=torch.float64)
    return (images, noise) if network.mask_ratio else (images,)


def outcome(call: Callable[..., object], given: tuple[Tensor, ...], seed: int = 2) -> Tensor:
    torch.manual_seed(seed)
    found = call(*given)
    return found if isinstance(found, Tensor) else found[0]


def gradients(network: nn.Module, output: Tensor) -> list[Tensor | None]:
    return list(torch.autograd.grad(output.square().mean(), list(network.parameters()), allow_unused=True))


def layers(network: nn.Module) -> Iterator[nn.Module]:
    yield from network.encoder
    yield from getattr(network, "decoder", ())


def by_hand(layer: nn.Module, z: Tensor) -> Tensor:
    """A layer's steps by the formula, drawn in their order."""
    for step in layer.children():
        kept = torch.empty(len(z), 1, 1, dtype=z.dtype).bernoulli_(1 - layer.drop_rate) if layer.drop_rate else 1.0
        z = z + kept / (1 - layer.drop_rate) * (step(z) - z)
    return z


# ---- rates -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "count"), [("crate", 5), ("crate_autoencoder", 6)])
def test_the_linear_rule_goes_through_all_layers(name: str, count: int) -> None:
    """Decoders, also derived ones, go on where the encoder ends; timm has torch.linspace."""
    network = network_of(text_of(name, L=count // (2 if name == "crate_autoencoder" else 1)))
    rates = torch.tensor([layer.drop_rate for layer in layers(network)], dtype=torch.float64)
    torch.testing.assert_close(rates, torch.linspace(0, 0.4, count, dtype=torch.float64), rtol=1e-15, atol=0)


def test_the_uniform_rule_has_one_rate() -> None:
    network = network_of(text_of("crate", "stochastic depth uniform(0.25)"))
    assert {layer.drop_rate for layer in layers(network)} == {0.25}


@pytest.mark.parametrize(
    ("line", "freeze", "numbers"),
    [("stochastic depth linear(0)", False, {}), (LINE, False, {"L": 1}), (LINE, True, {})],
)
def test_what_leaves_nothing_out_writes_nothing(line: str, freeze: bool, numbers: dict[str, int]) -> None:
    found, plain = (text_of("crate", each, freeze, **numbers) for each in (line, "# the same number of lines"))
    of_the_spec = r"\(sha256 \w+|spec_sha256 = .*"
    assert re.sub(of_the_spec, "", found) == re.sub(of_the_spec, "", plain)


# ---- what a step becomes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["crate", "crate_mae", "crate_autoencoder", "crate_gpt", "tost"])
def test_training_is_the_formula(name: str) -> None:
    """Output and gradients; of a classifier the last layer is computed for the class token alone."""
    own = {"line": "", "drop": 0.4} if name == "tost" else {"line": "stochastic depth uniform(0.4)"}
    network = network_of(text_of(name, **own))
    given = inputs(network)
    found = outcome(network, given)
    wrong = outcome(network.eval(), given)
    network.train()
    for layer in layers(network):
        layer.forward = lambda z, only_first=False, layer=layer: by_hand(layer, z)[:, : 1 if only_first else None]
    wanted = outcome(network, given)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    assert (found - wrong).abs().max() > 1e-3
    for mine, theirs in zip(gradients(network, found), gradients(network, wanted), strict=True):
        assert theirs is None if mine is None else torch.allclose(mine, theirs, rtol=1e-10, atol=1e-12)


def test_expectation_is_the_step() -> None:
    """Of many samples alike, 40 % stay and the others go further, so that the mean is the step."""
    layer = network_of(text_of("crate", L=3)).encoder[2]
    torch.manual_seed(3)
    z = torch.randn(1, 17, 96, dtype=torch.float64)
    layer.sparsify.forward = lambda z, only_first: z
    update = layer.compress(z) - z
    with torch.no_grad():
        taken = torch.cat([layer(z.expand(250, -1, -1)) for _ in range(40)]) - z
    shares = (taken * update).sum((1, 2)) / update.square().sum()  # of the update, each with variance 0.4 / 0.6
    assert abs(shares.mean() - 1) < 4 * (0.4 / 0.6 / len(shares)) ** 0.5  # 0.033; without the division it is 0.6
    assert all(min(abs(share), abs(share - 1 / 0.6)) < 1e-12 for share in shares.tolist())
    assert abs((shares == 0).double().mean() - 0.4) < 4 * (0.24 / len(shares)) ** 0.5


def test_projections_are_always_taken() -> None:
    network = network_of(Compilation(Source("p.crate", PROJECTED), None, {}).text)
    torch.manual_seed(1)
    given = (torch.randn(64, 8, 6, dtype=torch.float64),)
    found = outcome(network, given)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(64, 8, dtype=torch.float64))
    assert (found - outcome(network, given, seed=3)).abs().max() > 1e-3


# ---- where it is not ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["crate", "crate_mae", "crate_gpt"])
def test_evaluation_and_what_looks_inside_are_as_without_it(name: str) -> None:
    network, plain = (network_of(text_of(name, line)) for line in (LINE, ""))
    assert list(network.state_dict()) == list(plain.state_dict())
    assert all(torch.equal(value, plain.state_dict()[key]) for key, value in network.state_dict().items())
    given = inputs(network)
    for look in ("features", "energies"):
        found, wanted = (getattr(each, look)(*given) for each in (network, plain))
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    assert torch.equal(outcome(network.eval(), given), outcome(plain, given))


# ---- together with the rest --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["crate", "crate_mae", "crate_gpt"])
def test_checkpointing_draws_the_same(name: str) -> None:
    network = network_of(text_of(name))
    given = inputs(network)
    wanted = outcome(network, given)
    wanted = [wanted, *gradients(network, wanted)]
    network.checkpointing = True
    found = outcome(network, given)
    torch.testing.assert_close([found, *gradients(network, found)], wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_compiles_as_one_graph(checkpointing: bool) -> None:
    network = network_of(text_of("crate"))
    given = inputs(network)
    wanted = outcome(network, given)
    wanted = [wanted, *gradients(network, wanted)]
    network.checkpointing = checkpointing
    found = outcome(torch.compile(network, fullgraph=True, backend="aot_eager"), given)
    torch.testing.assert_close([found, *gradients(network, found)], wanted, rtol=1e-10, atol=1e-12)


def test_penalties_are_those_of_what_was_drawn() -> None:
    """The pass with penalties draws as `forward` does, and evaluates the energies on what leaves the layers."""
    network = network_of(text_of("crate", loss="\nloss cross_entropy + 0.01 * rate(Z, U)\n"))
    given = inputs(network)
    torch.manual_seed(2)
    output, penalty = network.forward_with_penalty(*given)
    torch.testing.assert_close(output, outcome(network, given), rtol=1e-12, atol=1e-12)
    torch.manual_seed(2)
    z, wanted = network.tokens(*given), 0.0
    for layer in network.encoder:
        z = by_hand(layer, z)
        wanted += layer.penalty(z).mean() / len(network.encoder)
    torch.testing.assert_close(penalty, wanted, rtol=1e-12, atol=0)


def test_half_precision_keeps_the_tokens_wide() -> None:
    network = network_of(text_of("crate")).float()
    z = torch.randn(4, 17, 96)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = network.encoder[-1](z)
    assert found.dtype == torch.float32 and found.isfinite().all()
