"""The part of `reconstruction` that lays encoder states beside decoder states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from runtime.data.source import Batch
from runtime.inspection.pairs import Match, Pairs, compared
from runtime.instruments.drawing import pairs as drawing
from runtime.instruments.drawing.charts import Chart, Line, charts
from runtime.instruments.section import Cell, Curve, Panel, Sheet
from runtime.instruments.subject import Subject

TOKENS = 8192  # tokens computed, hidden ones among them
FEWEST = 8  # inputs

Found = Mapping[str, Mapping[str, Pairs]]  # by state, then by group of tokens


@dataclass(frozen=True)
class Part:
    """What goes into the section."""

    text: tuple[str, ...] = ()
    panels: Sequence[Panel] = ()
    sheets: Sequence[Sheet] = ()
    curves: Sequence[Curve] = ()


def found(subject: Subject) -> Part:
    network = subject.network
    if not (hasattr(network, "encoder") and hasattr(network, "decoder")):
        return Part(
            (f"There is no {'decoder' if hasattr(network, 'encoder') else 'encoder'}, so layers do not pair off.",)
        )
    count = min(len(subject.held_out), max(FEWEST, TOKENS // network.token_count))
    arguments = [value[:count] for value in subject.arguments(Batch(subject.held_out.inputs))]
    both = {state: compared(each, *arguments) for state, each in subject.states.items()}
    main = next(iter(both.values()))
    if not main["visible"].trips:
        note = "Encoder and decoder have different numbers of layers: only their states are compared, no pairs."
        return Part((*text(main, count), note), state_panels(both), [state_sheet(both)])
    panels = [*state_panels(both), *pair_panels(both)]
    return Part(text(main, count), panels, [pair_sheet(both), trip_sheet(both), state_sheet(both)], curves(main))


def text(main: Mapping[str, Pairs], count: int) -> tuple[str, ...]:
    numbers = ", ".join(f"{pairs.tokens:,} {name}" for name, pairs in main.items())
    pairing = (
        "Layer pairs: the decoder is derived as the encoder's inverse in reversed order, so what leaves its layer"
        " L - 1 - l should be what entered the encoder's layer l. Each encoder state is compared with each decoder"
        f" state, token by token at the same place, on {count:,} held-out images ({numbers} patch tokens, spread over"
        ' all; a class token is left aside). State "in" is what enters the first layer: the embedded patches of the'
        " encoder, its normed last tokens of the decoder."
    )
    measures = (
        "The cosine is a mean over tokens. The relative error is |E - a D| / |E| with one best scale a for all tokens:"
        " 0 is an inverse up to scale, 1 means nothing in common. Alignment is linear CKA (Kornblith et al. 2019) over"
        " the tokens, blind to rotations; it is biased upward when tokens are few for their width, and positions alone"
        " give some. Two networks that both add positions are alike in this: the initial network is the yardstick."
    )
    trips = (
        "The round trip puts the decoder layer right behind its encoder layer, on the tokens that this encoder layer"
        " meets in the network. Steps read normed tokens, so a scale cannot come back; nothing in training asks for"
        " this either, only for the whole to give the image back."
    )
    masked = (
        "Of hidden patches the encoder is given the same mask token everywhere, with the position: to give those tokens"
        " back would be of no use, since the decoder shall put the image there. Whether the decoder inverts the encoder"
        " is therefore read off the visible tokens."
    )
    return (pairing, measures, trips, masked) if "hidden" in main else (pairing, measures, trips)


# ---- figures -----------------------------------------------------------------------------------------------------


def state_panels(both: Found) -> list[Panel]:
    words = "encoder states against decoder states; what should be each other's inverse lies on the diagonal"
    kinds = {"alignment": ("linear CKA", False), "cosine": ("mean cosine", True)}
    return [
        Panel(f"states-{kind}", f"{quantity[0].upper()}{quantity[1:]} of {words}.",
              drawing.matrices(by_group(both, kind), quantity, signed))
        for kind, (quantity, signed) in kinds.items()
    ]  # fmt: skip


def by_group(both: Found, kind: str) -> dict[str, dict]:
    names = next(iter(both.values()))
    return {
        f"{name} tokens": {state: getattr(groups[name], kind).numpy() for state, groups in both.items()}
        for name in names
    }


def pair_panels(both: Found) -> list[Panel]:
    layers = [str(layer) for layer in range(len(next(iter(both.values()))["visible"].trips))]
    lines = {
        "mean cosine": lines_of(both, lambda pairs, layer: pairs.pairs[layer].cosine),
        "relative error": lines_of(both, lambda pairs, layer: pairs.pairs[layer].error),
        "linear CKA": lines_of(both, lambda pairs, layer: diagonal(pairs, layer)),
    }
    trips = {
        "mean cosine": trip_lines(both, lambda each: each.cosine),
        "relative error": trip_lines(both, lambda each: each.error),
    }
    pairs = "Tokens before encoder layer l against those after decoder layer L - 1 - l, in the network."
    round_trip = "Each decoder layer right behind its encoder layer, and the encoder layer alone; visible tokens."
    return [
        Panel("pairs", pairs, of_pairs(layers, lines)),
        Panel("round-trips", round_trip, of_pairs(layers, trips)),
    ]


def of_pairs(layers: Sequence[str], quantities: Mapping[str, Sequence[Line]]) -> Figure:
    """A chart for each quantity, over the pairs of layers from the outermost to the innermost."""
    return charts([Chart(name, layers, lines, of="encoder layer l") for name, lines in quantities.items()], columns=3)


def lines_of(both: Found, value: Callable[[Pairs, int], float]) -> list[Line]:
    return [
        Line(f"{state}, {name}", [value(pairs, layer) for layer in range(len(pairs.pairs))])
        for state, groups in both.items()
        for name, pairs in groups.items()
    ]


def trip_lines(both: Found, value: Callable[[Match], float]) -> list[Line]:
    lines = []
    for state, groups in both.items():
        trips = groups["visible"].trips
        lines.append(Line(f"{state}, encoder and decoder layer", [value(trip.both) for trip in trips]))
        lines.append(Line(f"{state}, encoder layer alone", [value(trip.encoded) for trip in trips]))
    return lines


def diagonal(pairs: Pairs, layer: int) -> float:
    return float(pairs.alignment[layer, pairs.alignment.shape[1] - 1 - layer])


# ---- numbers -----------------------------------------------------------------------------------------------------


def pair_sheet(both: Found) -> Sheet:
    rows: list[tuple[Cell, ...]] = []
    for state, groups in both.items():
        for name, pairs in groups.items():
            for layer, each in enumerate(pairs.pairs):
                decoder = len(pairs.pairs) - 1 - layer
                rows.append((state, name, layer, decoder, each.cosine, each.error, diagonal(pairs, layer)))
    columns = ("network", "tokens", "encoder layer", "decoder layer", "cosine", "relative error", "linear CKA")
    return Sheet("pairs", "Tokens before an encoder layer against those after its decoder layer.", columns, rows)


def trip_sheet(both: Found) -> Sheet:
    rows: list[tuple[Cell, ...]] = []
    for state, groups in both.items():
        for name, pairs in groups.items():
            for layer, trip in enumerate(pairs.trips):
                numbers = (trip.both.cosine, trip.both.error, trip.encoded.cosine, trip.encoded.error)
                rows.append((state, name, layer, len(pairs.trips) - 1 - layer, *numbers))
    alone = ("cosine alone", "error alone")
    caption = (
        "A decoder layer right behind its encoder layer, against the tokens before; alone: the encoder layer only."
    )
    columns = ("network", "tokens", "encoder layer", "decoder layer", "cosine", "relative error", *alone)
    return Sheet("round-trips", caption, columns, rows)


def state_sheet(both: Found) -> Sheet:
    rows: list[tuple[Cell, ...]] = []
    for state, groups in both.items():
        for name, pairs in groups.items():
            for encoder in range(pairs.cosine.shape[0]):
                for decoder in range(pairs.cosine.shape[1]):
                    numbers = (float(pairs.cosine[encoder, decoder]), float(pairs.alignment[encoder, decoder]))
                    rows.append((state, name, encoder, decoder, *numbers))
    columns = ("network", "tokens", "encoder state", "decoder state", "cosine", "linear CKA")
    return Sheet("states", "Every encoder state against every decoder state; 0 enters the first layer.", columns, rows)


def curves(main: Mapping[str, Pairs]) -> list[Curve]:
    pairs = main["visible"]
    labels = tuple(f"encoder.{layer}" for layer in range(len(pairs.pairs)))
    what = "visible tokens, held out"
    return [
        Curve(f"cosine of the tokens before an encoder layer and after its decoder layer, {what}", labels,
              tuple(each.cosine for each in pairs.pairs)),
        Curve(f"linear CKA of the tokens before an encoder layer and after its decoder layer, {what}", labels,
              tuple(diagonal(pairs, layer) for layer in range(len(labels)))),
        Curve(f"relative error of a decoder layer right behind its encoder layer, {what}", labels,
              tuple(trip.both.error for trip in pairs.trips)),
    ]  # fmt: skip
