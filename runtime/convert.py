"""Official weights for a compiled network: python -m runtime.convert OFFICIAL.pth SPEC [--preset] [--set] -o FILE."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor, nn

from runtime.errors import Parser, UserError, run
from runtime.network import compile_network, parameter_count, plain_names
from runtime.official import RULES, UNUSED
from runtime.storage import checkpoint
from runtime.storage.run_folder import origin

WRAPPERS = ("state_dict", "model")  # under which training scripts keep the weights
STEP = re.compile(r"((?:encoder|decoder)\.\d+)\.([^.]+)\.(.+)")


@dataclass(frozen=True)
class Converted:
    """Weights under the compiled names, and the official names that no forward pass reads."""

    weights: dict[str, Tensor]
    unused: tuple[str, ...]


def convert_state(official: Mapping[str, Tensor], network: nn.Module, complete: bool = True) -> dict[str, Tensor]:
    """The official weights, or gradients, under the names and in the layout of `network`.

    Raises UserError listing every missing (unless `complete` is False), unexpected and misshapen entry.
    """
    return converted(official, network, complete).weights


def converted(official: Mapping[str, Tensor], network: nn.Module, complete: bool = True) -> Converted:
    wanted = {name: value.shape for name, value in network.state_dict().items()}
    names = compiled_names(wanted)
    weights: dict[str, Tensor] = {}
    unused, problems = [], []
    for name, value in official.items():
        if re.fullmatch(UNUSED, name):
            unused.append(name)
            continue
        target, tensor = translate(name, value)
        target = names.get(target, target)
        if target not in wanted:
            problems.append(f"unexpected: {name} {shape_text(value)}" + (f", for {target}" if target else ""))
        elif tensor.shape != wanted[target]:
            shapes = f"{shape_text(tensor)}, {target} is {shape_text(wanted[target])}"
            problems.append(f"misshapen:  {name} {shape_text(value)} gives {shapes}")
        if target:
            weights[target] = tensor
    if complete:
        problems += [f"missing:    {name} {shape_text(wanted[name])}" for name in wanted if name not in weights]
    if problems:
        raise UserError("these official weights are not those of this network:\n  " + "\n  ".join(problems))
    return Converted({name: weights[name].contiguous() for name in wanted if name in weights}, tuple(unused))


def translate(name: str, value: Tensor) -> tuple[str | None, Tensor]:
    """The place of an official entry, with steps by number, and its value in our layout; None for an unknown name."""
    for rule in RULES:
        if target := rule.apply(name):
            return target, rule.transform(value)
    return None, value


def compiled_names(names: Mapping[str, object]) -> dict[str, str]:
    """From places by number, `encoder.0.0.matrix_out`, to a compiled network's names, `encoder.0.compress.U_out`."""
    layers: dict[str, dict[str, list[str]]] = {}
    for name in names:
        if found := STEP.fullmatch(name):
            layers.setdefault(found[1], {}).setdefault(found[2], []).append(found[3])
    return {
        f"{layer}.{number}.{role}": f"{layer}.{step}.{name}"
        for layer, steps in layers.items()
        for number, (step, parameters) in enumerate(steps.items())
        for name, role in roles(parameters).items()
    }


def roles(parameters: Sequence[str]) -> dict[str, str]:
    """Which parameter of a step is its matrix, which the free adjoint and its bias, and which comes second."""
    plain = [name for name in parameters if "." not in name]
    inner = next((name for name in plain if f"{name}_out" in plain), plain[0] if plain else "")
    family = {inner: "matrix", f"{inner}_out": "matrix_out", f"{inner}_bias": "matrix_bias"}
    second = dict.fromkeys([name for name in plain if name not in family][:1], "second")
    return {name: name for name in parameters if "." in name} | {
        name: role for name, role in (family | second).items() if name in plain
    }


def shape_text(value: Any) -> str:
    sizes = value.shape if isinstance(value, Tensor) else value
    return " x ".join(map(str, sizes)) or "scalar"


def read_official(path: Path) -> dict[str, Tensor]:
    """A state dict, bare or wrapped; nothing in the file is executed."""
    content = checkpoint.load_torch(path, f"{path}: not a file of weights that can be loaded without running code")
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not any(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path}: holds no state dict, neither itself nor under {' or '.join(WRAPPERS)}")
    return plain_names({str(name): value for name, value in content.items() if isinstance(value, Tensor)})


def settings(words: Sequence[str]) -> dict[str, int | float]:
    """Sizes and reals of `--set name=value`."""
    values = {}
    for word in words:
        name, sign, text = word.partition("=")
        value = yaml.safe_load(text) if sign else None
        if isinstance(value, str):  # YAML takes 1e-3 for a word
            value = float(value) if re.fullmatch(r"[-+.\deE]+", value) else value
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise UserError(f'--set: "{word}" is not of the form name=number')
        values[name] = value
    return values


def main(arguments: Sequence[str]) -> None:
    parser = Parser(prog="python -m runtime.convert", description="Official CRATE weights for a compiled network.")
    parser.add_argument("official", type=Path, metavar="OFFICIAL.pth")
    parser.add_argument("spec", type=Path, metavar="SPEC")
    parser.add_argument("--preset")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="name=value", dest="sizes")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.safetensors")
    options = parser.parse_args(arguments)
    official, sizes = read_official(options.official), settings(options.sizes)
    compiled = compile_network(options.spec, options.preset, sizes)
    result = converted(official, compiled.module)
    checkpoint.save_weights(options.output, result.weights, origin(options.preset, sizes, compiled))
    for name in result.unused:
        print(f"unused: {name} {shape_text(official[name])} (no forward pass reads it, officially neither)")
    print(f"{options.output}: {compiled.name}, {parameter_count(compiled.module):,} parameters")


if __name__ == "__main__":
    run(main)
