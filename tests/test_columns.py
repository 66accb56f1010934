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


def test_without_a_sum_only_the_head_is_ruled_off():
    assert aligned([("a", "b"), ("1", "22")], left=0, total=False) == ["a   b", "-----", "1  22"]
