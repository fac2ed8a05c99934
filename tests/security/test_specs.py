"""Specs from someone else: the compiler ends, reads nothing beside them, and writes what it always writes."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

import crate_dsl
from crate_dsl import cli
from tests.runtime.conftest import SPECS
from tests.security.bounded import Outcome, outcome

CRATE = (SPECS / "crate.crate").read_text(encoding="utf-8")
DESCRIPTION = re.search(r'"(White-box[^"\n]*)"', CRATE)[1]


def compiled(words: Sequence[str]) -> None:
    raise SystemExit(cli.main(list(words)))


def attempt(tmp_path: Path, text: str | bytes, *words: str) -> Outcome:
    path = tmp_path / "hostile.crate"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return outcome(compiled, path, "-o", tmp_path / "out.py", *words)


# ---- what is written ---------------------------------------------------------------------------------------------


class Blanked(ast.NodeTransformer):
    """A written module without its names and its words: what it does."""

    def visit(self, node: ast.AST) -> ast.AST:
        for field in ("id", "attr", "arg", "name"):
            if isinstance(getattr(node, field, None), str) and not isinstance(node, ast.alias):
                setattr(node, field, "_")
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
        return super().generic_visit(node)


def skeleton(text: str) -> str:
    return ast.dump(Blanked().visit(ast.parse(text)))


def written(tmp_path: Path, text: str, name: str = "hostile.crate") -> str:
    (tmp_path / name).write_bytes(text.encode())
    return crate_dsl.compile_spec(tmp_path / name, "digits").text


@pytest.fixture(scope="module")
def plain() -> str:
    """What the file of the shipped spec does."""
    return skeleton(crate_dsl.compile_spec(SPECS / "crate.crate", "digits").text)


WORDS = (
    "'''", "\\", "\\\\", "\\N{DIGIT ONE}", "\\x22\\x22\\x22", "{__import__('os').system('touch marker')}", "%s %(x)s",
    "\u2028import os", "\x0bimport os\x0c", "\x85import os", "\0", "\u202eso\u202c", "\x1b[31m", "\ufeff",
    "# type: ignore", "\U0010ffff", "a" * 100_000,
)  # fmt: skip


@pytest.mark.parametrize("words", WORDS, ids=range(len(WORDS)))
def test_words_stay_words(words: str, plain: str, tmp_path: Path) -> None:
    """In the description, and in a comment inside an energy, whose text the written file quotes."""
    described = CRATE.replace(DESCRIPTION, words)
    commented = CRATE.replace("1/2 * norm2(X", f'1/2 * # """ {words}\n norm2(X')
    for text in (described, commented):
        found = written(tmp_path, text)
        assert skeleton(found) == plain
        assert found.replace("\n", "").isprintable()
    assert "import os" not in found, "a comment ends where its line does"


def test_the_name_of_the_file(plain: str, tmp_path: Path) -> None:
    assert skeleton(written(tmp_path, CRATE, '"""\nimport os\nos.system("touch marker")\n""".crate')) == plain


NAMES = (
    "__class__", "__import__", "__init__", "__builtins__", "__dict__", "exec", "self", "super", "torch", "nn", "Tensor",
    "import", "None", "forward", "training",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_are_only_names(name: str, plain: str, tmp_path: Path) -> None:
    """Of the network, a matrix, an energy and a size: the file does the same, and works."""
    words = {"network Crate": f"network {name}", "U": name, "rate": name, "d": name}
    for old, new in words.items():
        text = re.sub(rf"\b{old}\b", new, CRATE.replace(DESCRIPTION, "words"))
        assert text != CRATE and skeleton(written(tmp_path, text)) == plain
        network = crate_dsl.load(tmp_path / "hostile.crate", preset="digits")
        assert network(torch.zeros(1, 1, 8, 8)).shape == (1, 10)


# ---- what is too much ---------------------------------------------------------------------------------------------

ENERGY = "\nenergy q(Z: d x N) = "
ENDLESS = {
    "layers": (CRATE, "L = 10^9", "would be 1000000000"),
    "power": (CRATE, "L = 2^64^64", "this number is not of reasonable size"),
    "exponent": (CRATE, "L = 2^65", "not an exact number of reasonable size"),
    "powers": (CRATE, "L = ((2^64)^64)^64", "absurdly long"),
    "parentheses": (CRATE + ENERGY + "(" * 9000 + "1" + ")" * 9000, "", "at most 100 levels"),
    "signs": (CRATE + ENERGY + "-" * 15_000 + "1", "", "at most 100 levels"),
    "transposes": (CRATE + ENERGY + "norm2(Z" + "'" * 15_000 + ")", "", "at most 100 levels"),
    "terms": (CRATE + ENERGY + "+".join(["norm2(Z)"] * 1000), "", "at most 100 levels"),
    "squares": (CRATE + "\nreal q0 = 1.1" + "".join(f", q{n + 1} = q{n}^2" for n in range(40)), "", "absurdly long"),
    "words": ("x " * 499_000, "", "more than 20,000 words"),
    "braces": ("{" * 999_999, "", "more than 20,000 words"),
    "characters": ("#" * 2_000_000, "", "more than 1,000,000 characters"),
    "quotes": ('"' * 99_999, "", "more than 20,000 words"),
    "nothing": ("\0" * 1000, "", ""),
    "bytes": (b"\xff" * 1000, "", "it is not UTF-8 text"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ENDLESS)
def test_the_compiler_ends(kind: str, tmp_path: Path) -> None:
    text, layers, says = ENDLESS[kind]
    if layers:
        text = text.replace("L = 12", layers, 1)
    attempt(tmp_path, text).refused(says)
    assert not (tmp_path / "out.py").exists()


@pytest.mark.parametrize("value", ["1e999999999", "1/" + "0" * 50, "9" * 100_000, "0x10", "1_0", "__class__", "nan"])
def test_settings(value: str, tmp_path: Path) -> None:
    attempt(tmp_path, CRATE, "--set", f"d={value}").refused("--set")


# ---- what is read beside it ---------------------------------------------------------------------------------------


@pytest.fixture
def surroundings(tmp_path: Path) -> Path:
    """A folder with a spec's neighbours, a secret beside the folder."""
    (tmp_path / "secret.crate").write_text("energy secret(Z: d x N) = norm2(Z)\n", encoding="utf-8")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "up.crate").symlink_to("../secret.crate")
    (folder / "passwd.crate").symlink_to("/etc/passwd")
    (folder / "zero.crate").symlink_to("/dev/zero")
    (folder / "loop.crate").symlink_to("loop.crate")
    (folder / "up").symlink_to("..")
    os.mkfifo(folder / "pipe.crate")
    (folder / "folder.crate").mkdir()
    with (folder / "large.crate").open("wb") as file:
        file.truncate(3 * 10**9)
    return folder


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("../secret.crate", "not a path that can be included"),
        ("x/../../secret.crate", "not a path that can be included"),
        ("/etc/passwd", "not a path that can be included"),
        ("/dev/zero", "not a path that can be included"),
        ("~/x.crate", "not a path that can be included"),
        ("file:///x.crate", "not a path that can be included"),
        ("up.crate", "leads out of the folder"),
        ("up/secret.crate", "leads out of the folder"),
        ("passwd.crate", "leads out of the folder"),
        ("zero.crate", "leads out of the folder"),
        ("loop.crate", "links lead nowhere"),
        ("pipe.crate", "there is no file"),
        ("folder.crate", "there is no file"),
        ("large.crate", "too long to be included"),
        ("x" + "/y" * 3000 + ".crate", "cannot read"),
    ],
)
def test_includes(name: str, says: str, surroundings: Path) -> None:
    found = attempt(surroundings, f'{CRATE}\ninclude "{name}"\n')
    found.refused(says)
    assert "root:" not in found.text and "norm2(Z)" not in found.text


def test_a_spec_that_is_no_file(surroundings: Path) -> None:
    outcome(compiled, surroundings / "large.crate").refused("more than 1,000,000 characters")
    outcome(compiled, "/dev/zero").refused("more than 1,000,000 characters")
    outcome(compiled, surroundings).refused("Is a directory")
    assert "\x1b" not in outcome(compiled, "\x1b[31m.crate").text
