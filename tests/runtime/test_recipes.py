"""Recipes: every shipped one is valid and says what it is; mistakes are named with the nearest key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from crate_dsl import CrateError, compile_spec
from crate_dsl.compiler import Compilation
from runtime import train
from runtime.errors import UserError
from runtime.network import SHAPES
from runtime.optimisers.adamw import AdamW
from runtime.optimisers.lion import Lion
from runtime.optimisers.muon import Muon
from runtime.recipe import recipes
from runtime.recipe.schema import SOURCES, TASKS, Recipe
from runtime.training.rates import Rates
from tests.runtime.conftest import SPECS


@pytest.mark.parametrize("name", recipes.shipped())
def test_shipped_recipes(name: str) -> None:
    recipe = recipes.load(recipes.find(name))
    assert recipe.source and recipe.ran, "a recipe says where it comes from and what was run of it"


def specs_named(recipe: Recipe) -> list[Path]:
    return [SPECS / spec for spec in sorted(set(re.findall(r"\w+\.crate", f"{recipe.source} {recipe.ran}")))]


@pytest.mark.parametrize("name", recipes.shipped())
def test_a_recipe_fits_a_spec_that_it_names(name: str) -> None:
    """Its preset exists there with its sizes, its task trains such a network, its data have such a kind."""
    recipe = recipes.load(recipes.find(name))
    compiled = {spec: compilation(spec, recipe.preset, recipe.sizes) for spec in specs_named(recipe)}
    fitting = [each for each in compiled.values() if each and each.task in recipe.task.networks]
    assert fitting, f"{name} names {[spec.name for spec in compiled]}"
    assert all(SHAPES[each.model.input.name] is recipe.data.reads for each in fitting)


@pytest.mark.parametrize("name", recipes.shipped())
def test_the_presets_that_a_recipe_promises_exist(name: str) -> None:
    recipe = recipes.load(recipes.find(name))
    promised = re.findall(r"preset=(\w+(?:, \w+)*(?: or \w+)?)", recipe.source)
    for preset in set(re.split(", | or ", ", ".join(promised))) - {""}:
        fits = [compilation(spec, preset, recipe.sizes) for spec in specs_named(recipe)]
        assert any(each and each.task in recipe.task.networks for each in fits), preset


def compilation(spec: Path, preset: str | None, sizes: dict[str, int | float]) -> Compilation | None:
    """The spec with the recipe's preset and sizes; None where it has none such."""
    try:
        found = compile_spec(spec, preset, sizes)
        return found if found.model else None
    except CrateError:
        return None


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


def test_an_optimiser_without_a_name_is_adamw(tmp_path: Path) -> None:
    """As in recipes and run folders of before there were others; another one starts from its own defaults."""
    file = tmp_path / "recipe.yaml"
    file.write_text("{task: mae, data: digits, steps: 9, optimizer: {lr: 0.01, eps: 1.0e-6}}", encoding="utf-8")
    assert recipes.load(file).optimizer == AdamW(lr=0.01, eps=1e-6)
    assert recipes.load(file, ["optimizer.betas=[0.9, 0.95]"]).optimizer == AdamW(lr=0.01, eps=1e-6, betas=(0.9, 0.95))
    assert recipes.load(file, ["optimizer=lion"]).optimizer == Lion()
    assert recipes.load(file, ["optimizer.name=lion", "optimizer.lr=2e-4"]).optimizer == Lion(lr=2e-4)
    file.write_text("{task: mae, data: digits, steps: 9, optimizer: muon}", encoding="utf-8")
    assert recipes.load(file, ["optimizer.lr=0.02"]).optimizer == Muon(lr=0.02)
    file.write_text("{task: mae, data: digits, steps: 9}", encoding="utf-8")
    assert recipes.load(file).optimizer == AdamW() and recipes.load(file, ["optimizer.lr=0.5"]).optimizer.lr == 0.5


PUBLISHED = {  # learning rate at its peak and at the end of the run, and steps of warm-up, of so many steps per epoch
    "classify_imagenet": (2.4e-4, 0, 3125, 625),
    "classify_imagenet_adamw": (4e-4, 0, 50040, 2502),
    "mae_imagenet": (4.8e-4, 0, 12480, 312),
    "finetune_imagenet": (2e-3, 1e-6, 6255, 1251),
    "alpha_imagenet21k": (8e-4, 1e-6, 32110, 3211),
    "alpha_imagenet": (1.6e-4, 1e-6, 3120, 312),
    "tost_imagenet": (1e-3, 1e-5, 6255, 1251),
    "gpt_openwebtext": (6e-4, 6e-5, 2000, 1),
    "bert_wikipedia": (1e-4, 0, 10000, 1),
    "dino_imagenet": (1e-3, 1e-6, 25020, 2502),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_rates_are_the_published_ones(name: str) -> None:
    peak, last, warmup, steps_per_epoch = PUBLISHED[name]
    rates = Rates.of(recipes.load(recipes.find(name)), steps_per_epoch)
    assert rates.warmup == warmup
    assert rates.learning_rate(warmup) == pytest.approx(peak, rel=1e-12)
    assert rates.learning_rate(rates.total) == pytest.approx(last, abs=1e-18, rel=1e-9)


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


@pytest.mark.parametrize("choice", ["optimizer=lion", "optimizer.name=lion"])
def test_a_choice_comes_before_its_settings_wherever_it_stands(choice: str) -> None:
    words = ["optimizer.lr=3e-3", choice, "optimizer.betas=[0.8, 0.9]"]
    found = recipes.load(recipes.find("classify_digits"), words).optimizer
    assert (found.name, found.lr, found.betas) == ("lion", 3e-3, (0.8, 0.9))


def test_another_task_or_source_starts_from_its_own_defaults() -> None:
    recipe = recipes.load(recipes.find("denoise_digits"), ["task=reconstruct", "data=photographs", "data.crops=100"])
    assert recipe.task == TASKS["reconstruct"]()
    assert recipe.data == SOURCES["photographs"](crops=100)


MISTAKES = {
    "lr=1": 'unknown key "lr"\n.*\nthere is "optimizer.lr"',
    "d=48": 'unknown key "d"\n.*\na size or real of the spec is written sizes.d',
    "optimizer.lrr=1": 'unknown key "optimizer.lrr"\nknown keys: .* Did you mean "lr"?',
    "optimiser.lr=1": 'unknown key "optimiser".* Did you mean "optimizer"?',
    "task.normalize=1": 'unknown key "task.normalize"\nknown keys: .* Did you mean "normalise"?',
    "task=mea": 'task: unknown name "mea"\nknown names of task: .* Did you mean "mae"?',
    "data.name=digitz": 'data: unknown name "digitz".* Did you mean "digits"?',
    "data=": 'data: unknown name "None"',
    "optimizer.lr=fast": "optimizer.lr: .*number.*'fast'",
    "optimizer.lr=.nan": "optimizer.lr: .*finite.*nan",
    "optimizer.lr=-1": "optimizer.lr: .*greater than 0.*-1",
    "optimizer.betas=[0.9, 1]": "optimizer.betas.1: .*less than 1, got 1",
    "optimizer=adam": 'optimizer: unknown name "adam"\nknown names of optimizer: adamw, .* Did you mean "adamw"?',
    "optimizer.momentum=0.9": 'unknown key "optimizer.momentum"\nknown keys: betas, ',
    "optimizer.lr.x=1": '"lr" of optimizer.lr.x is a single value',
    "batch=0": "batch: .*greater than 0",
    "batch=12.5": "batch: .*integer.*12.5",
    "steps=null": "exactly one of steps and epochs is needed",
    "precision=float16": "precision: .*'float32' or 'bfloat16'.*'float16'",
    "ema=1": "ema: .*less than 1",
    "batch": "not of the form key=value",
    "=3": "not of the form key=value",
    "batch=[": "the value \\[ is not YAML",
    "steps=2024-13-45": "the value 2024-13-45 is not YAML",
    f"seed={2**63}": "seed: .*less than or equal to",
}


@pytest.mark.parametrize("override", MISTAKES)
def test_mistakes_are_named(override: str) -> None:
    with pytest.raises(UserError, match=f"(?s){MISTAKES[override]}"):
        recipes.load(recipes.find("mae_digits"), [override])


def test_the_command_line_takes_the_place_of_the_other_way() -> None:
    """Of steps and epochs, and of the two kinds of warm-up, a recipe states one."""
    file = recipes.find("classify_digits")
    recipe = recipes.load(file, ["steps=500", "schedule.warmup_epochs=5", "sizes.patch=null", "sizes.eta=0.2"])
    assert (recipe.steps, recipe.epochs, recipe.schedule.warmup, recipe.schedule.warmup_epochs) == (500, None, 0, 5)
    assert recipe.sizes == {"image": 16, "eta": 0.2}
    assert recipes.load(file, ["epochs=3"]).epochs == 3
    assert recipes.load(file, ["steps=null", "epochs=3"]).epochs == 3
    with pytest.raises(UserError, match="exactly one of steps and epochs"):
        recipes.load(file, ["steps=3", "epochs=3"])


def test_an_empty_path_is_none() -> None:
    with pytest.raises(UserError, match="data.path: Input should be a path, got None"):
        recipes.load(recipes.find("classify_imagenet"), ["data.path="])


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


@pytest.mark.parametrize(
    ("setting", "complaint"),
    {
        "scale=[1,0.5]": "1 is above 0.5", "scale=[-1,1]": "greater than 0", "scale=[0.5,3]": "less than or equal to 1",
        "std=[0]": "greater than 0", "mean=[]": "at least 1",
    }.items(),
)  # fmt: skip
def test_preparation_of_pictures_is_checked(setting: str, complaint: str) -> None:
    with pytest.raises(UserError, match=f"data.preparation.*{complaint}"):
        recipes.load(recipes.find("classify_folder"), ["data.path=x", f"data.preparation.{setting}"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["preset=digits"], 'recipe:1:8: unknown preset "digits"(.|\n)*preset=null takes the sizes'),
        (["preset=null", "sizes.sigma=0.02"], 'recipe:1:7: there is no "sigma"(.|\n)*sizes.sigma=null leaves'),
    ],
)
def test_what_a_spec_does_not_know_is_blamed_on_the_recipe(words: list[str], message: str, tmp_path: Path) -> None:
    spec = (SPECS / "crate.crate").read_text(encoding="utf-8").replace("sigma", "width")
    (tmp_path / "own.crate").write_text("\n".join(line for line in spec.splitlines() if not line.startswith("preset ")))
    with pytest.raises(CrateError, match=message):
        train.main([str(tmp_path / "own.crate"), "--recipe", "classify_digits", *words])
