"""What stands in a kernel's place: it reads as the variable that it replaces, and can't be assigned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import jax
import numpy as np
from flax import nnx

from ssm_jax import errors
from ssm_jax.core import Masking
from ssm_jax.nn.layers import Masked

_ATTRIBUTES = frozenset(name for name in dir(jax.Array) if not name.startswith("_"))
_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")
_UNARY = ("neg", "pos", "abs")


class MaskedKernel(Masked):
    """A masked kernel in the place of an `nnx.Param`.

    Whatever reads the parameter, as `self.kernel[...]`, `self.kernel.value` or `0.5 * self.kernel`, reads the
    effective kernel.

    Args:
      shape: The kernel's shape.
      kind: The name of the layer's type, or of the parameter's.
      masking: How the kernel is drawn and masked; its `dtype` is that of the kernel.
      rngs: The streams `params` (kernel) and `scores`.
      is_kernel_of_layer: Whether it is the kernel of a layer of Flax, whose path is its own then.
      stack: See `Masked`.
      given: See `Masked`.
      like: See `Masked`.
    """

    __array_ufunc__ = None  # so that NumPy's operators leave the work to these
    stands_for_parameter = True

    def __init__(
        self,
        shape: Sequence[int],
        kind: str,
        *,
        masking: Masking,
        rngs: nnx.Rngs,
        is_kernel_of_layer: bool = True,
        stack: Sequence[int] = (),
        given: jax.Array | None = None,
        like: Any = None,
    ) -> None:
        super().__init__(shape, masking=masking, rngs=rngs, stack=stack, given=given, like=like)
        self.layer_kind = kind
        self.is_kernel_of_layer = is_kernel_of_layer

    @property
    def kind(self) -> str:
        """The name of the layer's type, or of the parameter's."""
        return self.layer_kind

    @property
    def value(self) -> jax.Array:
        """The effective kernel."""
        return self.applied_kernel()

    def get_value(self) -> jax.Array:
        """Return the effective kernel."""
        return self.applied_kernel()

    def __getitem__(self, index: Any) -> jax.Array:
        """Index the effective kernel."""
        return self.applied_kernel()[index]

    def __jax_array__(self) -> jax.Array:
        """Stand for the effective kernel in functions of JAX."""
        return self.applied_kernel()

    def __array__(self, *arguments: Any, **options: Any) -> np.ndarray:
        """Stand for the effective kernel in functions of NumPy."""
        return np.asarray(self.applied_kernel()).__array__(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        """Read what else an array has."""
        if name in _ATTRIBUTES:
            return getattr(self.applied_kernel(), name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse a value; anything else is set."""
        if name == "value":
            self.set_value(value)
        super().__setattr__(name, value)

    def __setitem__(self, index: Any, value: Any) -> None:
        """Refuse a value."""
        self.set_value(value)

    def set_value(self, value: Any, **_: Any) -> NoReturn:
        """Refuse a value."""
        raise errors.InputError(
            "a masked kernel can't be assigned: it is made of a frozen kernel and scores; "
            "supermask(model, kernels='given') masks the kernels that a model has"
        )


def _operator(name: str) -> Callable[..., Any]:
    def operate(self: MaskedKernel, *others: Any) -> Any:
        others = tuple(other.value if isinstance(other, MaskedKernel) else other for other in others)
        return getattr(self.applied_kernel(), name)(*others)

    operate.__name__ = name
    operate.__doc__ = "Do as the effective kernel does."
    return operate


for _name in (*_BINARY, *(f"r{name}" for name in _BINARY), *_UNARY):
    setattr(MaskedKernel, f"__{_name}__", _operator(f"__{_name}__"))
