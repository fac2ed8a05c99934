"""ToST on images against its official form, written by hand: outputs, gradients, statistics of the batch, the start."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import crate_dsl
from crate_dsl.compiler import Compilation, compile_spec
from crate_dsl.errors import Source
from crate_dsl.loading import module_of
from runtime.baselines.tost_vision import HIDDEN, FourierPositions, TostVision
from runtime.weights.conversion import convert_state
from tests.parity.test_parity import assert_close
from tests.parity.test_tost import network_of

SPEC = Path(__file__).parents[2] / "specs" / "tost_vision.crate"
SMALL = {"classes": 7, "d": 48, "K": 3, "L": 2, "drop": 0}


def pair(image: int, patch: int, channels: int = 3) -> tuple[nn.Module, nn.Module]:
    """The compiled network and the official form in float64, with the same weights, no two of them alike."""
    torch.manual_seed(0)
    form = TostVision(channels, patch, 7, 48, 2, 3).double()
    for value in (*form.parameters(), *(b for b in form.buffers() if b.is_floating_point())):
        value.data += 0.1 * torch.rand_like(value)
    network = crate_dsl.load(SPEC, image=image, patch=patch, channels=channels, **SMALL).double()
    network.load_state_dict(convert_state(form.state_dict(), network))
    return network, form


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("image", "patch", "channels"), [(64, 16, 3), (32, 8, 3), (20, 4, 1), (6, 2, 1)])
def test_outputs_and_gradients(image: int, patch: int, channels: int, training: bool) -> None:
    network, form = pair(image, patch, channels)
    images, labels = torch.randn(4, channels, image, image, dtype=torch.float64), torch.tensor([0, 3, 6, 1])
    logits = []
    for module in (network.train(training), form.train(training)):
        logits.append(module(images))
        F.cross_entropy(logits[-1], labels).backward()
    assert_close(*logits)
    theirs = convert_state({name: p.grad for name, p in form.named_parameters()}, network, complete=False)
    for name, parameter in network.named_parameters():
        assert_close(parameter.grad, theirs[name])
    official = convert_state(form.state_dict(), network)
    for name, value in network.named_buffers():
        if name in official:
            torch.testing.assert_close(value, official[name], rtol=1e-12, atol=0, msg=name)


def test_all_tokens_are_normalised_again_and_doubled() -> None:
    """As in every model that the official code registers (`tokens_norm=True`), not the class token alone."""
    network, form = pair(32, 8)
    tokens = torch.randn(2, 17, 48, dtype=torch.float64)
    found, block = network.class_attention.blocks[0](tokens), form.cls_attn_blocks[0]
    assert_close(found, block(tokens))
    rest = block.norm2(tokens + block.gamma1 * block.norm1(tokens))[:, 1:]
    assert_close(found[:, 1:], 2 * rest)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 2), (4, 4), (14, 14), (3, 5)])
def test_waves(rows: int, columns: int) -> None:
    """Bit for bit, for the official ones are of float32 in networks of float64 too."""
    compilation = compile_spec(SPEC, "digits")
    places = module_of(compilation.text, compilation.class_name).fourier_places(rows, columns)
    official = FourierPositions(2 * HIDDEN)
    official.token_projection.weight.data = torch.eye(2 * HIDDEN)[:, :, None, None]
    official.token_projection.bias.data.zero_()
    assert torch.equal(places, official(rows, columns)[0])


def test_it_starts_as_officially() -> None:
    torch.manual_seed(0)
    network = crate_dsl.load(SPEC, preset="tiny")
    form = TostVision(3, 16, 1000, 192, 12, 4)
    for name, value in convert_state(form.state_dict(), network).items():
        ours = network.state_dict()[name].double()
        assert ours.mean().item() == pytest.approx(value.double().mean().item(), abs=0.02), name
        assert ours.std(correction=0).item() == pytest.approx(value.double().std(correction=0).item(), rel=0.3), name


@pytest.mark.parametrize(("preset", "count"), [("tiny", 5_769_328), ("small", 22_589_944)])
def test_parameter_counts(preset: str, count: int) -> None:
    """Published: 5.8 and 22.6 million."""
    with torch.device("meta"):
        network = crate_dsl.load(SPEC, preset=preset)
        form = TostVision(3, 16, 1000, *{"tiny": (192, 12, 4), "small": (384, 12, 8)}[preset])
    counts = [sum(parameter.numel() for parameter in module.parameters()) for module in (network, form)]
    assert counts == [count, count] == [compile_spec(SPEC, preset).costs.parameters] * 2


def test_the_layers_do_not_know_of_the_class_token() -> None:
    """It enters behind them, so that none of them is cut to it, and the head reads what `features` gives."""
    network, _ = pair(32, 8)
    assert "only_first" not in compile_spec(SPEC).text
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    found = network.eval().features(images)
    assert [found[name].shape[1] for name in ("tokens", "encoder.1.compress_feed_forward")] == [16, 16]
    assert found["class_attention"].shape == found["encoder_norm"].shape == (2, 17, 48)
    assert_close(network.head(found["encoder_norm"][:, 0]), network(images))
    energies = network.energies(images)
    assert len(energies) == 4 and all(value.isfinite().all() for both in energies.values() for value in both)


# ---- the words by themselves ---------------------------------------------------------------------------------------

FRAME = """network Frame
size image = 8, patch = 4, channels = 1, d = 24, K = 3, p = d / K
energy rate(Z: d x N, U: K of d x p) = 1/2 * sum(k in K) logdet(I + (U[k]' * Z)' * (U[k]' * Z))
input image(channels, image, 2 * image)
tokens Z: d x N = TOKENS
encoder { compress Z by rate(Z, U) { norm layer } }
"""


def frame(tokens: str, rest: str) -> nn.Module:
    return network_of(Compilation(Source("frame.crate", FRAME.replace("TOKENS", tokens) + rest), None, {}))


@pytest.mark.parametrize("position", ["learned", "sincos", "fourier"])
@pytest.mark.parametrize("stem", ["patches", "convolutions"])
@pytest.mark.parametrize("token", ["", " + class_token"])
def test_every_stem_with_every_position(stem: str, position: str, token: str) -> None:
    """Positions are added to the patches, none of a fixed table to the class token; the head of patches fits both."""
    network = frame(f"{stem}(patch){token} + position({position})", "head patches")
    images = torch.randn(2, 1, 8, 16, dtype=torch.float64)
    assert network(images).shape == (2, 8, 16)
    for tensor in network.state_dict().values():
        tensor.zero_()
    added = network.tokens(images)
    if position == "fourier":
        network.position.weight.data[:16] = torch.eye(64, dtype=torch.float64)[:16]
        added = network.tokens(images)
        assert_close(added[:, -8:, :16], network.places[:, :16].expand(2, -1, -1))
    assert added.shape == (2, 8 + bool(token), 24) and not (token and added[:, 0].any())
    assert_close(network.unpatchify(network.patchify(images)), images)


def test_convolutions_are_those_of_torch() -> None:
    network = frame("convolutions(patch)", "head patches")
    first, _, second = network.patches.projection
    images, shapes = torch.randn(3, 1, 8, 16, dtype=torch.float64), [(12, 1, 3, 3), (24, 12, 3, 3)]
    assert [tuple(layer[0].weight.shape) for layer in (first, second)] == shapes

    def halved(x: Tensor, layer: nn.Module) -> Tensor:
        x = F.conv2d(x, layer[0].weight, stride=2, padding=1)
        return (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()

    found = halved(F.gelu(halved(images, first)), second)
    assert_close(network.tokens(images), found.permute(0, 2, 3, 1).flatten(1, 2))


def test_the_start_of_the_class_token_can_be_stated() -> None:
    lines = "class attention(1, K, 0.5)\nhead features of class_token\n"
    assert not frame("patches(patch)", f"init class_token zeros\n{lines}").class_attention.class_token.any()
    attention = frame("patches(patch)", lines).class_attention
    assert 0.01 < attention.class_token.std() < 0.03
    assert [len(attention.blocks), *attention.blocks[0].gamma1.unique().tolist()] == [1, 0.5]
