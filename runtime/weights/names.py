"""Official names beside those of compiled networks: one table per family, one line per kind of entry.

A compiled layer is found by position, not by name: `encoder.I.J` is the J-th step of layer I, whatever the spec calls
it; `matrix`, `matrix_out` and `matrix_bias` are the step's parameter and, where its adjoint is free, the outer one and
its bias; `second` is the next parameter of its own, that of a decoupled read-out. What else a step learns has its own
name, that of the shipped spec.

Sources: Ma-Lab-Berkeley/CRATE at 674408f, model/crate.py and model/crate_ae; UCSC-VLAA/CRATE-alpha at edbd624,
torch_inference/model/crate_alpha.py; RobinWu218/ToST at 071ea98, tost_vision/tost.py and tost_lang/model_TSSA.py. The
causal CRATE on text has no official code of this form: its names are those of `baselines/official.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from runtime.weights.layouts import (
    AS_IS,
    COLUMN,
    CONVOLUTION,
    FAMILY_OF_VECTORS,
    NEGATED,
    POINTWISE,
    TABLE,
    TRANSPOSED,
    Layout,
)

KINDS = {"layer": r"\d+", "kind": "weight|bias"}  # what stands for the words in braces


@dataclass(frozen=True)
class Rule:
    """An official name and ours, both templates of the same words in braces, and how the tensor lies in each."""

    official: str
    ours: str
    layout: Layout = AS_IS

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
        return pattern(self.official), pattern(self.ours)

    def instances(self, official: Sequence[str]) -> list[str]:
        """The official names of this rule for all the layers that some names have."""
        before, layered, _ = self.official.partition("{layer}")
        numbers = {name.removeprefix(before).partition(".")[0] for name in official if name.startswith(before)}
        layers = sorted(int(number) for number in numbers if number.isdecimal()) if layered else [0]
        kinds = ("weight", "bias") if "{kind}" in self.official else ("",)
        return [self.official.format(layer=layer, kind=kind) for layer in layers for kind in kinds]

    def to_ours(self, name: str) -> str | None:
        found = self._patterns[0].fullmatch(name)
        return self.ours.format(**found.groupdict()) if found else None

    def to_official(self, name: str) -> str | None:
        found = self._patterns[1].fullmatch(name)
        return self.official.format(**found.groupdict()) if found else None


def pattern(template: str) -> re.Pattern[str]:
    text = re.escape(template)
    for word, values in KINDS.items():
        text = text.replace(rf"\{{{word}\}}", f"(?P<{word}>{values})")
    return re.compile(text)


@dataclass(frozen=True)
class Family:
    """The entries of one official architecture; `marker` is one that no other architecture has.

    `unread` are official entries that no forward pass reads, each with what it is made of where nothing was kept: the
    name of another entry, "identity" or "zeros"; `tied` are those that are the same matrix as another.
    """

    name: str
    spec: str  # in specs/
    marker: str
    rules: tuple[Rule, ...]
    unread: Mapping[str, str] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)

    def rule_for(self, official: str) -> Rule | None:
        return next((rule for rule in self.rules if rule.to_ours(official)), None)

    def rule_of(self, place: str) -> Rule | None:
        return next((rule for rule in self.rules if rule.to_official(place)), None)

    def wanted(self, official: Iterable[str]) -> list[str]:
        """Every name of the table for as many layers as these names have."""
        names = list(official)
        return [name for rule in self.rules for name in rule.instances(names)]


def attention(official: str, ours: str, bias: bool = True) -> tuple[Rule, ...]:
    """MSSA behind its norm: U is `qkv`, the outer matrix `to_out`."""
    rules = (
        Rule(f"{official}.norm.{{kind}}", f"{ours}.norm.{{kind}}"),
        Rule(f"{official}.fn.qkv.weight", f"{ours}.matrix"),
        Rule(f"{official}.fn.to_out.0.weight", f"{ours}.matrix_out", TRANSPOSED),
    )
    return (*rules, Rule(f"{official}.fn.to_out.0.bias", f"{ours}.matrix_bias")) if bias else rules


def dictionary(official: str, ours: str, **matrices: str) -> tuple[Rule, ...]:
    """A sparse code, or its synthesis, behind its norm; by default the dictionary is a bare `weight`."""
    names = matrices or {"weight": "matrix"}
    norm = Rule(f"{official}.norm.{{kind}}", f"{ours}.norm.{{kind}}")
    return (norm, *(Rule(f"{official}.fn.{theirs}", f"{ours}.{role}") for theirs, role in names.items()))


def statistics(official: str, ours: str, norm: str, inner: str, outer: str) -> tuple[Rule, ...]:
    """The attention of ToST, whose read-out is subtracted with its bias."""
    return (
        Rule(f"{official}.{norm}.{{kind}}", f"{ours}.norm.{{kind}}"),
        Rule(f"{official}.attn.{inner}.weight", f"{ours}.matrix"),
        Rule(f"{official}.attn.{inner}.bias", f"{ours}.b", FAMILY_OF_VECTORS),
        Rule(f"{official}.attn.temp", f"{ours}.temp", COLUMN),
        Rule(f"{official}.attn.{outer}.weight", f"{ours}.matrix_out", TRANSPOSED),
        Rule(f"{official}.attn.{outer}.bias", f"{ours}.matrix_bias", NEGATED),
        Rule(f"{official}.gamma1", f"{ours}.gamma"),
    )


def feed_forward(official: str, ours: str, norm: str, inner: str, outer: str) -> tuple[Rule, ...]:
    return (
        Rule(f"{official}.{norm}.{{kind}}", f"{ours}.norm.{{kind}}"),
        Rule(f"{official}.mlp.{inner}.weight", f"{ours}.matrix", TRANSPOSED),
        Rule(f"{official}.mlp.{inner}.bias", f"{ours}.c"),
        Rule(f"{official}.mlp.{outer}.weight", f"{ours}.matrix_out"),
        Rule(f"{official}.mlp.{outer}.bias", f"{ours}.matrix_bias"),
        Rule(f"{official}.gamma2", f"{ours}.gamma2"),
    )


LAYER = "transformer.layers.{layer}"
LEARNED = (Rule("pos_embedding", "position"), Rule("cls_token", "class_token"))
MLP_HEAD = (Rule("mlp_head.0.{kind}", "encoder_norm.{kind}"), Rule("mlp_head.1.{kind}", "head.{kind}"))

CRATE = Family(
    "CRATE",
    "crate.crate",
    "to_patch_embedding.2.weight",
    (
        *LEARNED,
        Rule("to_patch_embedding.1.{kind}", "patches.norm_in.{kind}"),
        Rule("to_patch_embedding.2.{kind}", "patches.projection.{kind}"),
        Rule("to_patch_embedding.3.{kind}", "patches.norm_out.{kind}"),
        *attention(f"{LAYER}.0", "encoder.{layer}.0"),
        *dictionary(f"{LAYER}.1", "encoder.{layer}.1"),
        *MLP_HEAD,
    ),
)

CRATE_MAE = Family(
    "CRATE-MAE",
    "crate_mae.crate",
    "blocks.{layer}.layers.0.0.fn.qkv.weight",
    (
        Rule("cls_token", "class_token"),
        Rule("mask_token", "mask_token"),
        Rule("decoder_pos_embed", "position"),
        Rule("patch_embed.proj.weight", "patches.projection.weight", CONVOLUTION),
        Rule("patch_embed.proj.bias", "patches.projection.bias"),
        *attention("blocks.{layer}.layers.0.0", "encoder.{layer}.0"),
        *dictionary("blocks.{layer}.layers.0.1", "encoder.{layer}.1"),
        Rule("norm.{kind}", "encoder_norm.{kind}"),
        *dictionary("decoder_blocks.{layer}.layers.0.0", "decoder.{layer}.0"),
        *attention("decoder_blocks.{layer}.layers.0.1", "decoder.{layer}.1"),
        Rule("decoder_norm.{kind}", "decoder_norm.{kind}"),
        Rule("decoder_pred.{kind}", "head.{kind}"),
    ),
    unread={"pos_embed": "decoder_pos_embed", "decoder_embed.weight": "identity", "decoder_embed.bias": "zeros"},
)

CRATE_ALPHA = Family(
    "CRATE-alpha",
    "crate_alpha.crate",
    f"{LAYER}.1.fn.D1",
    (
        *LEARNED,
        Rule("conv1.weight", "patches.projection.weight", CONVOLUTION),
        Rule("conv1.bias", "patches.projection.bias"),
        *attention(f"{LAYER}.0", "encoder.{layer}.0", bias=False),
        *dictionary(f"{LAYER}.1", "encoder.{layer}.1", D="matrix", D1="second"),
        *MLP_HEAD,
    ),
)

CLASS_BLOCK = {
    "norm1": "norm1", "attn.qkv": "qkv", "attn.proj": "out", "norm2": "norm2", "mlp.fc1": "fc1", "mlp.fc2": "fc2",
}  # fmt: skip
STATISTICS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")  # of BatchNorm

TOST = Family(
    "ToST",
    "tost_vision.crate",
    "blocks.{layer}.attn.temp",
    (
        Rule("cls_token", "class_attention.class_token"),
        Rule("patch_embed.proj.{layer}.0.weight", "patches.projection.{layer}.0.weight"),
        *(
            Rule(f"patch_embed.proj.{{layer}}.1.{name}", f"patches.projection.{{layer}}.1.{name}")
            for name in STATISTICS
        ),
        Rule("pos_embeder.token_projection.weight", "position.weight", POINTWISE),
        Rule("pos_embeder.token_projection.bias", "position.bias"),
        *statistics("blocks.{layer}", "encoder.{layer}.0", "norm1", "qkv", "to_out.0"),
        *feed_forward("blocks.{layer}", "encoder.{layer}.1", "norm2", "fc1", "fc2"),
        *(
            Rule(f"cls_attn_blocks.{{layer}}.{theirs}.{{kind}}", f"class_attention.blocks.{{layer}}.{ours}.{{kind}}")
            for theirs, ours in CLASS_BLOCK.items()
        ),
        *(
            Rule(f"cls_attn_blocks.{{layer}}.{name}", f"class_attention.blocks.{{layer}}.{name}")
            for name in ("gamma1", "gamma2")
        ),
        Rule("norm.{kind}", "encoder_norm.{kind}"),
        Rule("head.{kind}", "head.{kind}"),
    ),
)

TOST_TEXT = Family(
    "ToST on text",
    "tost_causal.crate",
    "transformer.h.{layer}.attn.temp",
    (
        Rule("transformer.wte.weight", "embedding.weight"),
        Rule("transformer.wpe.weight", "position", TABLE),
        *statistics("transformer.h.{layer}", "encoder.{layer}.0", "ln_1", "c_attn", "c_proj"),
        Rule("transformer.h.{layer}.attn.denom_bias", "encoder.{layer}.0.bias", COLUMN),
        *feed_forward("transformer.h.{layer}", "encoder.{layer}.1", "ln_2", "c_fc", "c_proj"),
        Rule("transformer.ln_f.{kind}", "encoder_norm.{kind}"),
    ),
    tied={"lm_head.weight": "transformer.wte.weight"},
)

CRATE_TEXT = Family(
    "CRATE on text",
    "crate_gpt.crate",
    "token_embedding.weight",
    (
        Rule("token_embedding.weight", "embedding.weight"),
        Rule("pos_embedding", "position"),
        *attention(f"{LAYER}.0", "encoder.{layer}.0"),
        *dictionary(f"{LAYER}.1", "encoder.{layer}.1"),
        Rule("norm.{kind}", "encoder_norm.{kind}"),
    ),
)

FAMILIES = (CRATE, CRATE_MAE, CRATE_ALPHA, TOST, TOST_TEXT, CRATE_TEXT)


def family_of(official: Mapping[str, object]) -> Family | None:
    """The family of a state dict by its marker; None for other architectures."""
    for family in FAMILIES:
        marker = pattern(family.marker)
        if any(marker.fullmatch(name) for name in official):
            return family
    return None


def family_for(places: Mapping[str, object]) -> Family:
    """The family that has a place for most of a compiled network's entries, named by number (`weights/places.py`)."""
    return max(FAMILIES, key=lambda family: sum(family.rule_of(name) is not None for name in places))
