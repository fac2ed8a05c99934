"""What one of several processes does in a test: commands one after the other. Started by `torchrun`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime import parallel, train
from runtime.errors import Quiet, UserError


def torchrun(processes: int, commands: Sequence[Sequence[str]], place: Path) -> str:
    """Run `runtime.train` with each of the commands, in as many processes; returns what they printed."""
    file = place / f"commands{processes}.json"
    file.write_text(json.dumps(commands))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run([*launcher, "-m", __name__, str(file)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def main(commands: Sequence[Sequence[str]]) -> None:
    with parallel.world():
        for command in commands:
            try:
                train.main(command)
            except UserError as error:
                print(f"refused: {error}", flush=True)
            except Quiet:
                pass


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
