"""Tables for people: what is aligned, and where."""

from ssm_jax.columns import aligned


def test_texts_begin_and_numbers_end_in_line_with_head_and_sum_ruled_off():
    rows = [
        ("layer", "kind", "weights"),
        ("a", "Dense", "10"),
        ("bcd", "Conv", "2,000"),
        ("all", "", "2,010"),
    ]
    assert aligned(rows, left=2) == [
        "layer  kind   weights",
        "---------------------",
        "a      Dense       10",
        "bcd    Conv     2,000",
        "---------------------",
        "all             2,010",
    ]
