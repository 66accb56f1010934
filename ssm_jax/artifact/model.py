"""A model of anybody's as a file."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from ssm_jax import errors, files, graph
from ssm_jax.artifact import export as exports
from ssm_jax.artifact import integer, run
from ssm_jax.artifact.export import c_integer
from ssm_jax.artifact.format import Artifact
from ssm_jax.data.batches import standardize
from ssm_jax.graph import trace
from ssm_jax.runs.folder import model_name
from ssm_jax.saved import load_into
from ssm_jax.training.step import Build


def export(
    model: trace.Function,
    example_input: jax.typing.ArrayLike,
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    class_names: Sequence[str] | None = None,
    calibration: jax.typing.ArrayLike | None = None,
) -> None:
    """Write a model to a file, as it is in evaluation: its effective kernels, without scores.

    Args:
      model: An NNX model, masked or not, or any function of JAX, such as `lambda x: linen.apply(variables,
        x)`. It takes a batch of inputs. What comes before it is exported with it as
        `nnx.Sequential(ssm_jax.standardize, model)`.
      example_input: A batch of inputs, uint8, int32 or float32 `[B, ...]`; the file takes any B.
      path: The file; its folder exists.
      format: `ssm`, `c`, `onnx`, `stablehlo`, `safetensors` or `npz`; by default what the path ends in.
      class_names: Names of the logits; numbers by default.
      calibration: Of `c`: images, uint8 `[B, H, W, C]`, that scales of int8 follow from; the C is without
        floating point then, and has fewer operations.

    Raises:
      InputError: The format is unknown or lacks a package, the input is none, or the model computes what the
        format has no operation for; `stablehlo` holds any model.
      RunError: The file can't be written.

    Examples:
      >>> import numpy as np
      >>> net = nnx.Sequential(nnx.Linear(4, 3, rngs=nnx.Rngs(0)), nnx.relu)
      >>> checked(net, np.zeros((1, 4), np.float32)).shapes()
      [(4,), (3,), (3,), (1,), (3,)]
    """
    path = pathlib.Path(path)
    format = format or exports.by_ending(path)
    exports.check(format, path)
    if calibration is not None and format != "c":
        raise errors.InputError(f"calibration is for format='c', whole numbers, not for {format!r}")
    example = np.asarray(example_input)
    if str(example.dtype) not in graph.INPUT_DTYPES or example.ndim < 2 or not len(example):
        allowed = f"a batch [B, ...] of {', '.join(graph.INPUT_DTYPES)}"
        raise errors.InputError(
            f"the example input is {example.dtype} {list(example.shape)}; allowed is {allowed}"
        )
    shape, dtype = example.shape[1:], str(example.dtype)
    try:
        record = {"network": type(model).__name__} if isinstance(model, nnx.Module) else {}
        artifact = _artifact(checked(model, example), record, class_names)
        if calibration is None:
            with files.writing(path):
                exports.write(artifact, path, format)
        else:
            whole = integer.quantize(artifact.network, np.asarray(calibration))
            with files.writing(path):
                c_integer.write(artifact, path, whole)
    except errors.InputError:
        if format != "stablehlo":
            raise
        from ssm_jax.artifact.export import stablehlo  # needs a package

        call, known = trace.function(model)
        arrays = [array for _, array in known]
        try:
            program = stablehlo.of_function(lambda inputs: call(arrays, inputs), shape, dtype)
        except Exception as error:  # the user's own code
            raise trace.fails(error, dtype, shape) from error
        with files.writing(path):
            stablehlo.save(program, path)


def of_saved(
    path: str | os.PathLike[str], build: Build, shape: Sequence[int], dtype: str | None = None
) -> Artifact:
    """Write down a model that `ssm_jax.save` has put into a file.

    Args:
      path: The file.
      build: The function that built the model, masked as it was saved.
      shape: Shape of an input, without its batch.
      dtype: Dtype of the inputs; None for uint8 images that the model takes standardized.

    Raises:
      InputError: The file is of another model, or the model computes what there is no operation for.
    """
    return of_model(saved(path, build), shape, dtype, name=model_name(build))


def saved(path: str | os.PathLike[str], build: Build) -> nnx.Module:
    """Read a model that `ssm_jax.save` has put into a file.

    Args:
      path: The file.
      build: The function that built the model, masked as it was saved.

    Raises:
      InputError: The function fails, or the file is of another model.
    """
    try:
        model = build(nnx.Rngs(0))
    except Exception as error:  # the user's own code
        raise errors.InputError(
            f"{model_name(build)}(rngs) fails: {type(error).__name__}: {errors.one_line(error)}"
        ) from error
    if not isinstance(model, nnx.Module):
        raise errors.InputError(f"{model_name(build)} makes {type(model).__name__}; allowed is an nnx.Module")
    return load_into(model, path)


def of_model(
    model: nnx.Module, shape: Sequence[int], dtype: str | None = None, *, name: str | None
) -> Artifact:
    """Write down what a model computes in evaluation.

    Args:
      model: The model.
      shape: Shape of an input, without its batch.
      dtype: Dtype of the inputs; None for uint8 images that the model takes standardized.
      name: Of the network.

    Raises:
      InputError: The model computes what there is no operation for.
    """
    before = standardize if dtype is None else None
    return _artifact(trace.network(model, shape, dtype or "uint8", before=before), {"network": name})


def _artifact(
    network: graph.Network, record: dict[str, Any], class_names: Sequence[str] | None = None
) -> Artifact:
    names = map(str, range(network.classes)) if class_names is None else class_names
    return Artifact(network, tuple(names), record)


def checked(model: trace.Function, example: np.ndarray) -> graph.Network:
    """Trace a model, and compare what the operations compute of an example with what it does.

    Args:
      model: The model.
      example: A batch of inputs.

    Raises:
      InputError: The model computes something that there is no operation for, or another thing in a batch.
    """
    network = trace.network(model, example.shape[1:], str(example.dtype))
    call, known = trace.function(model)
    expected = np.asarray(jax.jit(call)([array for _, array in known], example), np.float32)
    out = np.asarray(jax.jit(lambda x: run.apply(network, run.parameters(network), x))(example), np.float32)
    most = np.abs(expected).max() + 1
    if out.shape != expected.shape or not np.allclose(out, expected, 1e-2, 1e-2 * most, equal_nan=True):
        raise errors.InputError(
            "the model computes one thing of two examples and another of those given: does it depend on the "
            "batch?"
        )
    return network
