"""The notebooks: scripts in jupytext's percent format, shown as pages and offered as .ipynb files."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jupytext

FOLDER = Path(__file__).parents[2] / "notebooks"
SCRIPTS = sorted(FOLDER.glob("*.py"))


def notebook(script: Path) -> str:
    """The notebook of a script, as JSON, without outputs."""
    text: str = jupytext.writes(jupytext.read(script), fmt="ipynb")
    return text


def page(script: Path) -> str:
    """The page of a script: its words, and its code in fences."""
    cells = [SimpleNamespace(**cell) for cell in jupytext.read(script).cells]
    parts = [c.source if c.cell_type == "markdown" else f"```python\n{c.source}\n```" for c in cells if c.source]
    title, *rest = parts
    offer = f"This is a notebook: [download it]({script.stem}.ipynb), or run `notebooks/{script.name}` as a script."
    return "\n\n".join([title, offer, *rest]) + "\n"


def run(script: Path, **parameters: Any) -> dict[str, Any]:
    """Execute a script with other values for names of its cell that is tagged `parameters`.

    Returns:
        Its global names.

    Raises:
        KeyError: if that cell sets no such name.
    """
    names: dict[str, Any] = {"__name__": "__main__", "__file__": str(script)}
    for number, cell in enumerate(jupytext.read(script).cells):
        if cell.cell_type != "code":
            continue
        exec(compile(cell.source, f"{script.name}, cell {number}", "exec"), names)
        if "parameters" in cell.metadata.get("tags", []):
            if unknown := [name for name in parameters if not re.search(rf"^{name} = ", cell.source, re.MULTILINE)]:
                raise KeyError(f"{script.name} has no parameter {', '.join(unknown)}")
            names |= parameters
    return names
