"""Links from pages to files of the repository outside `docs/`; the site has copies of the pictures."""

from __future__ import annotations

import pathlib
import re
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = pathlib.Path(__file__).parents[1]
# `](../results/paper/frontier.png)`: whatever lies above `docs/`.
_OUTSIDE = re.compile(r"(?<!!)\[([^\]]*)\]\(((?:\.\./)+)([^)\s#]*)(#[^)\s]*)?\)")
_PICTURE = re.compile(r"!\[([^\]]*)\]\((?:\.\./)+((?:results|docs)/[^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the figures of the results to the site's files."""
    for path in sorted((ROOT / "results").glob("**/*.png")):
        name = str(path.relative_to(ROOT))
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Point at the pictures' copies, and at the repository for the other files (or at nothing)."""
    up = "../" * page.file.src_uri.count("/")
    markdown = _PICTURE.sub(lambda found: f"![{found[1]}]({up}{found[2]})", markdown)

    def repository(found: re.Match[str]) -> str:
        target = (ROOT / "docs" / page.file.src_uri).parent / (found[2] + found[3])
        if ROOT / "docs" in target.resolve().parents:
            return found[0]  # a page of ours
        if not config.repo_url:
            return found[1]
        return f"[{found[1]}]({config.repo_url.rstrip('/')}/tree/main/{target.resolve().relative_to(ROOT)})"

    return _OUTSIDE.sub(repository, markdown)
