"""What goes wrong between a compiler and a library that is loaded."""

from __future__ import annotations

import pathlib

import pytest

from ssm_jax import compilers, errors


@pytest.mark.parametrize(("kept", "variable"), [(False, "TMPDIR"), (True, "XDG_CACHE_HOME")])
def test_a_folder_that_forbids_programs_is_told_with_what_to_set(kept, variable, monkeypatch, tmp_path):
    def forbidden(path: str) -> None:
        raise OSError(f"{pathlib.Path(path).name}: failed to map segment from shared object")

    monkeypatch.setattr(compilers.ctypes, "CDLL", forbidden)
    monkeypatch.setattr(compilers.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(errors.RunError) as caught:
        compilers.build(
            ["true"], {"a.c": ""}, [()], what="the network", target=tmp_path / "a.so" if kept else None
        )
    assert str(caught.value) == (
        "true compiled the network into a library that can't be loaded: made.so: failed to map segment from "
        f"shared object; if {tmp_path} forbids programs, set {variable} to a folder that doesn't"
    )
    assert not list(tmp_path.iterdir())
