"""What the shipped recipes say, put into effect in small: augmentation, texts, a training step of every network."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import datasets
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from crate_dsl import CrateError, compile_spec
from runtime.errors import UserError
from runtime.images.augmentation import Augmentation
from runtime.network import TextShape, compile_network
from runtime.parallel import World
from runtime.recipe import recipes
from runtime.recipe.schema import Recipe
from runtime.training.estimate import Rehearsed
from tests.runtime.conftest import SPECS
from tests.runtime.test_recipes import specs_named

datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0  # else 5 s after a stream

# ---- augmentation ----------------------------------------------------------------------------------------------------

TIMM = Augmentation(randaugment=(2, 27), erasing=0.25, mixup=0.8, cutmix=1.0)  # its m of 9 is of 10
PUBLISHED = {
    "finetune_cifar10": Augmentation(randaugment=(2, 14)),
    "finetune_imagenet": TIMM,
    "tost_imagenet": TIMM,
    "alpha_imagenet21k": Augmentation(mixup=0.8, cutmix=1.0),
    "alpha_imagenet": Augmentation(randaugment=(2, 27), mixup=0.8, cutmix=1.0),
}


@pytest.mark.parametrize("name", recipes.shipped())
def test_the_augmentation_is_the_published_one(name: str) -> None:
    recipe = recipes.load(recipes.find(name))
    assert recipe.augmentation == PUBLISHED.get(name, Augmentation())
    for processes in (1, 2, 4, 8):
        share = recipe.batch // World(size=processes).parts(recipe.accumulate)
        assert recipe.augmentation.fault(share) is None


# ---- one training step of everything ---------------------------------------------------------------------------------

TINY = {"d": 8, "K": 2, "L": 1}
INPUTS = {"image": {"image": 16, "patch": 8}, "text": {"length": 16}}


@cache
def tiny_sizes(spec: Path, preset: str | None) -> dict[str, int]:
    """Of a spec that has this preset, what makes a small network of it; empty where it has none such."""
    try:
        return {**TINY, **INPUTS[compile_spec(spec, preset).model.input.name]}
    except CrateError:
        return {}


def fitting(name: str) -> list[str]:
    """The specs that a recipe names and can train."""
    recipe = recipes.load(recipes.find(name))
    named = [spec for spec in specs_named(recipe) if tiny_sizes(spec, recipe.preset)]
    return [spec.stem for spec in named if compile_spec(spec, recipe.preset).task in recipe.task.networks]


def in_small(name: str, spec: str) -> Recipe:
    recipe = recipes.load(recipes.find(name), ["batch=4", "accumulate=1", "device=cpu"])
    head = {"dino": "{hidden: 16, prototypes: 8}", "simdino": "{hidden: 16}"}.get(recipe.task.name)
    if head:
        recipe = recipes.load(recipes.find(name), ["batch=4", "device=cpu", f"task.head={head}"])
    sizes = {**recipe.sizes, **tiny_sizes(SPECS / f"{spec}.crate", recipe.preset)}
    return recipe.model_copy(update={"sizes": sizes})


@pytest.mark.parametrize("name", recipes.shipped())
def test_a_step_of_every_network_that_a_recipe_names(name: str) -> None:
    """The ingredients of an estimate fit together: all that is trained gets a gradient, and is moved by it."""
    specs = fitting(name)
    assert specs
    for spec in specs:
        recipe = in_small(name, spec)
        run = Rehearsed(recipe, compile_network(SPECS / f"{spec}.crate", recipe.preset, recipe.sizes))
        assert run.count == 4 and run.flops > 0
        learned = {key: value for key, value in run.trained.named_parameters() if value.requires_grad}
        before = {key: value.detach().clone() for key, value in learned.items()}
        run.gradient()
        assert all(value.grad is not None and value.grad.isfinite().all() for value in learned.values()), spec
        run.update()
        assert all(not torch.equal(value, before[key]) for key, value in learned.items() if value.grad.any()), spec


# ---- texts -----------------------------------------------------------------------------------------------------------

TEXTS = {  # by recipe: folder of the files, how many there are, where the tokenizer lies, its end of a text
    "gpt_openwebtext": ("openwebtext/plain_text", 80, "gpt2", "<|endoftext|>"),
    "tost_openwebtext": ("openwebtext/plain_text", 80, "gpt2", "<|endoftext|>"),
    "bert_wikipedia": ("wikipedia/20231101.en", 41, "roberta", "</s>"),
}


def write_tokenizer(file: Path, size: int, end: str) -> None:
    """Byte-level tokens, filled up to the size of the one that the recipe takes from the hub."""
    signs = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(f"unused {number}" for number in range(size - 257))]
    tokenizer = Tokenizer(models.BPE(vocab={sign: number for number, sign in enumerate(signs)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(end)])
    file.parent.mkdir(parents=True)
    tokenizer.save(str(file))


@pytest.mark.parametrize("name", TEXTS)
def test_texts_from_the_files_of_the_hub(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files named as there, of which the last one is held out and all others are read."""
    folder, count, tokenizer, end = TEXTS[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    Path(folder).mkdir(parents=True)
    for number in range(count):
        rows = datasets.Dataset.from_dict({"text": [f"document {number}"] * 3})
        rows.to_parquet(Path(folder) / f"train-{number:05}-of-{count:05}.parquet")
    recipe = recipes.load(recipes.find(name))
    vocabulary = recipe.sizes["vocabulary"]
    with pytest.raises(UserError, match=f"{tokenizer}/tokenizer.json: cannot read the tokenizer"):
        recipe.splits(TextShape(16, vocabulary))
    write_tokenizer(Path(tokenizer) / "tokenizer.json", vocabulary, end)
    parts = recipe.data.load()
    read = {split: {row["text"] for row in parts[split]} for split in ("train", "validation")}
    assert read["validation"] == {f"document {count - 1}"}
    assert read["train"] == {f"document {number}" for number in range(count - 1)}
    with pytest.raises(UserError, match=f"has {vocabulary} tokens, the network's vocabulary is 50000"):
        recipe.splits(TextShape(16, 50000))
    splits = recipe.splits(TextShape(16, vocabulary))
    window = recipe.data.alphabet().tokenizer.decode(splits.held_out.take([0], None).inputs[0].tolist(), False)
    assert window.startswith(f"document {count - 1}{end}")
    assert splits.train.take([0, 1], (0, 0)).inputs.shape == (2, 16)


def test_missing_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipes.load(recipes.find("gpt_openwebtext"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="parquet, data.data_files .*plain_text/train-00079.*`datasets` cannot load it"):
        recipe.splits(TextShape(16, 50257))
