"""What is asked of a report and cannot be had is said, not passed over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crate_dsl import CrateError
from runtime import report
from runtime.errors import UserError
from runtime.instruments.naming import Asked, Named, subject_named
from tests.runtime.conftest import SPECS, Weights, weights_of  # noqa: F401

SIZES = {"image": 16, "patch": 4, "channels": 1, "classes": 10, "d": 8, "K": 2, "L": 1}
CRATE = str(SPECS / "crate.crate")


def picture(file: Path) -> Path:
    Image.fromarray(np.zeros((16, 16), dtype=np.uint8)).save(file)
    return file


def test_weights_are_chosen_of_runs_alone(weights_of: Weights) -> None:  # noqa: F811
    for words in ([str(weights_of("crate", **SIZES))], [CRATE]):
        with pytest.raises(UserError, match="--weights best chooses among the weights of a run, and no run is named"):
            report.main([*words, "--weights", "best"])


def test_masks_need_pictures_of_their_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    first, second = picture(tmp_path / "first.png"), picture(tmp_path / "second.png")
    with pytest.raises(UserError, match="--masks are those of pictures that --images names"):
        report.main([CRATE, "--masks", str(masks)])
    words = [CRATE, "--masks", str(masks), "--images", str(first), str(second)]
    with pytest.raises(UserError, match=r"no picture has a mask there; that of .*first.png would be .*masks/first.png"):
        report.main(words)
    picture(masks / "first.png")
    report.main([*words, "--only", "overview", "--count", "2", "--out", str(tmp_path / "out")])
    assert f"without a mask in {masks}: second.png\n" in capsys.readouterr().out


def test_sizes_that_only_the_recipe_names(tmp_path: Path) -> None:
    """A spec that calls its sizes otherwise: the message says who sets them, since the user did not."""
    spec = tmp_path / "other.crate"
    text = (SPECS / "crate.crate").read_text(encoding="utf-8")
    spec.write_text(text.replace("image = ", "side = ").replace("image, image)", "side, side)"), encoding="utf-8")
    asked = Asked(None, None, [], None, {}, 2)
    with pytest.raises(CrateError, match='recipe:1:7: there is no "image" (.|\n)*sizes.image=null leaves it out'):
        subject_named(Named("other", None, spec), asked)
