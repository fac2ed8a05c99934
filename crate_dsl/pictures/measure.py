"""How wide text is, without any font at hand: the metrics of Helvetica and Times, which what stands in for them shares.

Arial, Liberation Sans and Nimbus Sans have the widths of Helvetica; Times New Roman, Liberation Serif and Nimbus Roman
those of Times. (Adobe Font Metrics of the PostScript core fonts, in thousandths of the size, rounded.)
"""

from __future__ import annotations

from dataclasses import replace

from crate_dsl.pictures.notation import Run, Runs, merged

SCRIPT = 0.7  # the size of a sub- or superscript
SLACK = 1.03  # for what the tables do not know
BOLD = 1.07
_SANS = {
    222: "ijl'|", 278: " !,./:;I[]ft\\", 333: "()-`r", 389: "*", 500: "cksvxyzJ", 556: "abdeghnopqu0123456789#$_?L",
    584: "+<=>~^−×±≤≥≈", 611: "FTZ", 667: "&ABEKPSVXY", 722: "CDHNRUw", 778: "GOQ", 833: "Mm", 944: "W%@", 1000: "…→",
}  # fmt: skip
_SERIF = {
    250: " ,.", 278: "/ijlt:;\\", 333: "()-frI[]'|", 389: "sJ", 444: "aceçz?", 500: "0123456789bdghknopquvxy_*$#",
    564: "+<=>−×≤≥~^", 556: "FPS", 611: "ELTZ", 667: "BCR", 722: "ADGHKNOQUVXYw", 778: "m&", 889: "M", 944: "W%@",
    1000: "…→",
}  # fmt: skip
SANS, SERIF = ({character: width for width, group in table.items() for character in group} for table in (_SANS, _SERIF))
THIN_WIDTH = 200
OTHER = 620


def characters(text: str, serif: bool = False) -> float:
    """The width at size 1."""
    table = SERIF if serif else SANS
    return sum(THIN_WIDTH if c == "\u2009" else table.get(c, OTHER) for c in text) / 1000


def width(runs: Runs, size: float, serif: bool = False, bold: bool = False) -> float:
    """The width of runs at a size, in the same unit."""
    return SLACK * (BOLD if bold else 1.0) * sum(_width(run, size, serif) for run in runs)


def _width(run: Run, size: float, serif: bool) -> float:
    return characters(run.text, serif) * size * (SCRIPT if run.level else 1.0)


# ---- breaking ------------------------------------------------------------------------------------------------------


def wrapped(pieces: list[Runs], room: float, size: float, serif: bool = False, bold: bool = False) -> list[Runs]:
    """Lines that fit the room: broken between pieces first, then at blanks inside a piece too wide for a line."""
    lines: list[Runs] = []
    line: Runs = ()
    for piece in (part for whole in pieces for part in _fitting(whole, room, size, serif, bold)):
        joined = (*line, Run(" "), *piece) if line else piece
        if line and width(joined, size, serif, bold) > room:
            lines.append(line)
            line = piece
        else:
            line = joined
    return [*lines, line] if line else lines


def _fitting(piece: Runs, room: float, size: float, serif: bool, bold: bool) -> list[Runs]:
    """The piece itself where it fits, else its words, each cut where even it is too wide."""
    if width(piece, size, serif, bold) <= room:
        return [piece]
    return [cut(word, room, size, serif, bold) for word in _words(piece)]


def _words(piece: Runs) -> list[Runs]:
    result: list[list[Run]] = [[]]
    for run in piece:
        for number, part in enumerate(run.text.replace("\u2009", " ").split(" ")):
            if number:
                result.append([])
            if part:
                result[-1].append(replace(run, text=part))
    return [tuple(word) for word in result if word]


def cut(runs: Runs, room: float, size: float, serif: bool = False, bold: bool = False) -> Runs:
    """The runs, or as much of them as fits with an ellipsis behind it."""
    if width(runs, size, serif, bold) <= room:
        return runs
    kept, used = [], width((Run("…"),), size, serif, bold)
    for single in (replace(run, text=character) for run in runs for character in run.text):
        used += width((single,), size, serif, bold)
        if used > room:
            break
        kept.append(single)
    return merged((*kept, Run("…")))
