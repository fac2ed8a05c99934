"""The standard library of energies: every one is documented, derived and certified, and is part of the package."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from crate_dsl.certificate import certificate
from crate_dsl.compiler import Compilation
from crate_dsl.errors import Source
from crate_dsl.language.check import check
from crate_dsl.language.energies import kinks
from crate_dsl.language.parse import parse
from crate_dsl.language.syntax import EnergyDeclaration
from crate_dsl.library.standard import FILES, FOLDER, about, energies_of, listing, signature
from crate_dsl.library.vocabulary import VOCABULARY

ROOT = Path(__file__).parent.parent
ENERGIES = {
    f"{name}.{energy.name}": (name, energy)
    for name, file in FILES.items()
    for energy in energies_of(Source(file.name, file.read_text(encoding="utf-8")))
}
CASE = pytest.mark.parametrize("case", ENERGIES)
LOSSES_ALONE = {"codes.sparsity", "rates.sparse_rate_reduction"}  # l1 of the tokens themselves: no step descends it


def spec(file: str, steps: str, loss: str = "") -> str:
    return f"""network Library
size image = 8, patch = 2, channels = 1, classes = 3, d = 12, K = 3, p = 5, m = 7
real eta = 0.1, alpha = 0.3, beta = 0.4, lambda = 0.2, mu = 0.6, epsilon = 0.5
include {file}
energy square(Z: d x N, U: K of d x p) = sum(k in K) norm2(U[k]' * Z)
input image(channels, image, image)
tokens Z: d x N = patches(patch) + class_token + position(learned)
encoder repeat 2 {{
{steps}
}}
head classify(classes) of mean
{loss}
"""


def step(energy: EnergyDeclaration) -> str:
    """A step that this energy fits, found by its structure."""
    names = [a.name for a in energy.variables + energy.given]
    fixed, code = ", ".join(names[2:]), len(energy.given) > 1 and energy.given[0].name == "X"
    if not code:
        return f"compress Z by {energy.name}({', '.join(names)}) {{ norm layer; step eta }}"
    if kinks(energy.body, names[0], VOCABULARY):
        return f"sparsify Z by {energy.name}(A | Z, {fixed}) {{ norm layer; from Z; steps 2 of eta }}"
    return f"denoise Z by {energy.name}(Z | X, {fixed}) {{ norm layer }}"


def compilation(text: str) -> Compilation:
    return Compilation(Source("library.crate", text), None, {})


@CASE
def test_every_energy_is_derived_and_certified(case: str) -> None:
    file, energy = ENERGIES[case]
    arguments = ", ".join(a.name for a in energy.variables + energy.given)
    steps, loss = step(energy), ""
    if case in LOSSES_ALONE:
        steps, loss = "compress Z by square(Z, U) { norm layer }", f"loss cross_entropy + {energy.name}({arguments})"
    compiled = compilation(spec(file, steps, loss))
    report, passed = certificate(compiled)
    assert passed and "verified" in report and compiled.text


@CASE
def test_every_energy_says_what_it_is_and_from_where(case: str) -> None:
    file, energy = ENERGIES[case]
    said = " ".join(about(energy.span.source, energy.span.start))
    assert re.search(r"[A-Z]\w+ (et al\.|and \w+)?.*(19|20)\d\d", said) and said.endswith((".", "loss."))
    assert said in " ".join(listing().split()) and signature(energy) in listing()


@pytest.mark.parametrize("file", FILES)
def test_including_a_file_changes_nothing_that_does_not_use_it(file: str) -> None:
    """Also where the spec lacks axes that its energies have: size m."""
    steps = "compress Z by square(Z, U) { norm layer }"
    text = spec(file, steps).replace(", m = 7", "")
    found = check(parse(Source("t.crate", text)), VOCABULARY)
    assert not [w for w in found.warnings if "energy" in w.message] and "energy square" in found.text


def test_names_are_unique_and_are_no_functions() -> None:
    names = [energy.name for _, energy in ENERGIES.values()]
    assert len(set(names)) == len(names) and not set(names) & set(VOCABULARY.atoms)


def test_the_files_are_package_data() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["crate_dsl"]
    files = [str(file.relative_to(ROOT / "crate_dsl")) for file in FOLDER.iterdir()]
    assert files and all(any(fnmatch(file, pattern) for pattern in patterns) for file in files)
