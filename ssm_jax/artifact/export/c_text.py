"""What both exports of C have in common: a source file and the header that belongs to it, names, comments."""

from __future__ import annotations

import hashlib
import importlib.resources
import math
import pathlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ssm_jax import errors, files
from ssm_jax.artifact.format import Artifact

# Numbers of a table on a line.
_A_LINE = 20


def write(path: pathlib.Path, sources: Callable[[str], tuple[str, str]]) -> None:
    """Write a source file and, beside it, its header.

    Args:
      path: The source file, `*.c`; its folder exists.
      sources: From the files' name without ending to the texts of both.

    Raises:
      InputError: The path does not end in `.c`, or its header can't be included.
      OSError: A file cannot be written.
    """
    path = pathlib.Path(path)
    if path.suffix != ".c":
        raise errors.InputError(f"a C export needs a path *.c, and puts its header beside; not {str(path)!r}")
    # Quotes and what a compiler reads as another character: backslashes, trigraphs, what is no text.
    if re.search(r'["\\]|\?\?', path.stem) or not path.stem.isprintable():
        raise errors.InputError(f"no C file can include {path.stem + '.h'!r}; choose another --output")
    source, header = sources(path.stem)
    files.write_whole(path.with_suffix(".h"), lambda file: file.write(header.encode()))
    files.write_whole(path, lambda file: file.write(source.encode()))


def together(
    artifact: Artifact, stem: str, about: Sequence[str], content: str, includes: str, body: str
) -> tuple[str, str]:
    """Make the texts of a source file and of its header, which compile with each other alone.

    Args:
      artifact: The network, its class names and its record.
      stem: Name of the files without `.c` and `.h`.
      about: What the comment at the top of the header says behind the network, any text.
      content: What the header defines and declares, the number of classes among it.
      includes: What the source file includes first.
      body: The rest of the source file.
    """
    upper = identifier(stem).upper()
    header = f"""\
{_about(artifact, stem, about)}
#ifndef {upper}_H
#define {upper}_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

{content}

#ifdef __cplusplus
}}
#endif

#endif
"""
    start, rest = f'/* See {comment(stem)}.h. */\n#include "{stem}.h"\n', f"{includes}{body}"
    # Of both a digest, which the preprocessor compares; 15 digits are as much as any counts with.
    digest = f"0x{hashlib.sha256((header + start + rest).encode()).hexdigest()[:15]}"
    check = f"""\
#if {upper}_DIGEST != {digest}
#error "this file and its header are of different exports"
#endif
"""
    define = f"#define {upper}_DIGEST {digest} /* of this file and its source */\n"
    header = re.sub(rf"^(?=#define {upper}_CLASSES )", define, header, count=1, flags=re.M)
    return start + check + rest, header


def template(name: str) -> list[str]:
    """Read the functions of a file beside this one, after the comment that it begins with."""
    text = importlib.resources.files("ssm_jax.artifact.export").joinpath(name).read_text()
    return [function.rstrip() for function in re.split(r"\n\n(?=/\*)", text)[1:]]


def defines(upper: str, values: Iterable[tuple[str, Any]]) -> str:
    """Write macros, lines of names and what they are."""
    return "".join(f"#define {upper}_{name} {value}\n" for name, value in values)


def numbers(values: Iterable[Any], write: Callable[[Any], str] = str) -> str:
    """Write the numbers of a table in lines."""
    written = list(map(write, values))
    return ",\n".join(",".join(written[i : i + _A_LINE]) for i in range(0, len(written), _A_LINE))


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


def unique(name: str, taken: Iterable[str], number: int) -> str:
    """Make an identifier of a table's name that is none of those taken."""
    symbol = identifier(name)
    return f"{symbol}_{number}" if symbol in taken else symbol


def _about(artifact: Artifact, stem: str, lines: Sequence[str]) -> str:
    """The comment at the top of a header: what the network is, then some lines."""
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


def strings(texts: Iterable[str]) -> str:
    """Write literals of C one after another; whatever could mean something in one is written as octal."""
    return ", ".join(f'"{_ODD.sub(_octal, text.encode()).decode()}"' for text in texts)


_ODD = re.compile(rb"[^\w .:,/()-]", re.ASCII | re.DOTALL)


def _octal(match: re.Match[bytes]) -> bytes:
    return b"\\%03o" % match[0][0]
