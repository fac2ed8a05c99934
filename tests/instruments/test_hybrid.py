"""Networks with exchanged operators: the ends of the scale are the compiled CRATE and torch's own transformer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from runtime.ablation import hybrid, layer_sizes, require_crate
from runtime.baselines.hybrid import COMBINATIONS, Layer, LayerSizes, Operators, SubspaceAttention, require_same
from runtime.baselines.official import Attention, Ista
from runtime.baselines.vit import VisionTransformer
from runtime.errors import UserError
from runtime.inspection.attention import attention_maps
from runtime.network import Compiled, compile_network
from tests.parity.perturb import perturb
from tests.runtime.conftest import SPECS

SIZES = {"image": 16, "patch": 4, "channels": 3, "classes": 5, "d": 24, "K": 3, "L": 3}


@pytest.fixture
def compiled() -> Compiled:
    return compile_network(SPECS / "crate.crate", None, SIZES, seed=1, dtype=torch.float64)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def gap(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).detach().abs().max() / expected.detach().abs().max())


def test_subspaces_and_ista_are_the_compiled_network(compiled: Compiled, images: Tensor) -> None:
    """Logits, the tokens of every layer, attention maps and the gradient of the pixels, with moved weights."""
    perturb(compiled.module, 0)
    ours = hybrid(compiled, Operators(shared=True, sparse=True), seed=7).module.double()
    pixels = images.clone().requires_grad_()
    expected, found = compiled.module(pixels), ours(pixels)
    assert gap(found, expected) < 1e-10
    gradients = [torch.autograd.grad(logits.square().sum(), pixels)[0] for logits in (expected, found)]
    assert gap(*gradients) < 1e-10
    theirs, features = compiled.module.features(images), ours.features(images)
    maps, looked = attention_maps(compiled.module, images), attention_maps(ours, images)
    for layer in range(3):
        assert gap(features[f"encoder.{layer}"], theirs[f"encoder.{layer}.sparsify"]) < 1e-10
        assert gap(looked[f"encoder.{layer}"], maps[f"encoder.{layer}.compress"]) < 1e-10
    assert gap(features["encoder_norm"], theirs["encoder_norm"]) < 1e-10


def test_a_perceptron_and_full_attention_are_a_transformer(compiled: Compiled, images: Tensor) -> None:
    """Layers by torch's own `nn.TransformerEncoderLayer`, between the stem and the head of the compiled network."""
    network = hybrid(compiled, Operators(shared=False, sparse=False), seed=7).module.double()
    perturb(network, 3)
    compiled.module.load_state_dict(
        {name: network.state_dict().get(name, value) for name, value in compiled.module.state_dict().items()}
    )
    tokens = compiled.module.tokens(images)
    for layer in network.encoder:
        tokens = torch_layer(layer, 24, 3)(tokens)
    expected = compiled.module.head(compiled.module.encoder_norm(tokens[:, 0]))
    assert gap(network(images), expected) < 1e-10


def torch_layer(layer: Layer, width: int, heads: int) -> nn.Module:
    """The same weights in torch's pre-norm layer."""
    result = nn.TransformerEncoderLayer(
        width, heads, 4 * width, dropout=0, activation="gelu", batch_first=True, norm_first=True
    )
    attention, second = layer
    state = {
        "self_attn.in_proj": attention.fn.qkv,
        "self_attn.out_proj": attention.fn.out,
        "linear1": second.fn[0],
        "linear2": second.fn[2],
        "norm1": attention.norm,
        "norm2": second.norm,
    }
    names = {"self_attn.in_proj": "self_attn.in_proj_{}"}
    result.double().load_state_dict(
        {
            names.get(name, name + ".{}").format(kind): getattr(module, kind)
            for name, module in state.items()
            for kind in ("weight", "bias")
        }
    )
    return result.train()  # in evaluation torch may take another path


def test_mixed_layers_have_the_official_halves() -> None:
    """MSSA with a skip and a perceptron with a skip; full attention with a skip and ISTA without."""
    sizes, tokens = LayerSizes(12, 3, 1, 0.2, 0.3), torch.randn(2, 5, 12, dtype=torch.float64)
    official = Attention(12, 3, 4).double()
    first = Layer(Operators(shared=True, sparse=False), sizes).double()
    official.load_state_dict(first[0].fn.state_dict())
    middle = tokens + official(first[0].norm(tokens))
    expected = middle + first[1].fn[2](nn.functional.gelu(first[1].fn[0](first[1].norm(middle))))
    assert gap(first(tokens), expected) < 1e-10
    second = Layer(Operators(shared=False, sparse=True), sizes).double()
    ista = Ista(12, 0.2, 0.3).double()
    ista.load_state_dict(second[1].fn.state_dict())
    attention = nn.MultiheadAttention(12, 3, batch_first=True, dtype=torch.float64)
    attention.in_proj_weight.data, attention.in_proj_bias.data = second[0].fn.qkv.weight, second[0].fn.qkv.bias
    attention.out_proj.load_state_dict(second[0].fn.out.state_dict())
    read = second[0].norm(tokens)
    expected = ista(second[1].norm(tokens + attention(read, read, read, need_weights=False)[0]))
    assert gap(second(tokens), expected) < 1e-10


@pytest.mark.parametrize("heads", [1, 3])
def test_fused_subspace_attention_is_the_official_one(heads: int) -> None:
    """One head as wide as the tokens has no output map, officially."""
    fused, official = SubspaceAttention(12, heads, 12 // heads).double(), Attention(12, heads, 12 // heads).double()
    official.load_state_dict(fused.state_dict())
    tokens = torch.randn(2, 7, 12, dtype=torch.float64)
    assert gap(fused(tokens), official(tokens)) < 1e-10


def test_all_four_share_what_is_around_the_layers(compiled: Compiled) -> None:
    networks = [hybrid(compiled, operators, seed=7).module for operators in COMBINATIONS]
    outside = [{n: v for n, v in m.state_dict().items() if not n.startswith("encoder.")} for m in networks]
    expected = {n: v for n, v in compiled.module.state_dict().items() if not n.startswith("encoder.")}
    assert all(each.keys() == expected.keys() for each in outside)
    assert all(torch.equal(each[name], value) for each in outside for name, value in expected.items())
    networks[0].head.weight.data += 1
    assert torch.equal(networks[1].head.weight, compiled.module.head.weight), "copies, not the same weights"


def test_parameters_of_a_layer(compiled: Compiled) -> None:
    """d = 24: MSSA 2 d^2 + d, MHSA 4 d^2 + 4 d, ISTA d^2, a perceptron 8 d^2 + 5 d, two norms of 2 d."""
    d, found = 24, {}
    for operators in COMBINATIONS:
        layer = hybrid(compiled, operators, seed=7).module.encoder[0]
        found[operators.name] = sum(value.numel() for value in layer.parameters()) - 4 * d
    attention, second = {"MSSA": 2 * d**2 + d, "MHSA": 4 * d**2 + 4 * d}, {"ISTA": d**2, "MLP": 8 * d**2 + 5 * d}
    assert found == {f"{a} + {b}": attention[a] + second[b] for a in attention for b in second}


def test_attention_maps_of_the_transformer_that_stands_beside(compiled: Compiled, images: Tensor) -> None:
    network = VisionTransformer(compiled.module, 24, 2, 3, sigma=0.02).double()
    maps = attention_maps(network, images)
    assert list(maps) == ["encoder.0", "encoder.1"] and maps["encoder.1"].shape == (4, 3, 17, 17)
    block, tokens = network.encoder[1], network.features(images)["encoder.0"]
    q, k, _ = block.attention.qkv(block.norm_attention(tokens)).unflatten(-1, (3, 3, 8)).permute(2, 0, 3, 1, 4)
    logits = torch.einsum("bhip,bhjp->bhij", q, k) / 8**0.5
    assert gap(maps["encoder.1"], logits.exp() / logits.exp().sum(-1, keepdim=True)) < 1e-10


REFUSED = {
    "crate_exact": "not CRATE as its official code has it",
    "crate_srr": "energies of its own steps",
    "crate_alpha": "operators are exchanged in CRATE",
    "tost": "no eta, lambda",
    "crate_mae": "a classifier of images",
    "crate_gpt": "a classifier of images",
    "aot": "a classifier of images",
}


@pytest.mark.parametrize("spec", REFUSED)
def test_other_networks_are_refused(spec: str) -> None:
    with pytest.raises(UserError, match=REFUSED[spec]):
        require_crate(compile_network(SPECS / f"{spec}.crate", None, {}))


@pytest.mark.parametrize(("old", "new"), [("softmax(1/sqrt(p))", "softmax(2/sqrt(p))"), ("of class_token", "of mean")])
def test_other_functions_of_the_same_matrices_are_refused(old: str, new: str, tmp_path: Path) -> None:
    text = (SPECS / "crate.crate").read_text()
    assert old in text
    (tmp_path / "other.crate").write_text(text.replace(old, new))
    with pytest.raises(UserError, match="not the official MSSA and ISTA: outputs differ by"):
        require_crate(compile_network(tmp_path / "other.crate", None, SIZES))


def test_other_operators_are_told_apart(compiled: Compiled) -> None:
    other = hybrid(compiled, Operators(shared=True, sparse=False), seed=7).module
    with pytest.raises(UserError, match="outputs differ by"):
        require_same(compiled.module, other)


def test_heads_must_be_as_wide_together_as_the_tokens() -> None:
    model = compile_network(SPECS / "crate.crate", None, SIZES | {"p": 5}).compilation.model
    with pytest.raises(UserError, match="d = K p, not 24 and K = 3"):
        layer_sizes(model)
