"""The driver: one line per arrow of the pipeline, every intermediate kept.

Source --parse--> Spec --check--> Model --derive--> Derivation --lower--> Program --optimise--> Program --write--> text
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from crate_dsl.errors import Source, fail
from crate_dsl.language.check import check
from crate_dsl.language.model import Model
from crate_dsl.language.parse import MAX_CHARACTERS, parse
from crate_dsl.language.syntax import Spec
from crate_dsl.library.vocabulary import VOCABULARY
from crate_dsl.mathematics.derivation import Derivation
from crate_dsl.mathematics.derive import derive
from crate_dsl.mathematics.overview import StepOverview, overview
from crate_dsl.operators.cost import BATCH, Workload
from crate_dsl.operators.freeze import freeze
from crate_dsl.operators.lower import lower
from crate_dsl.operators.passes import optimise
from crate_dsl.operators.program import Program
from crate_dsl.operators.summary import Summary, summary
from crate_dsl.pictures.picture import picture
from crate_dsl.pytorch.front import task_of
from crate_dsl.pytorch.write import class_name, write

VERSION = "0.1.0"
Value = str | int | float


@dataclass(frozen=True)
class Compilation:
    """A spec on its way; each stage is computed when first asked for.

    Raises (any stage): `CrateError` with the diagnostics that the user should see.
    """

    source: Source
    preset: str | None
    overrides: Mapping[str, Value]
    batch: int = BATCH  # inputs at a time, which passes decide for and costs are counted over
    freeze: bool = False  # for inference: weights are constants
    gpu: bool = False  # with kernels of Triton, where they are faster; the file then needs Triton beside torch

    @cached_property
    def spec(self) -> Spec:
        return parse(self.source)

    @cached_property
    def model(self) -> Model:
        return check(self.spec, VOCABULARY, self.preset, self.overrides)

    @cached_property
    def derivation(self) -> Derivation:
        return derive(self.model)

    @cached_property
    def program(self) -> Program:
        return lower(self.derivation)

    @property
    def workload(self) -> Workload:
        return Workload(self.batch, self.freeze)

    @cached_property
    def optimised(self) -> Program:
        return (freeze if self.freeze else optimise)(self.program, self.workload)

    @cached_property
    def text(self) -> str:
        return write(self.optimised, VERSION, self.gpu)

    @cached_property
    def costs(self) -> Summary:
        """Parameters and operations of every step."""
        return summary(self.optimised, self.batch)

    @cached_property
    def formulas(self) -> tuple[StepOverview, ...]:
        """Objective and operator of every step, in LaTeX."""
        return overview(self.derivation)

    def picture(self, path: str) -> str:
        """The unrolled network as the text of a picture in the format of the path's ending."""
        return picture(self.optimised, path, self.batch)

    @property
    def task(self) -> str:
        """The kind of the network, the written class's attribute `task`."""
        return task_of(self.model)

    @property
    def resolved(self) -> str:
        """The spec with the included energies that it uses in place: its identity, dependent on no other file."""
        return self.model.text

    @property
    def class_name(self) -> str:
        """The class of the network in the written file; its name is the spec's unless Python reserves it."""
        return class_name(self.model)


def compile_spec(
    path: str | Path,
    preset: str | None = None,
    overrides: Mapping[str, Value] | None = None,
    batch: int = BATCH,
    freeze: bool = False,
    gpu: bool = False,
) -> Compilation:
    """The compilation of a file, `freeze` for inference, `gpu` with kernels of Triton; nothing is computed yet.

    Raises:
        CrateError: where the file cannot be read.
    """
    return Compilation(read_source(path), preset, dict(overrides or {}), batch, freeze, gpu)


def read_source(path: str | Path) -> Source:
    """The text of a spec file."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            return Source(
                str(path), file.read(MAX_CHARACTERS + 1), Path(path).parent
            )  # the parser says what is too much
    except FileNotFoundError:
        beside = Path(path).parent
        names = sorted(p.name for p in beside.glob("*.crate")) if beside.is_dir() else []
        hint = f"specs in {beside}: {', '.join(names)}" if names else "give the path of a .crate file"
        raise fail(f'no spec file "{path}"', None, hint) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise fail(
            f'cannot read "{path}": {reason}', None, "a spec is a text file, specs/crate.crate for instance"
        ) from None
