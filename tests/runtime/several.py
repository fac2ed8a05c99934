"""What one of several processes does in a test: commands one after the other. Started by `torchrun`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch.distributed as dist

from runtime import parallel, train
from runtime.errors import Quiet, Stopped, UserError
from runtime.training.trainer import Trainer

SIGNAL = "process 1 is told to stop"  # in the place of a command's first word


def torchrun(processes: int, commands: Sequence[Sequence[str]], place: Path) -> str:
    """Run `runtime.train` with each of the commands, in as many processes; returns what they printed."""
    file = place / f"commands{processes}.json"
    file.write_text(json.dumps(commands))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run([*launcher, "-m", __name__, str(file)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def signalled(*arguments: str) -> None:
    """A run whose process 1 alone gets SIGTERM, after its third step has agreed on everything with the others."""
    update = Trainer.update

    def interrupted(self: Trainer, *given: object) -> dict[str, float]:
        figures = update(self, *given)
        if self.step == 2 and self.world.rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return figures

    Trainer.update = interrupted
    try:
        train.main(arguments)
    finally:
        Trainer.update = update


def main(commands: Sequence[Sequence[str]]) -> None:
    with parallel.world():
        for command in commands:
            try:
                signalled(*command[1:]) if command[0] == SIGNAL else train.main(command)
            except Stopped as stopped:
                print(f"process {dist.get_rank()} said: {stopped}", flush=True)
            except UserError as error:
                print(f"refused: {error}", flush=True)
            except Quiet:
                pass


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
