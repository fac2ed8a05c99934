"""What a training recipe is: every option with its type and default; what is not declared here is refused."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from runtime import data, tasks
from runtime.data.source import DataSource
from runtime.images.augmentation import Augmentation
from runtime.network import Shape
from runtime.registry import Strict, choice, declared
from runtime.tasks.task import Task

TASKS = declared(tasks, Task)
SOURCES = declared(data, DataSource)


class Optimizer(Strict):
    """AdamW (Loshchilov and Hutter 2019). `decay_all` also decays norms, biases, tokens, positions and scalars."""

    name: Literal["adamw"] = "adamw"
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    decay_all: bool = False


class Schedule(Strict):
    """Linear warm-up over `warmup` steps, then a cosine down to `final` times the learning rate; per step."""

    warmup: int = Field(default=0, ge=0)
    final: float = Field(default=0.0, ge=0, le=1)


class Recipe(Strict):
    """A whole training run but for the network; `source` says where it comes from and `ran` what was run of it."""

    source: str = ""
    ran: str = ""
    preset: str | None = None
    sizes: dict[str, int | float] = {}
    task: choice(TASKS)
    data: choice(SOURCES)
    augmentation: Augmentation = Augmentation()  # of whole batches, on the device
    batch: int = Field(default=128, gt=0)  # images per optimiser step, whatever `accumulate` is
    accumulate: int = Field(default=1, gt=0)  # shares into which a batch is split to save memory
    steps: int | None = Field(default=None, gt=0)
    epochs: int | None = Field(default=None, gt=0)
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    clip: float | None = Field(default=None, gt=0)  # largest norm of the gradient
    ema: float | None = Field(default=None, gt=0, lt=1)  # decay of the averaged weights
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    checkpointing: bool = False  # keep the tokens between layers only and run every layer twice: less memory, more time
    device: str = "auto"
    seed: int = Field(default=0, ge=0)
    workers: int = Field(default=0, ge=0)  # processes that load data
    prefetch: int = Field(default=2, gt=0)  # batches that each of them loads ahead
    evaluate_every: int = Field(default=250, gt=0)  # steps, as the next two
    checkpoint_every: int = Field(default=250, gt=0)
    log_every: int = Field(default=50, gt=0)
    evaluate_batch: int = Field(default=256, gt=0)

    @field_validator("task", "data", mode="before")
    @classmethod
    def named(cls, value: object) -> object:
        """`task: mae` is short for `task: {name: mae}`."""
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def consistent(self) -> Recipe:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("exactly one of steps and epochs is needed")
        if self.batch % self.accumulate:
            raise ValueError(f"batch {self.batch} cannot be split into accumulate = {self.accumulate} equal shares")
        if fault := self.augmentation.fault(self.batch // self.accumulate):
            raise ValueError(fault)
        if self.augmentation.mixes and self.task.name != "classify":
            raise ValueError("augmentation: mixup and cutmix are for the task classify, which takes mixed labels")
        if self.augmentation != Augmentation() and self.data.reads is not Shape:
            raise ValueError(f"augmentation is for images, data {self.data.name} gives {self.data.reads.kind}")
        return self

    def total_steps(self, steps_per_epoch: int) -> int:
        return self.steps or self.epochs * steps_per_epoch
