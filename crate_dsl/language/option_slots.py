"""The slots of a step's options: sites and their rules, options with or without a value, initial values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from crate_dsl.errors import fail
from crate_dsl.language import syntax
from crate_dsl.language.edits import Edit, added, own_line, removed, replaced
from crate_dsl.language.options import OPTION_NAMES, RESIDUALS
from crate_dsl.language.slots import ABSENT, Address, Slot
from crate_dsl.language.vocabulary import Vocabulary, WordSignature

ORDER = ("norm", "residual", "init", "from", "step", "steps", "read")  # in which options stand before the sites
TRIALS = {"norm": "layer", "residual": "raw", "from": "0", "step": "1", "steps": "1 of 1", "read": "read_out_matrix"}
NUMBERS = {"size": "1", "positive": "1/2", "fraction": "1/2", "rate": "1/2", "real": "1/2", "scalar": "1/2"}  # by kind
YES, NO = "yes", "no"
TIED = {"adjoint": "tied"}  # what a site without a line is called


def option_name(option: syntax.Option) -> str:
    """`norm`, `gram`, `init`: the word that an option begins with."""
    if isinstance(option, syntax.SiteLine):
        return option.site
    return "init" if isinstance(option, syntax.InitLine) else OPTION_NAMES.get(type(option), "")


@dataclass(frozen=True)
class OptionSlot(Slot):
    """An option that a step has at most once: `norm layer`, `from Z`, `step kappa`."""

    values: tuple[str, ...]  # usages of what may stand there
    closed: bool  # whether a value must begin with one of them

    def line(self, spec: syntax.Spec) -> syntax.Option | None:
        return next((o for o in self.step.find(spec).options if option_name(o) == self.what), None)

    def now(self, spec: syntax.Spec) -> str | None:
        line = self.line(spec)
        return line.span.text[len(self.head(line)) :] or line.span.text if line else None

    def head(self, line: syntax.Option) -> str:
        """The words before the value, with the blanks that align it."""
        return re.match(r"\w+\s*(~\s*)?", line.span.text).group()

    def usage(self) -> str:
        return ", ".join((*self.values, ABSENT))

    def choices(self, spec: syntax.Spec) -> frozenset[str] | None:
        return frozenset((*map(first_word, self.values), ABSENT)) if self.closed else None

    def edits(self, spec: syntax.Spec, value: str) -> list[Edit]:
        line = self.line(spec)
        if value == ABSENT:
            return [removed(line.span)] if line else []
        if line:
            head = self.head(line)
            return [replaced(line.span, (head if head[-1:].isspace() else f"{head} ") + self.completed(line, value))]
        return [self.addition(spec, self.completed(None, value))]

    def completed(self, line: syntax.Option | None, value: str) -> str:
        """The value with what a short form leaves out."""
        return value

    def addition(self, spec: syntax.Spec, value: str) -> Edit:
        options = self.step.find(spec).options
        rank = ORDER.index(self.what) if self.what in ORDER else len(ORDER)
        lines = [o for o in options if not isinstance(o, syntax.SiteLine)]
        before = [o for o in lines if option_name(o) in ORDER and ORDER.index(option_name(o)) <= rank]
        following = next(iter(options), None)
        return added(self.step.find(spec), f"{self.what} {value}".rstrip(), following, before[-1] if before else None)

    @property
    def trial(self) -> str | None:
        return TRIALS.get(self.what)


def first_word(usage: str) -> str:
    return re.match(r"\w+", usage).group()


def example(signature: WordSignature) -> str:
    """A word with arguments that it can take: `neumann(1)`."""
    given = [NUMBERS.get(kind, kind.split("|")[0]) for kind in signature.required]
    return f"{signature.name}({', '.join(given)})" if given else signature.name


class StepsSlot(OptionSlot):
    """`steps 2 of eta`: a bare number keeps the step size, also that of `step eta`."""

    def line(self, spec: syntax.Spec) -> syntax.Option | None:
        found = [o for o in self.step.find(spec).options if isinstance(o, syntax.StepsOption | syntax.StepOption)]
        return next(iter(found), None)

    def head(self, line: syntax.Option) -> str:
        return super().head(line) if isinstance(line, syntax.StepsOption) else "steps "

    def now(self, spec: syntax.Spec) -> str | None:
        line = self.line(spec)
        return super().now(spec) if isinstance(line, syntax.StepsOption) else None

    def completed(self, line: syntax.Option | None, value: str) -> str:
        if re.search(r"\bof\b", value):
            return value
        if line is None:
            raise fail(f'"steps {value}" needs a step size', None, f'write "{self.key}={value} of 0.1"')
        return f"{value} of {line.size.span.text}"


class FlagSlot(OptionSlot):
    """An option of one word, `causal` for instance, which stands or does not."""

    def now(self, spec: syntax.Spec) -> str | None:
        return YES if self.line(spec) else None

    def usage(self) -> str:
        return f"{YES}, {NO}"

    def choices(self, spec: syntax.Spec) -> frozenset[str]:
        return frozenset((YES, NO))

    def edits(self, spec: syntax.Spec, value: str) -> list[Edit]:
        line = self.line(spec)
        if value == NO:
            return [removed(line.span)] if line else []
        return [] if line else [self.addition(spec, "")]

    @property
    def trial(self) -> str | None:
        return YES


# ---- sites -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SiteSlot(OptionSlot):
    """The rule at a site; without a line it is exact. A bare rule keeps the arguments that it can take."""

    rules: Mapping[str, Mapping[str, WordSignature]]  # site -> rule -> signature

    @property
    def trials(self) -> list[str]:
        """Every rule, to find out whether the expression has the site at all."""
        return [example(signature) for signature in self.rules[self.what].values()]

    def usage(self) -> str:
        exact = [TIED[self.what]] if self.what in TIED else []
        return ", ".join((*self.values, *exact, ABSENT))

    def choices(self, spec: syntax.Spec) -> frozenset[str]:
        return frozenset((*self.rules[self.what], *TIED.get(self.what, "").split(), ABSENT))

    def edits(self, spec: syntax.Spec, value: str) -> list[Edit]:
        return super().edits(spec, ABSENT if value == TIED.get(self.what) else value)

    def completed(self, line: syntax.SiteLine | None, value: str) -> str:
        if line is None or value not in self.rules[self.what] or line.rule.name not in self.rules[self.what]:
            return value
        old, new = (self.rules[self.what][name] for name in (line.rule.name, value))
        kinds, count = (*new.required, *new.optional), len(line.rule.arguments)
        same = kinds[:count] == (*old.required, *old.optional)[:count]
        if not same or not len(new.required) <= count <= len(kinds):
            return value
        rule = line.rule.span.text
        return value + rule[len(line.rule.name) :]

    def addition(self, spec: syntax.Spec, value: str) -> Edit:
        """In the canonical order of the sites, in line with those that stand there."""
        statement, order = self.step.find(spec), list(self.rules)
        sites = [o for o in statement.options if isinstance(o, syntax.SiteLine) and o.site in order]
        earlier = [o for o in sites if order.index(o.site) < order.index(self.what)]
        model = next(iter(sites), None)
        width = model.span.text.index("~") if model and own_line(model.span) else 0
        line = f"{self.what:<{max(width, len(self.what) + 1)}}~ {value}"
        after = earlier[-1] if earlier else (None if sites else next(reversed(statement.options), None))
        return added(statement, line, model, after)

    @property
    def trial(self) -> str | None:
        return None


@dataclass(frozen=True)
class AllSitesSlot(Slot):
    """All sites of a step together: kept as they are, or none, which is the exact step."""

    def now(self, spec: syntax.Spec) -> str | None:
        lines = [o for o in self.step.find(spec).options if isinstance(o, syntax.SiteLine)]
        return "kept" if lines else None

    def usage(self) -> str:
        return f"kept, {ABSENT} (the exact step)"

    def choices(self, spec: syntax.Spec) -> frozenset[str]:
        return frozenset(("kept", ABSENT))

    def edits(self, spec: syntax.Spec, value: str) -> list[Edit]:
        lines = [o for o in self.step.find(spec).options if isinstance(o, syntax.SiteLine)]
        return [removed(line.span) for line in lines] if value == ABSENT else []


# ---- initial values --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class InitSlot(OptionSlot):
    """`init U orthogonal`, in the step that reads U or in its block; `init position normal(0.02)` at the top.

    A matrix that is declared, `learn b: K of p x 1 = zeros`, has its initial value there.
    """

    name: str

    def line(self, spec: syntax.Spec) -> syntax.InitLine | syntax.LearnMatrix | None:
        lines = self.step.block(spec).body if self.step else spec.items
        steps = (line for line in lines if isinstance(line, syntax.StepStatement))
        inner = (option for step in steps for option in step.options)
        matrices = (matrix for line in lines if isinstance(line, syntax.Learns) for matrix in line.matrices)
        named = (*lines, *inner, *matrices)
        kinds = syntax.InitLine | syntax.LearnMatrix
        return next((line for line in named if isinstance(line, kinds) and line.name == self.name), None)

    def head(self, line: syntax.InitLine | syntax.LearnMatrix) -> str:
        word = line.init if isinstance(line, syntax.LearnMatrix) else line.word
        return line.span.text[: word.span.start - line.span.start]

    def usage(self) -> str:
        return ", ".join(self.values)

    def choices(self, spec: syntax.Spec) -> frozenset[str]:
        return frozenset(map(first_word, self.values))

    def addition(self, spec: syntax.Spec, value: str) -> Edit:
        lines = [o for o in self.step.find(spec).options if option_name(o) in ORDER[:3]]
        following = next(iter(self.step.find(spec).options), None)
        return added(self.step.find(spec), f"init {self.name} {value}", following, lines[-1] if lines else None)

    @property
    def trial(self) -> str | None:
        return None


@dataclass(frozen=True)
class LetSlot(OptionSlot):
    """`let Pi[k in K] = ...`: a quantity that a step computes and its derivation holds constant."""

    name: str

    def line(self, spec: syntax.Spec) -> syntax.LetOption:
        options = self.step.find(spec).options
        return next(line for line in options if isinstance(line, syntax.LetOption) and line.name == self.name)

    def head(self, line: syntax.LetOption) -> str:
        return line.span.text[: line.value.span.start - line.span.start]

    def usage(self) -> str:
        return "an expression"

    def edits(self, spec: syntax.Spec, value: str) -> list[Edit]:
        line = self.line(spec)
        return [replaced(line.span, self.head(line) + value)]


def step_slots(statement: syntax.StepStatement, address: Address, vocabulary: Vocabulary) -> list[Slot]:
    """The slots of a step's options, whether the step has them or not."""
    norms = tuple(signature.name for signature in vocabulary.norms.values())
    values = {
        "norm": (norms, True),
        "residual": (RESIDUALS, True),
        "from": ((statement.tokens, "0"), True),
        "step": (("a number, or the name of one",), False),
        "read": (("the name of a matrix",), False),
    }
    slots: list[Slot] = [OptionSlot(name, address, *rest) for name, rest in values.items()]
    slots.append(StepsSlot("steps", address, ("2", "2 of eta"), False))
    flags = [name for node, name in OPTION_NAMES.items() if [field.name for field in fields(node)] == ["span"]]
    slots += [FlagSlot(name, address, (), True) for name in flags]
    lets = (line for line in statement.options if isinstance(line, syntax.LetOption))
    slots += [LetSlot(f"let.{line.name}", address, (), False, line.name) for line in lets]
    for site, rules in vocabulary.sites.items():
        usages = tuple(rule.usage.split(":")[0] for rule in rules.values())
        slots.append(SiteSlot(site, address, usages, True, vocabulary.sites))
    return [*slots, AllSitesSlot("sites", address)]
