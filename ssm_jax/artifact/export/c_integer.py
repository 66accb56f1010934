"""An artifact as one C99 file and its header for a microcontroller: no floating point, no library, no heap.

    #include "model.h"
    static int32_t scratch[MODEL_SCRATCH];
    int32_t logits[MODEL_CLASSES];
    int32_t label = model_predict(image, logits, scratch);

Values are int8 and sums int32, see `ssm_jax.artifact.integer`, to which the C is equal in every bit. The
weights of a layer are a stream of bits that is read once an image; tables lie in flash, also on an AVR.
"""

from __future__ import annotations

import importlib.resources
import pathlib
import re
import shlex

import numpy as np

from ssm_jax import files
from ssm_jax.artifact import integer
from ssm_jax.artifact.export import c
from ssm_jax.artifact.export.c_integer_plan import Plan
from ssm_jax.artifact.format import Artifact


def write(artifact: Artifact, path: pathlib.Path, whole: integer.Integer) -> None:
    """Write an artifact as C in whole numbers: a source file and, beside it, its header.

    Args:
      artifact: The network's class names and record.
      path: The source file, `*.c`; its folder exists. Names in C begin with the file's name.
      whole: The network, see `integer.quantize`.

    Raises:
      InputError: The path does not end in `.c`.
      OSError: A file cannot be written.
    """
    path = c.check_path(path)
    source, header = sources(artifact, whole, path.stem)
    files.write_whole(path.with_suffix(".h"), lambda file: file.write(header.encode()))
    files.write_whole(path, lambda file: file.write(source.encode()))


def memory(whole: integer.Integer) -> tuple[int, int]:
    """Compute the bytes of all tables, which lie in flash, and of the scratch memory."""
    plan = Plan(whole)
    return sum(table.nbytes for table in plan.tables.values()), plan.scratch


def sources(artifact: Artifact, whole: integer.Integer, stem: str) -> tuple[str, str]:
    """Write an artifact as C in whole numbers.

    Args:
      artifact: The network's class names and record.
      whole: The network.
      stem: Name of the files without `.c` and `.h`.

    Returns:
      The text of the source file and of its header.
    """
    plan = Plan(whole)
    name = c.identifier(stem)
    upper = name.upper()
    height, width, channels = whole.network.image_shape
    classes = whole.network.classes
    flash = sum(table.nbytes for table in plan.tables.values())
    remaining = sum(layer.kernel.remaining for layer in whole.network.layers())
    about = c.about(
        artifact,
        stem,
        [
            f"constant tables (flash): {flash:,} bytes, "
            f"{8 * flash / max(remaining, 1):.2f} bits a weight that is not 0",
            f"scratch (RAM): {plan.scratch:,} bytes; whole numbers alone, int8 values and int32 sums",
            "",
            f'    #include "{stem}.h"',
            f"    static int32_t scratch[{upper}_SCRATCH];",
            f"    int32_t logits[{upper}_CLASSES];",
            f"    int32_t label = {name}_predict(image, logits, scratch);",
            "",
            f"cc -std=c99 -O2 main.c {shlex.quote(f'{stem}.c')}",
        ],
    )
    prototype = f"int32_t {name}_predict(const uint8_t *image, int32_t *logits, int32_t *scratch)"
    names = ", ".join(c.string(class_name) for class_name in artifact.class_names)
    header = f"""\
{about}
#ifndef {upper}_H
#define {upper}_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

#define {upper}_HEIGHT {height}
#define {upper}_WIDTH {width}
#define {upper}_CHANNELS {channels}
#define {upper}_CLASSES {classes}
#define {upper}_SCRATCH {plan.scratch // 4} /* int32_t of working memory */
#define {upper}_CLASS_NAMES {{{names}}}

/* Computes the logits of one image, in units of {whole.scales[-1]:.6g}, and returns the largest one's class.
 * image: its rows one after another, the channels of a pixel side by side.
 * scratch: {upper}_SCRATCH numbers, whatever they hold; two threads need one each. */
{prototype};

#ifdef __cplusplus
}}
#endif

#endif
"""
    statements = "\n".join(f"    {statement}" for statement in plan.statements())
    body = f"""\
{prototype}
{{
    int8_t *const values = (int8_t *)scratch;
    struct weights weights;
    int32_t most = 0;

{statements}
    for (int32_t i = 1; i < {classes}; i++)
        most = logits[i] > logits[most] ? i : most;
    return most;
}}
"""
    source = f"""\
/* See {c.comment(stem)}.h. */
#include "{stem}.h"

/* Where tables lie, and how a byte of one is read: define both to have them elsewhere. */
#ifndef {upper}_TABLE
#ifdef __AVR__
#include <avr/pgmspace.h>
#define {upper}_TABLE PROGMEM
#define {upper}_READ(address) pgm_read_byte(address)
#else
#define {upper}_TABLE
#define {upper}_READ(address) (*(address))
#endif
#endif

{_functions(body, upper)}
{"".join(_table(table, values, upper) for table, values in plan.tables.items())}
{body}"""
    return c.paired(source, header, upper)


def _functions(body: str, upper: str) -> str:
    """The functions that the body calls, and those that they call."""
    template = importlib.resources.files("ssm_jax.artifact.export").joinpath("integer.c").read_text()
    _, *functions = re.split(r"\n\n(?=/\*)", template)
    written: list[str] = []
    called = body
    for function in reversed(functions):  # which call those before them
        name = re.findall(r"^(?:static .*?|struct )(\w+)(?=\(| \{)", function, re.MULTILINE)[0]
        if re.search(rf"\b{name}\b", called):
            written.insert(0, function.rstrip())
            called += function
    text = "\n\n".join(written) + "\n"
    return re.sub(r"\bNET_", f"{upper}_", text).replace("PIXEL_SHIFT", str(integer.PIXEL_SHIFT))


def _table(name: str, values: np.ndarray, upper: str) -> str:
    lines = ",\n".join(",".join(map(str, values[i : i + 20])) for i in range(0, len(values), 20))
    return f"static const uint8_t {name}[] {upper}_TABLE = {{\n{lines}\n}};\n\n"
