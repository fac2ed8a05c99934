"""The laws of the structure, each with a planted offender that shows that its guard can fail."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STAGES = ("errors", "language", "library", "mathematics", "operators", "pictures", "pytorch")
TOP = {
    "crate_dsl/__init__.py",
    "crate_dsl/compiler.py",
    "crate_dsl/cli.py",
    "crate_dsl/certificate.py",
    "crate_dsl/loading.py",
    "crate_dsl/variants.py",
}
FILES = sorted((ROOT / "crate_dsl").rglob("*.py")) + sorted((ROOT / "runtime").rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in FILES]


def imports(tree: ast.AST) -> Iterator[tuple[str, ast.stmt]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node
            yield from ((f"{node.module}.{alias.name}", node) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)


def forward_imports(name: str, text: str) -> list[str]:
    """Imports of a stage from a later one: the folders' alphabet is the order of the pipeline."""
    own = name.removeprefix("crate_dsl/").split("/")[0].removesuffix(".py")
    if name in TOP or own not in STAGES:
        return []
    reached = (m.split(".")[1] for m, _ in imports(ast.parse(text)) if m.startswith("crate_dsl."))
    return [m for m in reached if m not in STAGES or STAGES.index(m) > STAGES.index(own)]


def torch_imports(name: str, text: str) -> list[str]:
    """The compiler writes torch, it does not import it (type checkers may)."""
    if not name.startswith("crate_dsl"):
        return []
    tree = ast.parse(text)
    checked = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    allowed = {id(inner) for block in checked for inner in ast.walk(block)}
    return [m for m, node in imports(tree) if m.split(".")[0] == "torch" and id(node) not in allowed]


def lazy_imports(name: str, text: str) -> list[str]:
    """Imports of our own modules hidden inside functions."""
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = (m for function in functions for m, _ in imports(function))
    return [m for m in inside if m.split(".")[0] in ("crate_dsl", "runtime")]


def unannotated(name: str, text: str) -> list[str]:
    """Functions without a return type or with arguments without types (lambdas have none)."""
    bad = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
            if node.returns is None or any(a.annotation is None and a.arg not in ("self", "cls") for a in arguments):
                bad.append(node.name)
    return bad


def too_long(name: str, text: str) -> list[str]:
    """Files over 400 lines and functions over 60."""
    bad = [name] if text.count("\n") > 400 else []
    functions = (n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef))
    return bad + [f.name for f in functions if f.end_lineno - f.lineno >= 60]


def library_names(name: str, text: str) -> list[str]:
    """Modules named like one of the standard library."""
    stem = Path(name).stem
    return [stem] if stem in sys.stdlib_module_names and not stem.startswith("__") else []


def dangerous(name: str, text: str) -> list[str]:
    """Calls that can execute what they read; only `loading.py` executes, and only what the compiler wrote."""
    calls = re.findall(
        r"(?<![\w.])(?:eval|exec|sympify|parse_expr)\(|pickle\.load|yaml\.load\(|weights_only=False", text
    )
    return [] if name == "crate_dsl/loading.py" else calls


LAWS = {
    forward_imports: ("crate_dsl/language/x.py", "from crate_dsl.mathematics import derive\n"),
    torch_imports: ("crate_dsl/pytorch/x.py", "import torch.nn\n"),
    lazy_imports: ("runtime/x.py", "def f() -> None:\n    from crate_dsl import load\n"),
    unannotated: ("runtime/x.py", "def f(x) -> None:\n    pass\n"),
    too_long: ("runtime/x.py", "x = 1\n" * 401),
    library_names: ("crate_dsl/library/token.py", ""),
    dangerous: ("runtime/x.py", "eval('1')\n"),
}


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law(law: object) -> None:
    broken = {name: law(name, (ROOT / name).read_text()) for name in NAMES}
    assert {name: found for name, found in broken.items() if found} == {}


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law_can_fail(law: object) -> None:
    assert law(*LAWS[law])


def cycles(edges: dict[str, set[str]]) -> list[str]:
    """Modules that reach themselves."""

    def reach(start: str) -> set[str]:
        seen, todo = set(), list(edges[start])
        while todo:
            module = todo.pop()
            if module not in seen:
                seen.add(module)
                todo += edges.get(module, ())
        return seen

    return [module for module in edges if module in reach(module)]


def test_no_import_cycles() -> None:
    modules = {name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): name for name in NAMES}
    edges = {
        module: {m for m, _ in imports(ast.parse((ROOT / name).read_text())) if m in modules and m != module}
        for module, name in modules.items()
    }
    assert cycles(edges) == []
    assert cycles({"a": {"b"}, "b": {"a"}}) == ["a", "b"]


def test_compiling_does_not_import_torch() -> None:
    code = (
        "import sys, crate_dsl; crate_dsl.compile_spec('specs/crate.crate', 'tiny').text; print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
    offender = "import sys, torch; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", offender], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "True"
