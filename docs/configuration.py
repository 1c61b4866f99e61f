#!/usr/bin/env python3
"""Print docs/configuration.rst, which is etc/collector.toml as a page.

The comments of that file become text, so they are written once. A block of comments belongs to the setting
or the table right below it, or, before an empty line, to the table above it. A setting may itself be a
comment, as those of tables that are absent by default are.
"""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

MANUAL = Path(__file__).parent.parent / "etc/collector.toml"
TABLE = re.compile(r"(# ?)?(\[{1,2}[\w.]+\]{1,2})")
SETTING = re.compile(r"(# ?)?(\w+ = (?:\"[^\"]*\"|\[.*\]|\{.*\}|[\w.]+))")
WIDTH = 110
HEAD = """\
.. Made from etc/collector.toml by docs/configuration.py: change it there.

Configuration
=============

The configuration is one TOML file, named by ``collector -c FILE`` or by ``$COLLECTOR_CONFIG``. Without
either, the defaults hold: the collector listens on 127.0.0.1:9020 and writes into ``./logs``. An empty
``$COLLECTOR_CONFIG`` names no file.

``collector check -c FILE`` lists every fault at once, those of the machine included: a directory or a file
that cannot be written, a host that is not this machine's, a damaged certificate. It binds no configured
port, makes nothing, and may run beside a collector, whose process it then names; where there is none, it
says what would run.

A file without a table, emptied by a full disk for instance, is a fault: leave out ``-c`` for the defaults.
So are ``~`` and ``$NAME`` in a path, because nothing expands them. A text format without ``%(message)s`` is
a WARNING, because no message would be in any file, and so is a ``datefmt`` without a conversion, because
every line would have the same time.

Each key of a table can be given by the environment instead, as containers like it. A flag of ``collector
run`` goes before a variable, a variable before the file, the file before the default. The environment holds
for every command, for forwarders and at each reload:

.. code-block:: text

    COLLECTOR__LISTEN__HOST=::
    COLLECTOR__ROLLOVER__MAX_BYTES=50_000_000
    COLLECTOR__ADMIN__TOKEN_FILE=/run/secrets/token
    COLLECTOR__LISTEN__ALLOW=["10.0.0.0/8"]
    COLLECTOR__LISTEN__TLS__CERTIFICATE=/run/secrets/server.pem

Two underscores stand between table and key, as Kubernetes itself sets ``COLLECTOR_PORT`` where a Service is
called collector. Quotes around text would be a part of it: ``docker run --env-file`` passes them on. A file
that is named must be right by itself, whatever goes before it.

``collector config -c FILE`` prints what holds, as TOML, and behind each value where it comes from: the
default, a line of the file, or a variable. Secrets are ``***``.

This page is `etc/collector.toml <../etc/collector.toml>`_, which ``collector config --default`` prints, and
which you can copy: every key with its default, its unit and its reason.
"""


def _escaped(text: str) -> str:
    """Return text in which nothing is markup."""
    return re.sub(r"([\\*`|]|_(?=\W|$))", r"\\\1", text)


def _filled(text: str, indent: str, bullet: str = "") -> str:
    return textwrap.fill(
        _escaped(text),
        WIDTH,
        initial_indent=bullet or indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _literal(lines: list[str], language: str = "text") -> str:
    return f".. code-block:: {language}\n\n" + textwrap.indent("\n".join(lines), "    ")


def _paragraphs(comments: list[str], indent: str = "") -> list[str]:
    """Return comments as reStructuredText: text, a literal block where lines are indented, or a list."""
    made: list[str] = []
    if not comments:
        return made
    for block in "\n".join(comments).split("\n\n"):
        lines = block.split("\n")
        if lines[0].startswith("  "):
            made.append(_literal([line.strip() for line in lines]))
        elif lines[1:] and lines[1].startswith("  "):  # "Units: ...", with what follows below it
            items = re.sub(r"\n {2,}", " ", block).split("\n")
            made += [_filled(item, "  ", "* ") for item in items]
        else:
            made.append(_filled(" ".join(lines), indent))
    return made


def page(manual: str) -> str:
    """Return the whole page."""
    head, _, rest = manual.partition("\n\n\n")
    made = [HEAD.rstrip(), *_paragraphs([line[2:] for line in head.split("\n")])]
    table = ""
    comments: list[str] = []
    bare: list[str] = []  # a table and its settings that no comments explain, shown together
    for line in [*rest.split("\n"), "[end]"]:
        if heading := TABLE.fullmatch(line):
            if bare:
                made.append(_literal(bare, "toml"))
            table, bare = heading[2], []
            made += [f"{table}\n{'-' * len(table)}", *_paragraphs(comments)]
        elif (setting := SETTING.fullmatch(line)) and not comments:
            bare += [setting[2]] if bare else [table, setting[2]]
        elif setting:
            first, *further = _paragraphs(comments, "    ")
            made += [f"``{setting[2]}``\n{first}", *further]
        elif line.startswith("#"):
            comments.append(line[2:])
            continue
        else:
            made += _paragraphs(comments)
        comments = []
    return "\n\n".join(made[:-1]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page(MANUAL.read_text(encoding="utf-8")))
