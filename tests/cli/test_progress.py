"""How far a verb is."""

from ssm_jax.cli import progress


def test_what_takes_long_is_counted_and_the_end_is_not(monkeypatch, capsys):
    times = iter((0.0, 2.0, 4.0, 4.5, 5.0, 9.0))
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    counter = progress.Counter(3000, "images")
    for _ in range(4):
        counter.add(750)
    assert capsys.readouterr().err == "1,500 of 3,000 images\n"
