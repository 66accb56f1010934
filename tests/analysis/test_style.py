"""Figures say what they need before anything is drawn."""

import importlib.util

import pytest

from ssm_jax import errors
from ssm_jax.analysis import style


def test_without_matplotlib_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(errors.InputError, match="figures need matplotlib: pip install"):
        style.require()
