"""A trained network is found in a run or in a file, and a file that is not what it says is refused, never executed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from runtime import evaluate, export, finetune, predict, probe, sample
from runtime.errors import UserError
from runtime.storage import checkpoint
from runtime.storage.trained import network_of, recipe_of
from tests.runtime.conftest import SPECS, Train, Weights

SIZES = {"image": 16, "patch": 4, "channels": 1, "classes": 10, "d": 8, "K": 2, "L": 1}


def test_a_run_and_its_weights_file_are_one_network(tiny_run: Train) -> None:
    run = tiny_run("crate")
    of_run, of_file = network_of(run), network_of(run / "weights.safetensors")
    assert of_run.compiled.text == of_file.compiled.text and of_run.sizes == of_file.sizes
    images = torch.randn(2, 1, 16, 16)
    assert torch.equal(of_run.compiled.module(images), of_file.compiled.module(images))
    assert (of_run.kind, of_file.kind) == ("last", "given")


@pytest.mark.parametrize("spec", ["crate", "crate_mae"])
def test_a_bare_file_is_evaluated_like_its_run(spec: str, tiny_run: Train, tmp_path: Path) -> None:
    run = tiny_run(spec)
    first = json.loads((run / "evaluation-held_out.json").read_text())
    file = tmp_path / "moved.safetensors"
    file.write_bytes((run / "weights.safetensors").read_bytes())
    words = ["--recipe", str(run / "recipe.yaml")]
    evaluate.main([str(file), *words])
    found = json.loads((tmp_path / "moved" / "evaluation-held_out.json").read_text())
    assert found["figures"] == first["figures"] and found["weights"] == "given"
    evaluate.main([str(file), *words, "evaluate_batch=7", "--out", str(tmp_path / "other")])
    other = json.loads((tmp_path / "other" / "evaluation-held_out.json").read_text())["figures"]
    if spec == "crate":  # masks depend on the batches, logits do not
        assert other == pytest.approx(first["figures"], rel=1e-5)


def test_a_recipe_has_the_sizes_of_the_network(weights_of: Weights) -> None:
    trained = network_of(weights_of("crate", **SIZES))
    recipe = recipe_of(trained, None, ["data.enlarge=2"])
    assert recipe.sizes == SIZES and recipe.preset is None and recipe.task.name == "classify"
    for override in ("sizes.d=16", "preset=tiny", "sizes={}"):
        with pytest.raises(UserError, match="sizes of a trained network are fixed"):
            recipe_of(trained, None, [override])


def rewritten(file: Path, **changes: str | None) -> Path:
    """The file with other metadata; None takes an entry away, and the hash follows the spec unless it is given."""
    weights, origin = checkpoint.load_weights(file)
    if "spec" in changes and changes["spec"] and "spec_sha256" not in changes:
        changes["spec_sha256"] = hashlib.sha256(changes["spec"].encode()).hexdigest()
    kept = {key: value for key, value in (origin | changes).items() if value is not None}
    checkpoint.save_weights(file, weights, kept)
    return file


CRATE = (SPECS / "crate.crate").read_text(encoding="utf-8")
LIES = {
    "no spec": ({"spec": None}, "does not say which network it is .* runtime.convert"),
    "altered": ({"spec": CRATE + "\n", "spec_sha256": "0" * 64}, "the file was altered"),
    "syntax": ({"spec": CRATE + "\nnonsense"}, "does not compile:\nspec.crate:"),
    "include": ({"spec": CRATE.replace("input", 'include "/etc/passwd.crate"\ninput', 1)}, "not a path|no folder"),
    "beside": ({"spec": CRATE.replace("input", 'include "mine.crate"\ninput', 1)}, "lies in no folder"),
    "sizes": ({"sizes": '{"d": "8"}'}, "not a finite number"),
    "infinite": ({"sizes": '{"eta": Infinity}'}, "not a finite number"),
    "deep": ({"sizes": "[" * 100_000}, "no sizes that can be read"),
    "list": ({"sizes": "[1]"}, "no sizes that can be read"),
    "unknown size": ({"sizes": '{"surprise": 3}'}, "does not compile"),
    "preset": ({"preset": "nowhere"}, "does not compile"),
    "deeper": ({"sizes": json.dumps(SIZES | {"L": 2})}, "missing:    encoder.1.compress.U 8 x 8"),
    "wider": ({"sizes": json.dumps(SIZES | {"classes": 11})}, "misshapen:  head.weight 10 x 8, not 11 x 8"),
    "too large": ({"sizes": json.dumps(SIZES | {"d": 200_000, "K": 1})}, "fewer than the positions"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_file_that_is_not_what_it_says(lie: str, weights_of: Weights) -> None:
    changes, message = LIES[lie]
    file = rewritten(weights_of("crate", **SIZES), **changes)
    with pytest.raises(UserError, match=message):
        network_of(file)


def test_memory_is_not_taken_for_what_the_file_does_not_hold(weights_of: Weights) -> None:
    """Matrices of 160 GB are stated, none is made; there are no positions to compare with first."""
    spec = CRATE.replace(" + position(learned)", "").replace("init position normal(sigma)", "")
    huge = json.dumps(SIZES | {"d": 200_000, "K": 1})
    file = rewritten(weights_of("crate", **SIZES), spec=spec, sizes=huge)
    with pytest.raises(UserError, match="misshapen:  class_token 1 x 1 x 8, not 1 x 1 x 200000"):
        network_of(file)


def test_a_run_whose_spec_was_altered(tiny_run: Train) -> None:
    run = tiny_run("crate")
    spec = run / "spec.crate"
    spec.write_text(spec.read_text().replace("eta = 0.1", "eta = 0.2"))
    with pytest.raises(UserError, match="is not the spec that weights.safetensors was trained for"):
        network_of(run)


COMMANDS = {
    evaluate: (), probe: (), predict: ("picture.png",), sample: (), finetune: (SPECS / "crate.crate",),
    export: ("--format", "safetensors", "-o", "out"),
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_one_message_and_status_one(
    command: object, status: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(b"\xff" * 100)
    (tmp_path / "empty").mkdir()
    for path, message in (
        (tmp_path / "nowhere", "not the folder of a run, nor a weights file"),
        (torn, "not a readable safetensors file"),
        (tmp_path / "empty", "not the folder of a run (no recipe.yaml"),
    ):
        assert status(command, path, *COMMANDS[command]) == 1
        shown = capsys.readouterr().err
        assert message in shown and str(path) in shown and "Traceback" not in shown


def test_unknown_words_are_refused(status: Callable[..., int], weights_of: Weights) -> None:
    file = weights_of("crate", **SIZES)
    assert status(evaluate, file, "surprise") == 1
    assert status(evaluate, file, "--weights", "best") == 1  # a file has no other weights
    assert status(evaluate, file, "evaluate_batchh=3") == 1
    assert status(probe, file, "--pool", "max") == 1
    assert status(evaluate, file, "--recipe", "mae_digits") == 1  # not the task of this network
