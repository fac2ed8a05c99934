"""Official weights, ours, official again: every entry bit for bit, and loaded by the official form as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from runtime import convert
from runtime.baselines.alpha import CrateAlpha
from runtime.baselines.official import Crate, CrateMae
from runtime.baselines.tost_text import Block as TextBlock
from runtime.baselines.tost_text import TostText
from runtime.baselines.tost_vision import Block, Statistics, TostVision
from runtime.errors import UserError
from runtime.network import compile_network
from runtime.storage import checkpoint
from runtime.storage.run_folder import origin
from runtime.weights import kept
from runtime.weights.conversion import converted
from runtime.weights.files import read_official
from runtime.weights.restoration import restored
from runtime.weights.tensors import same_bits
from tests.parity.test_parity import Golden, assert_close
from tests.runtime.conftest import SPECS
from tests.runtime.test_convert import SIZES, STORED, golden, network

SQUARE = (16, 16), (4, 4), 3
FORMS = {
    "crate": lambda: Crate(*SQUARE, 5, 24, 2, 3, 8, "cls"),
    "crate_mae": lambda: CrateMae(*SQUARE, 32, 2, 4, 2, 4),
    "crate_alpha": lambda: CrateAlpha(*SQUARE, 5, 24, 2, 3, 8),
    "tost_vision": lambda: TostVision(3, 8, 5, 24, 2, 3),
    "tost_causal": lambda: TostText(16, 64, 24, 2, 3),
}
VISION_SIZES = {"patch": 8, "classes": 5, "d": 24, "K": 3, "L": 2}
TEXT_SIZES = {"length": 16, "vocabulary": 64, "d": 24, "K": 3, "L": 2}


def perturbed(form: nn.Module) -> nn.Module:
    """No two entries alike but those that officially are."""
    torch.manual_seed(0)
    for parameter in form.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    for number, norm in enumerate(module for module in form.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.running_mean += torch.rand_like(norm.running_mean)
        norm.running_var += torch.rand_like(norm.running_var)
        norm.num_batches_tracked += 7 + number
    return form


def official_file(spec: str, folder: Path) -> tuple[Path, dict[str, Tensor]]:
    state = golden(STORED[spec], "param") if spec in STORED else perturbed(FORMS[spec]()).state_dict()
    torch.save({"model": state}, folder / "official.pth")
    return folder / "official.pth", state


def saved(spec: Path, file: Path, **about: str) -> None:
    """Fresh weights of the digits' size of a spec, which say so."""
    compiled = compile_network(spec, "digits", {})
    checkpoint.save_weights(file, compiled.module.state_dict(), origin("digits", {}, compiled) | about)


def sizes(spec: str) -> list[str]:
    own = {**SIZES, "tost_vision": VISION_SIZES | {"image": 16}, "tost_causal": TEXT_SIZES}[spec]
    return ["--set", *(f"{name}={value}" for name, value in own.items())]


def there_and_back(folder: Path, official: Path, *words: str) -> dict[str, Tensor]:
    ours, again = folder / "ours.safetensors", folder / "again.pth"
    convert.main([str(official), *words, "-o", str(ours)])
    convert.main([str(ours), "--to-official", "-o", str(again)])
    return torch.load(again, weights_only=True)


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert set(found) == set(wanted)
    assert [name for name in wanted if not same_bits(found[name], wanted[name])] == []


@pytest.mark.parametrize("spec", FORMS)
def test_bit_for_bit(spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    official, state = official_file(spec, tmp_path)
    found = there_and_back(tmp_path, official, str(SPECS / f"{spec}.crate"), *sizes(spec))
    assert_same(found, state)
    FORMS[spec]().load_state_dict(found)  # strictly
    assert capsys.readouterr().out.count("gives the same output: relative difference") == 2


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_the_type_of_the_file_stays(kind: torch.dtype, tmp_path: Path) -> None:
    state = {name: value.to(kind) for name, value in perturbed(FORMS["crate"]()).state_dict().items()}
    state["cls_token"].view(-1)[:3] = torch.tensor([-0.0, 0.0, float("nan")])
    network_, found = network("crate"), converted(state, network("crate"))
    assert_same(restored(found.weights, network_, found.kept).state, state)


def test_nothing_read_is_lost(tmp_path: Path) -> None:
    """What the official forward pass never reads is in the metadata; the tensors are those of the network."""
    official, state = official_file("crate_mae", tmp_path)
    state["pos_embed"] = state["pos_embed"] + 1  # officially the same table twice, but not in this file
    torch.save(state, official)
    words = [str(SPECS / "crate_mae.crate"), *sizes("crate_mae")]
    assert_same(there_and_back(tmp_path, official, *words), state)
    network("crate_mae").load_state_dict(safetensors.torch.load_file(tmp_path / "ours.safetensors"))


def test_what_nothing_reads_is_made_where_nothing_was_kept(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    official, state = official_file("crate_mae", tmp_path)
    there_and_back(tmp_path, official, str(SPECS / "crate_mae.crate"), *sizes("crate_mae"))
    weights, about = checkpoint.load_weights(tmp_path / "ours.safetensors")
    del about[kept.KEY]  # as after training
    checkpoint.save_weights(tmp_path / "trained.safetensors", weights, about)
    capsys.readouterr()
    convert.main([str(tmp_path / "trained.safetensors"), "--to-official", "-o", str(tmp_path / "made.pth")])
    found = torch.load(tmp_path / "made.pth", weights_only=True)
    assert torch.equal(found["decoder_embed.weight"], torch.eye(32, dtype=torch.float64))
    assert not found["decoder_embed.bias"].any() and torch.equal(found["pos_embed"], state["pos_embed"])
    made = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("made:")]
    assert made == ["pos_embed", "decoder_embed.weight", "decoder_embed.bias"]
    FORMS["crate_mae"]().load_state_dict(found)


def test_alpha_is_the_stored_official_one() -> None:
    form, stored = FORMS["crate_alpha"]().double(), Golden("crate_alpha")
    form.load_state_dict(stored("param"))
    assert_close(form(stored("in")["img"]), stored("out")["logits"])


def test_the_text_block_of_tost_is_the_stored_official_one() -> None:
    block, stored = TextBlock(24, 3, 16).double(), Golden("tost_lang_block")
    block.load_state_dict(stored("param"))
    assert_close(block(stored("in")["x"]), stored("out")["y"])


def test_an_untied_embedding_is_refused(tmp_path: Path) -> None:
    official, state = official_file("tost_causal", tmp_path)
    torch.save(dict(state) | {"lm_head.weight": state["lm_head.weight"] + 1}, official)
    with pytest.raises(UserError, match="lm_head.weight differs from transformer.wte.weight"):
        there_and_back(tmp_path, official, str(SPECS / "tost_causal.crate"), *sizes("tost_causal"))


# ---- what officially computes something else ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("lambda = 0.1", "lambda = 0.2"),
        ("norm layer\nhead", "norm layer(1e-6)\nhead"),
        ("softmax(1/sqrt(p))", "softmax(1)"),
    ],
)
def test_the_names_alone_do_not_make_it_official(
    old: str, new: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (SPECS / "crate.crate").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "other.crate").write_text(text.replace(old, new), encoding="utf-8")
    official, _ = official_file("crate", tmp_path)
    with pytest.raises(UserError, match="computes something else"):
        there_and_back(tmp_path, official, str(tmp_path / "other.crate"), *sizes("crate"))
    assert "note: with these weights the official CRATE computes something else" in capsys.readouterr().out
    assert not (tmp_path / "again.pth").exists()


def test_an_exact_network_has_no_official_form(tmp_path: Path) -> None:
    saved(SPECS / "crate_exact.crate", tmp_path / "ours.safetensors")
    with pytest.raises(UserError, match=r"not CRATE as its official code has it(.|\n)*missing: .*to_out"):
        convert.main([str(tmp_path / "ours.safetensors"), "--to-official", "-o", str(tmp_path / "again.pth")])


# ---- ToST on images --------------------------------------------------------------------------------------------------


def test_the_block_of_tost_on_images_is_the_stored_official_one() -> None:
    block, stored = Block(24, Statistics(24, 3), 1.0).double(), Golden("tost_block")
    block.load_state_dict(stored("param"))
    assert_close(block(stored("in")["x"]), stored("out")["y"])


def test_other_stand_ins_are_no_official_network(tmp_path: Path) -> None:
    """The spec with linear patches and learned positions has places for the layers alone, and says so both ways."""
    official, _ = official_file("tost_vision", tmp_path)
    words = [str(SPECS / "tost.crate"), "--set", "image=16", "patch=8", "classes=5", "d=24", "K=3", "L=2"]
    with pytest.raises(UserError) as error:
        there_and_back(tmp_path, official, *words)
    lines = [line.split()[:2] for line in str(error.value).splitlines()]
    missing = [name for kind, name in lines if kind == "missing:"]
    assert missing == ["position", "patches.projection.weight", "patches.projection.bias"]
    assert ["unexpected:", "cls_attn_blocks.1.gamma2"] in lines and "specs/tost_vision.crate" in str(error.value)
    compiled = compile_network(SPECS / "tost.crate", "digits", {})
    with pytest.raises(UserError, match=r"specs/tost_vision.crate(.|\n)*unexpected: position"):
        restored(compiled.module.state_dict(), compiled.module, {})


def test_counts_and_real_numbers_are_not_mixed_up(tmp_path: Path) -> None:
    official, state = official_file("tost_vision", tmp_path)
    count, mean = "patch_embed.proj.2.1.num_batches_tracked", "patch_embed.proj.2.1.running_mean"
    torch.save(dict(state) | {count: state[count].double(), mean: state[mean].long()}, official)
    with pytest.raises(UserError) as error:
        there_and_back(tmp_path, official, str(SPECS / "tost_vision.crate"), *sizes("tost_vision"))
    assert f"{count} holds torch.float64, not whole numbers" in str(error.value)
    assert f"{mean} holds torch.int64, not real numbers" in str(error.value)


def test_no_size_of_image_is_in_the_file_of_tost(tmp_path: Path) -> None:
    """Its positions are made of the grid, so the weights fit any, and nothing is interpolated."""
    official, state = official_file("tost_vision", tmp_path)
    words = [*sizes("tost_vision"), "image=32"]
    assert_same(there_and_back(tmp_path, official, str(SPECS / "tost_vision.crate"), *words), state)


# ---- what the files say --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["no base64", "bm8gdGVuc29ycw=="])
def test_spoilt_metadata(text: str) -> None:
    with pytest.raises(UserError, match="kept in the metadata cannot be read"):
        kept.unpacked({kept.KEY: text})


def test_weights_of_another_network_than_their_spec(tmp_path: Path) -> None:
    saved(SPECS / "crate.crate", tmp_path / "ours.safetensors", sizes='{"d": 48}')
    with pytest.raises(UserError, match=r"class_token 1 x 1 x 96, not 1 x 1 x 48"):
        convert.main([str(tmp_path / "ours.safetensors"), "--to-official", "-o", str(tmp_path / "again.pth")])


def test_the_way_back_takes_weights_alone(tmp_path: Path) -> None:
    saved(SPECS / "crate.crate", tmp_path / "ours.safetensors")
    words = [str(tmp_path / "ours.safetensors"), "--to-official", "--preset", "tiny", "-o", str(tmp_path / "again.pth")]
    with pytest.raises(UserError, match="takes weights alone"):
        convert.main(words)


def test_a_vision_transformer_is_none_of_ours(tmp_path: Path) -> None:
    names = ("cls_token", "blocks.0.attn.qkv.weight", "blocks.0.attn.proj.weight", "blocks.0.mlp.fc1.weight")
    torch.save({name: torch.zeros(4, 4) for name in names}, tmp_path / "vit.pth")
    with pytest.raises(UserError, match="no architecture known here"):
        convert.main([str(tmp_path / "vit.pth"), str(SPECS / "tost.crate"), "-o", str(tmp_path / "ours.safetensors")])
    assert read_official(tmp_path / "vit.pth").keys() == set(names)


def test_weights_that_have_diverged_come_back_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    official, state = official_file("crate", tmp_path)
    torch.save(state | {"cls_token": torch.full_like(state["cls_token"], torch.nan)}, official)
    found = there_and_back(tmp_path, official, str(SPECS / "crate.crate"), *sizes("crate"))
    assert found["cls_token"].isnan().all() and "no finite output" in capsys.readouterr().out
