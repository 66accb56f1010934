"""What a function computes as expressions: its jaxpr without calls, each expression once, constants known."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core
import numpy as np
from jax.extend.core import primitives

from ssm_jax import errors

# What calls another jaxpr and computes what that does, and the names that JAX gives its parameter.
_CALLS = {
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "checkpoint",
    "remat2",
    "custom_jvp_call",
    "custom_vjp_call",
    "custom_vjp_call_jaxpr",
    "custom_vmap_call",
    "custom_lin",
}
_BODIES = ("jaxpr", "call_jaxpr", "fun_jaxpr", "call")
# What changes no value.
_SAME = {"copy", "copy_p", "stop_gradient", "optimization_barrier", "sharding_constraint", "name", "pvary"}
# What no reader of a jaxpr can look into.
_CLOSED = {"ffi_call", "pallas_call", "tpu_custom_call", "pure_callback", "io_callback"}


@dataclasses.dataclass(eq=False)
class Expression:
    """A value that a function computes.

    Attributes:
      primitive: Name of JAX's primitive; `input` of what the function takes, `constant` of what is known.
      inputs: What it is computed of.
      parameters: Of the primitive.
      shape: Shape of the value.
      dtype: Its dtype.
      constant: Whether it does not depend on the function's inputs.
      name: Of a constant the path of its variable; of others the scopes that they are computed in.
      variables: Paths of all variables that a constant is computed of.
    """

    primitive: str
    inputs: tuple[Expression, ...]
    parameters: dict[str, Any]
    shape: tuple[int, ...]
    dtype: Any
    constant: bool
    name: str = ""
    variables: frozenset[str] = frozenset()
    compute: Callable[[Sequence[Any]], Any] | None = None

    @functools.cached_property
    def array(self) -> np.ndarray:
        """The value of a constant."""
        assert self.compute is not None
        with jax.ensure_compile_time_eval():
            return np.asarray(self.compute([expression.array for expression in self.inputs]))

    @property
    def scalar(self) -> float | None:
        """The number that every element of a constant is, if there is one; None of anything else."""
        if not self.constant or not np.size(self.array):
            return None
        flat = np.ravel(self.array)
        return float(flat[0]) if flat.dtype.kind in "fiubV" and (flat == flat[0]).all() else None


def variable(shape: Sequence[int], dtype: Any, name: str) -> Expression:
    """Make an input of a function."""
    return Expression("input", (), {}, tuple(shape), dtype, False, name)


def constant(array: Any, name: str = "") -> Expression:
    """Make a known value; `name` is the path of its variable, if it is one's."""
    aval = jax.typeof(array)
    variables = frozenset({name} if name else ())
    return Expression(
        "constant", (), {}, aval.shape, aval.dtype, True, name, variables, compute=lambda _: array
    )


class Reader:
    """Reads jaxprs as expressions; the same expression is made once."""

    def __init__(self) -> None:
        self._made: dict[Any, tuple[Expression, ...]] = {}

    def read(self, closed: jax.extend.core.ClosedJaxpr, inputs: Sequence[Expression]) -> list[Expression]:
        """Return what a jaxpr computes of inputs."""
        return self._read(closed.jaxpr, [constant(value) for value in closed.consts], inputs, "")

    def _read(
        self, jaxpr: Any, constants: Sequence[Expression], inputs: Sequence[Expression], scope: str
    ) -> list[Expression]:
        known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *inputs], strict=True))

        def of(atom: Any) -> Expression:
            return self._literal(atom) if isinstance(atom, jax.extend.core.Literal) else known[atom]

        for equation in jaxpr.eqns:
            values = self._equation(equation, [of(atom) for atom in equation.invars], scope)
            known.update(zip(equation.outvars, values, strict=True))
        return [of(atom) for atom in jaxpr.outvars]

    def _literal(self, literal: Any) -> Expression:
        array = np.asarray(literal.val, literal.aval.dtype)
        key = "literal", array.dtype, array.tobytes(), array.shape
        if key not in self._made:
            self._made[key] = (constant(array),)
        return self._made[key][0]

    def _equation(self, equation: Any, inputs: list[Expression], scope: str) -> Sequence[Expression]:
        name, parameters = equation.primitive.name, equation.params
        scope = "/".join(part for part in (scope, str(equation.source_info.name_stack)) if part)
        if name in _CALLS:
            body = next(parameters[key] for key in _BODIES if key in parameters)
            return self._inline(body, inputs, scope)
        if name == "cond" and inputs[0].constant:
            return self._inline(self._branch(inputs[0], parameters["branches"]), inputs[1:], scope)
        same = name == "convert_element_type" and inputs[0].dtype == parameters["new_dtype"]
        if name in _SAME or same:
            return inputs
        key = name, tuple(map(id, inputs)), repr(sorted(parameters.items(), key=lambda pair: pair[0]))
        if key not in self._made:
            self._made[key] = _applied(equation, inputs, scope)
        return self._made[key]

    def _inline(self, body: Any, inputs: Sequence[Expression], scope: str) -> list[Expression]:
        closed = hasattr(body, "consts")
        constants = [constant(value) for value in body.consts] if closed else []
        return self._read(body.jaxpr if closed else body, constants, inputs, scope)

    def _branch(self, index: Expression, branches: Sequence[Any]) -> Any:
        """The branch that is taken; of those for several platforms the simplest that can be read."""
        if index.primitive == "platform_index":
            return min(branches, key=_opacity)
        return branches[int(np.clip(index.array, 0, len(branches) - 1))]


def _opacity(body: Any) -> tuple[bool, int]:
    """Whether something in a jaxpr can't be read, and how long it is."""
    jaxpr = getattr(body, "jaxpr", body)
    inner = [equation.params[key] for equation in jaxpr.eqns for key in _BODIES if key in equation.params]
    bodies = [_opacity(each) for each in inner if hasattr(each, "jaxpr") or hasattr(each, "eqns")]
    closed = any(equation.primitive.name in _CLOSED for equation in jaxpr.eqns)
    return closed or any(of for of, _ in bodies), len(jaxpr.eqns) + sum(length for _, length in bodies)


def _applied(equation: Any, inputs: Sequence[Expression], scope: str) -> tuple[Expression, ...]:
    random = equation.primitive is primitives.random_bits_p
    known = all(expression.constant for expression in inputs) and not random

    def compute(place: int) -> Callable[[Sequence[Any]], Any]:
        def result(values: Sequence[Any]) -> Any:
            outputs = equation.primitive.bind(*values, **equation.params)
            return outputs[place] if equation.primitive.multiple_results else outputs

        return result

    variables = frozenset().union(*(expression.variables for expression in inputs)) if known else frozenset()
    return tuple(
        Expression(
            equation.primitive.name,
            tuple(inputs),
            {**equation.params, **({"result": place} if len(equation.outvars) > 1 else {})},
            tuple(getattr(output.aval, "shape", ())),
            getattr(output.aval, "dtype", None),
            known,
            scope,
            variables,
            compute(place),
        )
        for place, output in enumerate(equation.outvars)
    )


def unknown(expression: Expression, how: str = "") -> errors.InputError:
    """Say that there is no operation for what a model computes.

    Args:
      expression: What it computes.
      how: In which manner.
    """
    what = " ".join(word for word in (expression.primitive, how) if word)
    return errors.InputError(
        f"{_near(expression)} computes {what}, which can't be exported; format='stablehlo' can hold any model"
    )


def _near(expression: Expression) -> str:
    """The layer that an expression is of or, if it is of none, the one before it."""
    front, seen = [expression], {id(expression)}
    while front:
        for one in front:
            paths = sorted(path for each in one.inputs for path in each.variables)
            if paths or one.name:
                where = paths[0] if paths else one.name
                return where if one is expression else f"what follows {where}"
        front = [each for one in front for each in one.inputs if id(each) not in seen]
        seen.update(map(id, front))
    return "the model"
