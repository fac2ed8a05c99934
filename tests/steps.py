"""Steps of every kind in sizes of no symmetry, for the tests of the back end, and the numbers to run them with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from crate_dsl.operators.graph import Graph
from crate_dsl.operators.lower import lower
from crate_dsl.operators.program import Program, StepProgram
from tests.specs import derived

HEADER = """network Odd "sizes of no symmetry"
size image = 8, patch = 2, channels = 1, classes = 3
size d = 12, K = 3, p = 5, q = 4, m = 7, r = 2
real eta = 0.3, lambda = 0.2, mu = 0.7
learn gamma > 0 = 0.5
energy rate(Z: d x N, U: K of d x p) = 1/2 * sum(k in K) logdet(I + (U[k]' * Z)' * (U[k]' * Z))
energy square(Z: d x N, U: K of d x q) = 1/2 * sum(k in K) logdet(I + (U[k]' * Z)' * (U[k]' * Z))
energy brate(Z: d x N, U: K of d x p, beta: real) = 1/2 * sum(k in K) logdet(I + beta * (U[k]' * Z)' * (U[k]' * Z))
energy frate(Z: d x N, U: K of d x p, beta: real) = 1/2 * sum(k in K) logdet(I + beta * (U[k]' * Z) * (U[k]' * Z)')
energy lasso(A: d x N | X: d x N, D: d x d) = 1/2 * norm2(X - D * A) + lambda * l1(A) + nonnegative(A)
energy rectangular(A: m x N | X: d x N, D: d x m) = 1/2 * norm2(X - D * A) + lambda * l1(A) + nonnegative(A)
energy soft(A: m x N | X: d x N, D: d x m) = 1/2 * norm2(X - D * A) + lambda * l1(A)
energy hard(A: m x N | X: d x N, D: d x m) = 1/2 * norm2(X - D * A) + lambda * l0(A)
energy elastic(A: m x N | X: d x N, D: d x m) = 1/2 * norm2(X - D * A) + lambda * l1(A) + mu * norm2(A)
energy boxed(A: m x N | X: d x N, D: d x m) = 1/2 * norm2(X - D * A) + box(A, 0, mu)
energy lse(Z: d x N, U: K of d x p) = sum(k in K) logsumexp((U[k]' * Z)' * (U[k]' * Z))
energy smooth(Z: d x N, W: r x d) = total(exp(W * Z)) + 1/2 * total(Z .* Z .* Z)
energy fit(Z: d x N, W: r x d, U: K of d x p) = 1/2 * norm2(W * Z) + mu/2 * sum(k in K) norm2(U[k]' * Z) - total(Z)
energy penalised(A: m x N | X: d x N, D: d x m, tau: real) = 1/2 * norm2(X - D * A) + tau * l1(A)
energy ridge(A: m x N | X: d x N, D: d x m) = 1/2 * norm2(X - D * A) + mu/2 * norm2(A)
energy shrink(Z: d x N) = lambda * l1(Z) + mu/2 * norm2(Z)
energy whole(Z: d x N) = 1/2 * logdet(I + mu * Z * Z')
energy averaged(Z: d x N, U: K of d x p, W: r x d) =
    1/2 * sum(k in K) logdet(I + p/N * (U[k]' * Z) * (U[k]' * Z)') + norm2(W * Z) / (2 * N)
energy whitened(Z: d x N, W: r x d) = norm2(Z * Z' * W')
energy summed(Z: d x N, W: r x d) = total(W * Z) + trace(Z' * W' * W * Z)
energy memberships(Z: d x N | U: K of d x p, b: K of p x 1, Pi: K of N x 1) =
    1/2 * sum(k in K) (total(Pi[k]) + 1e-8) / N
        * total(log1p((U[k]' * Z .+ b[k]) .^ 2 * Pi[k] / (total(Pi[k]) + 1e-8)))
energy reduction(Z: d x N | U: K of d x p, Pi: K of N x 1) = 1/2 * logdet(I + mu * Z * Z')
    - sum(k in K) total(Pi[k]) / (2 * N) * logdet(I + d / (total(Pi[k]) * mu) * Z * diag(Pi[k]) * Z')
energy potential(Z: d x N | W: d x m, c: m x 1) = -total(gelu_potential(W' * Z .+ c))
energy activation(Z: d x N | W: d x m, c: m x 1) = total(gelu(W' * Z .+ c)) + total(column_norms(W' * Z))
energy weighed(Z: d x N, U: K of d x p, w: real, s: real) = sum(k in K) w / 2 * norm2(U[k]' * Z) + s * total(Z .^ 4)
energy shaped(Z: d x N | v: d x 1, A: d x N) = total(row_sums(Z) .* v) + total(A .* Z) + log(1 + norm2(A)) * norm2(Z)
energy mixture(Z: d x N | U: K of d x p, s: real) =
    1/s * total(log(sum(k in K) exp(s/2 * column_sums((U[k]' * Z) .^ 2)))) - 1/2 * norm2(Z)
energy softened(Z: d x N | W: d x m, V: d x m, s: real) = total(log1p(exp(s * W' * Z))) / s
    + total(log(column_sums(exp(V' * Z)))) + total(softplus(W' * Z) .* sigmoid(V' * Z))
energy mixed(Z: d x N, W: r x d, V: r x d) = total((W * Z) .* (V * Z)) + 1/2 * norm2(W * Z) + trace(Z' * Z)
"""
BODY = """input image(channels, image, image)
tokens Z: d x N = patches(patch) + class_token + position(learned)
encoder repeat 2 {
%s
}
norm layer
head classify(classes) of mean
"""
CHAIN = "inverse ~ neumann(1); frame ~ identity"
CASES = {
    "causal": f"""compress Z by rate(Z, U) {{ causal; norm layer; {CHAIN}; gram ~ softmax(1/sqrt(p))
        coefficients ~ absorbed; adjoint ~ free(bias) }}""",
    "causal_learned_scale": f"""learn tau > 0 = 0.4 per head
        compress Z by rate(Z, U) {{ causal; norm layer; {CHAIN}; gram ~ softmax(tau); coefficients ~ skip
        adjoint ~ free }}""",
    "causal_identity": f"""compress Z by square(Z, U) {{ causal; norm layer; {CHAIN}; gram ~ softmax(1/sqrt(q))
        coefficients ~ absorbed; adjoint ~ identity(bias) }}""",
    "causal_transposed": "compress Z by square(Z, U) { causal; norm layer; step eta; adjoint ~ transposed }",
    "causal_linear": f"compress Z by rate(Z, U) {{ causal; norm layer; {CHAIN}; gram ~ scaled(1/sqrt(p)) }}",
    "causal_neumann_2": "compress Z by rate(Z, U) { causal; norm layer; inverse ~ neumann(2); step eta }",
    "causal_without_frame": """compress Z by rate(Z, U) { causal; norm layer; inverse ~ neumann(1)
        gram ~ softmax(1/sqrt(p)) }""",
    "causal_entrywise": "compress Z by smooth(Z, W) { causal; norm layer; step eta }",
    "causal_exact": """learn kappa = 5, beta > 0 = 0.1
        compress Z by brate(Z, U, beta) { causal; norm layer; step kappa; init U orthogonal }""",
    "causal_per_head": """learn kappa = 5 per head, beta > 0 = 0.1 per head
        compress Z by brate(Z, U, beta) { causal; norm layer; step kappa }""",
    "causal_unknown_sign": """learn beta = 0.1
        compress Z by brate(Z, U, beta) { causal; norm layer; step eta }""",
    "causal_on_features": "compress Z by frate(Z, U, gamma) { causal; step eta }",
    "causal_no_family": "compress Z by whole(Z) { causal; norm layer; residual normed; step eta }",
    "causal_counting": "compress Z by averaged(Z, U, W) { causal; norm layer; step eta }",
    "causal_whitened": "compress Z by whitened(Z, W) { causal; norm layer; step eta }",
    "causal_summed": "compress Z by summed(Z, W) { causal; norm layer; step eta }",
    "causal_memberships": """learn temp = 1 per head
        learn b: K of p x 1 = normal(0.5), gain: d x 1 = constant(0.3)
        compress Z by memberships(Z | U, b, Pi) {
            causal; norm layer
            let Pi[k in K] = softmax(k in K) temp * column_sums(unit_rows(U[k]' * Z .+ b[k]) .^ 2)'
            coefficients ~ absorbed; adjoint ~ free(bias); step gain
        }""",
    "causal_position_logits": """learn bias: K of N x 1 = normal(1)
        denoise Z by reduction(Z | U, Pi) { causal; let Pi[k in K] = softmax(k in K) bias[k]; step eta }""",
    "causal_reduction": """denoise Z by reduction(Z | U, Pi) {
            causal; norm layer; let Pi[k in K] = softmax(k in K) column_sums((U[k]' * Z) .^ 2)' / p; step eta
        }""",
    "causal_diagonal": """compress Z by shaped(Z | v, A) {
            let v = row_sums(Z) / 9; let A = Z * diag(gelu(Z' * v))
            causal; norm layer; step eta / 9
        }""",
    "causal_held_numbers": """learn tau = 1 per head
        compress Z by weighed(Z, U, n, s) {
            let n[k in K] = total(exp(tau * U[k]' * Z)) / (N * p); let s = 1 / (1 + norm2(Z))
            causal; norm layer; step eta / 9
        }""",
    "causal_held_logarithms": """learn tau = 0.5 per head
        compress Z by weighed(Z, U, n, s) {
            let n[k in K] = log(1 + tau^2 * norm2(U[k]' * Z)); let s = log(eta + norm2(Z) / N)
            causal; norm layer; step eta / 9
        }""",
    "exact": "compress Z by rate(Z, U) { norm layer; step eta }",
    "exact_without_norm": "compress Z by rate(Z, U) { step eta }",
    "exact_beta": """learn kappa = 5, beta > 0 = 0.1
        compress Z by brate(Z, U, beta) { norm layer; step kappa; init U orthogonal }""",
    "unknown_sign": "learn beta = 0.1\n compress Z by brate(Z, U, beta) { norm layer; step eta }",
    "per_head": """learn kappa = 5 per head, beta > 0 = 0.1 per head
        compress Z by brate(Z, U, beta) { norm layer; step kappa }""",
    "per_head_free": """learn kappa > 0 = 5 per head
        compress Z by rate(Z, U) { norm layer; step kappa; adjoint ~ free(bias) }""",
    "inverse_on_features": "compress Z by frate(Z, U, gamma) { norm layer; step eta }",
    "neumann_2": "compress Z by rate(Z, U) { norm layer; inverse ~ neumann(2); step eta }",
    "neumann_frame": f"compress Z by rate(Z, U) {{ norm layer; {CHAIN}; step eta }}",
    "official": f"""compress Z by rate(Z, U) {{ norm layer; {CHAIN}; gram ~ softmax(1/sqrt(p))
        coefficients ~ absorbed; adjoint ~ free(bias) }}""",
    "fixed": f"""compress Z by rate(Z, U) {{ norm layer; {CHAIN}; gram ~ softmax(1/sqrt(p))
        coefficients ~ absorbed; adjoint ~ fixed(bias) }}""",
    "transposed": f"""compress Z by square(Z, U) {{ norm layer; {CHAIN}; gram ~ softmax(1/sqrt(q))
        coefficients ~ absorbed; adjoint ~ transposed(bias) }}""",
    "identity": f"""compress Z by square(Z, U) {{ norm layer; {CHAIN}; gram ~ softmax(1/sqrt(q))
        coefficients ~ absorbed; adjoint ~ identity }}""",
    "identity_biased": f"""denoise Z by square(Z, U) {{ norm layer; {CHAIN}; gram ~ softmax(1/sqrt(q))
        coefficients ~ skip; adjoint ~ identity(bias) }}""",
    "identity_per_head": """learn kappa > 0 = 5 per head
        compress Z by square(Z, U) { norm layer; step kappa; adjoint ~ identity }""",
    "exact_transposed": "compress Z by square(Z, U) { norm layer; step eta; adjoint ~ transposed }",
    "no_softmax_identity": f"""compress Z by square(Z, U) {{ norm layer; {CHAIN}; gram ~ scaled(1/sqrt(q))
        coefficients ~ absorbed; adjoint ~ identity }}""",
    "paper": f"""compress Z by rate(Z, U) {{ norm layer; residual normed; step eta; {CHAIN}
        gram ~ softmax(1); coefficients ~ convex }}""",
    "no_softmax": f"""denoise Z by rate(Z, U) {{ norm layer; {CHAIN}; gram ~ scaled(1/sqrt(p))
        coefficients ~ absorbed; adjoint ~ free(bias) }}""",
    "learned_scale": f"""learn tau > 0 = 0.4
        compress Z by rate(Z, U) {{ norm layer; {CHAIN}; gram ~ softmax(tau); coefficients ~ skip; adjoint ~ free }}""",
    "bisoftmax": f"""compress Z by rate(Z, U) {{ norm layer; {CHAIN}; gram ~ bisoftmax(1/sqrt(p))
        coefficients ~ absorbed; adjoint ~ free }}""",
    "threshold": f"""compress Z by rate(Z, U) {{ step eta; {CHAIN}; gram ~ threshold(lambda, 1)
        coefficients ~ skip }}""",
    "learned_level": f"""learn tau > 0 = 0.2
        compress Z by rate(Z, U) {{ norm layer; {CHAIN}; gram ~ threshold(tau, 1/p); coefficients ~ absorbed }}""",
    "anti_compress": f"""denoise Z by rate(Z, U) {{ norm layer; {CHAIN}; gram ~ softmax(1/sqrt(p))
        coefficients ~ absorbed; adjoint ~ free(bias) }}""",
    "without_frame": "compress Z by rate(Z, U) { norm layer; inverse ~ neumann(1); gram ~ softmax(1/sqrt(p)) }",
    "learned_in_functions": """learn tau > 0 = 0.4
        compress Z by weighed(Z, U, n, s) {
            norm layer; step exp(-tau); let n = exp(-gamma); let s = log(mu + gamma) }""",
    "log_sum_exp": "compress Z by lse(Z, U) { norm layer; step eta }",
    "entrywise": "compress Z by smooth(Z, W) { norm layer; step eta }",
    "no_family": "compress Z by whole(Z) { norm layer; residual normed; step eta }",
    "products": "compress Z by mixed(Z, W, V) { norm layer; step eta }",
    "mixture": "denoise Z by mixture(Z | U, gamma) { norm layer; step eta }",
    "causal_mixture": "denoise Z by mixture(Z | U, mu) { causal; norm layer; step eta }",
    "causal_held_mixture": """compress Z by weighed(Z, U, mu, s) {
            let s = total(log(sum(k in K) exp(column_sums((U[k]' * Z) .^ 2)))) / N
            causal; norm layer; step eta / 9
        }""",
    "softened": "compress Z by softened(Z | W, V, mu) { norm layer; step eta }",
    "causal_softened": "compress Z by softened(Z | W, V, gamma) { causal; norm layer; step eta }",
    "ista": "sparsify Z by lasso(A | Z, D) { norm layer; from Z; steps 1 of eta }",
    "ista_3": "sparsify Z by lasso(A | Z, D) { from Z; steps 3 of eta }",
    "read_out": "sparsify Z by rectangular(A | Z, D) { norm layer; from 0; steps 2 of eta; read D1; residual }",
    "tied_read_out": "sparsify Z by soft(A | Z, D) { norm layer; from 0; steps 3 of eta; read D; residual normed }",
    "hard_threshold": "sparsify Z by hard(A | Z, D) { norm layer; from 0; steps 2 of eta; read D1 }",
    "elastic_net": "sparsify Z by elastic(A | Z, D) { norm layer; from 0; steps 2 of eta; read D1 }",
    "learned_threshold": "sparsify Z by soft(A | Z, D) { norm layer; from 0; steps 2 of gamma; read D1 }",
    "clamp": "sparsify Z by boxed(A | Z, D) { norm layer; from 0; steps 2 of eta; read D1 }",
    "descend": "descend Z by rate(Z, U) { norm layer; step eta; adjoint ~ free }",
    "ascend": "ascend Z by rate(Z, U) { step eta; residual normed; norm layer }",
    "prox_of_entries": "prox Z by shrink(Z) { norm layer; step gamma }",
    "implicit_step": "prox Z by fit(Z, W, U) { norm layer; step eta }",
    "solve": "solve Z by ridge(A | Z, D) { norm layer; read D; residual }",
    "solve_and_read": "solve Z by ridge(A | Z, D) { read D1 }",
    "sphere": "project sphere",
    "simplex": "project simplex",
    "accelerated": "sparsify Z by soft(A | Z, D) { norm layer; from 0; steps 5 of eta; accelerate; read D1; residual }",
    "accelerated_from_tokens": "sparsify Z by lasso(A | Z, D) { steps 4 of eta; accelerate }",
    "per_iteration": """learn theta > 0 = 0.1 per iteration, tau > 0 = 0.4 per iteration
        sparsify Z by penalised(A | Z, D, tau) { norm layer; from 0; steps 3 of theta; read D }""",
    "per_iteration_shared": """shared theta, D
        learn theta = 0.1 per iteration
        sparsify Z by lasso(A | Z, D) { steps 2 of theta^2 + eta; accelerate }""",
    "synthesis": "denoise Z by lasso(Z | X, D) { norm layer }",
    "memberships": """learn temp = 1 per head
        learn b: K of p x 1 = normal(0.5), gain: d x 1 = constant(0.3)
        compress Z by memberships(Z | U, b, Pi) {
            norm layer
            let Pi[k in K] = softmax(k in K) temp * column_sums(unit_rows(U[k]' * Z .+ b[k]) .^ 2)'
            coefficients ~ absorbed; adjoint ~ free(bias); step gain
        }""",
    "memberships_without_norm": """learn b: K of p x 1 = normal(0.5)
        compress Z by memberships(Z | U, b, Pi) {
            let Pi[k in K] = softmax(k in K) -column_norms(U[k]' * Z)'
            step 2 * eta
        }""",
    "reduction": """denoise Z by reduction(Z | U, Pi) {
            norm layer; let Pi[k in K] = softmax(k in K) column_sums((U[k]' * Z) .^ 2)' / p; step eta
        }""",
    "position_logits": """learn bias: K of N x 1 = normal(1)
        denoise Z by reduction(Z | U, Pi) { norm layer; let Pi[k in K] = softmax(k in K) bias[k]; step eta }""",
    "gelu": """learn c: m x 1 = zeros, gain: d x 1 = constant(0.1)
        compress Z by potential(Z | W, c) { norm layer; adjoint ~ free(bias); step gain }""",
    "gelu_slope": "compress Z by activation(Z | W, c) { step eta }",
    "held_numbers": """learn tau = 1 per head
        compress Z by weighed(Z, U, n, s) {
            let n[k in K] = total(exp(tau * U[k]' * Z)) / (N * p); let s = 1 / (1 + norm2(Z))
            norm layer; step eta / 9
        }""",
    "held_matrices": """learn gain: d x 1 = constant(0.1)
        compress Z by shaped(Z | v, A) { let v = row_sums(exp(Z)) / N; let A = diag(v) * Z; step eta * gain }""",
    "held_matrices_normed": """compress Z by shaped(Z | v, A) {
            norm layer; let v = row_sums(Z) / total(Z .* Z); let A = Z .+ v; step eta }""",
    "one_parameter_in_two_steps": """compress Z by rate(Z, U) { norm layer; step eta }
        denoise Z by rate(Z, U) { norm layer; step gamma }
        sparsify Z by lasso(A | Z, D) { from Z; steps 1 of gamma }""",
    "shared_by_layers": """shared U, D
        compress Z by rate(Z, U) { norm layer; step gamma }
        sparsify Z by lasso(A | Z, D) { from Z; steps 2 of eta }""",
}


def text_of(steps: str) -> str:
    return HEADER + BODY % steps


def program_of(steps: str, **overrides: str | int | float) -> Program:
    """The program of an encoder with these steps, not optimised."""
    return lower(derived(text_of(steps), **overrides))


def graphs() -> Iterator[tuple[str, Graph]]:
    """Every graph of every case, with a name for the test."""
    for case, steps in CASES.items():
        for step in program_of(steps).steps:
            for graph in step.graphs:
                yield f"{case}-{graph.name}", graph


def scalars_of(step: StepProgram, program: Program, learned: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Numbers for the reals, and given ones for the learned scalars."""
    return {name: np.asarray(float(v)) for name, v in program.derivation.model.reals.items()} | learned
