"""Compile the kernels of a file for a GPU as for a Hopper chip, with no GPU at hand: python -m tests.pytorch.hopper.

A line per kernel: its name, and whether it uses the chip's own matrix instructions. Triton's interpreter, which the
tests use, would take anything that numpy takes.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

import crate_dsl
from crate_dsl import module_of

SPEC = Path(__file__).parents[2] / "specs" / "crate.crate"
HOPPER = GPUTarget("cuda", 90, 32)
CONSTANTS = {"HEADS": 12, "TOKENS": 197, "WIDTH": 64, "ROWS": 64, "COLUMNS": 32, "SCALE": 0.18, "FACTOR": 0.125}
FLOAT32 = {"attend": {"levels"}, "inner_products": {"result"}, "attend_backward": {"levels", "sums"}}


def source(file: ModuleType, name: str) -> ASTSource:
    """A kernel with the types and constants that CRATE-base calls it with."""
    kernel = getattr(file, name)
    kinds = {
        argument: "constexpr" if argument in CONSTANTS else "*fp32" if argument in FLOAT32[name] else "*bf16"
        for argument in kernel.arg_names
    }
    constants = {argument: CONSTANTS[argument] for argument, kind in kinds.items() if kind == "constexpr"}
    pointers = [place for place, kind in enumerate(kinds.values()) if kind != "constexpr"]
    aligned = {(place,): [["tt.divisibility", 16]] for place in pointers}
    return ASTSource(kernel, signature=kinds, constexprs=constants, attrs=aligned)


def main() -> None:
    file = module_of(crate_dsl.compile_spec(SPEC, "base", gpu=True).text, "Crate")
    for name in FLOAT32:
        made = triton.compile(source(file, name), target=HOPPER, options={"num_warps": 4, "num_stages": 2})
        print(name, "wgmma" in made.asm["ptx"])


if __name__ == "__main__":
    main()
