"""Program -> text: one file that imports torch only, written to be read."""

from __future__ import annotations

from crate_dsl.language.model import Model
from crate_dsl.operators.program import Program
from crate_dsl.pytorch.file import File
from crate_dsl.pytorch.helpers import helpers_text
from crate_dsl.pytorch.lines import docstring, escaped
from crate_dsl.pytorch.names import Constants, Names, mangle
from crate_dsl.pytorch.network import NetworkWriter

IMPORTS = ("import torch", "from torch import Tensor, nn")


def write(program: Program, version: str = "", gpu: bool = False) -> str:
    """The module of a network; its class bears the network's name (`class_name`) and takes no arguments.

    For a GPU it has kernels of Triton, where they are faster.
    """
    model, names = program.derivation.model, Names()
    name = names.new(model.name)  # first, so that nothing else in the file can take it
    constants = Constants(model, [block.block for block in program.blocks], names)
    file = File(model, names, constants, set(), gpu)
    network = NetworkWriter(program, file, name)
    classes = network.classes()
    body = helpers_text(file.helpers) + "".join("\n\n" + "\n".join(lines) + "\n" for lines in classes)
    further = ["from torch.nn import functional as F"] if "F." in body else []
    further += ["from torch.utils.checkpoint import checkpoint"] if "checkpoint(" in body else []
    head = [*docstring(_banner(program, version)), "", "from __future__ import annotations", "", *IMPORTS, *further]
    if "@triton.jit" in body:
        head.insert(head.index(IMPORTS[1]), "import triton\nimport triton.language as tl")
    if "math.sqrt(" in body or "math.log2(" in body:
        head.insert(head.index(IMPORTS[0]), "import math\n")
    return "\n".join([*head, "", *constants.lines, *network.constants()]) + "\n" + body


def class_name(model: Model) -> str:
    """The name of the written network class."""
    return mangle(model.name)


def _banner(program: Program, version: str) -> list[str]:
    model = program.derivation.model
    lines = [f"{model.name}: {escaped(model.description)}" if model.description else model.name, ""]
    lines += [f"Written by crate-compile {version} from {escaped(model.source.name)} (sha256 {model.sha256[:16]}...)."]
    if model.sources[1:]:
        lines.append(f"Energies from {', '.join(escaped(source.name) for source in model.sources[1:])}.")
    if model.preset:
        lines.append(f"Preset: {model.preset}.")
    if model.overrides:
        lines.append("Overrides: " + ", ".join(f"{name} = {value}" for name, value in model.overrides.items()) + ".")
    if program.frozen:
        lines.append("Frozen, for inference: what is made of weights alone is computed once, when they are loaded.")
    return lines
