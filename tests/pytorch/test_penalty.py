"""The written penalty against torch written by hand from `features`, gradients included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import crate_dsl
from crate_dsl.errors import CrateError
from crate_dsl.operators.lower import lower
from tests.pytorch.running import network_of
from tests.pytorch.test_file import ruff, text_of
from tests.specs import derived
from tests.test_standard import ENERGIES, LOSSES_ALONE
from tests.test_standard import spec as library_spec
from tests.test_standard import step as library_step

SRR = Path(__file__).parents[2] / "specs" / "crate_srr.crate"
SMALL = {"image": 8, "patch": 2, "channels": 1, "classes": 5, "d": 12, "K": 3, "p": 5, "L": 2}
HEADER = """network Odd
size image = 8, patch = 2, channels = 1, classes = 3
size d = 12, K = 3, p = 5
real eta = 0.3, lambda = 0.2, alpha = 0.7
learn gamma > 0 = 0.3
energy rate(Z: d x N, U: K of d x p) = 1/2 * sum(k in K) logdet(I + (U[k]' * Z)' * (U[k]' * Z))
energy brate(Z: d x N, U: K of d x p, b: real) = 1/2 * sum(k in K) b * logdet(I + b * (U[k]' * Z)' * (U[k]' * Z))
energy lasso(A: d x N | X: d x N, D: d x d) = 1/2 * norm2(X - D * A) + lambda * l1(A) + nonnegative(A)
energy foo(Z: d x N) = l1(Z)
energy shared_weight(Z: d x N) = gamma * l1(Z)
energy total_rate(Z: d x N, a: real) = 1/2 * logdet(I + a * Z * Z')
energy tight(U: K of d x p) = sum(k in K) norm2(U[k]' * U[k] - I)
input image(channels, image, image)
"""
TOKENS = "tokens Z: d x N = patches(patch) + class_token + position(learned)\n"
BLOCK = """encoder repeat 3 {
    learn beta > 0 = 0.4 per head
    compress Z by brate(Z, U, beta) { norm layer; step eta }
    sparsify Z by lasso(A | Z, D) { norm layer; from Z; steps 1 of gamma }
}
"""
CLASSIFY = HEADER + TOKENS + BLOCK + "norm layer\nhead classify(classes) of class_token\nloss cross_entropy"
TWO_BLOCKS = " + 0.1 * rate(Z, U) in encoder - 0.2 * rate(Z, U) in decoder + foo(Z)\n"
MASKED = f"""{HEADER}{TOKENS}mask random(0.75) before encoder
{BLOCK}norm layer(1e-6)
decoder repeat 2 = inverse(encoder)
norm layer
head patches
loss masked_squared_error"""


def rates(z: Tensor, u: Tensor, heads: int, b: Tensor | float = 1.0, factor: Tensor | float = 0.5) -> Tensor:
    """The rate of tokens (batch, N, d) in subspaces stacked as (heads p, d), (batch,); written from the formula."""
    values = []
    for k, basis in enumerate(u.unflatten(0, (heads, -1))):
        scale = b[k] if isinstance(b, Tensor) else b
        weight = factor[k] / 2 if isinstance(factor, Tensor) else factor
        values.append(weight * torch.logdet(torch.eye(z.shape[1]).to(z) + scale * (z @ basis.T) @ (z @ basis.T).mT))
    return torch.stack(values).sum(0)


def whole(z: Tensor, a: float) -> Tensor:
    return 0.5 * torch.logdet(torch.eye(z.shape[2]).to(z) + a * z.mT @ z)


def magnitude(z: Tensor) -> Tensor:
    return z.abs().sum(dim=(1, 2))


def by_layer(network: nn.Module, found: dict[str, Tensor], role: str, energy: Callable[..., Tensor]) -> Tensor:
    """The mean over layers and images of an energy of what leaves each layer."""
    layers, values = getattr(network, role), []
    for number, layer in enumerate(layers):
        last = list(dict(layer.named_children()))[-1]
        values.append(energy(found[f"{role}.{number}.{last}"], layer).mean())
    return torch.stack(values).mean()


def beta(layer: nn.Module) -> Tensor:
    step = next(step for step in layer.children() if hasattr(step, "log_beta"))
    return step.log_beta.exp()


def matrix(layer: nn.Module) -> Tensor:
    return next(step.U for step in layer.children() if hasattr(step, "U"))


def assert_penalty(
    network: nn.Module, inputs: tuple[Tensor, ...], wanted: Callable[[dict[str, Tensor]], Tensor]
) -> None:
    """Value and gradient, to 1e-10, and the output unchanged, though `forward` computes the last layer otherwise."""
    output, penalty = network.forward_with_penalty(*inputs)
    torch.testing.assert_close(output, network(*inputs), rtol=1e-12, atol=1e-12)
    expected = wanted(network.features(*inputs))
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    gradients = [torch.autograd.grad(value, parameters, allow_unused=True) for value in (penalty, expected)]
    torch.testing.assert_close(penalty, expected, rtol=1e-10, atol=0)
    assert penalty.shape == () and any(gradient is not None for gradient in gradients[0])
    for mine, theirs in zip(*gradients, strict=True):
        assert (mine is None or not mine.any()) == (theirs is None or not theirs.any())
        if theirs is not None:
            torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10 * float(theirs.abs().max()) + 1e-14)


def images() -> Tensor:
    return torch.randn(3, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_the_sparse_rate_reduction_of_every_layer() -> None:
    torch.manual_seed(0)
    network = crate_dsl.load(SRR, **SMALL, weight=0.3, epsilon="0.8", **{"lambda": 0.05}).double()
    n, epsilon = 17, 0.8

    def energy(z: Tensor, layer: nn.Module) -> Tensor:
        subspaces = rates(z, layer.compress.U, 3, 5 / (n * epsilon**2))
        return subspaces - whole(z, 12 / (n * epsilon**2)) + 0.05 * magnitude(z)

    assert_penalty(network, (images(),), lambda found: 0.3 * by_layer(network, found, "encoder", energy))


def tightness(layer: nn.Module) -> Tensor:
    return sum((u @ u.T - torch.eye(5).to(u)).square().sum() for u in matrix(layer).unflatten(0, (3, -1)))


Found = dict[str, Tensor]


def of_head(network: nn.Module, found: Found) -> Tensor:
    z = found["encoder_norm"]
    return -0.1 * whole(z, 0.7).mean() + 0.3 * magnitude(z).mean() / 17


def of_tokens(network: nn.Module, found: Found) -> Tensor:
    return by_layer(network, found, "encoder", lambda z, layer: magnitude(z))


def of_learned(network: nn.Module, found: Found) -> Tensor:
    return 2 * by_layer(network, found, "encoder", lambda z, layer: rates(z, matrix(layer), 3, *2 * [beta(layer)]))


def of_weights(network: nn.Module, found: Found) -> Tensor:
    return 0.25 * by_layer(network, found, "encoder", lambda z, layer: tightness(layer))


def of_several(network: nn.Module, found: Found) -> Tensor:
    rate = by_layer(network, found, "encoder", lambda z, layer: rates(z, matrix(layer), 3))
    return -0.1 * rate + 0.1 * magnitude(found["encoder_norm"]).mean()


def of_shared(network: nn.Module, found: Found) -> Tensor:
    gamma = network.encoder[0].sparsify.log_gamma.exp()
    return by_layer(network, found, "encoder", lambda z, layer: gamma * magnitude(z))


TERMS = {
    " - 0.1 * total_rate(Z, alpha) + eta * foo(Z) / N": of_head,
    " + foo(Z) in encoder": of_tokens,
    " + 2 * brate(Z, U, beta)": of_learned,
    " + 1/4 * tight(U)": of_weights,
    " + 0.1 * rate(Z, U) - 0.2 * rate(Z, U) + 0.1 * foo(Z)": of_several,
    " + shared_weight(Z)": of_shared,
}


@pytest.mark.parametrize("terms", TERMS)
def test_every_kind_of_term(terms: str) -> None:
    network = network_of(lower(derived(CLASSIFY + terms + "\n")))
    assert_penalty(network, (images(),), lambda found: TERMS[terms](network, found))


def test_a_learned_number_that_no_step_keeps() -> None:
    text = CLASSIFY.replace("steps 1 of gamma", "steps 1 of eta") + " + shared_weight(Z)\n"
    with pytest.raises(CrateError, match='no step of this network keeps "gamma"'):
        network_of(lower(derived(text)))


OF_TOKENS = [case for case, (_, energy) in ENERGIES.items() if "X" not in {a.name for a in energy.given}]


@pytest.mark.parametrize("case", [case for case in OF_TOKENS if case not in LOSSES_ALONE])
def test_energies_of_the_library_are_those_of_their_steps(case: str) -> None:
    """A step's own energy is verified elsewhere; a loss may use the same one."""
    file, energy = ENERGIES[case]
    arguments = ", ".join(a.name for a in energy.variables + energy.given)
    loss = f"loss cross_entropy + {energy.name}({arguments}) in encoder"
    layer = network_of(lower(derived(library_spec(file, library_step(energy), loss)))).encoder[1]
    z = torch.randn(2, 17, 12, dtype=torch.float64)
    torch.testing.assert_close(layer.penalty(z), layer.compress.energy(z), rtol=1e-10, atol=0)


def test_sizes_of_a_decoder_of_its_own() -> None:
    text = (MASKED + " + 0.1 * rate(Z, U) in decoder\n").replace("inverse(encoder)", "inverse(encoder) with K = 2")
    network = network_of(lower(derived(text.replace(" per head", ""))))
    noise = torch.rand(3, 16, dtype=torch.float64)

    def wanted(found: Found) -> Tensor:
        return 0.1 * by_layer(network, found, "decoder", lambda z, layer: rates(z, matrix(layer), 2))

    assert_penalty(network, (images(), noise), wanted)


def test_a_masked_network_with_two_blocks() -> None:
    network = network_of(lower(derived(MASKED + TWO_BLOCKS)))
    noise = torch.rand(3, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def wanted(found: dict[str, Tensor]) -> Tensor:
        parts = [
            by_layer(network, found, role, lambda z, layer: rates(z, matrix(layer), 3))
            for role in ("encoder", "decoder")
        ]
        return 0.1 * parts[0] - 0.2 * parts[1] + magnitude(found["decoder_norm"]).mean()

    assert_penalty(network, (images(), noise), wanted)


def test_a_network_without_a_final_norm() -> None:
    text = CLASSIFY.replace("norm layer\nhead", "head") + " + foo(Z)\n"
    network = network_of(lower(derived(text)))
    assert_penalty(network, (images(),), lambda found: magnitude(found["encoder.2.sparsify"]).mean())


def test_the_methods_are_formatted(tmp_path: Path) -> None:
    for name, text in {"masked": MASKED + TWO_BLOCKS, "classes": CLASSIFY + "".join(TERMS)}.items():
        text = text.replace(" per head", "")
        (tmp_path / f"{name}.py").write_text(text_of(lower(derived(text))))
    assert ruff("check", "--isolated", "--line-length=120", str(tmp_path)) == ""
    assert ruff("format", "--isolated", "--diff", "--line-length=120", str(tmp_path)) == ""


# ---- torch -----------------------------------------------------------------------------------------------------------


def srr() -> nn.Module:
    torch.manual_seed(0)
    return crate_dsl.load(SRR, **SMALL)


def test_half_precision_does_not_reach_the_energies() -> None:
    """Under autocast, and in a network whose own weights are in half precision."""
    network, few = srr(), images().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer, z = network.encoder[0], network.encoder[0](network.tokens(few))
        penalty = layer.penalty(z)
        assert penalty.dtype == network.forward_with_penalty(few)[1].dtype == torch.float32
    torch.testing.assert_close(penalty, layer.penalty(z.float()), rtol=0, atol=0)
    half = srr().bfloat16()
    assert half.encoder[0].penalty(half.tokens(few.bfloat16())).dtype == torch.float32


def test_one_graph() -> None:
    network = srr()
    compiled = torch.compile(network.forward_with_penalty, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(images().float()), network.forward_with_penalty(images().float()))


def test_a_spec_without_penalty_has_none() -> None:
    assert not hasattr(network_of(lower(derived(CLASSIFY + "\n"))), "forward_with_penalty")
    text = CLASSIFY.partition("loss")[0]
    assert not hasattr(network_of(lower(derived(text))), "forward_with_penalty")


def test_plain_forward_is_written_as_without_a_loss() -> None:
    text = SRR.read_text()
    with_loss, without = (crate_dsl.compile_spec(SRR), text.partition("\nloss ")[0] + "\n")
    plain = crate_dsl.Compilation(type(with_loss.source)("x.crate", without), None, {})
    methods = [
        t.partition("    def forward(self, images")[2].partition("    def ")[0] for t in (with_loss.text, plain.text)
    ]
    assert methods[0] == methods[1] != ""
