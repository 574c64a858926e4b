"""What `mkdocs build` adds to the pages in this folder: pages made of the code, and the text of all pages for machines.

Pages of memories, tasks, measures, remedies and experiments, the reference and the errors are written from the code
each time; nothing of them is kept.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import machine_text
import page_markdown
import raised_errors
import room_reference
from mkdocs.structure.files import File, Files

_TEXTS: dict[str, str] = {}


def on_config(config: Any) -> Any:
    """Put what is generated where the navigation asks for it."""
    config.nav = [_filled(entry) for entry in config.nav]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add what is generated."""
    for path, text in {**page_markdown.pages(), **room_reference.pages(), **raised_errors.pages()}.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Keep the text of every page."""
    _TEXTS[page.file.src_uri] = markdown
    return markdown


def on_post_build(config: Any) -> None:
    """Write the text of all pages."""
    machine_text.write(Path(config.site_dir), Path(config.config_file_path).parent, config.nav, _TEXTS)


def _filled(entry: Any) -> Any:
    """`generated: KIND` as the pages of a kind."""
    if not isinstance(entry, dict):
        return entry
    (title, value), *_ = entry.items()
    if isinstance(value, list):
        return {title: [_filled(each) for each in value]}
    if isinstance(value, str) and value.startswith("generated:"):
        return {title: _navigation(value.removeprefix("generated:"))}
    return entry


def _navigation(kind: str) -> list[Any]:
    """The pages of a kind; those of findings are kept in a folder, since results make them and not the code."""
    match kind:
        case "reference":
            return room_reference.navigation()
        case "finding":
            folder = Path(__file__).parents[1] / "findings"
            found = (path.relative_to(folder).as_posix() for path in folder.rglob("*.md"))
            pages = sorted(page for page in found if page != "index.md")
            return ["findings/index.md", *(f"findings/{name}" for name in pages)]
        case _:
            return page_markdown.navigation(kind)
