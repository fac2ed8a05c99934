"""The written file is the same in every process: checkpoints and the states of optimisers go by the order in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from crate_dsl.compiler import Compilation, compile_spec
from crate_dsl.errors import Source
from tests.specs import small_preset
from tests.steps import CASES, text_of

ROOT = Path(__file__).parents[2]
SCRIPT = "import sys; from tests.pytorch.test_same_text import texts; sys.stdout.buffer.write(texts())"


def texts() -> bytes:
    """Every shipped spec, also frozen, and every step of the tests, written."""
    paths = ((path, freeze) for path in (ROOT / "specs").glob("*.crate") for freeze in (False, True))
    specs = (compile_spec(path, small_preset(path.read_text("utf-8")), freeze=freeze) for path, freeze in paths)
    cases = (Compilation(Source(case, text_of(steps)), None, {}) for case, steps in CASES.items())
    return "\n".join(sorted(compilation.text for compilation in (*specs, *cases))).encode()


def test_the_order_of_sets_changes_nothing() -> None:
    found = []
    for seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT), "PATH": ""}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], cwd=ROOT, env=environment, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        found.append(done.stdout.decode().splitlines())
    assert len(found[0]) > 1000 and found[0] == found[1]
