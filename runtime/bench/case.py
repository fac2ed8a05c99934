"""What is measured: a spec with its sizes, compiled, and the sizes that baselines of the same shape are built with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from crate_dsl import Compilation
from runtime.errors import UserError
from runtime.network import Compiled, compile_network, has_kernels


@dataclass(frozen=True)
class Case:
    """A spec, the preset and sizes chosen of it, and its network on the device of the bench."""

    spec: Path
    preset: str | None
    overrides: Mapping[str, int | float]
    compiled: Compiled

    @property
    def compilation(self) -> Compilation:
        return self.compiled.compilation

    @property
    def network(self) -> nn.Module:
        return self.compiled.module

    @property
    def sizes(self) -> Sizes:
        """Those that baselines need; raises UserError where the spec names them otherwise."""
        model = self.compilation.model
        if missing := {"d", "K", "L"} - set(model.sizes):
            raise UserError(
                f"{self.spec}: baselines are built from the sizes d (width), K (heads) and L (layers); "
                f"this spec has no {', '.join(sorted(missing))}: name them so, or measure the network alone with "
                "--baseline none, without --sweep"
            )
        d, heads = model.sizes["d"], model.sizes["K"]
        blocks = {block.role: block for block in model.blocks}
        decoder = blocks.get("decoder")
        encoder = blocks.get("encoder")
        return Sizes(
            width=d,
            heads=heads,
            depth=encoder.repeat if encoder else model.sizes["L"],
            head_width=model.sizes.get("p", max(1, d // heads)),
            decoder_depth=decoder.repeat if decoder else 0,
            decoder_heads=decoder.sizes.get("K", heads) if decoder else heads,
            step=float(model.reals.get("eta", 0.1)),
            threshold=float(model.reals["lambda"]) if "lambda" in model.reals else None,
            pool="mean" if model.head.of == "mean" else "cls",
        )


@dataclass(frozen=True)
class Sizes:
    """Width d, heads K of width p, layers; step and threshold of ISTA (None: the official one), pooling of the head."""

    width: int
    heads: int
    depth: int
    head_width: int
    decoder_depth: int
    decoder_heads: int
    step: float
    threshold: float | None
    pool: str


def case(spec: Path, preset: str | None, overrides: Mapping[str, int | float], device: torch.device) -> Case:
    """Compile a spec and build its network; raises CrateError for what the compiler refuses, UserError for a network
    without parameters."""
    compiled = compile_network(spec, preset, overrides, gpu=has_kernels(device))
    if not any(True for _ in compiled.module.parameters()):
        raise UserError(f"{spec}: nothing in this network is trained, python -m runtime.fit constructs it from data")
    compiled.module.to(device)
    return Case(spec, preset, overrides, compiled)
