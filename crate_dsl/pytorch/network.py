"""The network class: stem, layers, norms and head in the order of the spec, and the ways to look inside."""

from __future__ import annotations

from dataclasses import dataclass

from crate_dsl.language.model import Block, ClassAttention, Model, NormStage
from crate_dsl.operators.columns import is_causal
from crate_dsl.operators.program import BlockProgram, Program
from crate_dsl.operators.uses import step_parameters, step_scalars
from crate_dsl.pytorch.class_attention import class_attention_classes
from crate_dsl.pytorch.depth import StochasticDepth
from crate_dsl.pytorch.file import File
from crate_dsl.pytorch.fitting import layer_fit, network_fit
from crate_dsl.pytorch.folding import network_fold
from crate_dsl.pytorch.front import (
    Front,
    front_of,
    head_code,
    head_lines,
    mask_ratio,
    pool_code,
    stem_lines,
    task_of,
    tokens_method,
)
from crate_dsl.pytorch.lines import docstring, escaped, indented
from crate_dsl.pytorch.parameters import attribute, scalar_attribute
from crate_dsl.pytorch.penalty import PenaltyWriter
from crate_dsl.pytorch.stem import mask_method
from crate_dsl.pytorch.steps import StepWriter, norm_line
from crate_dsl.pytorch.streaming import advance_method, advances

LIVE = "    z = layer(z)"
CHECKPOINTING = "checkpointing = False  # in training, keep the tokens between layers only and run each layer twice"
RUN = "    z = checkpoint(layer, z, use_reentrant=False) if self.checkpointing else layer(z)"


@dataclass(frozen=True)
class Stage:
    """A stage of the network as the class sees it: a list of layers, a norm, or class attention."""

    name: str
    block: BlockProgram | None
    layer: str = ""  # class of a layer, or of class attention
    norm: NormStage | None = None
    attention: ClassAttention | None = None


class NetworkWriter:
    """Writes the classes of a network, from the steps to the whole."""

    def __init__(self, program: Program, file: File, name: str) -> None:
        self._program, self._file = program, file
        self._model: Model = program.derivation.model
        self._front: Front = front_of(file)
        self._name = name
        self._stages = [self._stage(stage) for stage in self._model.stages]
        self._advances = advances(program, self._causal)
        self._penalties = PenaltyWriter(program, file)
        self._depth = StochasticDepth(program, file)
        self._folds: dict[str, list[str]] = {}  # labels of the steps that compute something once, by stage

    def _stage(self, stage: Block | NormStage | ClassAttention) -> Stage:
        if isinstance(stage, NormStage):
            return Stage(stage.name, None, norm=stage)
        if isinstance(stage, ClassAttention):
            return Stage(stage.name, None, self._file.names.new(camel(stage.name)), attention=stage)
        block = next(b for b in self._program.blocks if b.block.role == stage.role)
        return Stage(stage.role, block, self._file.names.new(f"{camel(stage.role)}Layer"))

    def constants(self) -> list[str]:
        """Module constants beside the sizes and reals of the spec."""
        return self._front.constants()

    def classes(self) -> list[list[str]]:
        """The text of every class, in reading order."""
        parts = self._front.classes()
        for stage in self._stages:
            if stage.block:
                parts += self._layer_classes(stage)
            elif stage.attention:
                parts += class_attention_classes(stage.attention, self._file, stage.layer)
        return [*parts, self._network()]

    # ---- layers -------------------------------------------------------------------------------------------------

    def _layer_classes(self, stage: Stage) -> list[list[str]]:
        parts, labels = [], []
        for step in stage.block.steps:
            label = step.derived.step.label
            name = self._file.names.new(camel(f"{stage.name}_{label}"))
            writer = StepWriter(step, self._file, self._advances)
            parts += writer.classes(name)
            self._folds.setdefault(stage.name, []).extend([label] if writer.folds else [])
            labels.append((label, name))
        return [*parts, self._layer(stage, labels)]

    def _layer(self, stage: Stage, labels: list[tuple[str, str]]) -> list[str]:
        init = [f"self.{label} = {name}()" for label, name in labels] + self._ties(stage.block) + self._depth.kept()
        pruned = pruned_steps(stage.block)
        more = ", only_first: bool = False" if pruned else ""
        verbs = ", then ".join(label.replace("_", " ") for label, _ in labels)
        return [
            f"class {stage.layer}(nn.Module):",
            *indented([f'"""One layer of the {stage.name}: {verbs}."""', ""]),
            *indented([f"def __init__(self{self._depth.argument}) -> None:"]),
            *indented(["super().__init__()", *init], 2),
            "",
            *indented([f"def forward(self, z: Tensor{more}) -> Tensor:"]),
            *indented(self._depth.steps(stage.block, pruned), 2),
            *indented(self._penalties.method(stage.block)),
            *indented(layer_fit(stage.block)),
        ]

    def _ties(self, block: BlockProgram) -> list[str]:
        """A parameter that several steps of a layer read is one parameter."""
        owners: dict[str, str] = {}
        lines = []
        for step in block.steps:
            label = step.derived.step.label
            names = [attribute(p.name) for p, _ in step_parameters(step) if not p.origin]
            names += [scalar_attribute(scalar) for scalar in step_scalars(step, self._model)]
            for name in names:
                owner = owners.setdefault(name, label)
                if owner != label:
                    lines.append(f"self.{label}.{name} = self.{owner}.{name}  # one parameter of the layer")
        return lines

    def _shared(self) -> list[str]:
        """Parameters that all layers share, and scalars that all blocks share."""
        lines, whole = [], {scalar.name for scalar in self._model.scalars}
        owners: dict[str, str] = {}
        for stage in (stage for stage in self._stages if stage.block):
            for label, name, shared, top in self._attributes(stage.block, whole):
                own = f"layer.{label}.{name}"
                if top and name in owners and owners[name] != stage.name:
                    lines += [f"for layer in self.{stage.name}:", f"    {own} = {owners[name]}"]
                elif shared:
                    first = f"self.{stage.name}[0].{label}.{name}"
                    lines += [f"for layer in self.{stage.name}[1:]:", f"    {own} = {first}  # shared by all layers"]
                    if top:
                        owners.setdefault(name, first)
        return lines

    def _attributes(self, block: BlockProgram, whole: set[str]) -> list[tuple[str, str, bool, bool]]:
        """(label, attribute, shared by the layers, shared by the blocks) of every parameter that is shared."""
        found = []
        for step in block.steps:
            label = step.derived.step.label
            found += [
                (label, attribute(p.name), True, p.top) for p, _ in step_parameters(step) if p.shared and p.stored
            ]
            for scalar in step_scalars(step, self._model):
                if scalar.shared or scalar.name in whole:
                    found.append((label, scalar_attribute(scalar), True, scalar.name in whole))
        return found

    # ---- the network --------------------------------------------------------------------------------------------

    def _network(self) -> list[str]:
        about = docstring([escaped(self._model.description) or f"The network {self._model.name}.", *self._frozen])
        parts = [about, self._facts(), self._init(), *([network_fold(self._folds)] if self._frozen else [])]
        parts += [tokens_method(self._file, self._front)]
        parts += [mask_method(self._front.unit, self._front.units)] if self._model.mask else []
        parts += [self._forward(), *self._with_penalty(), self._front.methods(), self._features(), self._energies()]
        parts.append(network_fit(self._program, self._arguments[0]))
        if self._advances:
            head = head_code(self._model, self._front)
            parts.append(advance_method(self._program, self._file.helpers, head))
        body = [line for part in parts if part for line in (*part, "")]
        return [f"class {self._name}(nn.Module):", *indented(body[:-1])]

    @property
    def _frozen(self) -> list[str]:
        """What a user of frozen weights must know, as the docstring says it."""
        if not any(self._folds.values()):
            return []
        return [
            "",
            "Frozen, for inference: what is made of weights alone is kept in buffers, and no gradient passes through",
            "these. The state dict is that of the network as it is trained. Call `fold` after weights were changed by",
            "hand, or converted to a wider type.",
        ]

    @property
    def _causal(self) -> bool:
        return all(map(is_causal, self._program.steps))

    def _facts(self) -> list[str]:
        """What a user of the network may ask it."""
        task = task_of(self._model)
        classes = self._model.head.word.arguments[0] if task == "classify" else None
        return [
            f'spec_sha256 = "{self._model.sha256}"',
            f'task = "{task}"',
            f'input = "{self._model.input.name}"',
            *self._front.facts(),
            f"classes: int | None = {classes}",
            f"mask_ratio: float | None = {mask_ratio(self._model)!r}",
            f"token_count = {self._model.tokens.count}",
            f"causal = {self._causal}",
            *([] if self._program.frozen else [CHECKPOINTING]),
            *([f"features_size = {self._file.d}"] if task == "features" else []),
        ]

    def _init(self) -> list[str]:
        lines = stem_lines(self._file, self._front)
        for stage in self._stages:
            if stage.norm:
                lines.append(norm_line(stage.name, stage.norm.word, self._file.d))
            elif stage.attention:
                lines.append(f"self.{stage.name} = {stage.layer}()")
            else:
                lines.append(f"self.{stage.name} = nn.ModuleList({self._depth.layers(stage.layer, stage.block)})")
        lines += [*self._shared(), *head_lines(self._file, self._front)]
        if self._frozen:
            self._file.helpers.add("fold_again")
            lines += ["self.fold()", "self.register_load_state_dict_post_hook(fold_again)"]
        return ["def __init__(self) -> None:", *indented(["super().__init__()", *lines])]

    @property
    def _arguments(self) -> tuple[str, str]:
        """Of a method, and of its call to `tokens`."""
        given = self._front.argument
        if self._model.mask:
            return f"{given}: Tensor, noise: Tensor | None = None", f"{given}, noise"
        return f"{given}: Tensor", given

    def _start(self, keep_mask: bool = False) -> str:
        arguments = self._arguments[1]
        if not self._model.mask:
            return f"z = self.tokens({arguments})"
        return f"z, {'mask' if keep_mask else '_'} = self.tokens({arguments})"

    def _with_penalty(self) -> list[list[str]]:
        """The forward pass that also gives the penalty of the loss, where there is one."""
        own = self._penalties.method(None)[1:]
        return [self._forward(self._penalties), *([own] if own else [])] if self._penalties else []

    def _forward(self, penalties: PenaltyWriter | None = None) -> list[str]:
        """The whole pass; with `penalties` it gathers them on the way."""
        lines = [self._start(keep_mask=True), *(["penalty = 0.0"] if penalties else [])]
        pool, run = pool_code(self._model), LIVE if penalties or self._program.frozen else RUN
        for stage in self._stages:
            if penalties and stage is self._stages[-1] and stage.norm:
                lines += penalties.of_head(f"self.{stage.name}(z)")
            if stage.norm:
                if pool and stage is self._stages[-1]:  # the last norm acts on what the head reads
                    lines.append(f"z = {pool}")
                    pool = ""
                lines.append(f"z = self.{stage.name}(z)")
            elif stage.attention:
                lines.append(f"z = self.{stage.name}(z)")
            elif not penalties and pruned_steps(stage.block):
                lines += [f"for layer in self.{stage.name}[:-1]:", run]
                lines.append(f"z = self.{stage.name}[-1](z, only_first=True)  # all that the head reads")
            else:
                lines += [f"for layer in self.{stage.name}:", run]
                lines += penalties.of_layer(stage.name) if penalties else []
                lines += penalties.of_head("z") if penalties and stage is self._stages[-1] else []
        lines += [f"z = {pool}"] if pool else []
        result, about = {
            "classify": ("Tensor", "Logits, (batch, classes)."),
            "features": ("Tensor", f"Features of every image, (batch, {self._model.tokens.rows})."),
            "mae": (
                "tuple[Tensor, Tensor]",
                "All patches, (batch, patches, pixels), and the mask, 1 where one was hidden.",
            ),
            "reconstruct": ("Tensor", "Patches, (batch, patches, pixels)."),
            "language": ("Tensor", "Logits of every token, (batch, tokens, vocabulary)."),
            "masked_language": (
                "tuple[Tensor, Tensor]",
                "Logits of every token, (batch, tokens, vocabulary), and the mask, 1 where one was hidden.",
            ),
            "tokens": ("Tensor", "The tokens, (batch, tokens, features)."),
        }[task_of(self._model)]
        value = head_code(self._model, self._front) + (", mask" if self._model.mask else "")
        if penalties:
            value = f"({value}), penalty" if self._model.mask else f"{value}, penalty"
            name, result, about = "forward_with_penalty", f"tuple[{result}, Tensor]", penalties.about
        else:
            name = "forward"
        head = f"def {name}(self, {self._arguments[0]}) -> {result}:"
        return [head, *indented([f'"""{about}"""', *lines, f"return {value}"])]

    def _features(self) -> list[str]:
        lines = [self._start(), 'found = {"tokens": z}']
        for stage in self._stages:
            if not stage.block:
                lines += [f"z = self.{stage.name}(z)", f'found["{stage.name}"] = z']
            else:
                lines += self._walk(stage, ["z = step(z)", f'found[f"{stage.name}.{{number}}.{{label}}"] = z'])
        about = '"""The tokens after every step, (batch, tokens, features), by name."""'
        head = f"def features(self, {self._arguments[0]}) -> dict[str, Tensor]:"
        return [head, *indented([about, *lines, "return found"])]

    def _energies(self) -> list[str]:
        lines = [self._start(), "found = {}"]
        blocks = [number for number, stage in enumerate(self._stages) if stage.block]
        for stage in self._stages[: blocks[-1] + 1]:  # nothing reads what norms behind the last block make
            if stage.norm:
                lines += [f"z = self.{stage.name}(z)"]
            elif stage.block:
                call = f'found[f"{stage.name}.{{number}}.{{label}}"] = step.energies(z, raw)'
                lines += self._walk(stage, [call, "z = step(z)"])
        about = '"""The stated energy before and after every step, (batch,) each, by name."""'
        arguments, result = f"self, {self._arguments[0]}, raw: bool = False", "dict[str, tuple[Tensor, Tensor]]"
        head = [f"def energies({arguments}) -> {result}:"]
        if self._model.mask:  # as the formatter breaks a line this long
            head = ["def energies(", f"    {arguments}", f") -> {result}:"]
        return [*head, *indented([about, *lines, "return found"])]

    def _walk(self, stage: Stage, lines: list[str]) -> list[str]:
        return [
            f"for number, layer in enumerate(self.{stage.name}):",
            "    for label, step in layer.named_children():",
            *indented(lines, 2),
        ]


def pruned_steps(block: BlockProgram) -> list[str]:
    """The steps that can compute the first token alone, by their labels."""
    return [step.derived.step.label for step in block.steps if step.pruned]


def camel(name: str) -> str:
    """
    >>> camel("encoder_denoise_lasso")
    'EncoderDenoiseLasso'
    """
    return "".join(part.capitalize() for part in name.split("_"))
