"""What the site shows besides the pages in docs/: mkdocs.yml names this file under hooks.

* a link out of docs/ brings its file along: a Markdown file becomes a page, a Python file a page
  with its source, anything else is copied;
* notebooks become pages;
* MathJax comes from an installed package, so that formulas are set without a network.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
# pages that come along without a link: the navigation names them
ALWAYS = (ROOT / "examples" / "README.md",)
ELSEWHERE = {ROOT / "README.md": "index.md"}
BLOCK = re.compile(r"^(?P<fence>`{3,})[^\n]*\n.*?^(?P=fence)\s*$", re.M | re.S)
LINK = re.compile(r"(?<=\]\()(?!https?://|mailto:|#)(?P<path>[^)#\s]+)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and the files that are not in docs/."""
    for notebook in sorted(DOCS.rglob("*.ipynb")):
        uri = notebook.relative_to(DOCS).with_suffix(".md").as_posix()
        files.append(File.generated(config, uri, content=_of_notebook(notebook)))
    script = _mathjax() / "es5" / "tex-svg.js"
    files.append(File.generated(config, "assets/mathjax/tex-svg.js", abs_src_path=str(script)))
    waiting = [*ALWAYS]
    for page in sorted(DOCS.rglob("*.md")):
        waiting.extend(_outside(page))
    done: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in done or path in ELSEWHERE or not path.is_file():
            continue
        done.add(path)
        uri = _uri(path)
        if path.suffix == ".md":
            file = File.generated(config, uri, content=path.read_text("utf-8"))
            waiting.extend(_outside(path))
        elif path.suffix == ".py":
            file = File.generated(config, uri, content=_of_source(path))
            waiting.append(path.with_suffix(".png"))
        else:
            file = File.generated(config, uri, abs_src_path=str(path))
        if path not in ALWAYS:
            file.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(file)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links to files into links to what the site made of them."""
    uri = page.file.src_uri
    # a page of the same path in docs/ is that one, otherwise it came along from outside
    here = DOCS / uri if (DOCS / uri).exists() else ROOT / uri
    notebook = (DOCS / uri).with_suffix(".ipynb")
    if notebook.exists():
        here = notebook

    def moved(link: re.Match[str]) -> str:
        target = _resolved(here, link["path"])
        if target.suffix not in (".ipynb", ".py") and here.is_relative_to(DOCS) == (
            target.is_relative_to(DOCS)
        ):
            return link["path"]
        to = ELSEWHERE.get(target) or _uri(target)
        return Path(os.path.relpath(to, Path(uri).parent)).as_posix()

    return _outside_of_blocks(markdown, lambda text: LINK.sub(moved, text))


def _resolved(page: Path, link: str) -> Path:
    return Path(os.path.normpath(page.parent / link))


def _uri(path: Path) -> str:
    """Where on the site a file of the repository is."""
    inside = path.relative_to(DOCS if path.is_relative_to(DOCS) else ROOT)
    return (inside.with_suffix(".md") if path.suffix in (".py", ".ipynb") else inside).as_posix()


def _outside(page: Path) -> Iterator[Path]:
    """The files that a page links to and that are no pages of docs/."""
    text = BLOCK.sub("", page.read_text("utf-8"))
    for link in LINK.finditer(text):
        target = _resolved(page, link["path"])
        inside = target.is_relative_to(DOCS) and target.suffix != ".py"
        if target.is_relative_to(ROOT) and not inside:
            yield target


def _outside_of_blocks(text: str, change: Callable[[str], str]) -> str:
    """The text with its fenced blocks as they are and the rest changed."""
    parts, end = [], 0
    for block in BLOCK.finditer(text):
        parts += [change(text[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*parts, change(text[end:])])


def _of_source(path: Path) -> str:
    """A page with a script: the picture that it draws, where there is one, then its text."""
    name = path.relative_to(ROOT).as_posix()
    picture = path.with_suffix(".png")
    parts = ["---\nhide:\n  - navigation\n  - toc\n---", f"# {name}"]
    if picture.exists():
        parts.append(f"![what {name} draws]({picture.name})")
    parts.append(f"`````py\n{path.read_text('utf-8')}`````")
    return "\n\n".join(parts) + "\n"


def _of_notebook(path: Path) -> str:
    """The cells as Markdown, each with its text output or its picture."""
    parts = []
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```py\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            text = "".join(output.get("text", data.get("text/plain", "")))
            if "image/png" in data:
                picture = "".join(data["image/png"]).replace("\n", "")
                parts.append(f"![what the cell draws](data:image/png;base64,{picture})")
            elif text:
                parts.append(f'```text title="prints"\n{text.rstrip()}\n```')
    return "\n\n".join(parts) + "\n"


def _mathjax() -> Path:
    found = importlib.util.find_spec("mathjax")
    if found is None or not found.submodule_search_locations:
        raise RuntimeError(
            "the formulas need MathJax: pip install the extra 'docs', which has it in "
            "django-static-mathjax"
        )
    return Path(found.submodule_search_locations[0]) / "static" / "mathjax"
