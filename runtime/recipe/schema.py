"""What a training recipe is: every option with its type and default; what is not declared here is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from runtime import data, optimisers, seeds, tasks
from runtime.data.source import DataSource, First, Splits
from runtime.images.augmentation import Augmentation
from runtime.network import InputShape, Shape
from runtime.optimisers.adamw import AdamW
from runtime.optimisers.optimiser import Optimiser
from runtime.recipe.schedule import Schedule
from runtime.registry import Strict, choice, declared
from runtime.tasks.task import Task

TASKS = declared(tasks, Task)
SOURCES = declared(data, DataSource)
OPTIMISERS = declared(optimisers, Optimiser)


class Initialisation(Strict):
    """Weights of a trained network to start from, a file of ours or a run; `freeze` trains the head alone.

    `sha256` is that of the file: a run fills it in, a recipe that states it takes no other file.
    """

    weights: Path
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    freeze: bool = False


class Recipe(Strict):
    """A whole training run but for the network; `source` says where it comes from and `ran` what was run of it."""

    source: str = ""
    ran: str = ""
    preset: str | None = None
    sizes: dict[str, int | float] = {}
    initialisation: Initialisation | None = None
    task: choice(TASKS)
    data: choice(SOURCES)
    augmentation: Augmentation = Augmentation()  # of whole batches, on the device
    batch: int = Field(default=128, gt=0)  # images per optimiser step, whatever `accumulate` is
    accumulate: int = Field(default=1, gt=0)  # shares into which a batch is split to save memory
    steps: int | None = Field(default=None, gt=0)
    epochs: int | None = Field(default=None, gt=0)
    optimizer: choice(OPTIMISERS) = AdamW()
    schedule: Schedule = Schedule()
    clip: float | None = Field(default=None, gt=0)  # largest norm of the gradient
    ema: float | None = Field(default=None, gt=0, lt=1)  # decay of the averaged weights
    parallel: Literal["ddp", "fsdp"] = "ddp"  # in several processes: copies of the network, or slices of it (FSDP2)
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    checkpointing: bool = False  # keep the tokens between layers only and run every layer twice: less memory, more time
    overfit: int | None = Field(default=None, gt=0)  # learn the first so many training inputs by heart, unvaried
    wandb: str | None = None  # the Weights & Biases project that also gets the log
    device: str = "auto"
    seed: int = Field(default=0, ge=0, le=seeds.LARGEST)
    workers: int = Field(default=0, ge=0)  # processes that load data
    prefetch: int = Field(default=2, gt=0)  # batches that each of them loads ahead
    evaluate_every: int = Field(default=250, gt=0)  # steps, as the next two
    checkpoint_every: int = Field(default=250, gt=0)
    log_every: int = Field(default=50, gt=0)
    evaluate_batch: int = Field(default=256, gt=0)

    @field_validator("task", "data", "optimizer", "schedule", mode="before")
    @classmethod
    def named(cls, value: object) -> object:
        """`task: mae` is short for `task: {name: mae}`."""
        return {"name": value} if isinstance(value, str) else value

    @field_validator("optimizer", mode="before")
    @classmethod
    def adamw_unless_named(cls, value: object) -> object:
        return {"name": "adamw"} | value if isinstance(value, dict) else value

    @model_validator(mode="after")
    def consistent(self) -> Recipe:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("exactly one of steps and epochs is needed")
        if self.augmentation.mixes and self.task.name != "classify":
            raise ValueError("augmentation: mixup and cutmix are for the task classify, which takes mixed labels")
        if self.augmentation != Augmentation() and self.data.reads is not Shape:
            raise ValueError(f"augmentation is for images, data {self.data.name} gives {self.data.reads.kind}")
        return self

    def splits(self, shape: InputShape) -> Splits:
        """The data in the shape that a network reads; with `overfit` the same few inputs as both splits."""
        splits = self.data.splits(shape)
        if self.overfit is None:
            return splits
        few = First(splits.train, self.overfit)
        return Splits(few, few, splits.classes)

    def total_steps(self, steps_per_epoch: int) -> int:
        return self.steps or self.epochs * steps_per_epoch
