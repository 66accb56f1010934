"""What the verbs say of a network: its record in one line, and the sizes of its weights beside a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssm_jax.artifact.sizes import Sizes

_LONGEST = 200


def plain(value: object) -> str:
    """Write a value of a record in one line of bearable length; a file may hold any.

    Examples:
      >>> plain("fcn"), plain(0.5), plain(["a", "b"]), plain({"jax": "0.12", "numpy": "2.4"})
      ('fcn', '0.5', 'a, b', 'jax 0.12, numpy 2.4')
    """
    if isinstance(value, dict):
        text = ", ".join(f"{name} {each}" for name, each in value.items())
    else:
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def headline(record: Mapping[str, Any]) -> str:
    """Say in one line what was trained and how well, as far as a record holds it.

    Examples:
      >>> headline({"network": "fcn", "dataset": "mnist", "seed": 0, "remaining_weights": 0.0377})
      'fcn on mnist, seed 0: remaining weights 3.77 %'
    """
    texts = {name: plain(value) for name, value in record.items() if value is not None}
    what = [
        " on ".join(texts[name] for name in ("network", "dataset") if name in texts),
        texts.get("rule", ""),
        f"seed {texts['seed']}" if "seed" in texts else "",
        f"{texts['epochs']} epochs" if "epochs" in texts else "",
    ]
    results = (("test_accuracy", "test accuracy", 1), ("remaining_weights", "remaining weights", 100))
    how = [
        f"{text} {factor * record[name]:.2f} %"
        for name, text, factor in results
        if isinstance(record.get(name), (int, float))
    ]
    return ": ".join(filter(None, (", ".join(filter(None, what)), ", ".join(how))))


def beside_file(sizes: Sizes, size: int) -> list[str]:
    """Lay the sizes of weights out beside the bytes of a file, a line each."""
    ways = {
        "the weights as float32": sizes.float32,
        "at 2 bits a weight": sizes.two_bits,
        "the weights' entropy": sizes.entropy,
    }
    return [
        f"  {what:22}  {number:>13,} bytes  {number / size:9,.2f} times the file"
        for what, number in ways.items()
        if number is not None
    ]
