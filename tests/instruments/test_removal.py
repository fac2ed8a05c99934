"""Networks without one of their parts, against the same computed by hand; and nothing is left of the intervention."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from crate_dsl import compile_spec
from runtime.errors import Inapplicable
from runtime.inspection.effects import exits
from runtime.inspection.places import Place, columns, places
from runtime.inspection.removal import heads, outer_map, silenced, traced, without
from runtime.network import Compiled, compile_network

SPECS = Path(__file__).parents[2] / "specs"
SIZES: Mapping[str, int] = {"d": 12, "K": 3, "L": 2}
IMAGES = {"image": 8, "patch": 4, "channels": 1, "classes": 5}
OTHERS = {"length": 6, "vocabulary": 11, "m": 16}


def network_of(spec: str, sizes: Mapping[str, int] = SIZES, seed: int = 0) -> Compiled:
    """In float64 with all parameters random: zeros at the start would hide what a part does."""
    model = compile_spec(SPECS / f"{spec}.crate").model
    tiny = {name: value for name, value in (IMAGES | OTHERS).items() if name in model.sizes}
    tiny |= {"N": 6} if model.input.name == "vectors" else {}
    compiled = compile_network(SPECS / f"{spec}.crate", None, {**sizes, **tiny}, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in compiled.module.parameters():
            value.add_(0.3 * torch.randn(value.shape, generator=generator, dtype=value.dtype))
    compiled.module.eval().requires_grad_(False)
    return compiled


def inputs_of(network: nn.Module, count: int = 3) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    if network.input == "image":
        found = torch.randn(count, network.channels, *network.image_size, generator=generator, dtype=torch.float64)
    elif network.input == "text":
        found = torch.randint(network.vocabulary, (count, network.token_count), generator=generator)
    else:
        size = (count, network.vector_count, network.vector_length)
        found = torch.randn(size, generator=generator, dtype=torch.float64)
    patches = network.token_count - hasattr(network, "class_token")
    noise = torch.rand(count, patches, generator=generator, dtype=torch.float64)
    return (found, noise) if network.mask_ratio else (found,)


def output(network: nn.Module, *arguments: Tensor) -> Tensor:
    found = network(*arguments)
    return found[0] if isinstance(found, tuple) else found


def with_heads(compiled: Compiled) -> list[Place]:
    return [place for place in places(compiled.compilation, compiled.module) if heads(place)]


@pytest.mark.parametrize("spec", ["crate", "tost", "crate_mae", "crate_gpt", "crate_dino"])
def test_a_silenced_head_is_one_whose_outer_block_is_zero(spec: str) -> None:
    compiled = network_of(spec)
    arguments = inputs_of(compiled.module)
    assert with_heads(compiled)
    for place in with_heads(compiled):
        for head in range(heads(place)):
            other = copy.deepcopy(compiled.module)
            width = place.block.sizes["p"]
            other.get_submodule(place.name).U_out[head * width : (head + 1) * width] = 0
            with silenced(place, head):
                found = output(compiled.module, *arguments)
            torch.testing.assert_close(found, output(other, *arguments), rtol=1e-12, atol=1e-12)
            assert not torch.allclose(found, output(compiled.module, *arguments), rtol=1e-6)


def test_a_silenced_head_of_a_tied_step_leaves_its_term_out() -> None:
    """Z - beta kappa sum over j != k of U_j U_j'V (I + beta V'U_j U_j'V)^-1 (crate_exact), in numpy."""
    compiled = network_of("crate_exact")
    place = with_heads(compiled)[0]
    z = torch.randn(1, 4, SIZES["d"], generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    v, bases, scalars = columns(place.read(z))[0], place.matrices()["U"], place.scalars()
    for head in range(heads(place)):
        expected = columns(z)[0].copy()
        for k in set(range(heads(place))) - {head}:
            w = bases[k].T @ v
            gain = scalars["beta"] * scalars["kappa"]
            expected -= gain * bases[k] @ w @ np.linalg.inv(np.eye(4) + scalars["beta"] * w.T @ w)
        with silenced(place, head):
            found = columns(place.module(z))[0]
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rule", ["", "free(bias)", "transposed(bias)", "fixed(bias)", "identity(bias)"])
def test_a_silenced_head_has_no_term_whatever_the_outer_map_is(rule: str, tmp_path: Path) -> None:
    """The step without it is the whole less U_out[k] W softmax(s W'W) of W = U[k]' V, in numpy; "" is U tied."""
    text = (SPECS / "crate.crate").read_text()
    assert text.count("adjoint      ~ free(bias)") == 1
    spec = tmp_path / "varied.crate"
    spec.write_text(text.replace("adjoint      ~ free(bias)", rule and f"adjoint ~ {rule}"))
    compiled = compile_network(spec, None, {**SIZES, **IMAGES}, dtype=torch.float64)
    place = with_heads(compiled)[0]
    z = torch.randn(1, 5, SIZES["d"], generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    v, matrices = columns(place.read(z))[0], place.matrices()
    with torch.no_grad():
        whole = columns(place.module(z))[0]
    for head in range(heads(place)):
        w = matrices["U"][head].T @ v
        shares = np.exp(w.T @ w / len(w) ** 0.5)
        term = matrices[outer_map(place).name][head] @ w @ (shares / shares.sum(axis=0))
        with torch.no_grad(), silenced(place, head):
            found = columns(place.module(z))[0]
        np.testing.assert_allclose(found, whole - term, rtol=1e-10, atol=1e-12)


def with_steps_by_heads() -> list[str]:
    """All shipped specs whose networks have heads."""
    return sorted(path.stem for path in SPECS.glob("*.crate") if path.stem != "redunet")


@pytest.mark.parametrize("spec", with_steps_by_heads())
def test_every_head_of_every_shipped_network_can_be_left_out(spec: str) -> None:
    compiled = network_of(spec)
    arguments = inputs_of(compiled.module)
    whole = output(compiled.module, *arguments)
    found = with_heads(compiled)
    assert found
    assert {heads(place) for place in found} == {SIZES["K"]}
    for place in found:
        with silenced(place, 1):
            changed = output(compiled.module, *arguments)
        assert torch.isfinite(changed).all()
        assert (changed - whole).abs().max() > 1e-7
    assert torch.equal(output(compiled.module, *arguments), whole)


def test_only_one_layer_is_silenced_where_layers_share_their_matrix(tmp_path: Path) -> None:
    text = (SPECS / "crate_exact.crate").read_text()
    assert "encoder repeat L {" in text
    spec = tmp_path / "shared.crate"
    spec.write_text(text.replace("encoder repeat L {", "encoder repeat L {\n    shared U"))
    compiled = compile_network(spec, None, {**SIZES, **IMAGES}, dtype=torch.float64)
    first, second = with_heads(compiled)
    assert first.module.U is second.module.U
    z = torch.randn(2, 5, SIZES["d"], dtype=torch.float64)
    with torch.no_grad():
        before = second.module(z)
        with silenced(first, 0):
            assert not torch.allclose(first.module(z), before)
            assert torch.equal(second.module(z), before)


def test_a_step_without_heads_says_so() -> None:
    compiled = network_of("crate")
    step = next(place for place in places(compiled.compilation, compiled.module) if place.label == "encoder.sparsify")
    assert outer_map(step) is None
    with pytest.raises(Inapplicable, match=r"encoder\.0\.sparsify has no heads"), silenced(step, 0):
        pass


# ---- layers and steps --------------------------------------------------------------------------------------------


def by_hand(network: nn.Module, arguments: tuple[Tensor, ...], left_out: set[str]) -> Tensor:
    """A classifier of the class token, step by step, with all tokens in every layer."""
    z = network.tokens(*arguments)
    for number, layer in enumerate(network.encoder):
        for label, step in layer.named_children():
            if not left_out & {f"encoder.{number}", f"encoder.{number}.{label}"}:
                z = step(z)
    return network.head(network.encoder_norm(z[:, 0]))


@pytest.mark.parametrize(
    "left_out",
    [["encoder.0"], ["encoder.1"], ["encoder.1.compress"], ["encoder.1.sparsify"], ["encoder.0.compress", "encoder.1"]],
)
def test_without_parts_the_others_are_called(left_out: list[str]) -> None:
    """The last layer is asked for its first token only; so is what takes its place."""
    network = network_of("crate").module
    arguments = inputs_of(network)
    with without([network.get_submodule(name) for name in left_out]):
        found = network(*arguments)
    torch.testing.assert_close(found, by_hand(network, arguments, set(left_out)), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(found, network(*arguments))


def test_without_a_decoder_layer_the_others_are_called() -> None:
    network = network_of("crate_mae").module
    images, noise = inputs_of(network)
    z, _ = network.tokens(images, noise)
    z = network.encoder_norm(network.encoder[1](network.encoder[0](z)))
    expected = network.head(network.decoder_norm(network.decoder[0](z))[:, 1:])
    with without([network.decoder[1]]):
        torch.testing.assert_close(network(images, noise)[0], expected, rtol=1e-12, atol=1e-12)


def test_exits_are_the_head_on_the_tokens_after_each_layer() -> None:
    network = network_of("crate").module
    arguments = inputs_of(network)
    names = []
    for count, (name, start, change) in enumerate(exits(network)):
        z = network.tokens(*arguments)
        for layer in network.encoder[:count]:
            z = layer(z)
        with change():
            found = network(*arguments)
        torch.testing.assert_close(found, network.head(network.encoder_norm(z[:, 0])), rtol=1e-12, atol=1e-12)
        names.append((name, start))
    assert names == [("tokens", "encoder.0"), ("encoder.0", "encoder.1"), ("encoder.1", None)]


# ---- nothing computed twice, nothing left behind -----------------------------------------------------------------


@pytest.mark.parametrize("spec", ["crate", "crate_mae", "crate_gpt"])
def test_what_is_resumed_is_what_is_computed_from_the_start(spec: str) -> None:
    network = network_of(spec).module
    arguments = inputs_of(network)
    trace = traced(network, lambda: network(*arguments))
    order = list(trace.entering)
    for name in order:
        for parts in ([], [network.get_submodule(name)]):
            with without(parts):
                expected = output(network, *arguments)
            with trace.resumed(network, name), without(parts), stopped(network, order[: order.index(name)]):
                assert torch.equal(output(network, *arguments), expected)


@contextmanager
def stopped(network: nn.Module, names: list[str]) -> Iterator[None]:
    """None of the steps of these layers may be computed."""

    def fail(*_: object) -> None:
        raise AssertionError("a step was computed that need not be")

    steps = [step for name in names for step in network.get_submodule(name).children()]
    handles = [step.register_forward_hook(fail) for step in steps]
    yield
    for handle in handles:
        handle.remove()


def test_nothing_is_left_behind_even_after_a_failure() -> None:
    compiled = network_of("crate")
    network, arguments = compiled.module, inputs_of(compiled.module)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    place, whole = with_heads(compiled)[0], network(*arguments)
    trace = traced(network, lambda: network(*arguments))
    with silenced(place, 0), without([network.encoder[1]]), trace.resumed(network, "encoder.0"):
        network(*arguments)
    with pytest.raises(ZeroDivisionError), silenced(place, 0), trace.resumed(network, "encoder.1"):
        with without([network.encoder[1]]):
            raise ZeroDivisionError
    for module in network.modules():
        assert "forward" not in vars(module)
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert torch.equal(network(*arguments), whole)
