"""A trained network for other programs: python -m runtime.export RUN|WEIGHTS --format FORMAT -o PATH [--freeze].

safetensors is the weights with the spec inside; torch a program of torch.export (.pt2) and onnx an ONNX file, both for
any batch size; huggingface a folder for `AutoModel.from_pretrained(folder, trust_remote_code=True)`. Programs and
folders are compared with the network before they are written. With --freeze the programs are those of the network
written for inference (`crate-compile --freeze`). A file or folder is written whole or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from runtime.command import Parser, run
from runtime.errors import UserError
from runtime.exporting.huggingface import write_folder
from runtime.exporting.program import onnx_bytes, torch_bytes
from runtime.network import built
from runtime.storage import checkpoint
from runtime.storage.run_folder import origin
from runtime.storage.trained import Trained, add_arguments, network_of, recipe_of

PROGRAMS = {"torch": torch_bytes, "onnx": onnx_bytes}


def main(arguments: Sequence[str]) -> None:
    parser = Parser(prog="python -m runtime.export", description="A trained network for other programs.")
    add_arguments(parser)
    parser.add_argument("--format", required=True, choices=("safetensors", *PROGRAMS, "huggingface"))
    parser.add_argument("--freeze", action="store_true", help="torch, onnx: compute what is made of weights alone")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="PATH", help="a file, or a folder")
    options = parser.parse_args(arguments)
    if options.freeze and options.format not in PROGRAMS:
        raise UserError(f"--freeze belongs to {' and '.join(PROGRAMS)}; {options.format} keeps the weights as trained")
    if options.recipe and options.format != "huggingface":
        raise UserError(f"--recipe belongs to huggingface, whose model card shows it; {options.format} has none")
    trained = network_of(options.trained, options.weights)
    about = origin(trained.preset, trained.sizes, trained.compiled)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    if options.format == "safetensors":
        checkpoint.save_weights(options.output, trained.compiled.module.state_dict(), about)
        print(f"{options.output}: {trained.compiled.name} and its spec")
    elif options.format == "huggingface":
        recipe = recipe_of(trained, options.recipe) if trained.folder or options.recipe else None
        error = write_folder(options.output, trained, about, recipe)
        print(f"{options.output}: AutoModel.from_pretrained({str(options.output)!r}, trust_remote_code=True)")
        print(f"largest error beside the network {error:.2g}")
    else:
        network = frozen(trained) if options.freeze else trained.compiled.module
        about.pop("format")  # that of the tensors in a safetensors file
        content, error = PROGRAMS[options.format](network.eval(), about)
        checkpoint.replace_file(options.output, lambda temporary: temporary.write_bytes(content))
        print(f"{options.output}: {len(content):,} bytes; largest error beside the network {error:.2g}")


def frozen(trained: Trained) -> nn.Module:
    """The network written for inference, with the same weights."""
    network = built(replace(trained.compilation, freeze=True)).module
    network.load_state_dict(trained.compiled.module.state_dict())
    return network


if __name__ == "__main__":
    run(main)
