"""The two walks of the level buffer in which every step depends on the one before, compiled.

What the formulas of `clutr.curricula.buffer` need is kept up to date instead of being computed anew for each level:
where each level stands by score, which were used last, and sums over blocks of rows.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clutr.envs.numba_cache import njit

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

BLOCK = 128
"""Rows to a sum: about the square root of the capacities in use."""


@njit()
def _sum(values: NDArray[Any], start: int, stop: int) -> Any:
    total = values[0] * 0  # of their type
    for row in range(start, stop):
        total += values[row]
    return total


@njit()
def _block_sums(values: NDArray[Any]) -> NDArray[Any]:
    sums = np.empty(-(-len(values) // BLOCK), dtype=values.dtype)
    for block in range(len(sums)):
        sums[block] = _sum(values, block * BLOCK, min(len(values), (block + 1) * BLOCK))
    return sums


@njit()
def draw_rows(by_score: Ints, by_age: Floats, last_drawn: Ints, clock: int) -> Ints:
    """Draw rows one after the other by score or by staleness; the clock ticks after each draw.

    Args:
        by_score: `[n]`, the row of each draw that goes by score, -1 for those that go by staleness.
        by_age: `[n]` numbers in 0..1 that choose the rows of the latter.
        last_drawn: `[B]`, the clock's time of each row's last use; changed in place.
        clock: the time before the first draw.

    Returns:
        The rows `[n]`.
    """
    size = len(last_drawn)
    sums = _block_sums(last_drawn)
    total = size * clock - _sum(sums, 0, len(sums))
    drawn = by_score.copy()
    for i in range(len(drawn)):
        row = drawn[i]
        if row < 0 and total == 0:  # all were used just now
            row = int(by_age[i] * size)
        elif row < 0:
            rest, block = min(int(by_age[i] * total), total - 1), 0
            while True:
                weight = min(BLOCK, size - block * BLOCK) * clock - sums[block]
                if rest < weight:
                    break
                rest, block = rest - weight, block + 1
            row = block * BLOCK
            while rest >= clock - last_drawn[row]:
                rest, row = rest - (clock - last_drawn[row]), row + 1
        clock += 1
        age = clock - last_drawn[row]
        total += size - age
        sums[row // BLOCK] += age
        last_drawn[row] = clock
        drawn[i] = row
    return drawn


@njit()
def replace_rows(
    scores: Floats,
    last_drawn: Ints,
    clock: int,
    staleness: float,
    order: Ints,
    recent: Ints,
    rank_shares: Floats,
    exponent: float,
    floor: float,
    offered: Floats,
    level: Ints,
    place: Ints,
) -> tuple[Ints, int]:
    """Offer levels to a full buffer one by one: each takes the row that is least likely, if it scores as much.

    Args:
        scores: `[B]`, of the rows; changed in place.
        last_drawn: `[B]`, the clock's time of each row's last use; changed in place.
        clock: the time before the first offer; it ticks with each level that is taken.
        staleness: the fraction of the probability that goes by time since the last use.
        order: the rows `[B]` by score, the least first; of equal ones the last row first if probabilities go by rank,
            else the first, which is also how they are chosen. Changed in place.
        recent: `[B + n]`, the rows by last use, the longest ago first, and room for as many as are offered; changed.
        rank_shares: `[B]` probabilities by score, that of the last rank first; empty if they do not go by rank.
        exponent: of the scores if they do not: one over the temperature.
        floor: what is added to scores before.
        offered: `[n]` scores.
        level: `[n]`, which of the distinct levels each offer is.
        place: the row of each distinct level, -1 where it has none; changed in place.

    Returns:
        The offer that wrote to each row last `[B]`, -1 where none did, and the time after the last offer.
    """
    size, ranked = len(scores), len(rank_shares) > 0
    tie = -1 if ranked else 1
    worth, weights, reference = scores.copy(), np.zeros(size), 1.0
    if not ranked:
        for row in range(size):
            worth[row] = max(scores[row], 0.0)
        reference = _weigh(weights, worth, floor, exponent)
    sums = _block_sums(weights)
    times = np.empty_like(recent)
    age_sum = 0
    for i in range(size):
        times[i] = last_drawn[recent[i]]
        age_sum += clock - last_drawn[i]
    uses = size
    holds = np.full(size, -1)
    for one in range(len(place)):
        if place[one] >= 0:
            holds[place[one]] = one
    writer, least = np.full(size, -1), -1
    for i in range(len(offered)):
        row = place[level[i]]
        if row < 0:
            if least < 0:
                ages = clock, age_sum, staleness
                shares, total = (rank_shares, 1.0) if ranked else (weights, _sum(sums, 0, len(sums)))
                least = _least_likely(order, worth, tie, shares, total, recent[:uses], times, last_drawn, ages)
            if not offered[i] >= scores[least]:
                continue
            row = least
            clock += 1
            age_sum += size - (clock - last_drawn[row])
            last_drawn[row], recent[uses], times[uses] = clock, row, clock
            uses += 1
            if holds[row] >= 0:
                place[holds[row]] = -1
            holds[row], place[level[i]] = level[i], row
        writer[row], least = i, -1
        position = min(_position(order, worth, tie, row, 0, size), size - 1)  # if a score were no number
        scores[row] = offered[i]
        worth[row] = offered[i] if ranked else max(offered[i], 0.0)
        _reorder(order, worth, tie, position)
        if not ranked:
            reference = _reweigh(weights, sums, worth, reference, floor, exponent, row, order[-1])
    return writer, clock


@njit()
def _weigh(weights: Floats, worth: Floats, floor: float, exponent: float) -> float:
    """Write all weights, powers of the scores over the largest, and return that."""
    reference = 1e-300
    for row in range(len(worth)):
        reference = max(reference, worth[row] + floor)
    for row in range(len(worth)):
        weights[row] = ((worth[row] + floor) / reference) ** exponent
    return reference


@njit()
def _reweigh(
    weights: Floats, sums: Floats, worth: Floats, reference: float, floor: float, exponent: float, row: int, best: int
) -> float:
    """Give the row whose score has changed its weight, in the sums too; return what weights are relative to.

    All are made relative to the best row again before they overflow or vanish.
    """
    weights[row] = ((worth[row] + floor) / reference) ** exponent
    if weights[best] > 1e100 or (weights[best] < 1e-100 and worth[best] + floor > 1e-300):
        reference = _weigh(weights, worth, floor, exponent)
        sums[:] = _block_sums(weights)
    else:
        block = row // BLOCK
        sums[block] = _sum(weights, block * BLOCK, min(len(weights), (block + 1) * BLOCK))
    return reference


@njit()
def _before(worth: Floats, tie: int, one: int, other: int) -> bool:
    return worth[one] < worth[other] or (worth[one] == worth[other] and tie * one < tie * other)


@njit()
def _position(order: Ints, worth: Floats, tie: int, row: int, low: int, high: int) -> int:
    """How many rows stand before this one by score, those before `low` and none from `high` on."""
    while low < high:
        middle = (low + high) // 2
        if _before(worth, tie, order[middle], row):
            low = middle + 1
        else:
            high = middle
    return low


@njit()
def _reorder(order: Ints, worth: Floats, tie: int, position: int) -> None:
    """Bring the row at this position, whose score has changed, to its place."""
    row = order[position]
    if position > 0 and _before(worth, tie, row, order[position - 1]):
        place = _position(order, worth, tie, row, 0, position)
        for i in range(position, place, -1):
            order[i] = order[i - 1]
    else:
        place = _position(order, worth, tie, row, position + 1, len(order)) - 1
        for i in range(position, place):
            order[i] = order[i + 1]
    order[place] = row


@njit()
def _least_likely(
    order: Ints,
    worth: Floats,
    tie: int,
    shares: Floats,
    total: float,
    recent: Ints,
    times: Ints,
    last_drawn: Ints,
    ages: tuple[int, int, float],
) -> int:
    """The first of the rows with the smallest probability.

    Rows are looked at from the least by score and from the last used at once, until none that is unseen can be less
    likely: the threshold algorithm of Fagin, Lotem and Naor (2003), "Optimal aggregation algorithms for middleware".
    """
    size, ranked = len(order), tie < 0
    clock, age_sum, staleness = ages
    best, least, by_score, by_age = np.inf, int(order[0]), 0, len(recent) - 1
    while by_score < size:
        while times[by_age] != last_drawn[recent[by_age]]:  # it was used again
            by_age -= 1
        bound = (1 - staleness) * _fraction(shares[by_score if ranked else order[by_score]], total, size)
        bound += staleness * _fraction(clock - times[by_age], age_sum, size)
        if bound > best:
            break
        for row in (order[by_score], recent[by_age]):
            share = shares[_position(order, worth, tie, row, 0, size) if ranked else row]
            chance = (1 - staleness) * _fraction(share, total, size)
            chance += staleness * _fraction(clock - last_drawn[row], age_sum, size)
            if chance < best or (chance == best and row < least):
                best, least = chance, row
        by_score, by_age = by_score + 1, by_age - 1
    return least


@njit()
def _fraction(part: float, total: float, size: int) -> float:
    return part / total if total > 0 else 1 / size
