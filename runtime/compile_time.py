"""How long the compiler takes beside the import of sympy: python -m runtime.compile_time [--rounds N].

Every shipped spec is compiled by a process of its own, as a user would, and so is a spec with 12 and with 96 layers.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.table import Table

from runtime.command import Parser, run
from runtime.errors import UserError
from runtime.storage.log import console

SPECS = Path("specs")
SECONDS, TIMES = 0.7, 2.0  # a spec compiles within so many seconds, or so many times sympy's import, if that is more
GROWTH = 1.2  # what 96 layers may take of the time of 12: a layer is derived once
ROUNDS = 5
SYMPY, SHALLOW, DEEP = "import sympy", "crate, 12 layers", "crate, 96 layers"
BYTECODE = "; PYTHONDONTWRITEBYTECODE is set, so that every run may translate the compiler's own modules anew"
IMPORT = (sys.executable, "-c", "import sympy")

Times = Mapping[str, Sequence[float]]  # seconds by name, one of every round


@dataclass(frozen=True)
class Row:
    """A measured command: its median, and how many times another's it took; either may be small enough."""

    name: str
    seconds: float
    ratio: float
    times: float
    enough: float = 0.0

    @property
    def within(self) -> bool:
        return self.ratio <= self.times or self.seconds <= self.enough

    @property
    def allowed(self) -> str:
        return f"{self.times:.2f}" + (f", or {self.enough:.1f} s" if self.enough else "")


def compiling(spec: Path, output: Path, *options: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "crate_dsl.cli", str(spec), *options, "-o", str(output))


def measure(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, list[float]]:
    """Seconds of whole processes. The commands take turns, so that a busy moment of the machine meets all alike.

    Raises:
        UserError: where a command fails, with what it says.
    """
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            times[name].append(_seconds(command))
    return times


def _seconds(command: Sequence[str]) -> float:
    started = time.perf_counter()
    process = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise UserError(f"{' '.join(command)}\n{process.stderr.strip()}")
    return seconds


def ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """The median of the rounds' ratios: what slows the machine for some rounds slows both in them."""
    return median(own / other for own, other in zip(times, others, strict=True))


def spec_rows(times: Times) -> list[Row]:
    """Every spec beside sympy's import."""
    return [
        Row(name, median(own), ratio(own, times[SYMPY]), TIMES, SECONDS)
        for name, own in times.items()
        if name not in (SYMPY, SHALLOW, DEEP)
    ]


def depth_row(times: Times) -> Row:
    """The deep network beside the shallow one."""
    shallow, deep = times[SHALLOW], times[DEEP]
    return Row(f"{DEEP} : 12", median(deep), ratio(deep, shallow), GROWTH)


def show(sympy: float, rows: Sequence[Row]) -> None:
    title = f"{SYMPY}: {sympy:.3f} s" + (BYTECODE if sys.dont_write_bytecode else "")
    table = Table("compiled", "seconds", "ratio", "allowed", "", title=title, title_justify="left")
    for row in rows:
        cells = (f"{row.seconds:.3f}", f"{row.ratio:.2f}", row.allowed, "ok" if row.within else "too slow")
        table.add_row(row.name, *cells)
    console().print(table)


def main(arguments: Sequence[str]) -> None:
    parser = Parser(prog="python -m runtime.compile_time", description="Time the compiler on every shipped spec.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"runs of each command, in turn; default {ROUNDS}")
    rounds = parser.parse_args(arguments).rounds
    paths = sorted(SPECS.glob("*.crate"))
    if rounds < 1 or not paths:
        raise UserError("at least one round, and in the root of the project: that is where specs/ lies")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "model.py"
        commands = {SYMPY: IMPORT} | {path.stem: compiling(path, output) for path in paths}
        for name, layers in ((SHALLOW, 12), (DEEP, 96)):
            commands[name] = compiling(SPECS / "crate.crate", output, "--set", f"L={layers}")
        measure(commands, rounds=1)  # what the first run finds on the disk, later ones find in memory
        times = measure(commands, rounds)
    rows = [*spec_rows(times), depth_row(times)]
    show(median(times[SYMPY]), rows)
    if slow := [row.name for row in rows if not row.within]:
        raise UserError(f"slower than allowed: {', '.join(slow)}")


if __name__ == "__main__":
    run(main)
