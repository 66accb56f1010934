"""An artifact as one C99 file and its header for a microcontroller: no floating point, no library, no heap.

    #include "model.h"
    static int32_t scratch[MODEL_SCRATCH];
    int32_t logits[MODEL_CLASSES];
    int32_t label = model_predict(image, logits, scratch);

Values are int8 and sums int32, see `ssm_jax.artifact.integer`, to which the C is equal in every bit. The
weights of a layer are a stream of bits that is read once an image; tables lie in flash, also on an AVR.
"""

from __future__ import annotations

import pathlib
import re
import shlex

from ssm_jax.artifact import integer
from ssm_jax.artifact.export import c_text
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
    c_text.write(path, lambda stem: sources(artifact, whole, stem))


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
    name = c_text.identifier(stem)
    upper = name.upper()
    flash = sum(table.nbytes for table in plan.tables.values())
    remaining = sum(layer.kernel.remaining for layer in whole.network.layers())
    about = [
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
    ]
    prototype = f"int32_t {name}_predict(const uint8_t *image, int32_t *logits, int32_t *scratch)"
    macros = [
        *zip(("HEIGHT", "WIDTH", "CHANNELS", "CLASSES"), (*whole.network.image_shape, whole.network.classes)),
        ("SCRATCH", f"{plan.scratch // 4} /* int32_t of working memory */"),
        ("CLASS_NAMES", f"{{{c_text.strings(artifact.class_names)}}}"),
    ]
    content = f"""\
{c_text.defines(upper, macros)}
/* Computes the logits of one image, in units of {whole.scales[-1]:.6g}, and returns the largest one's class.
 * image: its rows one after another, the channels of a pixel side by side.
 * scratch: {upper}_SCRATCH numbers, whatever they hold; two threads need one each. */
{prototype};"""
    statements = "\n".join(f"    {statement}" for statement in plan.statements())
    body = f"""\
{prototype}
{{
    int8_t *const values = (int8_t *)scratch;
    struct weights weights;
    int32_t most = 0;

{statements}
    for (int32_t i = 1; i < {whole.network.classes}; i++)
        most = logits[i] > logits[most] ? i : most;
    return most;
}}
"""
    includes = f"""
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

"""
    tables = "".join(
        f"static const uint8_t {table}[] {upper}_TABLE = {{\n{c_text.numbers(values)}\n}};\n\n"
        for table, values in plan.tables.items()
    )
    body = f"{_functions(body, upper)}\n{tables}\n{body}"
    return c_text.together(artifact, stem, about, content, includes, body)


def _functions(body: str, upper: str) -> str:
    """The functions that the body calls, and those that they call."""
    written, called = list[str](), body
    for function in reversed(c_text.template("integer.c")):  # which call those before them
        name = re.findall(r"^(?:static .*?|struct )(\w+)(?=\(| \{)", function, re.MULTILINE)[0]
        if re.search(rf"\b{name}\b", called):
            written.insert(0, function)
            called += function
    text = "\n\n".join(written) + "\n"
    return re.sub(r"\bNET_", f"{upper}_", text).replace("PIXEL_SHIFT", str(integer.PIXEL_SHIFT))
