"""bench.json: the machine, what was measured, and every round of it."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from runtime.bench.accuracy import Errors
from runtime.bench.case import Case
from runtime.bench.floor import Floor
from runtime.bench.measure import Costs, Measured, Result
from runtime.bench.sweep import Axis
from runtime.errors import UserError
from runtime.storage import checkpoint
from runtime.storage.run_folder import surroundings

CPU_INFO = Path("/proc/cpuinfo")


def folder(path: Path) -> Path:
    """Make the folder of a bench, refusing one that holds another bench."""
    if (path / "bench.json").exists():
        raise UserError(f"{path} already holds a bench: choose another --out")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be made a folder: {error.strerror}") from None
    return path


def write(path: Path, content: dict[str, Any]) -> None:
    checkpoint.replace_text(path / "bench.json", json.dumps(content, indent=1) + "\n")


def about(case: Case, batch: int, dtype: str, device: torch.device) -> dict[str, Any]:
    """The machine and the case."""
    model = case.compilation.model
    return {
        "machine": surroundings(str(case.spec), case.compiled)
        | {"cpu": cpu_name(), "device": str(device), "torch": torch.__version__},
        "spec": str(case.spec),
        "preset": case.preset,
        "overrides": dict(case.overrides),
        "sizes": dict(model.sizes),
        "reals": {name: float(value) for name, value in model.reals.items()},
        "input": str(case.compiled.shape),
        "batch": batch,
        "dtype": dtype,
    }


def cpu_name() -> str:
    """As the kernel calls it; elsewhere what Python knows."""
    if CPU_INFO.exists():
        for line in CPU_INFO.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def race_record(measured: Measured) -> dict[str, Any]:
    return {
        "references": list(measured.references),
        "difference_to_official": measured.difference,
        "contestants": {result.label: result_record(result) for result in measured.results},
        "floor": floor_record(measured.floor),
    }


def result_record(result: Result) -> dict[str, Any]:
    return {
        "is": result.contestant.note,
        "weights_of": result.contestant.weights_of,
        "parameters": result.parameters,
        **costs_record(result.costs),
        **errors_record(result.errors),
    }


def errors_record(errors: Errors) -> dict[str, Any]:
    return {"output_error": errors.output, "gradient_error": errors.gradient}


def costs_record(costs: Costs) -> dict[str, Any]:
    return {
        "forward_seconds": costs.forward,
        "training_step_seconds": costs.training,
        "training_step_peak_bytes": costs.peak,
    }


def sweep_record(axes: Sequence[Axis]) -> dict[str, Any]:
    """Points by axis; for operators a training step is forward and backward."""
    return {
        axis.name: {
            "fixed": axis.fixed,
            "points": [
                {"label": point.label, "at": point.at, "batch": point.batch, **costs_record(point.costs)}
                | (errors_record(point.errors) if point.errors else {})
                for point in axis.points
            ],
        }
        for axis in axes
    }


def floor_record(floor: Floor) -> dict[str, Any]:
    rates = [asdict(shape) | {"operations_per_second": rate} for shape, rate in floor.rates.items()]
    return {
        "forward_seconds": floor.forward,
        "training_step_seconds": floor.training,
        "forward_operations": floor.forward_flops,
        "training_step_operations": floor.training_flops,
        "products": rates,
    }
