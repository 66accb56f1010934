"""Targets and what is checked of them before anything is compiled."""

import pytest

from benchmarks.compiled import targets
from ssm_jax import errors

installed = targets._installed


@pytest.fixture(autouse=True)
def compilers(monkeypatch):
    monkeypatch.setattr(targets, "_installed", lambda module: module == "libtpu")


def test_a_target_is_found_by_its_name():
    assert targets.check("v5e", 4) is targets.TARGETS["v5e"]


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        ("v5", 1, "unknown target 'v5'; did you mean 'v5"),
        ("v5e", 5, "--devices is 5; allowed is 1 to 4 on v5e"),
        ("h100", 1, r"needs jax_plugins.xla_cuda13, which is not installed: pip install -e '.\[audit\]'"),
    ],
)
def test_what_cannot_be_compiled_for_is_one_line(name, count, message):
    with pytest.raises(errors.InputError, match=message) as raised:
        targets.check(name, count)
    assert "\n" not in str(raised.value)


def test_a_package_that_is_missing_altogether_is_not_installed():
    assert installed("json.decoder") and not installed("no_such_package.module")
