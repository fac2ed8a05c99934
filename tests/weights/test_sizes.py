"""What a file is, told by its tensors: family, sizes, preset."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from runtime import convert
from runtime.baselines.official import Crate
from runtime.errors import UserError
from runtime.storage import checkpoint
from runtime.weights.names import FAMILIES, family_of
from runtime.weights.sizes import choice_for, sizes_in
from tests.runtime.conftest import SPECS
from tests.weights.test_round_trip import FORMS, TEXT_SIZES, VISION_SIZES, official_file, sizes


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ("crate", {"d": 24, "L": 2, "classes": 5, "patch": 4, "channels": 3, "image": 16}),
        ("crate_mae", {"d": 32, "L": 2, "patch": 4, "channels": 3, "image": 16}),
        ("crate_alpha", {"d": 24, "L": 2, "classes": 5, "patch": 4, "channels": 3, "image": 16}),
        ("tost_vision", VISION_SIZES | {"channels": 3}),
        ("tost_causal", TEXT_SIZES),
    ],
)
def test_family_and_sizes(spec: str, wanted: dict[str, int], tmp_path: Path) -> None:
    _, state = official_file(spec, tmp_path)
    family = family_of(state)
    assert family.spec == f"{spec}.crate" and sizes_in(state, family) == wanted


def test_every_official_name_has_one_place() -> None:
    """The tables can be read both ways: no two names of a family share a place, and each comes back as itself."""
    for family in FAMILIES:
        names = [name for rule in family.rules for name in rule.instances([rule.official.format(layer=1, kind="bias")])]
        places = [family.rule_for(name).to_ours(name) for name in names]
        assert len(set(places)) == len(names) == len(set(names))
        assert [family.rule_of(place).to_official(place) for place in places] == names


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"d": 384, "L": 12, "classes": 1000, "patch": 16}, "--preset tiny"),
        ({"d": 768, "L": 12, "classes": 21841, "patch": 8}, "--set classes=21841 patch=8"),
        ({"d": 1024, "L": 24, "classes": 10, "patch": 16}, "--preset large --set classes=10"),
    ],
)
def test_the_preset_that_fits(found: dict[str, int], words: str) -> None:
    choice = choice_for(SPECS / "crate.crate", found | {"image": 224, "channels": 3})
    assert choice.width_known and set(str(choice).split()) == set(words.split())


def tiny(folder: Path, width: int = 384) -> Path:
    torch.manual_seed(0)
    form = Crate((16, 16), (16, 16), 3, 3, width, 12, width // 64, 64, "cls")
    torch.save(form.state_dict(), folder / "official.pth")
    return folder / "official.pth"


def test_without_a_spec(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    convert.main([str(tiny(tmp_path)), "-o", str(tmp_path / "ours.safetensors")])
    assert "CRATE, as crate.crate --preset tiny --set classes=3 image=16" in capsys.readouterr().out.replace(
        "L=12 ", ""
    )
    assert checkpoint.load_weights(tmp_path / "ours.safetensors")[1]["preset"] == "tiny"


def test_heads_are_asked_for_where_nothing_tells_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="how many heads CRATE of width 192 has: give --set K="):
        convert.main([str(tiny(tmp_path, width=192)), "-o", str(tmp_path / "ours.safetensors")])


def test_a_misfit_says_what_would_fit(tmp_path: Path) -> None:
    words = [str(tiny(tmp_path)), str(SPECS / "crate.crate"), "--preset", "base", "-o", str(tmp_path / "ours")]
    with pytest.raises(UserError, match=r"the file is CRATE .* of d=384, .*: try --preset tiny --set classes=3"):
        convert.main(words)


@pytest.mark.parametrize("spec", ["crate", "crate_mae"])
def test_another_image_size(spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Learned positions are interpolated, fixed ones made anew; the way back writes what the official code reads."""
    official, state = official_file(spec, tmp_path)
    words = [*sizes(spec), "image=24"]
    convert.main([str(official), str(SPECS / f"{spec}.crate"), *words, "-o", str(tmp_path / "ours.safetensors")])
    fixed = "the fixed table of 6 x 6 patches in place of that of 4 x 4"
    assert (
        f"position: {fixed if spec == 'crate_mae' else 'interpolated from 4 x 4 to 6 x 6 patches'}"
        in capsys.readouterr().out
    )
    convert.main([str(tmp_path / "ours.safetensors"), "--to-official", "-o", str(tmp_path / "again.pth")])
    found = torch.load(tmp_path / "again.pth", weights_only=True)
    changed = {name for name in state if found[name].shape != state[name].shape or not found[name].equal(state[name])}
    assert changed == ({"pos_embedding"} if spec == "crate" else {"pos_embed", "decoder_pos_embed"})
    assert {found[name].shape[1] for name in changed} == {37}
    assert set(FORMS[spec]().state_dict()) == set(found)
