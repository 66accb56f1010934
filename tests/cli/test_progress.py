"""How far a verb is."""

from ssm_jax.cli import progress


def test_what_takes_long_is_counted_and_the_end_is_not(monkeypatch, capsys):
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    counter = progress.Counter(3000, "images")
    for now in (2.0, 4.0, 5.0, 9.0):
        counter.add(750)
    assert capsys.readouterr().err == "1,500 of 3,000 images\n"
