"""What is said of single pictures is what the network says of them, prepared like held-out data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from runtime import predict
from runtime.errors import UserError
from runtime.images.augment import Preparation
from runtime.network import Shape
from runtime.predicting.reading import batch_of, opened
from runtime.recipe.schema import SOURCES
from runtime.storage.trained import network_of, recipe_of
from tests.runtime.conftest import Train, Weights

SIZES = {"image": 16, "patch": 4, "channels": 1, "d": 8, "K": 2, "L": 1}


def png(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


@pytest.fixture
def digits(tmp_path: Path) -> list[Path]:
    """The first three held-out digits as pictures of 8 x 8."""
    images = SOURCES["digits"]().splits(Shape(1, 8, 8)).held_out.images[:3, 0]
    return [png(tmp_path / f"digit{i}.png", ((image + 1) * 127.5).round().numpy()) for i, image in enumerate(images)]


def test_digits_are_prepared_like_the_held_out_ones(digits: list[Path]) -> None:
    source = SOURCES["digits"](enlarge=2)
    held_out = source.splits(Shape(1, 16, 16)).held_out.images[:3]
    read = batch_of(digits, source, Shape(1, 16, 16))
    assert (read - held_out).abs().max() <= 0.5 / 127.5 + 1e-6  # the rounding of a PNG
    large = png(digits[0].with_name("large.png"), np.asarray(Image.open(digits[0])).repeat(5, 0).repeat(5, 1))
    assert torch.equal(batch_of([large], source, Shape(1, 16, 16)), read[:1])
    with pytest.raises(UserError, match="the network reads 1 x 8 x 8"):
        batch_of(digits, source, Shape(1, 8, 8))


def photographs(root: Path) -> Path:
    """A folder of two classes, two splits, random pictures."""
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("cat", "[dog]"):
            png(root / split / kind / "a.png", random.integers(256, size=(30, 40, 3)))
    return root


def test_a_folder_gives_names_and_preparation(
    weights_of: Weights, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = photographs(tmp_path / "data")
    recipe = tmp_path / "recipe.yaml"
    data = f"{{name: folder, path: {root}, preparation: {{mean: [0.4, 0.5, 0.6], std: [0.2, 0.3, 0.4]}}}}"
    recipe.write_text(f"task: classify\ndata: {data}\nsteps: 1\n")
    file = weights_of("crate", **SIZES | {"channels": 3}, classes=2)
    picture = root / "val" / "cat" / "a.png"
    predict.main([str(file), str(picture), "--recipe", str(recipe), "--out", str(tmp_path / "out")])
    trained = network_of(file)
    held_out = recipe_of(trained, str(recipe)).data.splits(trained.compiled.shape).held_out
    batch = held_out.take([1], None)  # classes in the order of the alphabet: [dog], cat
    assert torch.equal(batch_of([picture], recipe_of(trained, str(recipe)).data, trained.compiled.shape), batch.images)
    probabilities = trained.compiled.module.eval()(batch.images).softmax(1)[0]
    (entry,) = json.loads((tmp_path / "out" / "predictions.json").read_text())["predictions"]
    found = {each["name"]: each["probability"] for each in entry["classes"]}
    assert found == pytest.approx({"[dog]": probabilities[0].item(), "cat": probabilities[1].item()}, rel=1e-5)
    assert "[dog]" in capsys.readouterr().out
    (root / "train").rename(root / "gone")  # without the data classes have numbers
    predict.main([str(file), str(picture), "--recipe", str(recipe), "--out", str(tmp_path / "out")])
    (entry,) = json.loads((tmp_path / "out" / "predictions.json").read_text())["predictions"]
    assert {each["name"] for each in entry["classes"]} == {"0", "1"}


def test_the_most_probable_classes_first(tiny_run: Train, digits: list[Path]) -> None:
    run = tiny_run("crate", "evaluate_batch=2")
    predict.main([str(run), *map(str, digits), "--top", "3"])
    entries = json.loads((run / "predictions.json").read_text())["predictions"]
    images = batch_of(digits, SOURCES["digits"](enlarge=2), Shape(1, 16, 16))
    best = network_of(run).compiled.module.eval()(images).softmax(1).topk(3)
    for entry, file, numbers, values in zip(entries, digits, best.indices, best.values, strict=True):
        assert entry["picture"] == str(file)
        assert [each["class"] for each in entry["classes"]] == numbers.tolist()
        assert [each["probability"] for each in entry["classes"]] == pytest.approx(values.tolist(), rel=1e-5)


@pytest.mark.parametrize("spec", ["crate_mae", "crate_decoder", "crate_autoencoder"])
def test_pictures_of_pictures(spec: str, weights_of: Weights, digits: list[Path], tmp_path: Path) -> None:
    file = weights_of(spec, **SIZES)
    recipe = {"crate_mae": "mae_digits", "crate_decoder": "denoise_digits", "crate_autoencoder": "reconstruct_digits"}
    out = tmp_path / "out"
    words = ["--recipe", str(with_enlarged(recipe[spec], tmp_path)), "--out", str(out)]
    predict.main([str(file), *map(str, digits), *words])
    entries = json.loads((out / "predictions.json").read_text())["predictions"]
    assert (out / "predictions.png").is_file()
    if spec == "crate_mae":
        assert all(entry["masked_error"] > 0 for entry in entries)
        return
    network = network_of(file).compiled.module.eval()
    images = batch_of(digits, SOURCES["digits"](enlarge=2), Shape(1, 16, 16))
    with torch.no_grad():
        result = network.unpatchify(network(images))
    shown = ((result / 2 + 0.5).clamp(0, 1) * 255).round()
    for entry, image, pixels, number in zip(entries, images, shown, range(1, 4), strict=True):
        assert Path(entry["result"]) == out / "predictions" / f"{number}-digit{number - 1}.png"
        assert np.array_equal(np.asarray(Image.open(entry["result"])), pixels[0].numpy())
        change = (result[number - 1] - image).square().mean().item()
        assert entry["squared_difference"] == pytest.approx(change, rel=1e-4)


def with_enlarged(recipe: str, folder: Path) -> Path:
    """A recipe of the digits, enlarged to 16 x 16."""
    task = recipe.removesuffix("_digits")
    file = folder / "enlarged.yaml"
    file.write_text(f"task: {task}\ndata: {{name: digits, enlarge: 2}}\nsteps: 1\n")
    return file


def test_default_preparation_is_the_centre_crop(tmp_path: Path) -> None:
    picture = png(tmp_path / "a.png", np.random.default_rng(0).integers(256, size=(40, 60, 3)))
    shape = Shape(3, 32, 32)
    wanted = Preparation().tensor(opened(picture), shape, None)
    assert torch.equal(batch_of([picture], SOURCES["photographs"](), shape)[0], wanted)


def test_what_is_no_picture(
    weights_of: Weights, digits: list[Path], status: Callable[..., int], tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    file = weights_of("crate", **SIZES, classes=10)
    text = tmp_path / "text.png"
    text.write_text("no picture")
    torn = tmp_path / "torn.png"
    torn.write_bytes(
        png(tmp_path / "whole.png", np.random.default_rng(0).integers(256, size=(64, 64))).read_bytes()[:300]
    )
    other = tmp_path / "lab.tiff"
    Image.new("LAB", (9, 9)).save(other)
    for path, message in (
        (other, "not a readable picture: conversion from LAB"),
        (text, "not a readable picture"), (torn, "not a readable picture"), (tmp_path / "none.png", "no such picture"),
        (tmp_path, "not a readable picture"),
    ):  # fmt: skip
        assert status(predict, file, digits[0], path) == 1
        shown = capsys.readouterr().err
        assert f"{path}: {message}" in shown and "Traceback" not in shown
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert status(predict, file, digits[0]) == 1
    assert "decompression bomb" in capsys.readouterr().err
    assert not (tmp_path / "weights").exists()  # nothing half done


def test_pictures_of_sixteen_bits(tmp_path: Path) -> None:
    """As the same picture of eight bits, in which Pillow would cut off what is above 255."""
    values = np.random.default_rng(0).integers(256, size=(20, 20))
    narrow = png(tmp_path / "narrow.png", values)
    wide = tmp_path / "wide.png"
    Image.fromarray((256 * values + 7).astype(np.uint16)).save(wide)
    one, other = batch_of([narrow, wide], SOURCES["digits"](), Shape(1, 8, 8))
    assert torch.equal(one, other) and one.std() > 0


def test_networks_that_say_nothing_of_a_picture(weights_of: Weights, digits: list[Path]) -> None:
    text = {"length": 16, "vocabulary": 256, "d": 8, "K": 2, "L": 1}
    for spec, sizes, message in (
        ("crate_gpt", text, "runtime.sample"), ("crate_bert", text, "runtime.evaluate"),
        ("crate_dino", SIZES, "runtime.probe"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            predict.main([str(weights_of(spec, **sizes)), str(digits[0])])
    with pytest.raises(UserError, match="gives pictures and no classes, of which --top is the number"):
        predict.main([str(weights_of("crate_mae", name="mae", **SIZES)), str(digits[0]), "--top", "3"])
    with pytest.raises(UserError, match="--top is 0"):
        predict.main([str(weights_of("crate", **SIZES, classes=10)), str(digits[0]), "--top", "0"])
