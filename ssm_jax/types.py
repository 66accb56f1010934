"""Names for what Python's types can't say."""

from typing import Any, TypeAlias

# Arrays, or shapes of arrays, in any nesting of containers that JAX knows.
PyTree: TypeAlias = Any
