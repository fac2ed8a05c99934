"""Recipes from someone else: nothing is constructed, referred to or looked up that a recipe has no name for."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime import train
from runtime.recipe import recipes
from tests.runtime.conftest import SPECS
from tests.security.bounded import outcome

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
GOOD = (recipes.FOLDER / "classify_digits.yaml").read_text(encoding="utf-8")
HOSTILE = {
    "apply": ("!!python/object/apply:os.system ['touch marker']", "could not determine a constructor"),
    "name": ("task: !!python/name:os.system ''", "could not determine a constructor"),
    "module": ("task: !!python/module:os ''", "could not determine a constructor"),
    "laughs": (LAUGHS + "sizes: {d: *a11}", "references (*a0) are not allowed"),
    "itself": ("task: &a [*a]", "references (*a) are not allowed"),
    "merge": ("a: &a {b: 1}\n<<: *a", "references (*a) are not allowed"),
    "nested": ("a: " + "[" * 100_000, "more than 20 levels"),
    "nested blocks": ("\n".join(" " * n + f"k{n}:" for n in range(900)), "more than 20 levels"),
    "base 60": ("batch: " + "1:" * 200_000 + "1", "more than 10,000 characters"),
    "digits": ("batch: " + "9" * 5000, "Exceeds the limit"),
    "date": ("batch: 2001-99-99", "month must be in 1..12"),
    "key": ("? [a, b]\n: c", "unhashable key"),
    "twice": ("batch: 64\noptimizer: {name: lion}\nbatch: 32", 'line 3: "batch" is given twice'),
    "null": ("\x00: 1", "special characters are not allowed"),
    "binary": ("batch: !!binary '*'", "batch: Input should be a valid integer"),
    "class": (f"{GOOD}\n__class__: x", 'unknown key "__class__"'),
    "config": (f"{GOOD}\nmodel_config: x", 'unknown key "model_config"'),
    "module as a task": (GOOD.replace("task:", "task: os.path\nrest:"), 'unknown name "os.path"'),
    "infinity": (f"{GOOD}\nclip: .inf", "clip: "),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_recipes(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text, says = HOSTILE[kind]
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    outcome(train.main, SPECS / "crate.crate", "--recipe", "recipe.yaml").refused(says)
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_every_shipped_recipe_is_read_as_before() -> None:
    assert all(recipes.load(path).task for path in recipes.shipped().values())
