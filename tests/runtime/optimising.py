"""Networks, gradients and the published update formulas that the tests of optimisers share."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import crate_dsl
from runtime.optimisers.optimiser import Optimiser
from runtime.recipe.schema import OPTIMISERS
from tests.runtime.conftest import SPECS

OPTIONS: dict[str, list[dict[str, object]]] = {  # by optimiser, each set other than the defaults
    "adamw": [{"lr": 3e-2, "weight_decay": 0.3, "betas": (0.8, 0.95), "eps": 1e-3, "layer_decay": 0.7}],
    "lion": [{"lr": 1e-2, "weight_decay": 0.4, "betas": (0.7, 0.9), "layer_decay": 0.7}],
    "sgd": [
        {"lr": 1e-2, "weight_decay": 0.2, "momentum": 0.8, "nesterov": True},
        {"lr": 1e-2, "weight_decay": 0.2, "momentum": 0.8, "decay_all": True},
        {"lr": 1e-2, "momentum": 0.0, "layer_decay": 0.7},
    ],
    "muon": [
        {"lr": 1e-2, "weight_decay": 0.3, "adamw_lr": 3e-3},
        {"lr": 2e-2, "adjust": "original", "nesterov": False, "layer_decay": 0.7},
    ],
}
CASES = [(name, number) for name, cases in OPTIONS.items() for number in range(len(cases))]


def options_of(name: str, number: int) -> Optimiser:
    return OPTIMISERS[name](**OPTIONS[name][number])


def network_of(spec: str = "crate_mae", preset: str = "digits", dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    return crate_dsl.load(SPECS / f"{spec}.crate", preset=preset, d=8, K=2, L=2).to(dtype)


def put_gradients(network: nn.Module, step: int) -> None:
    """Gradients that depend on the step and on the parameters, so that a wrong step shows in all later ones."""
    generator = torch.Generator().manual_seed(step)
    for value in network.parameters():
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        value.grad = (noise + value.detach().double().sin()).to(value.dtype)


def gradients(network: nn.Module) -> list[np.ndarray]:
    return [value.grad.double().numpy().copy() for value in network.parameters()]


class Adam:
    """Loshchilov and Hutter 2019, algorithm 2, with the decay multiplied by the learning rate as torch has it."""

    def __init__(self, betas: tuple[float, float], eps: float) -> None:
        self.betas, self.eps, self.first, self.second, self.step = betas, eps, 0.0, 0.0, 0

    def __call__(self, value: np.ndarray, gradient: np.ndarray, lr: float, decay: float) -> np.ndarray:
        one, two = self.betas
        self.step += 1
        self.first = one * self.first + (1 - one) * gradient
        self.second = two * self.second + (1 - two) * gradient**2
        unbiased, square = self.first / (1 - one**self.step), self.second / (1 - two**self.step)
        return value - lr * (unbiased / (np.sqrt(square) + self.eps) + decay * value)


class Lion:
    """Chen et al. 2023, algorithm 2."""

    def __init__(self, betas: tuple[float, float]) -> None:
        self.betas, self.momentum = betas, 0.0

    def __call__(self, value: np.ndarray, gradient: np.ndarray, lr: float, decay: float) -> np.ndarray:
        one, two = self.betas
        update = np.sign(one * self.momentum + (1 - one) * gradient)
        self.momentum = two * self.momentum + (1 - two) * gradient
        return value - lr * (update + decay * value)


class Momentum:
    """torch.optim.SGD: v = mu v + g, then a step along v, or along g + mu v with nesterov; g has the decay in it."""

    def __init__(self, momentum: float, nesterov: bool) -> None:
        self.momentum, self.nesterov, self.velocity = momentum, nesterov, 0.0

    def __call__(self, value: np.ndarray, gradient: np.ndarray, lr: float, decay: float) -> np.ndarray:
        gradient = gradient + decay * value
        self.velocity = self.momentum * self.velocity + gradient
        return value - lr * (gradient + self.momentum * self.velocity if self.nesterov else self.velocity)


class Orthogonal:
    """Muon (Jordan et al. 2024): five times 3.4445 X - 4.7750 X X'X + 2.0315 (X X')^2 X of the normed momentum."""

    def __init__(self, momentum: float, nesterov: bool, adjust: str) -> None:
        self.momentum, self.nesterov, self.adjust, self.average = momentum, nesterov, adjust, 0.0

    def __call__(self, value: np.ndarray, gradient: np.ndarray, lr: float, decay: float) -> np.ndarray:
        self.average = self.momentum * self.average + gradient
        direction = gradient + self.momentum * self.average if self.nesterov else self.average
        rows, columns = value.shape
        matched = 0.2 * max(rows, columns) ** 0.5
        scale = matched if self.adjust == "match_rms_adamw" else max(1, rows / columns) ** 0.5
        return (1 - lr * decay) * value - lr * scale * orthogonalised(direction)


def orthogonalised(matrix: np.ndarray) -> np.ndarray:
    left, values, right = np.linalg.svd(matrix / np.linalg.norm(matrix), full_matrices=False)
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return left * values @ right
