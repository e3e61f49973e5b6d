"""The hook of mkdocs: pages that are made from the code, and links between what is written and what is made."""

import importlib
import inspect
import pkgutil
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import site_notebooks as notebooks  # noqa: E402 (beside this file)
import site_parts as parts  # noqa: E402

import clutr  # noqa: E402

ROOMS = {
    "environments": ("clutr.envs", *(f"clutr.envs.{room}" for room in ("maze", "car", "car.road", "car.physics"))),
    "students": ("clutr.agents", "clutr.agents.sb3"),
    "curricula": ("clutr.curricula",),
    "manifolds": ("clutr.manifold",),
    "world-models": ("clutr.world_model", "clutr.world_model.backbones", "clutr.world_model.cores"),
    "probes": ("clutr.probes",),
    "experiments": ("clutr.experiments", *(f"clutr.experiments.{room}" for room in ("training", "evaluation"))),
}
"""Packages whose modules the reference shows, by the folder of their pages."""
COPIED = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
"""Pages of the site that are files of the repository."""


def modules(room: str) -> list[str]:
    """The modules of a room that are shown, dotted."""
    packages = [importlib.import_module(name) for name in ROOMS[room]]
    found = [f"{p.__name__}.{m.name}" for p in packages for m in pkgutil.iter_modules(p.__path__) if not m.ispkg]
    return [name for name in found if not name.rpartition(".")[2].startswith("_")]


def front_door() -> str:
    """The names of `import clutr` in a table, each with a link to where it lives."""
    rows = []
    for name in clutr.__all__:
        if name == "__version__":
            continue
        where = clutr._ELSEWHERE.get(name, "clutr.experiments.api")
        value = getattr(clutr, name)
        about = value.__doc__ if inspect.isroutine(value) or inspect.isclass(value) else "What there is, by name."
        rows.append(f"| [`{name}`][{where}.{name}] | {(about or '').strip().splitlines()[0]} |")
    text = "# import clutr\n\nOne call for each thing that the command line does.\n\n| name | |\n|---|---|\n"
    return text + "\n".join(rows) + "\n\n::: clutr.experiments.api\n    options:\n      heading_level: 2\n"


def generated() -> dict[str, str]:
    """Pages that nobody wrote, by their place."""
    pages = {"reference/index.md": front_door()}
    for room in ROOMS:
        for module in modules(room):
            if module != "clutr.experiments.api":
                pages[f"reference/{room}/{module}.md"] = f"# {module.removeprefix('clutr.')}\n\n::: {module}\n"
    for page, source in COPIED.items():
        pages[page] = (ROOT / source).read_text()
    for kind in parts.KINDS:
        about = {name: kind.registry[name].__doc__.splitlines()[0] for name in parts.registered(kind)}
        rows = [f"| [`{name}`]({name}.md) | {line} |" for name, line in about.items()]
        table = "\n".join(["| name | |", "|---|---|", *rows])
        pages[f"{kind.folder}/index.md"] = (
            f"# All {kind.folder}\n\n{table}\n\n`clutr list {kind.folder}` prints them.\n"
        )
    return pages


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the places of the navigation that say `FOLDER/*`."""

    def fill(entry: Any) -> Any:
        if isinstance(entry, dict):
            return {title: fill(inside) for title, inside in entry.items()}
        if isinstance(entry, list):
            return [filled for inside in entry for filled in (_listed(inside) or [fill(inside)])]
        return entry

    config.nav = fill(config.nav)
    if missing := parts.missing_pages():
        raise SystemExit(f"pages of parts and registered parts differ: {', '.join(missing)}")
    return config


def _listed(entry: Any) -> list[Any]:
    if not isinstance(entry, str) or not entry.endswith("/*"):
        return []
    folder = entry.removesuffix("/*")
    if folder in parts.BY_FOLDER:
        return [f"{folder}/index.md", *(f"{folder}/{name}.md" for name in parts.registered(parts.BY_FOLDER[folder]))]
    if folder == "notebooks":
        return [f"notebooks/{path.stem}.md" for path in notebooks.SCRIPTS]
    room = folder.removeprefix("reference/")
    pages = [module for module in modules(room) if module != "clutr.experiments.api"]
    return [{module.removeprefix(ROOMS[room][0] + "."): f"{folder}/{module}.md"} for module in pages]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    for place, text in generated().items():
        files.append(File.generated(config, place, content=text))
    for script in notebooks.SCRIPTS:
        files.append(File.generated(config, f"notebooks/{script.stem}.md", content=notebooks.page(script)))
        files.append(File.generated(config, f"notebooks/{script.stem}.ipynb", content=notebooks.notebook(script)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Append what is made to a part's page, and make links of names of pages and files."""
    place = page.file.src_uri
    folder, _, name = place.removesuffix(".md").partition("/")
    if folder in parts.BY_FOLDER and name and name != "index":
        markdown += parts.appendix(folder, name)
    return linked(markdown, place, {file.src_uri for file in files})


def linked(markdown: str, place: str, pages: set[str]) -> str:
    """Names of pages such as `docs/method.md` as links with the pages' titles; links out of `docs` as their words.

    What stands between fences stays as it is.
    """
    here = posixpath.dirname(place)

    def link(target: str, words: str) -> str:
        return f"[{words}]({posixpath.relpath(target, here or '.')})"

    def named(match: re.Match[str]) -> str:
        target = {source: page for page, source in COPIED.items()}.get(match[1], match[1].removeprefix("docs/"))
        return link(target, title(target)) if target in pages and target != place else match[0]

    def written(match: re.Match[str]) -> str:
        words, path = match.groups()
        if words == path and path in pages:  # a list of files, for who reads the repository
            return link(path, title(path))
        if path.removeprefix("docs/") in pages and path.startswith("docs/"):
            return link(path.removeprefix("docs/"), words)
        outside = path.startswith("../") and posixpath.normpath(posixpath.join(here, path)) not in pages
        return words if outside else match[0]

    blocks = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    for at in range(0, len(blocks), 2):
        text = re.sub(r"(?<!!)\[([^\]]+)\]\(([^)#\s:]+)\)", written, blocks[at])
        blocks[at] = re.sub(r"(?<!\[)`(docs/[\w/-]+\.md|CONTRIBUTING\.md|CHANGELOG\.md)`(?!\])", named, text)
    return "".join(blocks)


def title(place: str) -> str:
    """The first heading of a page that somebody wrote."""
    source = ROOT / COPIED.get(place, f"docs/{place}")
    return source.read_text().partition("\n")[0].removeprefix("# ").replace("`", "")
