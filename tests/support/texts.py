"""The texts of the project, as their readers see them: what they show is tested as it stands there."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from docutils import nodes
from docutils.core import publish_doctree

from tests.support.places import HOME

TEXTS = sorted(str(path.relative_to(HOME)) for path in (*HOME.glob("*.rst"), *HOME.glob("docs/*.rst")))
_SETTINGS = {
    "halt_level": 2,  # a warning raises
    "report_level": 2,
    "syntax_highlight": "none",
    "file_insertion_enabled": False,  # as on PyPI
    "raw_enabled": False,
}


class Block(NamedTuple):
    """A literal block: the language that it is said to be in, "" where nothing is said, and its text."""

    language: str
    text: str


@cache
def document(name: str) -> nodes.document:
    """Return a text, parsed; raise docutils.utils.SystemMessage where it would not render as it should."""
    text = (HOME / name).read_text(encoding="utf-8")
    parsed: nodes.document = publish_doctree(text, source_path=name, settings_overrides=_SETTINGS)
    return parsed


def blocks(name: str) -> list[Block]:
    """Return the literal blocks of a text."""
    return [_block(block) for block in document(name).findall(nodes.literal_block)]


def _block(block: nodes.literal_block) -> Block:
    return Block("".join(kind for kind in block["classes"] if kind != "code"), block.astext())


def shown(name: str, begins: str) -> str:
    """Return the one literal block of a text that begins with these words."""
    (block,) = [block for block in blocks(name) if block.text.startswith(begins)]
    return block.text + "\n"


def inline(name: str) -> list[str]:
    """Return what stands between double backquotes in a text."""
    return [literal.astext() for literal in document(name).findall(nodes.literal)]


def section(name: str, title: str) -> tuple[list[Block], list[str]]:
    """Return the blocks of a section of a text, and what stands there between double backquotes.

    The text itself is the section of its title. Sections below a section are not parts of it.
    """
    text = document(name)
    (found,) = [part for part in (text, *text.findall(nodes.section)) if part[0].astext() == title]
    own = [part for part in found.children if not isinstance(part, nodes.section)]
    return (
        [_block(block) for part in own for block in part.findall(nodes.literal_block)],
        [literal.astext() for part in own for literal in part.findall(nodes.literal)],
    )
