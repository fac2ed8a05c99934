"""Recipes: every shipped one is valid and says what it is; mistakes are named with the nearest key."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from runtime.errors import UserError
from runtime.recipe import recipes
from runtime.recipe.schema import SOURCES, TASKS


@pytest.mark.parametrize("name", recipes.shipped())
def test_shipped_recipes(name: str) -> None:
    recipe = recipes.load(recipes.find(name))
    assert recipe.source and recipe.ran, "a recipe says where it comes from and what was run of it"


@pytest.mark.parametrize("name", recipes.shipped())
def test_the_resolved_recipe_is_the_recipe(name: str, tmp_path: Path) -> None:
    recipe = recipes.load(recipes.find(name))
    file = tmp_path / "resolved.yaml"
    file.write_text(recipes.text_of(recipe), encoding="utf-8")
    assert recipes.load(file) == recipe


def test_every_kind_of_network_has_a_default() -> None:
    kinds = {kind for task in TASKS.values() for kind in task.networks}
    assert set(recipes.DEFAULTS) == kinds
    for kind, name in recipes.DEFAULTS.items():
        assert kind in recipes.load(recipes.find(name)).task.networks


def test_overrides_are_typed() -> None:
    words = ["optimizer.lr=1e-4", "optimizer.betas=[0.9, 0.95]", "clip=1", "ema=null", "compile=true", "sizes.d=32"]
    recipe = recipes.load(recipes.find("mae_digits"), [*words, "task.normalise=yes", "sizes.lambda=0.5"])
    assert recipe.optimizer.lr == 1e-4
    assert recipe.optimizer.betas == (0.9, 0.95)
    assert recipe.clip == 1.0
    assert recipe.ema is None
    assert recipe.compile is True
    assert recipe.task.normalise is True
    assert recipe.sizes == {"d": 32, "lambda": 0.5} and isinstance(recipe.sizes["d"], int)


def test_another_task_or_source_starts_from_its_own_defaults() -> None:
    recipe = recipes.load(recipes.find("denoise_digits"), ["task=reconstruct", "data=photographs", "data.crops=100"])
    assert recipe.task == TASKS["reconstruct"]()
    assert recipe.data == SOURCES["photographs"](crops=100)


MISTAKES = {
    "lr=1": 'unknown key "lr"',
    "optimizer.lrr=1": 'unknown key "optimizer.lrr"\nknown keys: .* Did you mean "lr"?',
    "optimiser.lr=1": 'unknown key "optimiser".* Did you mean "optimizer"?',
    "task.normalize=1": 'unknown key "task.normalize"\nknown keys: .* Did you mean "normalise"?',
    "task=mea": 'task: unknown name "mea"\nknown names of task: .* Did you mean "mae"?',
    "data.name=digitz": 'data: unknown name "digitz".* Did you mean "digits"?',
    "data=": 'data: unknown name "None"',
    "optimizer.lr=fast": "optimizer.lr: .*number.*'fast'",
    "optimizer.lr=.nan": "optimizer.lr: .*finite.*nan",
    "optimizer.lr=-1": "optimizer.lr: .*greater than 0.*-1",
    "optimizer=adam": 'optimizer: unknown name "adam"\nknown names of optimizer: adamw, .* Did you mean "adamw"?',
    "optimizer.momentum=0.9": 'unknown key "optimizer.momentum"\nknown keys: betas, ',
    "optimizer.lr.x=1": '"lr" of optimizer.lr.x is a single value',
    "batch=0": "batch: .*greater than 0",
    "batch=12.5": "batch: .*integer.*12.5",
    "accumulate=3": "batch 128 cannot be split into accumulate = 3 equal shares",
    "epochs=3": "exactly one of steps and epochs is needed",
    "precision=float16": "precision: .*'float32' or 'bfloat16'.*'float16'",
    "ema=1": "ema: .*less than 1",
    "batch": "not of the form key=value",
    "=3": "not of the form key=value",
    "batch=[": "the value \\[ is not YAML",
}


@pytest.mark.parametrize("override", MISTAKES)
def test_mistakes_are_named(override: str) -> None:
    with pytest.raises(UserError, match=f"(?s){MISTAKES[override]}"):
        recipes.load(recipes.find("mae_digits"), [override])


def test_several_mistakes_are_named_at_once() -> None:
    with pytest.raises(UserError) as error:
        recipes.load(recipes.find("mae_digits"), ["bach=3", "optimizer.lr=fast", "task.x=1"])
    assert all(word in str(error.value) for word in ('"bach"', "optimizer.lr", '"task.x"'))


def test_unknown_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='unknown recipe "mae_digit"\n.*Did you mean "mae_digits"?'):
        recipes.find("mae_digit")
    with pytest.raises(UserError, match="cannot read the recipe: No such file"):
        recipes.load(tmp_path / "absent.yaml")
    for text, complaint in {"a: [": "not YAML", "- 1": "a mapping", "!!python/object:os.system {}": "not YAML"}.items():
        file = tmp_path / "recipe.yaml"
        file.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=complaint):
            recipes.load(file)


def test_recipes_are_safe_yaml_only() -> None:
    """The loader must not know Python tags."""
    with pytest.raises(yaml.YAMLError):
        yaml.safe_load("!!python/name:os.system")
