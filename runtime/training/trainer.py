"""The training loop: a plain one, alone or in several processes, whose state is small enough to be saved whole."""

from __future__ import annotations

import copy
import math
import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from runtime import seeds
from runtime.data.source import Batch, Splits
from runtime.errors import Stopped, UserError
from runtime.network import Compiled, first_not_finite, plain_names
from runtime.parallel import World
from runtime.recipe.schema import Recipe
from runtime.scoring.measure import measure, pick_device, reference_of
from runtime.storage import checkpoint
from runtime.storage.log import Log, Silence
from runtime.storage.run_folder import RunFolder, origin
from runtime.training import sharding
from runtime.training.average import Average
from runtime.training.batch_norms import BatchNorms
from runtime.training.held import held_matrices
from runtime.training.meter import Meter
from runtime.training.objective import Objective
from runtime.training.penalty import Call
from runtime.training.rates import Rates
from runtime.training.sampler import Batches, explained, stream
from runtime.transfer import initialisation


class Trainer:
    """One run: network, optimiser, averaged weights and the number of steps done.

    Everything random is a function of seed and step, so that (network, optimiser, average, step, best) is the state.
    `trained` is the network, or the task's apparatus around it; `judged` is what is evaluated and kept. In several
    processes each takes its shares of every global batch, and all make the same steps.
    """

    def __init__(
        self, recipe: Recipe, compiled: Compiled, splits: Splits, folder: RunFolder, world: World | None = None
    ) -> None:
        self.recipe, self.compiled, self.splits, self.folder = recipe, compiled, splits, folder
        self.world = world or World()
        check(recipe, compiled.module, splits, self.world)
        self.device = pick_device(recipe.device, self.world.local if self.world.size > 1 else None)
        self.network = compiled.module.to(self.device)
        self.network.checkpointing = recipe.checkpointing
        self.trained = apparatus_of(recipe, self.network).to(self.device)
        self.judged = copy.deepcopy(self.network) if recipe.ema else recipe.task.judged(self.trained)
        self.objective = self.parallel_objective()
        self.begin_training()
        self.norms = BatchNorms(self.objective)
        self.optimizer = recipe.optimizer.build(self.trained)
        self.average = Average(self.network, recipe.ema) if recipe.ema else None
        self.parts = self.world.parts(recipe.accumulate)
        # weights in slices come and go with every share, and compiled code makes its matrices itself
        sliced = isinstance(self.objective, FSDPModule)
        self.holds = self.parts > self.world.size and not recipe.compile and not sliced
        self.batches = Batches(splits.train, recipe.batch, self.parts, recipe.seed)
        self.rates = Rates.of(recipe, self.batches.steps_per_epoch)
        self.total = self.rates.total
        self.step = 0
        self.saved = 0
        self.best: float | None = None
        self.told: int | None = None  # the signal that this process got
        self.signal: int | None = None  # the one that all processes know of
        self.meter = Meter(recipe, compiled, self.device, self.world)

    def parallel_objective(self) -> nn.Module:
        """The loss as a module, within DDP or in slices where there are several processes."""
        recipe, sharded = self.recipe, self.world.size > 1 and self.recipe.parallel == "fsdp"
        call = Call(self.network, recipe.compile and not sharded)
        objective = Objective(recipe.task, call, self.trained, recipe.precision)
        if sharded:
            sharding.shard(objective, recipe.compile)
        return sharding.wrapped(objective, self.world, self.device)

    # -- state ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that a run needs to go on, whole; all processes must ask for it."""
        return {
            "format": checkpoint.FORMATS[-1],
            "spec_sha256": self.compiled.sha256,
            "step": self.step,
            "inputs": len(self.splits.train),
            "best": self.best,
            "network": sharding.whole(plain_names(self.trained.state_dict())),
            "optimizer": sharding.whole(self.optimizer.state_dict()),
            "average": sharding.whole(self.average.state_dict()) if self.average else None,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a state; raises UserError when it belongs to another network or recipe."""
        try:
            if state["spec_sha256"] != self.compiled.sha256:
                raise UserError(
                    f"{self.folder.state}: was written for another spec than {self.folder.spec}:"
                    " put that file back as it was, or begin a new run"
                )
            sharding.fill(self.trained, state["network"])
            sharding.fill_optimizer(self.optimizer, state["optimizer"])
            if self.average:
                sharding.fill_average(self.average, state["average"])
            self.step, self.best = state["step"], state["best"]
            self.saved = self.step
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise UserError(f"{self.folder.state}: does not fit this network and recipe: {error}") from error

    def save(self) -> None:
        """The weights, then the state: a state never speaks of weights that are not there."""
        self.refresh_judged()
        self.save_weights(self.folder.weights)
        state = self.state()
        if self.world.main:
            checkpoint.save_state(self.folder.state, state)
        self.saved = self.step

    def save_weights(self, path: Path) -> None:
        weights = sharding.whole(plain_names(self.judged.state_dict()))
        if self.world.main:
            checkpoint.save_weights(path, weights, origin(self.recipe.preset, self.recipe.sizes, self.compiled))

    def refresh_judged(self) -> None:
        if self.average:
            self.judged.load_state_dict(sharding.whole(self.average.values))

    # -- the loop ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """All remaining steps; raises Stopped after a signal and UserError when numbers stop being finite."""
        own = range(self.world.rank, self.parts, self.world.size)
        pin = self.device.type == "cuda"
        workers, prefetch = self.recipe.workers, self.recipe.prefetch
        batches = stream(self.batches, self.step, self.total, workers, pin, own, prefetch)
        old = {number: signal.signal(number, self.stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            with explained(), self.log() as log:
                self.begin_training()
                self.steps(batches, own, log)
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def begin_training(self) -> None:
        """All modules in training mode but those that the recipe freezes."""
        self.trained.train()
        initialisation.rest(self.recipe, self.network)

    def log(self) -> Log | Silence:
        """What the first process tells for all."""
        return Log(self.folder, self.step, self.total, self.recipe.wandb) if self.world.main else Silence()

    def steps(self, batches: Iterator[Batch], own: range, log: Log | Silence) -> None:
        since = self.step
        self.meter.restart()
        while self.step < self.total:
            figures = self.update(batches, own)
            self.step += 1
            log.advance(self.step)
            if self.due(self.recipe.log_every):
                log.train(self.step, figures | self.meter.read(self.step - since))
                since = self.step
            with self.meter.paused():
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
        self.told = number
        signal.signal(number, signal.SIG_DFL)

    def farewell(self) -> str:
        name = signal.Signals(self.signal).name
        path = shlex.quote(str(self.folder.path))  # to be pasted into a shell
        return f"{name}: stopped after step {self.step} of {self.total}; continue with --resume {path}"

    # -- one step ------------------------------------------------------------------------------------------------

    def update(self, batches: Iterator[Batch], own: range) -> dict[str, float]:
        """One step of the optimiser on one global batch, of which this process takes the shares `own`."""
        recipe, share = self.recipe, self.recipe.batch // self.parts
        draw = recipe.task.draw(self.network, recipe.batch, seeds.torch_generator(seeds.DRAW, recipe.seed, self.step))
        rate = self.rates.apply(self.optimizer, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        self.norms.begin_step()
        seen, losses = [], []
        with held_matrices(self.network) if self.holds else nullcontext():
            for part in own:
                rows = slice(part * share, (part + 1) * share)
                batch, key = self.next_batch(batches), (recipe.seed, self.step)
                batch = recipe.augmentation.apply(batch, recipe.data, key, rows, recipe.batch, self.splits.classes)
                seen.append((batch, None if draw is None else draw[rows].to(self.device)))
                losses.append(self.backward(*seen[-1], part, last=part == own[-1]))
                self.norms.end_share()
        sharding.average_numbers(self.objective)
        self.norms.end_step(len(own))
        gradients = [value.grad for value in self.trained.parameters() if value.grad is not None]
        figures = self.agreed(torch.stack(losses).sum(0) / self.parts, sharding.gradient_norm(gradients))
        if not all(map(math.isfinite, figures.values())):
            raise self.world.refuse(self.fault(figures, seen))
        if recipe.clip and figures["gradient_norm"] > recipe.clip:
            for gradient in gradients:
                gradient.mul_(recipe.clip / figures["gradient_norm"])
        self.optimizer.step()
        more = recipe.task.after_step(self.trained, self.step, self.total)
        if self.average:
            self.average.update(self.network)
        return {**figures, "lr": rate, **more}

    def next_batch(self, batches: Iterator[Batch]) -> Batch:
        before = time.perf_counter()
        batch = next(batches).to(self.device)
        self.meter.waited += time.perf_counter() - before
        return batch

    def backward(self, batch: Batch, draw: Tensor | None, part: int, last: bool) -> Tensor:
        """(loss, data, penalty) of a share; the gradient of the batch's loss is added to what is there."""
        # Only now, since the loader of the batch may have drawn from the same generator.
        seeds.begin_forward(self.device, self.recipe.seed, self.step, part)
        with sharding.communicating(self.objective, last):
            values = self.objective(batch.inputs, batch.labels, draw)
            own = self.parts // self.world.size  # the mean over processes is taken where gradients are exchanged
            (values[0] / own).backward()
        return values.detach()

    def agreed(self, losses: Tensor, norm: Tensor) -> dict[str, float]:
        """The figures of a step, alike in all processes, which also learn here that one of them was told to stop.

        A signal that comes later waits for the next step: acting on it at once, a process would leave the others alone.
        """
        values = torch.cat([losses.double(), losses.new_tensor([self.told or 0], dtype=torch.float64)])
        loss, data, penalty, stop = self.world.total(values).tolist()
        if stop:
            self.signal = self.told or int(signal.SIGTERM)
        parts = {"data": data, "penalty": penalty} if hasattr(self.network, "forward_with_penalty") else {}
        return {"loss": loss, **parts, "gradient_norm": norm.item()}

    # -- when numbers stop being finite --------------------------------------------------------------------------

    def fault(self, figures: dict[str, float], seen: list[tuple[Batch, Tensor | None]]) -> str:
        """Says where the numbers of this step first stop being finite, in whichever process that is."""
        place = (
            "the outputs of all steps are finite, so the fault arises after them: in the head, the loss or the gradient"
        )
        with sharding.gathered(self.objective):
            found = [first_not_finite(self.network, *self.recipe.task.inputs(b.inputs, draw)) for b, draw in seen]
        place = next((each for found in self.world.all_of(found) for each in found if each), place)
        loss = figures["loss"]
        what = (
            f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient is not finite, the loss is {loss:.4g}"
        )
        kept = f"the checkpoint of step {self.saved} is kept" if self.saved else "no checkpoint was due before"
        advice = "A smaller optimizer.lr, a longer schedule.warmup or clip=1 may help."
        return f"step {self.step + 1}: {what}: {place}; {kept}. {advice}"

    def evaluate(self, log: Log | Silence) -> None:
        """Figures on the held-out split; the best weights are kept beside the last."""
        task, batch = self.recipe.task, self.recipe.evaluate_batch
        self.refresh_judged()
        reference = reference_of(task, self.judged, self.splits.train, batch) if task.compares else None
        figures = measure(task, self.judged, self.splits.held_out, batch, self.recipe.precision, reference, self.world)
        log.held_out(self.step, figures)
        value = figures[task.metric] if task.larger_is_better else -figures[task.metric]
        if self.best is None or math.isnan(self.best) or value > self.best:
            self.best = value
            self.save_weights(self.folder.best)


def check(recipe: Recipe, network: nn.Module, splits: Splits, world: World) -> None:
    """Raises UserError where recipe, network, data and processes do not belong together."""
    recipe.task.check(network, splits.classes)
    parts = world.parts(recipe.accumulate)
    if recipe.batch % parts:
        among = f" in {world.size} processes" if world.size > 1 else ""
        raise UserError(f"batch {recipe.batch} cannot be split into {parts} equal shares{among}")
    if fault := recipe.augmentation.fault(recipe.batch // parts):
        raise UserError(fault)
    if recipe.task.whole_batch and recipe.accumulate > 1:
        raise UserError(f'task "{recipe.task.name}" takes its loss of a batch as a whole: accumulate must be 1')


def apparatus_of(recipe: Recipe, network: nn.Module) -> nn.Module:
    """What the task trains, initialised from the seed; raises UserError where the recipe asks what it cannot do."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.number(seeds.APPARATUS, recipe.seed))
        trained = recipe.task.apparatus(network)
    if recipe.ema and recipe.task.judged(trained) is not network:
        raise UserError(f'task "{recipe.task.name}" has averaged weights of its own: leave ema out')
    return trained
