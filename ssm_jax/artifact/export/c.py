"""An artifact as one C99 file and its header, without heap and without any library but C's own square root.

A kernel is, for every output, a list of places to add and a list of places to subtract; one multiplication by
the constant follows. It is what a microcontroller runs, and on a CPU the fast path, see
`ssm_jax.artifact.native`. Both files hold a digest of them, which the preprocessor compares: those of two
exports don't compile.
"""

from __future__ import annotations

import functools
import math
import pathlib
import re
import shlex
from typing import Any

import numpy as np

from ssm_jax import graph
from ssm_jax.artifact.export import c_operations, c_text
from ssm_jax.artifact.export.c_plan import Place, Plan, Step, Table
from ssm_jax.artifact.format import Artifact

_TYPES = {name: f"{name}_t" for name in ("int32", "uint8", "uint16", "uint32")} | {"float32": "float"}


def write(artifact: Artifact, path: pathlib.Path) -> None:
    """Write an artifact as C: a source file and, beside it, its header.

    Args:
      artifact: The network, its class names and its record.
      path: The source file, `*.c`; its folder exists. Names in C begin with the file's name.

    Raises:
      InputError: The path does not end in `.c`.
      OSError: A file cannot be written.
    """
    c_text.write(path, functools.partial(sources, artifact))


def sources(artifact: Artifact, stem: str) -> tuple[str, str]:
    """Write an artifact as C.

    Args:
      artifact: The network, its class names and its record.
      stem: Name of the files without `.c` and `.h`.

    Returns:
      The text of the source file and of its header.
    """
    network, plan = artifact.network, c_operations.plan(artifact.network)
    name = c_text.identifier(stem)
    upper = name.upper()
    flash, ram = _memory(plan)
    shape, result, kind = network.image_shape, network.shapes()[-1], _TYPES[network.image_dtype]
    about = [
        f"constant tables (flash): {flash:,} bytes; scratch (RAM): {ram:,} bytes",
        "",
        f'    #include "{stem}.h"',
        f"    static float scratch[{upper}_SCRATCH];",
        f"    float logits[{upper}_{'CLASSES' if len(result) == 1 else 'OUTPUTS'}];",
        f"    {name}_predict(image, logits, scratch);",
        "",
        f"cc -std=c99 -O2 main.c {shlex.quote(f'{stem}.c')} -lm",
        "On an AVR add -std=gnu99 -DSSM_TABLES=__flash, or the tables lie in RAM.",
    ]
    if network.dtype != "float32":
        about.insert(0, f"Trained in {network.dtype}; computed in float32 here.")
    sides = zip(("HEIGHT", "WIDTH", "CHANNELS"), shape) if len(shape) == 3 else [("INPUTS", math.prod(shape))]
    outputs = [("OUTPUTS", math.prod(result))] if len(result) != 1 else []
    scratch = "SCRATCH", f"{plan.scratch} /* floats of working memory */"
    macros = c_text.defines(upper, [*sides, ("CLASSES", network.classes), *outputs, scratch])
    prototype = f"void {name}_predict(const {kind} *image, float *logits, float *scratch)"
    content = f"""\
{macros}
extern const char *const {name}_class_names[{upper}_CLASSES];

/* Computes the logits of one input: its rows one after another, the channels of a pixel side by side.
 * scratch: {upper}_SCRATCH floats, whatever they hold; two threads need one each. */
{prototype};"""
    includes = """
#include <math.h>

/* Where the tables lie and are read from: an address space of the compiler, such as -DSSM_TABLES=__flash. */
#ifndef SSM_TABLES
#define SSM_TABLES
#endif

"""
    tables: dict[Table, str] = {}
    for number, table in enumerate(plan.tables):
        tables[table] = c_text.unique(table.name, tables.values(), number)
    steps = "\n".join(f"    {_step(step, tables)};" for step in plan.steps)
    body = f"""\
{_functions(plan, kind)}
{"".join(map(_table, tables, tables.values()))}
const char *const {name}_class_names[{upper}_CLASSES] = {{{c_text.strings(artifact.class_names)}}};

{prototype}
{{
{steps}
}}
"""
    return c_text.together(artifact, stem, about, content, includes, body)


def memory(network: graph.Network) -> tuple[int, int]:
    """Compute the bytes of all tables, which lie in flash, and of the scratch memory.

    Args:
      network: The network.
    """
    return _memory(c_operations.plan(network))


def _memory(plan: Plan) -> tuple[int, int]:
    return sum(table.values.nbytes for table in plan.tables), 4 * plan.scratch


def _functions(plan: Plan, kind: str) -> str:
    """The functions that the plan calls."""
    lanes, *functions = c_text.template("functions.c")
    called = {step.function for step in plan.steps}
    written = [lanes] if any(name.startswith("conv") for name in called) else []
    for text in functions:
        name = re.findall(r"^static void (\w+)", text, re.MULTILINE)[0]
        placeholder = next((each for each in c_operations.VARIANTS if each in name), "")
        for variant, pieces in c_operations.VARIANTS.get(placeholder, {"": {}}).items():
            if name.replace(placeholder, variant) in called:
                filled = text.replace(placeholder, variant)
                for old, new in {"const uint8_t *image": f"const {kind} *image", **pieces}.items():
                    filled = filled.replace(old, new)
                written.append(filled)
    return "\n\n".join(written) + "\n"


def _table(table: Table, name: str) -> str:
    kind = str(table.values.dtype)
    values = c_text.numbers(table.values, _float if kind == "float32" else str)
    return f"static const SSM_TABLES {_TYPES[kind]} {name}[] = {{\n{values}\n}};\n\n"


def _float(value: np.float32) -> str:
    # The shortest decimal that is this float again.
    return f"{np.format_float_scientific(value, trim='0')}f"


def _step(step: Step, tables: dict[Table, str]) -> str:
    def argument(value: Any) -> str:
        if isinstance(value, Place):
            return f"scratch + {value.buffer.offset + value.distance}"
        return tables[value] if isinstance(value, Table) else str(value)

    return f"{step.function}({', '.join(map(argument, step.arguments))})"
