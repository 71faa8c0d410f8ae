"""Run the notebooks again and store what they print and draw.

    python docs/make_notebooks.py          all of them
    python docs/make_notebooks.py pinn     one

Only texts and pictures are kept, no counters and nothing about the machine, so that a notebook
changes where its results do.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent / "notebooks"
KEPT = ("text/plain", "image/png")


def executed(path: Path) -> nbformat.NotebookNode:
    """The notebook with its cells run, in order, in a fresh kernel.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised; the message is its traceback.
    """
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    return notebook


def tidied(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with nothing in it that depends on when and where it ran."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        cell.metadata, cell.id = {}, f"cell-{number}"
        if cell.cell_type != "code":
            continue
        cell.execution_count = None
        cell.outputs = _joined(cell.outputs)
        for output in cell.outputs:
            output.pop("execution_count", None)
            if "data" in output:
                output.metadata = {}
                if output.output_type == "execute_result":
                    output.execution_count = None
                data = {kind: data for kind, data in output.data.items() if kind in KEPT}
                if "image/png" in data:
                    data.pop("text/plain", None)
                output.data = data
    return notebook


def _joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """What was printed piece by piece in one piece."""
    result: list[nbformat.NotebookNode] = []
    for output in outputs:
        stream = output.output_type == "stream"
        if stream and result and result[-1].get("name") == output.name:
            result[-1].text += output.text
        else:
            result.append(output)
    return result


def main() -> None:
    for path in sorted(FOLDER.glob("*.ipynb")):
        if len(sys.argv) == 1 or path.stem in sys.argv[1:]:
            nbformat.write(tidied(executed(path)), path)
            print(path.name)


if __name__ == "__main__":
    main()
