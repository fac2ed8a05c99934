"""Energies at the edge of the language: steps and energies against gradients of their own definition, in torch.

Values are matrices with tokens as columns here, as in the spec; a causal step is read prefix by prefix.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import crate_dsl

D, K, N, ETA = 6, 2, 4, 0.02
SPEC = """network T
size d = 6, K = 2, p = 3, m = 4, r = 2, N = 4
real mu = 0.7, eta = 0.02
energy e({arguments}) = {energy}
input vectors(d, N)
tokens Z: d x N = vectors
encoder repeat 1 {{ compress Z by e({names}) {{ {options}step eta }} }}
head tokens
"""
SHAPES = {
    "W": "d x m", "V": "r x d", "U": "K of d x p",
    "v": "d x 1", "c": "m x 1", "b": "K of p x 1",
}  # fmt: skip
Energy = Callable[..., Tensor]


def squares(x: Tensor) -> Tensor:
    return x.square().sum((-2, -1))


def rows(x: Tensor) -> Tensor:
    """Sums of rows."""
    return x.sum(-1, keepdim=True)


def cols(x: Tensor) -> Tensor:
    """Sums of columns."""
    return x.sum(-2, keepdim=True)


def total(x: Tensor) -> Tensor:
    return x.sum((-2, -1))


def gram(x: Tensor) -> Tensor:
    return x.mT @ x


def logdet(x: Tensor) -> Tensor:
    """Of I + x."""
    return torch.linalg.slogdet(torch.eye(x.shape[-1], dtype=x.dtype) + x)[1]


def lse(x: Tensor) -> Tensor:
    return torch.logsumexp(x, -2).sum(-1)


def heads(term: Callable[..., Tensor]) -> Energy:
    """The sum over the heads."""
    return lambda Z, U, **more: sum(term(U[k].mT @ Z, **{name: x[k] for name, x in more.items()}) for k in range(K))


def network(folder: Path, energy: str, names: str, options: str = "", freeze: bool = False) -> nn.Module:
    arguments = ", ".join(["Z: d x N", *(f"{name}: {SHAPES[name]}" for name in names)])
    (folder / "odd.crate").write_text(
        SPEC.format(arguments=arguments, energy=energy, names=", ".join(["Z", *names]), options=options)
    )
    torch.manual_seed(0)
    module = crate_dsl.load(folder / "odd.crate", freeze=freeze).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def matrices(step: nn.Module, names: str) -> dict[str, Tensor]:
    """What the step learned, as in the spec: families stacked by heads, vectors with one column."""
    found = {name: getattr(step, name).detach() for name in names}
    found |= {name: found[name].unflatten(0, (K, -1)).mT for name in names if SHAPES[name].startswith("K of d")}
    found |= {name: found[name].view(K, -1, 1) for name in names if SHAPES[name] == "K of p x 1"}
    return found | {name: found[name].unsqueeze(-1) for name in names if SHAPES[name] in ("d x 1", "m x 1")}


def stepped(z: Tensor, energy: Callable[[Tensor], Tensor], causal: bool) -> Tensor:
    """The gradient step; of a causal one, row t is the last one of the step on the tokens 1..t."""
    if causal:
        return torch.cat([stepped(z[:, :t], energy, False)[:, -1:] for t in range(1, z.shape[1] + 1)], dim=1)
    x = z.mT.detach().requires_grad_()
    (slope,) = torch.autograd.grad(energy(x).sum(), x)
    return z - ETA * slope.mT


def agrees(folder: Path, text: str, names: str, energy: Energy, options: str = "") -> None:
    """The step, its energies, and the network, also frozen, at several sizes of a batch, which meet no other axes."""
    module = network(folder, text, names, options)
    frozen = network(folder, text, names, options, freeze=True)
    frozen.load_state_dict(module.state_dict())
    step, close = next(module.encoder[0].children()), {"rtol": 1e-10, "atol": 1e-12}
    given = matrices(step, names)
    for batch in (1, 2, 3):
        z = torch.randn(batch, N, D, dtype=torch.float64, generator=torch.Generator().manual_seed(batch))
        after = stepped(z, lambda x: energy(x, **given), "causal" in options)
        torch.testing.assert_close(step(z), after, **close)
        torch.testing.assert_close(module(z), after, **close)
        values = [energy(x.mT, **given) for x in (z, after)]
        torch.testing.assert_close(list(step.energies(z)), values, **close)
        torch.testing.assert_close(frozen(z), after, **close)


CAUSAL = {
    "sums of all": ("norm2(row_sums(Z))", "", lambda Z: squares(rows(Z))),
    "a sum of products": ("total(Z' * Z)", "", lambda Z: total(gram(Z))),
    "a mean over affine maps": ("norm2(W' * Z .+ c) / N", "Wc", lambda Z, W, c: squares(W.mT @ Z + c) / Z.shape[-1]),
    "a mean over shifted tokens": ("norm2(Z .+ v) / N", "v", lambda Z, v: squares(Z + v) / Z.shape[-1]),
    "a mean over a Gram matrix": (
        "1/N * norm2(Z' * Z .+ Z' * v)",
        "v",
        lambda Z, v: squares(gram(Z) + Z.mT @ v) / Z.shape[-1],
    ),
    "a mean of sums": ("1/N * norm2(row_sums(Z))", "", lambda Z: squares(rows(Z)) / Z.shape[-1]),
    "shifted sums": ("norm2(row_sums(Z .+ v))", "v", lambda Z, v: squares(rows(Z + v))),
    "a variance": ("norm2(Z) - 1/N * norm2(row_sums(Z))", "", lambda Z: squares(Z) - squares(rows(Z)) / Z.shape[-1]),
    "centred tokens": ("norm2(Z .+ -1/N * row_sums(Z))", "", lambda Z: squares(Z - rows(Z) / Z.shape[-1])),
    "centred heads": (
        "sum(k in K) norm2(U[k]' * Z .+ -1/N * row_sums(U[k]' * Z))",
        "U",
        heads(lambda Z: squares(Z - rows(Z) / Z.shape[-1])),
    ),
    "two Gram matrices": (
        "1/N * total(Z' * Z .* ((Z .+ v)' * (Z .+ v)))",
        "v",
        lambda Z, v: total(gram(Z) * gram(Z + v)) / Z.shape[-1],
    ),
    "a head's map in full precision": (
        "sum(k in K) total((column_sums(Z) * column_sums(U[k]' * Z)' * column_sums(U[k]' * Z)) .^ 3)",
        "U",
        lambda Z, U: sum(total((cols(Z) @ gram(cols(U[k].mT @ Z))) ** 3) for k in range(K)),
    ),
    "a head's sums in full precision": (
        "sum(k in K) total(row_sums(row_sums(U[k]' * Z) * column_sums(Z) .+ b[k]) .^ 3)",
        "Ub",
        lambda Z, U, b: sum(total(rows(rows(U[k].mT @ Z) @ cols(Z) + b[k]) ** 3) for k in range(K)),
    ),
    "a frozen number per head": (
        "sum(k in K) logdet(I + 0.1 * (b[k] * (v' * Z))' * (b[k] * (v' * Z)))",
        "bv",
        lambda Z, b, v: sum(logdet(0.1 * gram(b[k] @ v.mT @ Z)) for k in range(K)),
    ),
    "a row's products": ("1/N * total((v' * Z)' * (v' * Z))", "v", lambda Z, v: total(gram(v.mT @ Z)) / Z.shape[-1]),
}


@pytest.mark.parametrize("name", CAUSAL)
def test_causal(name: str, tmp_path: Path) -> None:
    agrees(tmp_path, *CAUSAL[name], "causal; ")


PLAIN = {
    "a column per sample": (
        "norm2(row_sums(W' * Z)) + norm2(column_sums(W' * Z))", "W",
        lambda Z, W: squares(rows(W.mT @ Z)) + squares(cols(W.mT @ Z)),
    ),
    "a row's logdet": ("logdet(I + (v' * Z)' * (v' * Z))", "v", lambda Z, v: logdet(gram(v.mT @ Z))),
    "a logdet of sums": (
        "logdet(I + row_sums(V * Z) * row_sums(V * Z)')", "V", lambda Z, V: logdet(gram(rows(V @ Z).mT)),
    ),
    "sums of sums": ("norm2(column_sums(column_sums(Z .^ 2)))", "", lambda Z: squares(cols(Z.square()))),
    "sums times a row": (
        "sum(k in K) norm2(column_sums((row_sums(U[k]' * Z) * (v' * Z)) .^ 2))", "Uv",
        lambda Z, U, v: sum(squares(cols((rows(U[k].mT @ Z) @ (v.mT @ Z)).square())) for k in range(K)),
    ),
    "affine logdet": (
        "1/2 * logdet(I + (W' * Z .+ c)' * (W' * Z .+ c))", "Wc", lambda Z, W, c: logdet(gram(W.mT @ Z + c)) / 2,
    ),
    "affine logdets": (
        "1/2 * sum(k in K) logdet(I + (U[k]' * Z .+ b[k])' * (U[k]' * Z .+ b[k]))", "Ub",
        heads(lambda W, b: logdet(gram(W + b)) / 2),
    ),
    "affine attention": (
        "-1/2 * sum(k in K) logsumexp((U[k]' * Z .+ b[k])' * (U[k]' * Z .+ b[k]))", "Ub",
        heads(lambda W, b: -lse(gram(W + b)) / 2),
    ),
    "a variance": ("norm2(Z .+ -1/N * row_sums(Z))", "", lambda Z: squares(Z - rows(Z) / N)),
    "shifted sums": ("norm2(row_sums(Z .+ v))", "v", lambda Z, v: squares(rows(Z + v))),
    "centred attention": (
        "sum(k in K) logsumexp((U[k]' * (Z .+ -1/N * row_sums(Z)))' * (U[k]' * (Z .+ -1/N * row_sums(Z))))", "U",
        lambda Z, U: sum(lse(gram(U[k].mT @ (Z - rows(Z) / N))) for k in range(K)),
    ),
    "centred tokens' attention": (
        "logsumexp((Z .+ -1/N * row_sums(Z))' * (Z .+ -1/N * row_sums(Z)))", "",
        lambda Z: lse(gram(Z - rows(Z) / N)),
    ),
    "frozen maps with a bias": (
        "sum(k in K) logsumexp(0.1 * ((U[k]' * v) * column_sums(Z) .+ (U[k]' * v .+ U[k]' * v))'"
        " * ((U[k]' * v) * column_sums(Z) .+ (U[k]' * v .+ U[k]' * v)))",
        "Uv", lambda Z, U, v: sum(lse(0.1 * gram(U[k].mT @ v @ (cols(Z) + 2))) for k in range(K)),
    ),
    "a number per head": (
        "sum(k in K) total(b[k]' * row_sums(U[k]' * Z) .^ 2 * column_sums(U[k]' * Z))", "Ub",
        heads(lambda W, b: total(b.mT @ rows(W).square() @ cols(W))),
    ),
    "a square times its base": (
        "norm2((row_sums(W' * Z) .+ -1/N * c) .^ 2)", "Wc", lambda Z, W, c: squares((rows(W.mT @ Z) - c / N).square())
    ),
    "a column of a cube": ("norm2(row_sums(Z * Z' * Z))", "", lambda Z: squares(rows(Z @ Z.mT @ Z))),
}  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
def test_all_tokens(name: str, tmp_path: Path) -> None:
    agrees(tmp_path, *PLAIN[name])
