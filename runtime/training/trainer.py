"""The training loop: a plain one, whose state is small enough to be saved whole."""

from __future__ import annotations

import copy
import math
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from runtime import seeds
from runtime.data.source import Batch, Splits
from runtime.errors import Stopped, UserError
from runtime.network import Compiled, first_not_finite, plain_names
from runtime.recipe.schema import Recipe
from runtime.scoring.measure import autocast, measure, pick_device, reference_of
from runtime.storage import checkpoint
from runtime.storage.log import Log
from runtime.storage.run_folder import RunFolder, origin
from runtime.training.optimiser import Average, adamw, learning_rate
from runtime.training.penalty import Call
from runtime.training.sampler import Batches, explained, stream


class Trainer:
    """One run: network, optimiser, averaged weights and the number of steps done.

    Everything random is a function of seed and step, so that (network, optimiser, average, step, best) is the state.
    `trained` is the network, or the task's apparatus around it; `judged` is what is evaluated and kept.
    """

    def __init__(self, recipe: Recipe, compiled: Compiled, splits: Splits, folder: RunFolder) -> None:
        self.recipe, self.compiled, self.splits, self.folder = recipe, compiled, splits, folder
        self.device = pick_device(recipe.device)
        self.network = compiled.module.to(self.device)
        recipe.task.check(self.network, splits.classes)
        self.network.checkpointing = recipe.checkpointing
        self.call = Call(self.network, recipe.compile)
        self.trained = apparatus_of(recipe, self.network).to(self.device)
        self.optimizer = adamw(self.trained, recipe.optimizer)
        self.average = Average(self.network, recipe.ema) if recipe.ema else None
        self.judged = copy.deepcopy(self.network) if self.average else recipe.task.judged(self.trained)
        self.batches = Batches(splits.train, recipe.batch, recipe.accumulate, recipe.seed)
        self.total = recipe.total_steps(self.batches.steps_per_epoch)
        self.step = 0
        self.saved = 0
        self.best: float | None = None
        self.signal: int | None = None
        self.waited = 0.0  # seconds spent waiting for data since the last line of the log

    # -- state ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {
            "format": 1,
            "spec_sha256": self.compiled.sha256,
            "step": self.step,
            "best": self.best,
            "network": plain_names(self.trained.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "random": checkpoint.random_state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a state; raises UserError when it belongs to another network or recipe."""
        try:
            if state["spec_sha256"] != self.compiled.sha256:
                raise UserError(f"{self.folder.state}: was written for another spec than {self.folder.spec}")
            self.trained.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.average:
                self.average.load_state_dict(state["average"])
            self.step, self.best = state["step"], state["best"]
            self.saved = self.step
            checkpoint.restore_random_state(state["random"])
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise UserError(f"{self.folder.state}: does not fit this network and recipe: {error}") from error

    def save(self) -> None:
        """The weights, then the state: a state never speaks of weights that are not there."""
        self.refresh_judged()
        self.save_weights(self.folder.weights)
        checkpoint.save_state(self.folder.state, self.state())
        self.saved = self.step

    def save_weights(self, path: Path) -> None:
        about = origin(self.recipe.preset, self.recipe.sizes, self.compiled)
        checkpoint.save_weights(path, plain_names(self.judged.state_dict()), about)

    def refresh_judged(self) -> None:
        if self.average:
            self.judged.load_state_dict(self.average.values)

    # -- the loop ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """All remaining steps; raises Stopped after a signal and UserError when numbers stop being finite."""
        recipe = self.recipe
        pin = self.device.type == "cuda"
        batches = stream(self.batches, self.step, self.total, recipe.workers, pin, prefetch=recipe.prefetch)
        old = {number: signal.signal(number, self.stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            with explained(), Log(self.folder, self.step, self.total) as log:
                self.trained.train()
                self.steps(batches, log)
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def steps(self, batches: Iterator[Batch], log: Log) -> None:
        started, since = time.perf_counter(), self.step
        while self.step < self.total:
            figures = self.update(batches)
            self.step += 1
            log.advance(self.step)
            if self.due(self.recipe.log_every):
                seconds = time.perf_counter() - started
                log.train(self.step, figures | self.speed(seconds, self.step - since))
                started, since = time.perf_counter(), self.step
            if self.due(self.recipe.evaluate_every):
                self.evaluate(log)
            if self.due(self.recipe.checkpoint_every) or self.signal:
                self.save()
            if self.signal and self.step < self.total:
                raise Stopped(self.farewell(), self.signal)

    def due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.total

    def stop(self, number: int, _: object) -> None:
        """The first signal ends the run after the current step; a second one acts as ever."""
        self.signal = number
        signal.signal(number, signal.SIG_DFL)

    def farewell(self) -> str:
        name = signal.Signals(self.signal).name
        path = self.folder.path
        return f"{name}: stopped after step {self.step} of {self.total}; continue with --resume {path}"

    def speed(self, seconds: float, steps: int) -> dict[str, float]:
        waited, self.waited = self.waited, 0.0
        rate = f"{self.recipe.data.unit}_per_second"
        return {rate: steps * self.recipe.batch / seconds, "data_wait": waited / seconds}

    # -- one step ------------------------------------------------------------------------------------------------

    def update(self, batches: Iterator[Batch]) -> dict[str, float]:
        """One step of the optimiser on one global batch, in `accumulate` shares."""
        recipe, share = self.recipe, self.recipe.batch // self.recipe.accumulate
        draw = recipe.task.draw(self.network, recipe.batch, seeds.torch_generator(seeds.DRAW, recipe.seed, self.step))
        rate = learning_rate(recipe.optimizer.lr, recipe.schedule, self.step, self.total)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        losses: Counter[str] = Counter()
        for part in range(recipe.accumulate):
            rows = slice(part * share, (part + 1) * share)
            batch, key = self.next_batch(batches), (recipe.seed, self.step)
            batch = recipe.augmentation.apply(batch, recipe.data, key, rows, recipe.batch, self.splits.classes)
            losses.update(self.backward(batch, None if draw is None else draw[rows]))
        norm = torch.nn.utils.clip_grad_norm_(self.trained.parameters(), recipe.clip or math.inf).item()
        if not math.isfinite(norm):
            fault = f"the gradient is not finite although the loss is, {losses['loss']:.4g}"
            raise UserError(f"step {self.step + 1}: {fault}; {self.advice()}")
        self.optimizer.step()
        more = recipe.task.after_step(self.trained, self.step, self.total)
        if self.average:
            self.average.update(self.network)
        return {**losses, "lr": rate, "gradient_norm": norm, **more}

    def next_batch(self, batches: Iterator[Batch]) -> Batch:
        before = time.perf_counter()
        batch = next(batches).to(self.device)
        self.waited += time.perf_counter() - before
        return batch

    def backward(self, batch: Batch, draw: Tensor | None) -> dict[str, float]:
        """The loss of a share and, with a penalty, its two parts; its gradient is added to what is there."""
        draw = None if draw is None else draw.to(self.device)
        with autocast(self.device, self.recipe.precision):
            data = self.recipe.task.loss(self.call, self.trained, batch, draw) / self.recipe.accumulate
        penalty = self.call.penalty() / self.recipe.accumulate if self.call.penalised else None
        loss = data if penalty is None else data + penalty
        value = loss.item()
        if not math.isfinite(value):
            place = first_not_finite(self.network, *self.recipe.task.inputs(batch.inputs, draw))
            raise UserError(f"step {self.step + 1}: the loss is {value}: {place}; {self.advice()}")
        loss.backward()
        return {"loss": value} if penalty is None else {"loss": value, "data": data.item(), "penalty": penalty.item()}

    def advice(self) -> str:
        kept = f"the checkpoint of step {self.saved} is kept" if self.saved else "no checkpoint was due before"
        return f"{kept}. A smaller optimizer.lr, a longer schedule.warmup or clip=1 may help."

    def evaluate(self, log: Log) -> None:
        """Figures on the held-out split; the best weights are kept beside the last."""
        task, batch = self.recipe.task, self.recipe.evaluate_batch
        self.refresh_judged()
        reference = reference_of(task, self.judged, self.splits.train, batch) if task.compares else None
        figures = measure(task, self.judged, self.splits.held_out, batch, self.recipe.precision, reference)
        log.held_out(self.step, figures)
        value = figures[task.metric] if task.larger_is_better else -figures[task.metric]
        if self.best is None or value > self.best:
            self.best = value
            self.save_weights(self.folder.best)


def apparatus_of(recipe: Recipe, network: nn.Module) -> nn.Module:
    """What the task trains, initialised from the seed; raises UserError where the recipe asks what it cannot do."""
    task = recipe.task
    if task.whole_batch and recipe.accumulate > 1:
        raise UserError(f'task "{task.name}" takes its loss of a batch as a whole: accumulate must be 1')
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.torch_generator(seeds.APPARATUS, recipe.seed).initial_seed())
        trained = task.apparatus(network)
    if recipe.ema and task.judged(trained) is not network:
        raise UserError(f'task "{task.name}" has averaged weights of its own: leave ema out')
    return trained
