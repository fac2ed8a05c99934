"""Weights of the official code for a compiled network, and back.

python -m runtime.convert OFFICIAL.pth [SPEC] [--preset P] [--set k=v ...] -o WEIGHTS.safetensors
python -m runtime.convert RUN|WEIGHTS.safetensors --to-official -o OFFICIAL.pth
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

import crate_dsl
import runtime
from runtime.command import Parser, run, settings
from runtime.errors import UserError
from runtime.network import Compiled, compile_network, parameter_count
from runtime.storage import checkpoint
from runtime.storage.run_folder import origin
from runtime.storage.trained import network_of
from runtime.weights import kept
from runtime.weights.agreement import CLOSE, difference
from runtime.weights.conversion import Converted, converted
from runtime.weights.files import read_official, write_official
from runtime.weights.names import Family, family_of
from runtime.weights.restoration import Restored, restored
from runtime.weights.sizes import choice_for, sizes_in
from runtime.weights.tensors import shape_text

SPECS = Path(runtime.__file__).parents[1] / "specs"


def main(arguments: Sequence[str]) -> None:
    parser = Parser(prog="python -m runtime.convert", description="Weights of the official code, and back to it.")
    parser.add_argument(
        "weights", type=Path, metavar="WEIGHTS", help="an official .pth; with --to-official a run, or ours"
    )
    parser.add_argument("spec", type=Path, nargs="?", metavar="SPEC", help="default: the one that the file is of")
    parser.add_argument("--preset", help="default, without a SPEC: the one of the file's sizes")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="name=value", dest="sizes")
    parser.add_argument("--to-official", action="store_true", help="from our weights to a state dict of official names")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".safetensors, or .pth")
    options = parser.parse_args(arguments)
    (back if options.to_official else forth)(options)


# ---- from the official code ------------------------------------------------------------------------------------------


def forth(options: argparse.Namespace) -> None:
    official = read_official(options.weights)
    compiled, preset, sizes = network_for(official, options)
    try:
        result = converted(official, compiled.module)
    except UserError as error:
        raise UserError(f"{error}{advice(official, options.spec)}") from None
    about = origin(preset, sizes, compiled) | kept.packed(result.kept)
    verdict = compared(restored(result.weights, compiled.module, result.kept), result.weights, compiled)
    checkpoint.save_weights(options.output, result.weights, about)
    tell(official, result)
    print(f"{verdict}\n{options.output}: {compiled.name}, {parameter_count(compiled.module):,} parameters")


def network_for(
    official: Mapping[str, Tensor], options: argparse.Namespace
) -> tuple[Compiled, str | None, dict[str, int | float]]:
    """The network that is asked for; without a spec, the one that the file is of."""
    sizes = settings(options.sizes)
    if options.spec:
        return compile_network(options.spec, options.preset, sizes), options.preset, sizes
    family = family_of(official)
    if family is None:
        raise UserError(f"{options.weights}: these are the weights of no architecture known here: give a SPEC")
    spec, preset = SPECS / family.spec, options.preset
    if preset is None:
        choice = choice_for(spec, sizes_in(official, family) | sizes)
        if not choice.width_known and "K" not in sizes:
            width = choice.sizes["d"]
            raise UserError(f"{options.weights}: no tensor says how many heads {family.name} of width {width} has: "
                            "give --set K=...")  # fmt: skip
        preset, sizes = choice.preset, choice.sizes | sizes
        print(f"{options.weights}: {family.name}, as {spec.name} {choice}".rstrip())
    return compile_network(spec, preset, sizes), preset, sizes


def advice(official: Mapping[str, Tensor], spec: Path | None) -> str:
    """What the file is, and with which preset and sizes the spec would be that."""
    family = family_of(official)
    if family is None:
        return ""
    found = sizes_in(official, family)
    words = ", ".join(f"{name}={value}" for name, value in found.items())
    text = f"\nthe file is {family.name} (specs/{family.spec}) of {words}"
    if spec is None or crate_dsl.compile_spec(spec).model.name != name_of(family):
        return text
    choice = choice_for(spec, found)
    heads = "" if choice.width_known else "; no tensor says how many heads it has: set K too"
    return f"{text}: try {choice}{heads}" if str(choice) else text


def name_of(family: Family) -> str:
    return crate_dsl.compile_spec(SPECS / family.spec).model.name


def tell(official: Mapping[str, Tensor], result: Converted) -> None:
    """What a user must know of the conversion, line by line."""
    for name in result.family.unread:
        if name in official:
            why = "no forward pass reads it, officially neither; kept for the way back"
            print(f"unused: {name} {shape_text(official[name])} ({why})")
    for remark in result.remarks:
        print(remark)


def compared(result: Restored, weights: Mapping[str, Tensor], compiled: Compiled) -> str:
    """One line on whether network and official form compute the same."""
    off = disagreement(result, weights, compiled)
    if off is None:
        return f"not compared with the official form of {result.family.name}: none of this network, or no finite output"
    if off < CLOSE:
        return f"the official form of {result.family.name} gives the same output: relative difference {off:.0e}"
    return (
        f"note: with these weights the official {result.family.name} computes something else: relative difference "
        f"{off:.0e}; an approximation or a real of the spec is not the official one"
    )


def disagreement(result: Restored, weights: Mapping[str, Tensor], compiled: Compiled) -> float | None:
    return difference(result.family, result.state, compiled.module, weights, compiled.compilation.model)


# ---- to the official code --------------------------------------------------------------------------------------------


def back(options: argparse.Namespace) -> None:
    if options.spec or options.preset or options.sizes:
        raise UserError("--to-official takes weights alone: they say which network they are of, and are written whole")
    found = network_of(options.weights)
    weights, about = checkpoint.load_weights(found.file)
    compiled = found.compiled
    result = restored(weights, compiled.module, kept.unpacked(about))
    off = disagreement(result, weights, compiled)
    if off is not None and not off < CLOSE:
        raise UserError(
            f"{options.weights}: the names are those of {result.family.name}, but its official code computes something "
            f"else with these weights (relative difference {off:.0e}): an approximation or a real of the spec is not "
            f"the official one (specs/{result.family.spec})"
        )
    write_official(options.output, result.state)
    for name in result.made:
        source = result.family.unread[name]
        print(f"made:   {name} {shape_text(result.state[name])} ({source}; nothing reads it, officially neither)")
    print(compared(result, weights, compiled))
    print(f"{options.output}: {result.family.name}, {len(result.state)} entries")


if __name__ == "__main__":
    run(main)
