"""The notebooks: scripts in jupytext's percent format, shown as pages with what they print and draw.

What they print and draw is kept in `docs/notebooks/`, since they train for minutes. To renew one:
`python docs/hooks/site_notebooks.py train_and_look STEPS=400_000`.
"""

import ast
import base64
import hashlib
import io
import json
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jupytext
from nbformat.v4 import new_output

FOLDER = Path(__file__).parents[2] / "notebooks"
KEPT = Path(__file__).parents[1] / "notebooks"
"""What the cells printed and drew: `NAME.json`, and the pictures beside it."""
SCRIPTS = sorted(FOLDER.glob("*.py"))
DPI = 72

After = Callable[[int, str], None]
"""Is told the number of a cell that has run, and what it printed."""


@dataclass(frozen=True)
class Output:
    """What one cell printed and drew."""

    source: str
    """A hash of the cell."""
    text: str = ""
    pictures: list[str] = field(default_factory=list)
    """Names of files in `KEPT`."""


@dataclass(frozen=True)
class Outputs:
    """What a notebook printed and drew."""

    parameters: dict[str, Any] = field(default_factory=dict)
    """Those in which that run differed from the script."""
    cells: dict[int, Output] = field(default_factory=dict)
    """By the cell's number; only those that printed or drew."""


def _cells(script: Path) -> list[tuple[str, str, list[str]]]:
    """Kind, source and tags of each cell."""
    return [(c.cell_type, c.source, c.metadata.get("tags", [])) for c in jupytext.read(script).cells]


def digest(source: str) -> str:
    """Of a cell."""
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def outputs(script: Path) -> Outputs:
    """What was kept of a script; nothing if nothing was."""
    path = KEPT / f"{script.stem}.json"
    if not path.exists():
        return Outputs()
    kept = json.loads(path.read_text())
    return Outputs(kept["parameters"], {int(number): Output(**cell) for number, cell in kept["cells"].items()})


def notebook(script: Path) -> str:
    """The notebook of a script, as JSON, with its outputs."""
    made = jupytext.read(script)
    for number, kept in outputs(script).cells.items():
        found: list[Any] = []
        if kept.text:
            found.append(new_output("stream", text=kept.text))
        for name in kept.pictures:
            picture = base64.b64encode((KEPT / name).read_bytes()).decode()
            found.append(new_output("display_data", {"image/png": picture}))
        made.cells[number].outputs = found
    text: str = jupytext.writes(made, fmt="ipynb")
    return text


def page(script: Path) -> str:
    """The page of a script: its words, its code in fences, and what that printed and drew."""
    kept, parts = outputs(script), []
    for number, (kind, source, _) in enumerate(_cells(script)):
        if not source:
            continue
        parts.append(source if kind == "markdown" else f"```python\n{source}\n```")
        if (output := kept.cells.get(number)) is None:
            continue
        if output.text:
            parts.append(f"```text\n{output.text.rstrip()}\n```")
        parts += [f"![what the cell drew]({name})" for name in output.pictures]
    title, *rest = parts
    offer = f"This is a notebook: [download it]({script.stem}.ipynb), or run `notebooks/{script.name}` as a script."
    if kept.cells:
        chosen = ", ".join(f"`{name} = {value!r}`" for name, value in kept.parameters.items())
        offer += f" Outputs are of a run with {chosen}." if chosen else " Outputs are of a run as it stands."
    return "\n\n".join([title, offer, *rest]) + "\n"


def run(script: Path, after: After | None = None, **parameters: Any) -> dict[str, Any]:
    """Execute a script with other values for names of its cell that is tagged `parameters`.

    Returns:
        Its global names.

    Raises:
        KeyError: if that cell sets no such name.
    """
    names: dict[str, Any] = {"__name__": "__main__", "__file__": str(script)}
    for number, (kind, source, tags) in enumerate(_cells(script)):
        if kind != "code":
            continue
        printed = io.StringIO()
        code = compile(source, f"{script.name}, cell {number}", "exec")
        if after is None:
            exec(code, names)
        else:
            with redirect_stdout(printed):
                exec(code, names)
            after(number, printed.getvalue())
        if "parameters" in tags:
            if unknown := [name for name in parameters if not re.search(rf"^{name} = ", source, re.MULTILINE)]:
                raise KeyError(f"{script.name} has no parameter {', '.join(unknown)}")
            names |= parameters
    return names


def keep(script: Path, parameters: Mapping[str, Any]) -> Outputs:
    """Execute a script, and keep what its cells print and draw in place of what was kept before."""
    import matplotlib.pyplot as plt  # noqa: PLC0415 (pages are built without it)

    sources, found = [source for _, source, _ in _cells(script)], dict[int, Output]()
    KEPT.mkdir(exist_ok=True)
    for old in KEPT.glob(f"{script.stem}-*.png"):
        old.unlink()

    def after(number: int, printed: str) -> None:
        pictures: list[str] = []
        for figure in plt.get_fignums():
            pictures.append(f"{script.stem}-{number}-{len(pictures) + 1}.png")
            plt.figure(figure).savefig(KEPT / pictures[-1], dpi=DPI, bbox_inches="tight", metadata={"Software": None})
        plt.close("all")
        if printed or pictures:
            found[number] = Output(digest(sources[number]), printed, pictures)

    run(script, after, **parameters)
    kept = Outputs(dict(parameters), found)
    (KEPT / f"{script.stem}.json").write_text(json.dumps(asdict(kept), indent=1) + "\n")
    return kept


def main(arguments: list[str]) -> None:
    """Renew what is kept of one notebook: its name, then `NAME=VALUE` for each parameter that differs."""
    script = FOLDER / f"{arguments[0]}.py"
    given = (argument.partition("=") for argument in arguments[1:])
    keep(script, {name: ast.literal_eval(value) for name, _, value in given})


if __name__ == "__main__":
    main(sys.argv[1:])
