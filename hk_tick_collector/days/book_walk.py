"""From rows of a book file to the states after each: all of a chunk at once, in numpy.

A symbol's rows from a full one to the next, and of those one side of the book, are a sequence: nothing outside it is
needed but what the chunk before left of it. A chunk holds thousands of them (a file has a full row every hundred), so
the first step of all sequences is done together, then the second, and so on: Python runs as often as the longest
sequence has steps, not once a row.

A side is a row of numbers, of levels in one table of all that the chunk says. A step writes the number of its own
level, so a state is its first ``depth`` numbers, and prices are looked up once, at the end. The levels of a full row
are put in their places without any step.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hk_tick_collector.days.book_rows import BREAK, FULL, Chunk, Flags, Ints
from hk_tick_collector.records.book_codec import NUMBERS_A_STEP, Action

MAX_CELLS = 8_000_000  # of all sequences together: a chunk of books with many levels is walked in parts
_MAX_VARINT_BYTES = 10
_SET, _INSERT, _REMOVE = int(Action.SET), int(Action.INSERT), int(Action.REMOVE)
STEP_ACTIONS = len(Action)

Floats = npt.NDArray[np.float64]
_Numbers = npt.NDArray[np.int32]  # of levels in a table; 0 stands for none


class Levels(NamedTuple):
    """Levels by column, of any shape; ``volume`` in shares."""

    price: Floats
    volume: Ints
    orders: Ints

    def take(self, numbers: npt.NDArray[Any]) -> Levels:
        """Those of the numbers, in their shape."""
        places = numbers.astype(np.intp, copy=False)  # once: numpy would do it for each column, more slowly
        return Levels(self.price.take(places), self.volume.take(places), self.orders.take(places))


_NO_LEVEL = Levels(np.zeros(1), np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64))


class Steps(NamedTuple):
    """The steps of a chunk, all rows behind one another; those of row i from ``first[i]`` to ``first[i + 1]``."""

    first: Ints
    rows: Ints
    levels: Levels
    sides: Ints
    actions: Ints
    slots: Ints


class Walked(NamedTuple):
    """What the rows of a chunk led to."""

    steps: Steps
    known_rows: Flags
    counts: tuple[Ints, Ints]  # levels a row and side; -1 where the book is not known
    shown: tuple[_Numbers, _Numbers]  # a row and side: the best levels by their numbers
    table: Levels
    step_prices: Floats  # of each step's level; of steps in rows without a known book it means nothing
    was_out: Ints  # with changes: steps that took out a level which may still be there

    def top(self, side: int) -> Levels:
        """The best levels of a side (0 bid), a row of ``depth`` of them a push. What is behind ``counts`` is 0."""
        return self.table.take(self.shown[side])


def steps_of(payloads: pa.BinaryArray) -> Steps:
    """ValueError for a payload that is none."""
    numbers, counts = _numbers_of(payloads)
    if np.any(counts % NUMBERS_A_STEP):
        raise ValueError("a payload that is cut off")
    code, price, volume, orders = numbers.reshape(-1, NUMBERS_A_STEP).T
    code, odd = np.divmod(code.astype(np.int64), 2)
    code, actions = np.divmod(code, STEP_ACTIONS)
    slots, sides = np.divmod(code, 2)
    if np.any(slots < 0):
        raise ValueError("a change of a level that is not there")
    prices = np.where(odd == 1, np.ascontiguousarray(price).view(np.float64), price / 1000.0)
    first = np.concatenate([[0], np.cumsum(counts // NUMBERS_A_STEP)])
    rows = np.repeat(np.arange(len(payloads)), np.diff(first))
    return Steps(first, rows, Levels(prices, _volumes(volume), orders.astype(np.int64)), sides, actions, slots)


def _numbers_of(payloads: pa.BinaryArray) -> tuple[npt.NDArray[np.uint64], Ints]:
    """All LEB128 numbers, and how many are of each payload."""
    _, offsets, values = payloads.buffers()
    places = np.frombuffer(offsets, np.int32)[payloads.offset : payloads.offset + len(payloads) + 1]
    data = np.frombuffer(values or b"", np.uint8)[places[0] : places[-1]]
    borders = places[1:] - places[0]
    ends = np.flatnonzero(data < 0x80)
    filled = borders[np.diff(places) > 0] - 1
    if len(filled) and not np.all(data[filled] < 0x80):
        raise ValueError("a payload that is cut off")
    counts = np.diff(np.concatenate([[0], np.searchsorted(ends, borders)]))
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    sizes = ends - starts + 1
    if len(sizes) and sizes.max() > _MAX_VARINT_BYTES:
        raise ValueError("a number of more than 64 bits")
    numbers = (data[starts] & 0x7F).astype(np.uint64)
    longer, place = np.flatnonzero(sizes > 1), 1
    while len(longer):
        numbers[longer] |= (data[starts[longer] + place] & 0x7F).astype(np.uint64) << np.uint64(7 * place)
        place += 1
        longer = longer[sizes[longer] > place]
    return numbers, counts


def _volumes(numbers: npt.NDArray[np.uint64]) -> Ints:
    zigzag = (numbers >> np.uint64(1)).astype(np.int64)
    volumes = (zigzag >> 1) ^ -(zigzag & 1)
    return np.where(numbers & np.uint64(1), volumes, volumes * 100)


class States:
    """The books of all symbols while rows are walked. ``depth``: how many levels of a side are told."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self._books: dict[int, tuple[Levels, Levels]] = {}

    def walk(self, chunk: Chunk, *, with_changes: bool) -> Iterator[tuple[Chunk, Walked]]:
        """Go through the rows of a chunk, in parts if need be. ValueError for one that does not fit the one before."""
        steps = steps_of(chunk.payloads)
        sequences = _Sequences(chunk, steps, self._books)
        if sequences.cells > MAX_CELLS and len(chunk.kinds) > 1:
            for half in chunk.halves():
                yield from self.walk(half, with_changes=with_changes)
            return
        yield chunk, self._walked(steps, sequences, with_changes)

    def _walked(self, steps: Steps, sequences: _Sequences, with_changes: bool) -> Walked:
        rounds = _Rounds(sequences, self.depth, with_changes=with_changes)
        rounds.run()
        self._keep(sequences, rounds)
        step_prices = steps.levels.price.copy()
        step_prices[sequences.stepped] = rounds.table.price[rounds.base :]
        counts = [np.where(sequences.known_rows, sequences.sizes[of_side], -1) for of_side in sequences.states]
        shown = [rounds.shown.take(of_side, axis=0) for of_side in sequences.states]
        return Walked(
            steps,
            sequences.known_rows,
            (counts[0], counts[1]),
            (shown[0], shown[1]),
            rounds.table,
            step_prices,
            _left_the_window(steps, sequences, rounds, step_prices) if with_changes else np.zeros(0, np.int64),
        )

    def _keep(self, sequences: _Sequences, rounds: _Rounds) -> None:
        """What the last rows of each symbol leave for the next chunk."""
        for key, segment, is_known, sizes in sequences.last_of_symbols():
            if not is_known:
                self._books.pop(key, None)
                continue
            bids, asks = (rounds.table.take(rounds.board[segment * 2 + side, :size]) for side, size in enumerate(sizes))
            self._books[key] = bids, asks


class _Sequences:
    """How a chunk falls into sequences, ``segment * 2 + side``; and how many levels each step leaves. A state is a
    number: that of its sequence for what it begins with, ``count`` and more for what a step left."""

    def __init__(self, chunk: Chunk, steps: Steps, books: dict[int, tuple[Levels, Levels]]) -> None:
        self.by_symbol = stable_order(chunk.symbol_ids)
        ids, kinds = chunk.symbol_ids[self.by_symbol], chunk.kinds[self.by_symbol]
        begins = (np.diff(ids, prepend=ids[0] - 1) != 0) | (kinds == FULL) | (kinds == BREAK)
        self.firsts = np.flatnonzero(begins)  # of each segment, among the rows by symbol
        self.ids = ids[self.firsts]
        self.count = len(self.firsts) * 2
        self._segments = np.cumsum(begins) - 1
        segment_of_row = np.empty(len(ids), dtype=np.int64)
        segment_of_row[self.by_symbol] = self._segments
        self.is_full = kinds[self.firsts] == FULL
        self.carried = self._carried(kinds[self.firsts], books)
        known = self.is_full.copy()
        known[list(self.carried)] = True
        self.known = known
        self.known_rows: Flags = known[segment_of_row]
        self._arrange(steps, segment_of_row)

    def _carried(self, kinds: Ints, books: dict[int, tuple[Levels, Levels]]) -> dict[int, tuple[Levels, Levels]]:
        """By segment the book that it begins with, where that comes from the chunk before."""
        goes_on = np.flatnonzero((kinds != FULL) & (kinds != BREAK)).tolist()
        ids = self.ids
        # A segment that goes on is its symbol's first one: any other begins with a full row or a break.
        return {segment: books[key] for segment in goes_on if (key := int(ids[segment])) in books}

    def _arrange(self, steps: Steps, segment_of_row: Ints) -> None:
        """Which steps are done when. ``placed``: the levels of full rows, which are put where they belong; ``stepped``:
        the others by their turn, those of a turn by their action."""
        sequence = segment_of_row[steps.rows] * 2 + steps.sides
        used = np.flatnonzero(self.known_rows[steps.rows])
        by_sequence = used[stable_order(sequence[used])]
        sequence, slots, actions = sequence[by_sequence], steps.slots[by_sequence], steps.actions[by_sequence]
        starts = np.searchsorted(sequence, np.arange(self.count + 1))
        turns = np.arange(len(sequence)) - starts[sequence]
        first_rows = self.by_symbol[self.firsts]
        of_full = self.is_full[sequence // 2] & (steps.rows[by_sequence] == first_rows[sequence // 2])
        is_plain = np.ones(self.count, dtype=np.bool_)
        is_plain[sequence[of_full & ((actions != _INSERT) | (slots != turns))]] = False
        is_placed = of_full & is_plain[sequence]
        placed_levels = np.bincount(sequence[is_placed], minlength=self.count)
        sizes = self._sizes_after(sequence, starts, actions, slots)
        self.widest = int(sizes.max(initial=max(map(int, self._first_sizes), default=0)))
        self.placed, self.placed_at = by_sequence[is_placed], (sequence[is_placed], slots[is_placed])
        stepped = np.flatnonzero(~is_placed)
        keys = (turns - placed_levels[sequence])[stepped] * STEP_ACTIONS + actions[stepped]
        in_turn = stable_order(keys)
        stepped = stepped[in_turn]
        self.turns = np.searchsorted(keys[in_turn], np.arange(int(keys.max(initial=-1)) + 1 + STEP_ACTIONS)).tolist()
        self.stepped, self.sequence, self.slots = by_sequence[stepped], sequence[stepped], slots[stepped]
        self.levels = steps.levels
        self.sizes = np.concatenate((self._first_sizes + placed_levels, sizes[stepped]))
        self._number_states(steps)

    def _sizes_after(self, sequence: Ints, starts: Ints, actions: Ints, slots: Ints) -> Ints:
        """How many levels each step leaves. ValueError for one of a level that is not there."""
        self._first_sizes = np.zeros(self.count, dtype=np.int64)
        for segment, book in self.carried.items():
            self._first_sizes[segment * 2 : segment * 2 + 2] = [len(side.price) for side in book]
        change = (actions == _INSERT).astype(np.int64) - (actions == _REMOVE)
        total = np.concatenate([[0], np.cumsum(change)])
        after = total[1:] - total[starts[sequence]] + self._first_sizes[sequence]
        if np.any(slots >= after - change + (actions == _INSERT)):
            raise ValueError("a change of a level that is not there")
        return np.asarray(after)

    def _number_states(self, steps: Steps) -> None:
        """``states``: by side, of each row the state that it left; ``before``: that of the row before."""
        row_count = len(self.by_symbol)
        place = np.empty(row_count, dtype=np.int64)  # of a row among those by symbol
        place[self.by_symbol] = np.arange(row_count)
        numbers = np.full((2, row_count), -1, dtype=np.int64)
        # A row's last step on a side has the highest turn, and stands behind its others: it is written last.
        numbers[self.sequence % 2, place[steps.rows[self.stepped]]] = self.count + np.arange(len(self.stepped))
        begin = np.arange(len(self.firsts)) * 2
        states, before = [], []
        for side in range(2):
            of_side = numbers[side]
            at_first = of_side[self.firsts]
            of_side[self.firsts] = np.where(at_first < 0, begin + side, at_first)
            filled = of_side[np.maximum.accumulate(np.where(of_side >= 0, np.arange(row_count), 0))]
            earlier = np.concatenate((filled[:1], filled[:-1]))
            earlier[self.firsts] = begin + side
            states.append(filled[place])
            before.append(earlier[place])
        self.states, self.before = states, before

    @property
    def cells(self) -> int:
        """Places of levels that all sequences need."""
        return self.count * (self.widest + 1)

    def last_of_symbols(self) -> Iterator[tuple[int, int, bool, tuple[int, int]]]:
        """Of each symbol its last segment, whether its book is known there, and the levels of both sides at the end."""
        lasts = np.flatnonzero(np.diff(self.ids, append=self.ids[-1] - 1) != 0)
        rows = self.by_symbol[np.append(self.firsts, len(self.by_symbol))[lasts + 1] - 1]
        sizes = [self.sizes[of_side[rows]].tolist() for of_side in self.states]
        yield from zip(
            self.ids[lasts].tolist(), lasts.tolist(), self.known[lasts].tolist(), zip(*sizes, strict=True), strict=True
        )


class _Rounds:
    """Does the steps of all sequences, one of each in a turn. ``board``: a side's levels by their numbers, a row a
    sequence, with a column more than any has levels; ``shown``: the best of each state; ``worst``: the number of its
    last one, with changes."""

    def __init__(self, sequences: _Sequences, depth: int, *, with_changes: bool) -> None:
        self._of = sequences
        self._width = sequences.widest + 1
        self.board: _Numbers = np.zeros((sequences.count, self._width), dtype=np.int32)
        self.table = self._filled()
        self.base = len(self.table.price) - len(sequences.stepped)
        self._seen = min(depth, self._width)
        states = sequences.count + len(sequences.stepped)
        self.shown: _Numbers = np.zeros((states, depth), dtype=np.int32)
        self.worst: _Numbers | None = np.zeros(states, dtype=np.int32) if with_changes else None

    def _filled(self) -> Levels:
        """The table, and on the board what sequences begin with."""
        parts, number = [_NO_LEVEL], 1
        for segment, book in self._of.carried.items():
            for side, levels in enumerate(book):
                size = len(levels.price)
                self.board[segment * 2 + side, :size] = np.arange(number, number + size)
                parts.append(levels)
                number += size
        placed, stepped = self._of.placed, self._of.stepped
        self.board[self._of.placed_at] = np.arange(number, number + len(placed))
        parts += [self._of.levels.take(placed), self._of.levels.take(stepped)]
        return Levels(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def run(self) -> None:
        """All of it."""
        board, cells, shown, seen = self.board, self.board.reshape(-1), self.shown, self._seen
        first, sequence, turns = self._of.count, self._of.sequence, self._of.turns
        shown[:first, :seen] = board[:, :seen]
        places = sequence * self._width + self._of.slots
        numbers = np.arange(self.base, self.base + len(sequence), dtype=np.int32)
        prices = self.table.price[self.base :]
        ends = sequence * self._width + self._of.sizes[first:] - 1
        if self.worst is not None:
            self.worst[:first] = cells[np.arange(first) * self._width + self._of.sizes[:first] - 1]
        for turn in range(0, len(turns) - STEP_ACTIONS, STEP_ACTIONS):
            at, insert, remove, end = turns[turn : turn + STEP_ACTIONS + 1]
            if at < insert:
                changed = places[at:insert]
                prices[at:insert] = self.table.price[cells[changed]]
                cells[changed] = numbers[at:insert]
            if insert < remove:
                self._shift(sequence[insert:remove], self._of.slots[insert:remove], -1)
                cells[places[insert:remove]] = numbers[insert:remove]
            if remove < end:
                prices[remove:end] = self.table.price[cells[places[remove:end]]]
                self._shift(sequence[remove:end], self._of.slots[remove:end], 1)
            shown[first + at : first + end, :seen] = board.take(sequence[at:end], axis=0)[:, :seen]
            if self.worst is not None:
                self.worst[first + at : first + end] = cells[ends[at:end]]

    def _shift(self, sequence: Ints, slots: Ints, by: int) -> None:
        """Levels from ``slots`` on take the place of the next one (1), or leave theirs to one before them (-1)."""
        columns, slots = self._columns, slots[:, None]
        source = columns + (columns >= slots) if by > 0 else columns - (columns > slots)
        np.minimum(source, self._width - 1, out=source)
        source += (sequence * self._width)[:, None]  # as places in the whole board, which numpy is faster with
        self.board[sequence] = self.board.take(source)

    @cached_property
    def _columns(self) -> Ints:
        return np.arange(self._width)


def _left_the_window(steps: Steps, sequences: _Sequences, rounds: _Rounds, step_prices: Floats) -> Ints:
    """Which removed levels may still be there: those behind the last one shown, of a side that did not get shorter."""
    assert rounds.worst is not None
    removed = np.flatnonzero(sequences.known_rows[steps.rows] & (steps.actions == _REMOVE))
    rows, sides = steps.rows[removed], steps.sides[removed]
    after, before = (
        np.where(sides == 0, bids[rows], asks[rows]) for bids, asks in (sequences.states, sequences.before)
    )
    left, gone = sequences.sizes[after], step_prices[removed]
    worst = rounds.table.price[rounds.worst[after]]
    is_behind = np.where(sides == 0, gone < worst, gone > worst)
    return removed[(left > 0) & (left >= sequences.sizes[before]) & is_behind]


def stable_order(keys: Ints) -> Ints:
    """A stable order; small numbers are sorted by their digits, which is many times faster."""
    small = len(keys) and keys.min() >= 0 and keys.max() < 1 << 16
    return np.argsort(keys.astype(np.uint16) if small else keys, kind="stable")
