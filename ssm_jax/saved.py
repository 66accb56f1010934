"""A masked model in a file, to train on: kernels, scores, what rules keep, and everything else that it holds.

The file is an `.npz` of arrays by path. It needs the model's code to be read; `ssm-jax export` writes a
trained network by itself.
"""

from __future__ import annotations

import json
import os
import pathlib
import zipfile
from typing import Any, TypeVar

import jax
import numpy as np
from flax import nnx

from ssm_jax import errors, files
from ssm_jax.core.tree import path_of
from ssm_jax.types import PyTree

Model = TypeVar("Model")

_ABOUT = "__ssm_jax__"


def save(model: PyTree, path: str | os.PathLike[str]) -> None:
    """Write everything that a model holds into a file, whole or not at all.

    Args:
      model: An NNX module, `ssm_jax.core.Masks`, an optimizer or any other tree of arrays.
      path: The file; one that exists is replaced.

    Raises:
      RunError: The file can't be written.
    """
    arrays = {path_of(where): _stored(leaf) for where, leaf in _leaves(model)}
    dtypes = {path_of(where): str(leaf.dtype) for where, leaf in _leaves(model)}
    about = np.frombuffer(json.dumps({"format": 1, "dtypes": dtypes}).encode(), np.uint8)
    path = pathlib.Path(path)
    with files.writing(path):
        files.write_whole(path, lambda file: np.savez(file, allow_pickle=False, **{_ABOUT: about, **arrays}))


def load_into(model: Model, path: str | os.PathLike[str]) -> Model:
    """Put what a file holds into a model of the same structure.

    Args:
      model: The model as it is built, masked as the one that was saved. An NNX module is changed in place.
      path: A file that `save` wrote.

    Returns:
      The model; of a tree of arrays a new one.

    Raises:
      InputError: The file can't be read, or is of another model; the first difference is named.
    """
    path = pathlib.Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        dtypes = json.loads(arrays.pop(_ABOUT).tobytes())["dtypes"]
    except FileNotFoundError as error:
        raise errors.InputError(f"there is no file {path}") from error
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise errors.InputError(f"{path} is no file of `save`: {errors.one_line(error)}") from error
    leaves = _leaves(model)
    names = [path_of(where) for where, _ in leaves]
    for name in sorted({*names} ^ {*arrays}):
        what = "has no" if name in names else "also has"
        raise errors.InputError(f"{path} {what} {name!r}: it is of another model")
    values = []
    for name, (_, leaf) in zip(names, leaves):
        stored, kind = arrays[name], dtypes.get(name)
        shape = tuple(np.shape(_stored(leaf)))
        if stored.shape != shape or kind != str(leaf.dtype):
            raise errors.InputError(
                f"{path} has {name!r} as {kind} {list(stored.shape)}; "
                f"the model's is {leaf.dtype} {list(shape)}"
            )
        values.append(_value(stored, leaf))
    if not isinstance(model, nnx.Module | nnx.Optimizer):
        return jax.tree.unflatten(jax.tree.structure(model), values)
    state = nnx.state(model)
    nnx.update(model, jax.tree.unflatten(jax.tree.structure(state), values))
    return model


def _leaves(model: Any) -> list[tuple[Any, Any]]:
    tree = nnx.state(model) if isinstance(model, nnx.Module | nnx.Optimizer) else model
    return jax.tree.leaves_with_path(tree)


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _stored(leaf: Any) -> np.ndarray:
    """The array as NumPy can store it: of a key its data, of a dtype that NumPy lacks its bits."""
    array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    return array if array.dtype.isbuiltin else array.view(f"u{array.itemsize}")


def _value(stored: np.ndarray, like: Any) -> jax.Array:
    if _is_key(like):
        return jax.random.wrap_key_data(jax.numpy.asarray(stored), impl=jax.random.key_impl(like))
    array = stored if stored.dtype == like.dtype else stored.view(like.dtype)
    return jax.device_put(array, like.sharding) if isinstance(like, jax.Array) else jax.numpy.asarray(array)
