"""The network as a graph: a program of torch.export (.pt2), and the same as ONNX, for any batch size."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from runtime.errors import UserError
from runtime.exporting.comparison import EXAMPLE, OUTPUTS, Inputs, inputs_of, largest_error, library, quiet

OPSET = 18  # of ONNX, the one that torch's exporter writes without converting


def exported(network: nn.Module) -> torch.export.ExportedProgram:
    """The traced forward pass, its first axis free in all inputs."""
    inputs = inputs_of(network, EXAMPLE)
    batch = torch.export.Dim("batch")
    with torch.no_grad(), quiet():
        # strict: traced by the interpreter, which leaves len(z) symbolic; plain tracing takes it for a constant
        return torch.export.export(
            network, (), inputs, dynamic_shapes={name: {0: batch} for name in inputs}, strict=True
        )


def torch_bytes(network: nn.Module, origin: Mapping[str, str]) -> tuple[bytes, float]:
    """A .pt2 file with the origin of the weights inside, and the largest error of what is read back from it."""
    file = io.BytesIO()
    with quiet():
        torch.export.save(exported(network), file, extra_files=dict(origin))
        file.seek(0)
        module = torch.export.load(file).module()

    def run(inputs: Inputs) -> dict[str, Tensor]:
        result = module(**inputs)
        return dict(zip(OUTPUTS[network.task], result if isinstance(result, tuple) else (result,), strict=True))

    return file.getvalue(), largest_error("torch.export", network, run)


def onnx_bytes(network: nn.Module, origin: Mapping[str, str]) -> tuple[bytes, float]:
    """An ONNX file with the origin of the weights in its metadata, and the largest error of onnxruntime's outputs.

    Raises UserError where a library is missing or ONNX has no operator for a part of the network.
    """
    runtime = library("onnxruntime", "ONNX")
    library("onnxscript", "ONNX")
    program, inputs = exported(network), inputs_of(network, EXAMPLE)
    options = {
        "dynamo": True,
        "opset_version": OPSET,
        "dynamic_shapes": dict.fromkeys(inputs, {0: "batch"}),
        "input_names": list(inputs),
        "output_names": list(OUTPUTS[network.task]),
        "verbose": False,
    }
    try:
        with torch.no_grad(), quiet():
            model = torch.onnx.export(program, (), kwargs=inputs, **options).model_proto
    except torch.onnx.errors.OnnxExporterError as error:
        raise UserError(refusal(error)) from None
    for key, value in origin.items():
        model.metadata_props.add(key=key, value=value)
    content = serialised(model)
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(inputs: Inputs) -> dict[str, Tensor]:
        found = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        return {output.name: torch.as_tensor(value) for output, value in zip(session.get_outputs(), found, strict=True)}

    return content, largest_error("onnxruntime", network, run)


def serialised(model: Any) -> bytes:
    try:
        return model.SerializeToString()
    except ValueError as error:  # a message of protobuf holds at most 2 GiB
        raise UserError(f"this network is too large for one ONNX file: {error}; use --format torch") from None


def refusal(error: BaseException | None) -> str:
    """What of the network ONNX lacks, from the exporter's chain of causes."""
    while error is not None:
        if found := re.search(r"No ONNX function found for <OpOverload\(op='aten\.(\w+)'", str(error)):
            exact = found[1].startswith(("linalg_", "cholesky"))
            advice = "the spec's exact solves need it (inverse ~ neumann has none)" if exact else "a step needs it"
            return f"ONNX has no operator {found[1]}: {advice}; --format torch has it"
        last, error = error, error.__cause__
    return f"ONNX cannot express this network: {str(last).strip().splitlines()[0]}; --format torch may"
