"""An artifact as one C99 file and its header, without heap and without any library but C's own square root.

A kernel is, for every output, a list of places to add and a list of places to subtract; one multiplication by
the constant follows. It is what a microcontroller runs, and on a CPU the fast path, see
`ssm_jax.artifact.native`. Both files hold a digest of them, which the preprocessor compares: those of two
exports don't compile.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import math
import pathlib
import re
import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np

from ssm_jax import errors, files, graph
from ssm_jax.artifact.export import c_operations, c_plan
from ssm_jax.artifact.format import Artifact

# Numbers of a table on a line.
_A_LINE = 20

_TYPES = {name: f"{name}_t" for name in ("int32", "uint8", "uint16", "uint32")} | {"float32": "float"}


def write(artifact: Artifact, path: pathlib.Path) -> None:
    """Write an artifact as C: a source file and, beside it, its header.

    The prefix of the names in C is the file's name.

    Args:
      artifact: The network, its class names and its record.
      path: The source file, `*.c`; its folder exists.

    Raises:
      InputError: The path does not end in `.c`.
      OSError: A file cannot be written.
    """
    path = check_path(path)
    source, header = sources(artifact, path.stem)
    files.write_whole(path.with_suffix(".h"), lambda file: file.write(header.encode()))
    files.write_whole(path, lambda file: file.write(source.encode()))


def check_path(path: pathlib.Path) -> pathlib.Path:
    """Check that a path is one of a C file whose header can be included.

    Raises:
      InputError: It is not.
    """
    path = pathlib.Path(path)
    if path.suffix != ".c":
        raise errors.InputError(f"a C export needs a path *.c, and puts its header beside; not {str(path)!r}")
    # Quotes and what a compiler reads as another character: backslashes, trigraphs, what is no text.
    if re.search(r'["\\]|\?\?', path.stem) or not path.stem.isprintable():
        raise errors.InputError(f"no C file can include {path.stem + '.h'!r}; choose another --output")
    return path


def sources(artifact: Artifact, stem: str) -> tuple[str, str]:
    """Write an artifact as C.

    Args:
      artifact: The network, its class names and its record.
      stem: Name of the files without `.c` and `.h`.

    Returns:
      The text of the source file and of its header.
    """
    plan = c_operations.plan(artifact.network)
    name = identifier(stem)
    upper = name.upper()
    tables = _table_names(plan)
    flash, ram = _memory(plan)
    shape, result = artifact.network.image_shape, artifact.network.shapes()[-1]
    kind = _TYPES[artifact.network.image_dtype]
    classes = artifact.network.classes
    lines = [
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
    if artifact.network.dtype != "float32":
        lines.insert(0, f"Trained in {artifact.network.dtype}; computed in float32 here.")
    names_of_sides = ("HEIGHT", "WIDTH", "CHANNELS") if len(shape) == 3 else ("INPUTS",)
    numbers = shape if len(shape) == 3 else (math.prod(shape),)
    sides = "".join(f"#define {upper}_{name} {size}\n" for name, size in zip(names_of_sides, numbers))
    outputs = f"#define {upper}_OUTPUTS {math.prod(result)}\n" if len(result) != 1 else ""
    prototype = f"void {name}_predict(const {kind} *image, float *logits, float *scratch)"
    header = f"""\
{about(artifact, stem, lines)}
#ifndef {upper}_H
#define {upper}_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

{sides}#define {upper}_CLASSES {classes}
{outputs}#define {upper}_SCRATCH {plan.scratch} /* floats of working memory */

extern const char *const {name}_class_names[{upper}_CLASSES];

/* Computes the logits of one input: its rows one after another, the channels of a pixel side by side.
 * scratch: {upper}_SCRATCH floats, whatever they hold; two threads need one each. */
{prototype};

#ifdef __cplusplus
}}
#endif

#endif
"""
    names = ", ".join(string(class_name) for class_name in artifact.class_names)
    steps = "\n".join(f"    {_step(step, tables)};" for step in plan.steps)
    source = f"""\
/* See {comment(stem)}.h. */
#include "{stem}.h"

#include <math.h>

/* Where the tables lie and are read from: an address space of the compiler, such as -DSSM_TABLES=__flash. */
#ifndef SSM_TABLES
#define SSM_TABLES
#endif

{_functions(plan, kind)}
{"".join(_table(table, tables[id(table)]) for table in plan.tables)}
const char *const {name}_class_names[{upper}_CLASSES] = {{{names}}};

{prototype}
{{
{steps}
}}
"""
    return paired(source, header, upper)


def paired(source: str, header: str, upper: str) -> tuple[str, str]:
    """Put a digest of both into a source file and its header, so that they compile with each other alone.

    Args:
      source: The text of the source file, which includes the header first.
      header: The text of the header, which defines the number of classes.
      upper: The prefix of its macros.
    """
    # 15 digits: as much as any preprocessor counts with.
    digest = f"0x{hashlib.sha256((header + source).encode()).hexdigest()[:15]}"
    check = f"""\
#if {upper}_DIGEST != {digest}
#error "this file and its header are of different exports"
#endif
"""
    define = f"#define {upper}_DIGEST {digest} /* of this file and its source */\n"
    return (
        re.sub(r"^#include .*\n", lambda line: line[0] + check, source, count=1, flags=re.M),
        re.sub(rf"^(?=#define {upper}_CLASSES )", define, header, count=1, flags=re.M),
    )


def memory(network: graph.Network) -> tuple[int, int]:
    """Compute the bytes of all tables, which lie in flash, and of the scratch memory.

    Args:
      network: The network.
    """
    return _memory(c_operations.plan(network))


def _memory(plan: c_plan.Plan) -> tuple[int, int]:
    return sum(table.values.nbytes for table in plan.tables), 4 * plan.scratch


def identifier(stem: str) -> str:
    """Make a C identifier of a file's name.

    Args:
      stem: The name without its suffix.

    Examples:
      >>> identifier("Conv8 extreme")
      'conv8_extreme'
      >>> identifier("8-bit")
      'network_8_bit'
    """
    name = re.sub(r"[^a-z0-9]+", "_", stem.lower()).strip("_")
    return name if name[:1].isalpha() else f"network_{name}".rstrip("_")


def about(artifact: Artifact, stem: str, lines: Sequence[str]) -> str:
    """Write the comment at the top of a header: what the network is, then some lines.

    Args:
      artifact: The network and its record.
      stem: Name of the files without `.c` and `.h`.
      lines: What follows, any text.
    """
    record, layers = artifact.record, artifact.network.layers()
    weights = sum(math.prod(layer.kernel.shape) for layer in layers)
    remaining = sum(layer.kernel.remaining for layer in layers)
    known = [f"{key}: {record[key]}" for key in ("dataset", "rule", "epochs", "seed") if key in record]
    accuracy = record.get("test_accuracy")
    if isinstance(accuracy, (int, float)):  # a record may hold anything
        known.append(f"test accuracy: {accuracy:.2f} %")
    lines = [
        f"{record.get('network', stem)}, a network from {artifact.network.image_dtype} "
        f"{list(artifact.network.image_shape)} to logits {list(artifact.network.shapes()[-1])}. "
        "Written by ssm_jax.",
        *known,
        f"weights: {weights:,}, of which {remaining:,} ({100 * remaining / max(weights, 1):.2f} %) are not 0",
        *lines,
    ]
    return "/*" + "\n *".join(f" {comment(line)}".rstrip() for line in lines) + "\n */"


def comment(text: str) -> str:
    """Make text that may stand in a comment."""
    plain = "".join(character if " " <= character <= "~" else "_" for character in text)
    return re.sub(r"\*(?=/)|/(?=\*)|\?(?=\?)", r"\g<0> ", plain)


def string(text: str) -> str:
    """Write a literal of C; whatever could mean something in it is written as octal."""
    allowed = re.compile(rb"[\w .:,/()-]", re.ASCII)
    return (
        '"'
        + re.sub(
            rb".",
            lambda byte: byte[0] if allowed.match(byte[0]) else b"\\%03o" % byte[0][0],
            text.encode(),
            flags=re.DOTALL,
        ).decode()
        + '"'
    )


def _functions(plan: c_plan.Plan, kind: str) -> str:
    """The functions that the plan calls."""
    template = importlib.resources.files("ssm_jax.artifact.export").joinpath("functions.c").read_text()
    _, lanes, *functions = re.split(r"\n\n(?=/\*)", template)
    called = {step.function for step in plan.steps}
    written = [lanes] if any(name.startswith("conv") for name in called) else []
    for text in functions:
        name = re.findall(r"^static void (\w+)", text, re.MULTILINE)[0]
        placeholder = next((each for each in c_operations.VARIANTS if each in name), "")
        for variant, pieces in c_operations.VARIANTS.get(placeholder, {"": {}}).items():
            if name.replace(placeholder, variant) in called:
                filled = text.replace(placeholder, variant).replace(
                    "const uint8_t *image", f"const {kind} *image"
                )
                for old, new in pieces.items():
                    filled = filled.replace(old, new)
                written.append(filled)
    return "\n\n".join(piece.rstrip() for piece in written) + "\n"


def _table_names(plan: c_plan.Plan) -> dict[int, str]:
    """Names in C by the tables' identities; no two are the same."""
    names: dict[int, str] = {}
    for number, table in enumerate(plan.tables):
        name = identifier(table.name)
        names[id(table)] = f"{name}_{number}" if name in names.values() else name
    return names


def _table(table: c_plan.Table, name: str) -> str:
    kind = str(table.values.dtype)
    write = _float if kind == "float32" else str
    starts = range(0, len(table.values), _A_LINE)
    lines = ",\n".join(",".join(map(write, table.values[start : start + _A_LINE])) for start in starts)
    return f"static const SSM_TABLES {_TYPES[kind]} {name}[] = {{\n{lines}\n}};\n\n"


def _float(value: np.float32) -> str:
    # The shortest decimal that is this float again.
    text = np.format_float_scientific(value, trim="0")
    return f"{text}f"


def _step(step: c_plan.Step, tables: dict[int, str]) -> str:
    def argument(value: Any) -> str:
        if isinstance(value, c_plan.Place):
            return f"scratch + {value.buffer.offset + value.distance}"
        return tables[id(value)] if isinstance(value, c_plan.Table) else str(value)

    return f"{step.function}({', '.join(map(argument, step.arguments))})"
