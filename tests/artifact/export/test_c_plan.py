"""Where values lie: no two that are needed at the same time share a place."""

from __future__ import annotations

import itertools

import numpy as np

from ssm_jax.artifact.export.c_plan import Buffer, Layout, allocate


def test_an_image_has_its_margin_between_rows_and_around_planes():
    layout = Layout(channels=2, height=2, width=3, margin=1)
    # . . . . .     The column between two rows is the margin of both.
    # . a b c .
    #   d e f .
    # . . . . .
    assert (layout.row, layout.first, layout.positions) == (4, 5, 7)
    assert layout.plane == 5 + 7 + 5
    assert layout.places()[..., 0].tolist() == [[5, 6, 7], [9, 10, 11]]
    np.testing.assert_array_equal(layout.places()[..., 1], layout.places()[..., 0] + 17)


def test_planes_have_room_for_whole_tiles():
    assert Layout(channels=1, height=2, width=3, margin=1, tile=32).plane == 5 + 32
    assert Layout(channels=1, height=4, width=8, margin=0, tile=32).plane == 32


def test_a_vector_is_planes_of_one_number():
    assert (Layout(7).plane, Layout(7).count) == (1, 7)
    assert Layout(3).places().ravel().tolist() == [0, 1, 2]


def test_what_is_needed_at_the_same_time_lies_apart_and_the_rest_together():
    first, second, third = Buffer(10, 0, 1), Buffer(4, 1, 2), Buffer(10, 2, 3)
    assert allocate([first, second, third]) == 14
    assert first.offset == third.offset == 0 and second.offset == 10


def test_no_two_of_many_buffers_meet():
    rng = np.random.default_rng(0)
    buffers = [
        Buffer(int(size), int(born), int(born + life)) for size, born, life in rng.integers(1, 20, (60, 3))
    ]
    whole = allocate(buffers)
    for a, b in itertools.combinations(buffers, 2):
        apart = a.offset + a.size <= b.offset or b.offset + b.size <= a.offset
        assert apart or a.dies < b.born or b.dies < a.born
    assert whole == max(buffer.offset + buffer.size for buffer in buffers) < sum(b.size for b in buffers)
