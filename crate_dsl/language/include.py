"""`include`: the energies of other files, read before a spec is checked; nothing but text is ever read.

A bare name is a file of the standard library, a path in double quotes a file in the folder of the file that includes
it. Only what a spec uses of them becomes part of it: the rest is neither checked nor part of its identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from re import fullmatch

from crate_dsl.errors import CrateError, Diagnostic, Source, Span, fail, known
from crate_dsl.language import syntax
from crate_dsl.language.edits import Edit, edited, own_line, removed
from crate_dsl.language.energies import uses
from crate_dsl.language.parse import parse_energies
from crate_dsl.language.report import shown

MAX_BYTES = 1_000_000
MAX_FILES = 32
PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"  # of a path: no part is empty, hidden or ".."


def with_included(spec: syntax.Spec, library: Mapping[str, Path]) -> syntax.Spec:
    """The spec with the energies of every file that it includes, directly or through others.

    Raises:
        CrateError: for a file that cannot or must not be read, for one that includes itself, for its syntax errors.
    """
    files = _Files(spec.source, library)
    own = spec.source.folder / Path(spec.source.name).name if spec.source.folder else None
    files.read(spec.items, (File(spec.source.name, own.resolve() if own else None),))
    if files.diagnostics:
        raise CrateError(*files.diagnostics)
    return replace(spec, included=tuple(files.energies))


@dataclass(frozen=True)
class File:
    """A file on the way to another: the name under which the user knows it, and where it lies."""

    name: str
    place: Path | None


@dataclass
class _Files:
    """The files read so far, by where they lie; each is read once, however often it is included."""

    spec: Source
    library: Mapping[str, Path]
    energies: list[syntax.EnergyDeclaration] = field(default_factory=list)
    diagnostics: list[Diagnostic] = field(default_factory=list)
    seen: dict[Path, Span] = field(default_factory=dict)

    def read(self, items: tuple[syntax.Item, ...], chain: tuple[File, ...]) -> None:
        """Everything that these items include; `chain` are the files on the way to them, the spec first."""
        lines: dict[str, syntax.Include] = {}
        for line in (item for item in items if isinstance(item, syntax.Include)):
            if line.name in lines:
                note = (lines[line.name].span, "the first is here")
                self.diagnostics.append(Diagnostic(f'"{line.name}" is included twice', line.span, "", (note,)))
                continue
            lines[line.name] = line
            try:
                self._follow(line, chain)
            except CrateError as error:
                self.diagnostics += error.diagnostics

    def _follow(self, line: syntax.Include, chain: tuple[File, ...]) -> None:
        place = self._beside(line) if line.path else self._of_library(line)
        if place in [file.place for file in chain]:
            through = " -> ".join(file.name for file in chain)
            raise fail(f'"{line.name}" would include itself', line.span, f"{through} -> {line.name}")
        if place in self.seen:
            return
        if len(self.seen) >= MAX_FILES:
            raise fail("too many files are included", line.span, f"at most {MAX_FILES} are read")
        self.seen[place] = line.span
        source = Source(self._name(line), _text(place, line), place.parent, line.span)
        items = parse_energies(source)
        self.read(items, (*chain, File(source.name, place)))
        self.energies += [item for item in items if isinstance(item, syntax.EnergyDeclaration)]

    def _name(self, line: syntax.Include) -> str:
        """As the user knows it: beside the file that names it; a file of the library has no folder."""
        return str(Path(line.span.source.name).parent / line.name) if line.path else f"{line.name}.crate"

    def _of_library(self, line: syntax.Include) -> Path:
        if line.name not in self.library:
            hint = f"{known('files of energies', line.name, self.library)} A file of your own stands in double quotes"
            raise fail(f'the library has no energies "{line.name}"', line.span, hint)
        return self.library[line.name].resolve()

    def _beside(self, line: syntax.Include) -> Path:
        """Where a path leads: a file inside the folder of the spec, also where links are followed."""
        hint = 'a file beside the spec or in a folder there: include "mine.crate"'
        if not (fullmatch(rf"{PART}(/{PART})*", line.name) and line.name.endswith(".crate")):
            raise fail(f'"{shown(line.name)}" is not a path that can be included', line.span, hint)
        if self.spec.folder is None or line.span.source.folder is None:
            raise fail(
                "this text lies in no folder, so it can include no file", line.span, "include rates, for instance"
            )
        try:
            place = (line.span.source.folder / line.name).resolve()
            inside, exists = place.is_relative_to(self.spec.folder.resolve()), place.is_file()
        except (OSError, RuntimeError) as error:  # a name too long, links in a circle, a folder that may not be read
            raise fail(f'cannot read "{shown(line.name)}": {_reason(error)}', line.span, hint) from None
        if not inside:
            raise fail(f'"{line.name}" leads out of the folder of the spec', line.span, hint)
        if not exists:
            beside = [path.name for path in place.parent.glob("*.crate")]
            raise fail(f'there is no file "{line.name}"', line.span, known("files there", place.name, beside))
        return place


def _text(place: Path, line: syntax.Include) -> str:
    try:
        if place.stat().st_size > MAX_BYTES:
            raise fail(f'"{line.name}" is too long to be included', line.span, f"at most {MAX_BYTES:,} bytes are read")
        return place.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise fail(f'cannot read "{line.name}": {_reason(error)}', line.span, "a file of energies is text") from None


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    return getattr(error, "strerror", None) or "its links lead nowhere"


# ---- what of it a spec uses --------------------------------------------------------------------------------------


def used_energies(spec: syntax.Spec) -> tuple[syntax.EnergyDeclaration, ...]:
    """The included energies that the spec uses."""
    names = uses(spec)
    return tuple(energy for energy in spec.included if energy.name in names)


def sources(spec: syntax.Spec) -> tuple[Source, ...]:
    """The spec's own file, and those of which it uses energies."""
    return tuple(dict.fromkeys((spec.source, *(energy.span.source for energy in used_energies(spec)))))


def resolved(spec: syntax.Spec) -> str:
    """The text of a spec in which the energies that it uses stand in the place of the lines that include them.

    It states the same network and depends on no other file; a spec that includes nothing is its own resolved text.
    """
    lines = spec.all(syntax.Include)
    return edited(spec.source.text, [_in_place(line, used_energies(spec)) for line in lines])


def _in_place(line: syntax.Include, used: tuple[syntax.EnergyDeclaration, ...]) -> Edit:
    """The energies that a line brings, or nothing at all, its remark neither, where none of them is used."""
    own = [energy.span.text for energy in used if _asked(energy.span) == line.span]
    if not own:
        return removed(line.span)
    alone = own_line(line.span)
    end = alone[1] if alone else line.span.end  # its remark stays beside it
    remark = line.span.source.text[line.span.end : end]
    return Edit(line.span.start, end, "\n".join([f"# include {line.name}{remark}", *own, ""]))


def _asked(span: Span) -> Span | None:
    """The line of the spec itself through which a place was included."""
    asked = span.source.asked
    return asked if asked is None or asked.source.asked is None else _asked(asked)
