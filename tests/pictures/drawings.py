"""The drawings that the tests look at: every spec, in its own sizes and in every preset, and hostile texts."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from crate_dsl.compiler import Compilation, compile_spec
from crate_dsl.errors import Source
from crate_dsl.pictures.draw import draw
from crate_dsl.pictures.drawing import Drawing
from tests.specs import MSSA, SPARSIFY, encoder, spec

ROOT = Path(__file__).parents[2]
SPECS = sorted((ROOT / "specs").glob("*.crate"))
HOSTILE = "<script>alert(1)</script> & ]]> `x` \\ %% {a} #quot; $y$ \\N -->|z| &lt; 'q' " + "W" * 400


def presets(path: Path) -> list[str | None]:
    """The presets of a spec, and None for its own sizes."""
    names = [line.split()[1] for line in path.read_text().splitlines() if line.startswith("preset ")]
    return [None, *names]


CASES = [(path, preset) for path in SPECS for preset in presets(path)]
NAMES = [f"{path.stem}-{preset or 'own'}" for path, preset in CASES]


@cache
def compiled(path: Path, preset: str | None = None) -> Compilation:
    return compile_spec(path, preset)


@cache
def drawing(path: Path, preset: str | None = None) -> Drawing:
    return draw(compiled(path, preset).optimised)


def drawn(body: str, preset: str | None = None) -> Drawing:
    """The drawing of a small network with these blocks."""
    return draw(Compilation(Source("test.crate", spec(body)), preset, {}).optimised)


@cache
def hostile() -> Drawing:
    """A network whose description tries to leave every format."""
    text = spec(encoder(f"compress Z by rate(Z, U) {{ {MSSA} }}\n{SPARSIFY}"))
    text = text.replace("network Tiny", f'network Tiny "{HOSTILE}"')
    return draw(Compilation(Source("hostile.crate", text), None, {}).optimised)
