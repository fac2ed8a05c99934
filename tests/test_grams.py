"""What may stand for the Gram: softmax both ways against the exact gradient of an energy, and thresholded weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from crate_dsl.errors import CrateError
from crate_dsl.library.form import Form
from crate_dsl.operators.passes import optimise_graph
from tests.pytorch.running import network_of
from tests.specs import derived
from tests.steps import CHAIN, program_of, text_of

LSE = "energy pull(Z: d x N, U: K of d x p) = -1/gamma * sum(k in K) logsumexp(gamma * (U[k]' * Z)' * (U[k]' * Z))\n"


def forms(steps: str) -> tuple[Form, ...]:
    """The update of every step."""
    text = text_of(steps).replace("energy rate", LSE + "energy rate", 1)
    return tuple(step.assignments[-1].value for step in derived(text).blocks[0].steps)


def test_bisoftmax_is_the_exact_gradient_of_the_logsumexp_energy() -> None:
    chained, exact = forms(f"""compress Z by rate(Z, U) {{ {CHAIN}; gram ~ bisoftmax(gamma); coefficients ~ absorbed }}
        compress Z by pull(Z, U) {{ }}""")
    assert chained.same(exact)


@pytest.mark.parametrize(("rule", "sign"), [("convex", 1), ("skip", 1)])
def test_both_halves_have_one_coefficient(rule: str, sign: int) -> None:
    """(c0, c1) are those of the tokens and of the operator A + A', as with the single softmax."""
    one, two = forms(f"""compress Z by rate(Z, U) {{ step eta; {CHAIN}; gram ~ softmax(gamma); coefficients ~ {rule} }}
        compress Z by rate(Z, U) {{ step eta; {CHAIN}; gram ~ bisoftmax(gamma); coefficients ~ {rule} }}""")
    assert [word.coefficient for word in two.words[1:]] == [one.words[1].coefficient] * 2
    assert two.words[0].coefficient == one.words[0].coefficient
    assert two.words[2].factors[-1] == two.words[1].factors[-1].T != two.words[1].factors[-1]


def test_the_written_step_is_autograds_gradient() -> None:
    text = "compress Z by lse(Z, U) { step eta }"
    step = network_of(program_of(text)).encoder[0].compress
    tokens = torch.randn(2, 17, 12, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(step.energy(tokens).sum(), tokens)
    torch.testing.assert_close(step(tokens), tokens - 0.3 * gradient, rtol=1e-12, atol=1e-12)


def test_bisoftmax_stores_one_matrix_and_softmax_none() -> None:
    def kinds(rule: str) -> list[str]:
        steps = f"compress Z by rate(Z, U) {{ norm layer; {CHAIN}; gram ~ {rule}; coefficients ~ absorbed }}"
        graph = optimise_graph(next(program_of(steps).steps).forward)
        return [graph[n].kind for n in graph if graph[n].kind in ("function", "attention")]

    assert kinds("softmax(1)") == ["attention"]
    assert kinds("bisoftmax(1)") == ["function"]
    assert kinds("threshold(lambda, 1)") == ["function", "function"]


def thresholded(steps: str) -> tuple[torch.nn.Module, Tensor]:
    network = network_of(program_of(steps))
    return network.encoder[0].compress, torch.randn(2, 17, 12, dtype=torch.float64, requires_grad=True)


def by_hand(u: Tensor, z: Tensor, tau: Tensor | float, scale: float) -> Tensor:
    """`sum_k U_k U_k' Z phi(scale Z' U_k U_k' Z)`, tokens as rows."""
    total = torch.zeros_like(z)
    for head in u.unflatten(0, (3, 5)):
        w = z @ head.T
        attention = (scale * w @ w.mT).softmax(-1)
        total = total + ((attention > tau).double() * tau @ w) @ head
    return total


def test_threshold_is_the_published_operator() -> None:
    step, z = thresholded(
        f"compress Z by rate(Z, U) {{ step eta; {CHAIN}; gram ~ threshold(lambda, 2); coefficients ~ skip }}"
    )
    expected = z + 0.3 * by_hand(step.U, z, 0.2, 2.0)
    torch.testing.assert_close(step(z), expected, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(y.square().sum(), (z, step.U)) for y in (step(z), expected)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)


def test_a_learned_level_is_reached_by_gradients() -> None:
    step, z = thresholded(f"""learn tau > 0 = 0.2
        compress Z by rate(Z, U) {{ {CHAIN}; gram ~ threshold(tau, 1); coefficients ~ absorbed }}""")
    step(z).square().sum().backward()
    tau = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    (z + by_hand(step.U, z, tau, 1.0)).square().sum().backward()
    torch.testing.assert_close(step.log_tau.grad, tau.grad * 0.2, rtol=1e-6, atol=1e-8)  # the start 0.2 is a float32


def test_a_threshold_needs_two_numbers() -> None:
    with pytest.raises(CrateError, match="threshold"):
        derived(text_of(f"compress Z by rate(Z, U) {{ {CHAIN}; gram ~ threshold(lambda) }}"))
