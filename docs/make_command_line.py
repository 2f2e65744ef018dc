"""Writes `docs/command-line.md` from the commands themselves: `python docs/make_command_line.py`."""

from __future__ import annotations

from pathlib import Path

import click

from tablevault.cli.application import application

PAGE = Path(__file__).parent / "command-line.md"

HEAD = """# Command line

`tablevault --db-dir DIR --author NAME COMMAND …`. The environment variables `TABLEVAULT_DIR` and `TABLEVAULT_AUTHOR`
stand in for the two options. This page is made from the commands themselves, by `python docs/make_command_line.py`.

**Output.** Commands that change a vault print the id of their process, alone, on standard output. Lists and records are
tables on a terminal, and JSON when they are piped or with `--json`. Messages go to standard error.

**Exit status.** 0 done; 1 refused by TableVault, in one line; 2 wrong usage; 3 an error from outside, which was
reverted; 4 paused, whatever the error, with the commands that resume and stop; 130 and 143 interrupted (Ctrl-C,
SIGTERM) and reverted. `wait-process` exits as its process would have.

**Pausing.** Every command that changes a vault takes `--process-id`. With one, an error or Ctrl-C pauses instead of
reverting, and the same command goes on after the last finished row.

**Completion** of commands, tables and process ids, once per shell: in `~/.bashrc`

```sh
eval "$(_TABLEVAULT_COMPLETE=bash_source tablevault)"
```

in `~/.zshrc`

```zsh
eval "$(_TABLEVAULT_COMPLETE=zsh_source tablevault)"
```

or in `~/.config/fish/config.fish`

```fish
_TABLEVAULT_COMPLETE=fish_source tablevault | source
```
"""


def page() -> str:
    """Return the whole page."""
    context = application.make_context("tablevault", [], resilient_parsing=True)
    parts = [HEAD]
    for name in application.list_commands(context):
        command = application.get_command(context, name)
        assert command is not None
        parts.append(_section(name, command, context))
    return "\n".join(parts)


def _section(name: str, command: click.Command, parent: click.Context) -> str:
    context = click.Context(command, info_name=name, parent=parent)
    usage = " ".join(["tablevault", name, *command.collect_usage_pieces(context)])
    options = [parameter for parameter in command.get_params(context) if isinstance(parameter, click.Option)]
    rows = [record for option in options if (record := option.get_help_record(context))]
    table = [f"| `{options}` | {text} |" for options, text in rows if "--help" not in options]
    lines = [f"## {name}", "", (command.help or "").strip(), "", f"`{usage}`"]
    if table:
        lines += ["", "| Option | |", "| --- | --- |", *(line.replace("  [", " [") for line in table)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
