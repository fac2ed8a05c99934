"""The model card of an exported network: what it computes, how large it is, how it was trained and measured."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

from runtime.errors import UserError
from runtime.network import parameter_count
from runtime.recipe import recipes
from runtime.recipe.schema import Recipe
from runtime.scoring.report import EXPLANATIONS
from runtime.storage.trained import SPEC, Trained
from runtime.storage.untrusted import read_text

FRONT = "---\nlibrary_name: transformers\ntags: [white-box, crate, crate-dsl]\n---"
INPUTS = {  # one of them, as a user writes it
    "image": "torch.randn(1, {0.channels}, {0.image_size[0]}, {0.image_size[1]})",
    "text": "torch.zeros(1, {0.token_count}, dtype=torch.long)",
    "vectors": "torch.randn(1, {0.vector_count}, {0.vector_length})",
}


def card(trained: Trained, recipe: Recipe | None) -> str:
    """Markdown with the front matter of a Hugging Face repository; formulas as GitHub and Hugging Face show them."""
    parts = [FRONT, heading(trained), usage(trained), *equations(trained), sizes(trained)]
    return "\n\n".join([*parts, *training(recipe), *figures(trained)]) + "\n"


def heading(trained: Trained) -> str:
    name, description = trained.compiled.name, trained.compilation.model.description
    return f"# {name}\n\n{description or 'A white-box network.'}"


def usage(trained: Trained) -> str:
    network = trained.compiled.module
    example = INPUTS[network.input].format(network)
    preset = f" --preset {shlex.quote(trained.preset)}" if trained.preset else ""
    given = " ".join(shlex.quote(f"{name}={value}") for name, value in trained.sizes.items())
    command = f"crate-compile {SPEC}{preset}{' --set ' + given if given else ''} -o network.py"
    return f"""```python
import torch
from transformers import AutoModel

model = AutoModel.from_pretrained("PATH OF THIS FOLDER", trust_remote_code=True).eval()
output = model({example})
```

`network.py` imports torch only and can be read; it is, byte for byte, what `{command}` writes from `{SPEC}`
(sha256 {trained.compiled.sha256})."""


def equations(trained: Trained) -> Iterator[str]:
    """Objective and operator of every step."""
    yield "## What it computes"
    for step in trained.compilation.formulas:
        yield f"`{step.title}` ({step.block})\n\n$$\n{step.aligned}\n$$"


def sizes(trained: Trained) -> str:
    named = ", ".join(f"{name} = {value}" for name, value in trained.compilation.model.sizes.items())
    total = f"{parameter_count(trained.compiled.module):,} parameters"
    return f"## Sizes\n\n{total}; reads {trained.compiled.shape}; {named}.\n\n```text\n{trained.compilation.costs}\n```"


def training(recipe: Recipe | None) -> Iterator[str]:
    """The recipe, without what was once run of it, and without where the weights lay that it started from."""
    if recipe is None:
        return
    start = recipe.initialisation
    start = start.model_copy(update={"weights": Path(start.weights.name)}) if start else None
    shown = recipes.text_of(recipe.model_copy(update={"ran": "", "initialisation": start}))
    yield f"## Training\n\nThe recipe, with every default filled in:\n\n```yaml\n{shown}```"


def figures(trained: Trained) -> Iterator[str]:
    """The figures of these weights on held-out data, where the run has kept them."""
    kept = trained.folder.path / "evaluation-held_out.json" if trained.folder else None
    if kept is None or not kept.is_file():
        return
    try:
        content = json.loads(read_text(kept))
        if content["weights"] != trained.kind:
            return
        found = {str(name): float(value) for name, value in content["figures"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{kept}: not what runtime.evaluate writes ({error}); delete it or evaluate again") from None
    rows = [f"| {name} | {value:.4g} | {EXPLANATIONS.get(name, '')} |" for name, value in found.items()]
    table = "\n".join(["| figure | value | what it is |", "|---|---|---|", *rows])
    yield f"## Figures\n\nOn held-out data.\n\n{table}"
