"""Frozen networks: the same numbers from the same state dict, with what is made of weights alone made once."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import crate_dsl
from crate_dsl.compiler import Compilation
from crate_dsl.errors import Source
from crate_dsl.loading import module_of
from tests.pytorch.running import in_parts
from tests.specs import small_preset
from tests.steps import CASES, text_of

ROOT = Path(__file__).parents[2]
SPECS = sorted((ROOT / "specs").glob("*.crate"))
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def executed(compilation: Compilation) -> nn.Module:
    torch.manual_seed(0)
    module = module_of(compilation.text, compilation.class_name)
    return getattr(module, compilation.class_name)().double()


def randomised(network: nn.Module) -> nn.Module:
    """Every weight, also gains and shifts of norms, and what starts as zero."""
    with torch.no_grad():
        kept = (b for n, b in network.named_buffers() if n in network.state_dict() and b.is_floating_point())
        for tensor in (*network.parameters(), *kept):
            tensor += 0.3 * torch.randn_like(tensor) * (tensor.std() + 0.01 if tensor.ndim > 1 else 1)
    return network


def pair(source: Source, preset: str | None) -> tuple[nn.Module, nn.Module]:
    """A network with random weights as it is trained, and frozen."""
    trained = randomised(executed(Compilation(source, preset, {})))
    frozen = executed(Compilation(source, preset, {}, freeze=True))
    frozen.load_state_dict(trained.state_dict(), strict=True)
    return trained, frozen


def of_spec(name: str) -> tuple[nn.Module, nn.Module]:
    path = ROOT / "specs" / f"{name}.crate"
    return pair(Source(str(path), path.read_text(), path.parent), small_preset(path.read_text()))


def of_case(case: str) -> tuple[nn.Module, nn.Module]:
    return pair(Source(f"{case}.crate", text_of(CASES[case])), None)


def data(network: nn.Module) -> tuple[Tensor, ...]:
    count = network.token_count
    if network.input == "text":
        count = 9
        inputs = torch.randint(0, network.vocabulary, (2, count))
    elif network.input == "vectors":
        count = min(count, 20)
        inputs = torch.randn(2, count, network.vector_length, dtype=torch.float64)
    else:
        inputs, count = torch.randn(2, network.channels, *network.image_size, dtype=torch.float64), count - 1
    return (inputs, torch.rand(2, count, dtype=torch.float64)) if network.mask_ratio else (inputs,)


def assert_same(trained: nn.Module, frozen: nn.Module) -> None:
    inputs = data(trained)
    torch.testing.assert_close(frozen(*inputs), trained(*inputs), **CLOSE)
    for name, tokens in trained.features(*inputs).items():
        error = (frozen.features(*inputs)[name] - tokens).detach().abs().max() / tokens.detach().abs().max()
        assert float(error) < 1e-10, name
    torch.testing.assert_close(frozen.energies(*inputs), trained.energies(*inputs), equal_nan=True, **CLOSE)
    if hasattr(trained, "forward_with_penalty"):
        wanted, found = (network.forward_with_penalty(*inputs) for network in (trained, frozen))
        torch.testing.assert_close(found, wanted, **CLOSE)


@pytest.mark.parametrize("name", [path.stem for path in SPECS])
def test_every_spec_gives_the_same_frozen(name: str) -> None:
    assert_same(*of_spec(name))


@pytest.mark.parametrize("case", CASES)
def test_every_step_gives_the_same_frozen(case: str) -> None:
    assert_same(*of_case(case))


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("causal")])
def test_tokens_in_parts(case: str) -> None:
    _, frozen = of_case(case)
    step, z = next(frozen.encoder[0].children()), torch.randn(2, 17, 12, dtype=torch.float64)
    torch.testing.assert_close(in_parts(step.advance, z, 3, *(1,) * 9, 5), step(z), **CLOSE)


@pytest.mark.parametrize("name", ["crate_gpt", "crate_gpt_exact", "tost_causal"])
def test_a_language_model_advances(name: str) -> None:
    trained, frozen = of_spec(name)
    text = torch.randint(0, trained.vocabulary, (2, 6))
    for sizes in ((1,) * 6, (6,), (2, 1, 3)):
        torch.testing.assert_close(in_parts(frozen.advance, text, *sizes), trained(text), **CLOSE)


# ---- when it is folded -----------------------------------------------------------------------------------------------


def test_folded_values_are_not_in_the_state_dict() -> None:
    trained, frozen = of_spec("crate_exact")
    assert list(frozen.state_dict()) == list(trained.state_dict())
    assert [n for n, _ in frozen.named_parameters()] == [n for n, _ in trained.named_parameters()]
    assert {"encoder.0.sparsify.M", "encoder.0.compress.beta"} <= {name for name, _ in frozen.named_buffers()}


def test_what_was_changed_by_hand_counts_after_fold() -> None:
    trained, frozen = of_spec("crate")
    inputs = data(trained)
    with torch.no_grad():
        for network in (trained, frozen):
            network.encoder[0].sparsify.D *= 1.5
            network.encoder[0].compress.norm.bias += 1.0
    assert not torch.allclose(frozen(*inputs), trained(*inputs))
    frozen.fold()
    torch.testing.assert_close(frozen(*inputs), trained(*inputs), **CLOSE)


def test_conversion_keeps_the_digits_it_had_until_fold() -> None:
    trained, frozen = (network.float() for network in of_spec("crate_alpha"))
    frozen.load_state_dict(trained.state_dict())
    trained, frozen, inputs = trained.double(), frozen.double(), data(trained)
    torch.testing.assert_close(frozen(*inputs), trained(*inputs), rtol=1e-5, atol=1e-5)
    frozen.fold()
    torch.testing.assert_close(frozen(*inputs), trained(*inputs), **CLOSE)


def test_copies_fold_themselves() -> None:
    trained, frozen = of_spec("crate")
    twin = copy.deepcopy(frozen)
    twin.load_state_dict({name: 1.1 * value for name, value in trained.state_dict().items()})
    inputs = data(trained)
    torch.testing.assert_close(frozen(*inputs), trained(*inputs), **CLOSE)
    again = pickle.loads(pickle.dumps(frozen))
    torch.testing.assert_close(again(*inputs), trained(*inputs), **CLOSE)
    trained.load_state_dict(twin.state_dict())
    nn.ModuleDict({"inner": again}).load_state_dict({f"inner.{k}": v for k, v in twin.state_dict().items()})
    torch.testing.assert_close(again(*inputs), trained(*inputs), **CLOSE)


def test_weights_that_come_with_their_type_are_taken() -> None:
    trained, frozen = of_spec("crate")
    frozen.float().load_state_dict(trained.state_dict(), assign=True)
    inputs = data(trained)
    torch.testing.assert_close(frozen(*inputs), trained(*inputs), **CLOSE)


def test_construction_from_data_folds() -> None:
    trained, frozen = (network.double() for network in of_spec("redunet"))
    vectors = torch.randn(1, 40, trained.vector_length, dtype=torch.float64)
    shares = torch.softmax(torch.randn(1, trained.encoder[0].ascend.gamma.numel(), 40, 1, dtype=torch.float64), 1)
    torch.testing.assert_close(frozen.fit(vectors, shares), trained.fit(vectors, shares), **CLOSE)
    torch.testing.assert_close(frozen(vectors), trained(vectors), **CLOSE)


# ---- what it is for --------------------------------------------------------------------------------------------------


class Squares(TorchDispatchMode):
    """Counts products that give a matrix of d x d, and exponentials of single numbers."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.d, self.found = d, 0

    def __torch_dispatch__(
        self, function: object, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        result = function(*args, **(kwargs or {}))
        product = any(word in str(function) for word in ("mm", "matmul", "exp."))
        self.found += product and tuple(result.shape) in ((self.d, self.d), ())
        return result


@pytest.mark.parametrize(("name", "preset"), [("crate", "tiny"), ("crate_exact", "tiny")])
def test_no_product_of_weights_is_left(name: str, preset: str) -> None:
    """Live there is one in each layer but the last, which has one token left."""
    for freeze, wanted in ((False, 1), (True, 0)):
        network = crate_dsl.load(ROOT / "specs" / f"{name}.crate", preset, freeze=freeze, L=2)
        with torch.no_grad(), Squares(384) as squares:
            network(torch.randn(1, 3, 224, 224))
        assert squares.found >= wanted if wanted else squares.found == 0


def test_exports() -> None:
    _, frozen = of_spec("crate_exact")
    inputs = data(frozen)
    torch.testing.assert_close(torch.export.export(frozen, inputs).module()(*inputs), frozen(*inputs))


def test_both_networks_of_a_class_can_be_exported() -> None:
    """Its tracer looks functions up by the name of their module."""
    trained, frozen = of_spec("crate")
    arguments = data(trained)
    for network in (trained, frozen):
        program = torch.export.export(network, arguments, strict=True).module()
        torch.testing.assert_close(program(*arguments), network(*arguments))


def test_no_gradient_passes_through_what_is_folded() -> None:
    _, frozen = of_spec("crate")
    frozen(*data(frozen)).sum().backward()
    assert frozen.encoder[0].sparsify.D.grad is None and frozen.head.weight.grad is not None


def test_half_precision_stays_near() -> None:
    trained, frozen = (network.float() for network in of_spec("crate"))
    images = data(frozen)[0].float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = frozen(images)
    assert (found - trained(images)).norm() < 0.1 * trained(images).norm()


# ---- looks -----------------------------------------------------------------------------------------------------------


def test_files_are_clean_and_formatted(tmp_path: Path) -> None:
    for path in SPECS:
        source = Source(str(path), path.read_text(), path.parent)
        compilation = Compilation(source, small_preset(path.read_text()), {}, freeze=True)
        (tmp_path / f"{path.stem}.py").write_text(compilation.text)
    for case, steps in CASES.items():
        text = Compilation(Source(case, text_of(steps)), None, {}, freeze=True).text
        (tmp_path / f"case_{case}.py").write_text(text)
    specs = [str(tmp_path / f"{path.stem}.py") for path in SPECS]
    for arguments in (["check", str(tmp_path)], ["format", "--diff", *specs]):
        command = [sys.executable, "-m", "ruff", arguments[0], "--isolated", "--line-length=120", *arguments[1:]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_the_file_says_that_it_is_frozen() -> None:
    text = crate_dsl.compile_spec(ROOT / "specs/crate.crate", "tiny", freeze=True).text
    assert "\nFrozen, for inference: " in text.partition('"""\n\n')[0]
    assert "# M = (I + eta * D' - eta * D' * D) * diag(norm.weight)" in text
    assert "return F.linear(x, self.M, self.bias).relu_()" in text


def test_names_of_weights_that_are_names_of_folded_values() -> None:
    steps = """learn bias > 0 = 0.5, M = 2
        compress Z by rate(Z, fold) { norm layer; step bias }
        sparsify Z by lasso(A | Z, U_normed) { norm layer; from Z; steps 1 of M }"""
    assert_same(*pair(Source("names.crate", text_of(steps)), None))
