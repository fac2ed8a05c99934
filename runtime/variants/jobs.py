"""Runs one after the other, or several at a time in processes of their own; none stops the others by failing."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from crate_dsl import CrateError
from runtime.errors import Stopped, UserError
from runtime.network import has_kernels
from runtime.recipe.compiling import compile_recipe
from runtime.recipe.schema import Recipe
from runtime.scoring.measure import pick_device
from runtime.variants import side_by_side
from runtime.variants.side_by_side import Outcome


@dataclass(frozen=True)
class Job:
    """One training run: a spec file, the recipe with its seed, and the folder that it leaves."""

    label: str
    spec: Path
    recipe: Recipe
    folder: Path


Result = Outcome | str  # or why it failed
Done = Callable[[Job, Result], None]


def perform(job: Job) -> Result:
    """Train and measure; raises Stopped after a signal, everything that the user can put right comes back as text."""
    try:
        recipe = job.recipe
        gpu = has_kernels(pick_device(recipe.device))
        compiled = compile_recipe(job.spec, recipe, gpu)
        return side_by_side.train(compiled, recipe, recipe.splits(compiled.shape), job.folder, job.spec.name)
    except (UserError, CrateError) as error:
        return str(error)


def one_by_one(jobs: Sequence[Job], start: Callable[[Job], None], done: Done) -> None:
    """In this process, with the trainer's own progress bar; raises Stopped after a signal."""
    for job in jobs:
        start(job)
        done(job, perform(job))


# ---- processes -------------------------------------------------------------------------------------------------------


def at_once(jobs: Sequence[Job], processes: int, start: Callable[[Job], None], done: Done) -> None:
    """Several at a time; each writes what it has to say to log.txt in its folder.

    Raises Stopped after a signal, once every process has left its checkpoint.
    """
    context, waiting = multiprocessing.get_context("spawn"), list(jobs)
    running: dict[Connection, tuple[Job, BaseProcess]] = {}
    threads = max(1, (os.cpu_count() or 1) // processes)
    with stopping_all(running):
        while waiting or running:
            while waiting and len(running) < processes:
                job = waiting.pop(0)
                start(job)
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=child, args=(job, threads, theirs))
                process.start()
                theirs.close()
                running[ours] = job, process
            for connection in wait(list(running)):
                job, process = running.pop(connection)
                done(job, received(connection, process))


def child(job: Job, threads: int, connection: Connection) -> None:
    """One job in a process of its own; the parent learns its result, or the signal that stopped it."""
    torch.set_num_threads(threads)
    job.folder.mkdir(parents=True, exist_ok=True)
    with (job.folder / "log.txt").open("a", encoding="utf-8", buffering=1) as log, contextlib.redirect_stdout(log):
        try:
            connection.send(perform(job))
        except (Stopped, KeyboardInterrupt) as stopped:
            connection.send(stopped.signal if isinstance(stopped, Stopped) else int(signal.SIGINT))
        except Exception as error:  # a mistake of ours: kept where it can be read, and said in one line
            traceback.print_exc(file=log)
            connection.send(f"{type(error).__name__}: {error} (see {log.name})")


def received(connection: Connection, process: BaseProcess) -> Result:
    """What a child has sent; raises Stopped where a signal ended it."""
    try:
        result = connection.recv()
    except EOFError:
        process.join()
        return f"the process ended with status {process.exitcode}"
    process.join()
    if isinstance(result, int):
        raise Stopped(f"{signal.Signals(result).name}: stopped", result)
    return result


@contextlib.contextmanager
def stopping_all(running: dict[Connection, tuple[Job, BaseProcess]]) -> Iterator[None]:
    """Where we are stopped, the children are too: each leaves a checkpoint after its current step."""

    def stop(number: int, _: object) -> None:
        raise Stopped(f"{signal.Signals(number).name}: stopped", number)

    old = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number in old:
            signal.signal(number, signal.SIG_IGN)  # until every child has left its checkpoint
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.join()
        for number, handler in old.items():
            signal.signal(number, handler)
