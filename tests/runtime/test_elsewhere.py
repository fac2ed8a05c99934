"""A run is used from other folders than the one it was trained in, after it has moved, and after its text has gone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from runtime import evaluate, sample
from runtime.data.hub import Hub
from runtime.errors import UserError
from runtime.network import compile_network
from runtime.recipe import recipes
from runtime.storage.run_folder import RunFolder, create, recipe_in
from runtime.text.alphabet import Characters
from runtime.text.alphabet import read as read_characters
from runtime.variants.side_by_side import require_recipe
from tests.runtime.conftest import SPECS, Train

PARROT = "the parrot repeats what it hears, \u00e4 word for a word\n"
SIZES = {"image": 8, "patch": 2, "channels": 1, "classes": 10, "d": 8, "K": 2, "L": 1}


def test_a_run_of_characters_needs_neither_its_folder_nor_its_text(
    tiny_run: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    Path("book.txt").write_text(PARROT * 60)
    count = len(set(PARROT))
    words = ["data.file=book.txt", "data.tokens=characters", f"sizes.vocabulary={count}", "sizes.length=16"]
    run = tiny_run("crate_gpt", *words, steps=2)
    monkeypatch.chdir(tmp_path / "elsewhere")
    evaluate.main([str(run)])
    Path("../there/book.txt").unlink()
    capsys.readouterr()
    sample.main([str(run), "--prompt", "a word", "--tokens", "3"])
    assert capsys.readouterr().out.startswith("a word")
    with pytest.raises(UserError, match=r"there/book\.txt: cannot be read as a text: No such file"):
        evaluate.main([str(run)])


def run_with(data: list[str], path: Path) -> RunFolder:
    """The folder of a run that has not begun."""
    recipe = recipes.load(recipes.find("classify_digits"), data)
    return create(path, recipe, compile_network(SPECS / "crate.crate", None, SIZES), "crate.crate")


def test_data_that_moved_with_a_run_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, moved = tmp_path / "project", tmp_path / "moved"
    (project / "pictures").mkdir(parents=True)
    monkeypatch.chdir(project)
    run_with(["data=folder", "data.path=pictures"], Path("runs/first"))
    recipe = recipe_in(RunFolder(Path("runs/first")))
    monkeypatch.chdir(tmp_path)
    assert recipe_in(RunFolder(Path("project/runs/first"))).data.path == project / "pictures"
    shutil.move(project, moved)
    folder = RunFolder(Path("moved/runs/first"))
    assert recipe_in(folder).data.path == moved / "pictures"
    require_recipe(folder, recipe.model_copy(update={"data": recipe_in(folder).data}))
    assert recipe_in(folder, ["data.path=gone"]).data.path == tmp_path / "gone"
    shutil.rmtree(moved / "pictures")
    assert recipe_in(folder).data.path == project / "pictures"
    folder.versions.write_text("[]")
    assert recipe_in(folder).data.path == project / "pictures"


def test_local_places_of_a_set_are_absolute_and_names_of_the_hub_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.parquet").touch()
    assert Hub(path="rows").path == str(tmp_path / "rows")
    assert Hub(path="owner/rows", data_dir="rows").data_dir == "rows"
    assert Hub(path="imagefolder", data_dir="rows").data_dir == str(tmp_path / "rows")
    files = {"train": "rows/*.parquet", "validation": ["https://host/b.parquet", "rows/a.parquet"]}
    assert Hub(path="parquet", data_files=files).data_files == {
        "train": [str(tmp_path / "rows/*.parquet")],
        "validation": ["https://host/b.parquet", str(tmp_path / "rows/a.parquet")],
    }


def test_a_home_is_written_shortly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    data = recipes.load(recipes.find("classify_folder"), ["data.path=~/pictures"]).data
    assert data.path == tmp_path / "pictures"


def test_characters_come_back(tmp_path: Path) -> None:
    file = tmp_path / "characters.json"
    file.write_text(Characters("\n ab\u00e4\U0001f642").text)
    assert read_characters(file) == Characters("\n ab\u00e4\U0001f642")
    for content in ("{", json.dumps(["a"]), json.dumps("ba"), json.dumps("aa"), "[" * 100_000):
        file.write_text(content)
        with pytest.raises(UserError, match=r"characters\.json: not the characters\.json of a run"):
            read_characters(file)
