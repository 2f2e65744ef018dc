"""Generate `docs/command-line.md` from the commands."""

from __future__ import annotations

import inspect
from pathlib import Path

import click

from tablevault.cli.application import application

PAGE = Path(__file__).parent / "command-line.md"

HEAD = """# Command line

Every command and option of `tablevault`. The general form is

    tablevault --db-dir DIR --author NAME COMMAND …

Set the environment variables `TABLEVAULT_DIR` and `TABLEVAULT_AUTHOR` to omit the two options. This page is generated
from the commands by `python docs/make_command_line.py`. `python -m tablevault` is the same command line.

**Output.** A command that changes a vault prints its process id, alone, on standard output. Lists and records are
tables on a terminal, and JSON when piped or with `--json`. Messages go to standard error.

**Pausing.** Every command that changes a vault takes `--process-id`. With a process id, an error or Ctrl-C pauses the
operation instead of reverting it, and the same command resumes it after the last finished row.

**Exit status.**

| status | meaning |
| --- | --- |
| 0 | succeeded |
| 1 | refused by TableVault, with a message of one line |
| 2 | invalid usage |
| 3 | an external error; the operation was reverted, or `run` could not read its source and recorded nothing |
| 4 | paused; the message shows the commands that resume and stop the process |
| 5 | succeeded, but [some rows](errors-in-rows.md) failed or were skipped; `get-errors` lists them |
| 6 | `diff --exit-code` found differences |
| 7 | the output could not be written, for example to a full disk; the changes are made |
| 130, 143 | interrupted by Ctrl-C or SIGTERM; the operation was reverted |

`wait-process` exits with the status of its process.

**Completion** of commands, tables and process ids: add one line to the configuration of your shell. In `~/.bashrc`:

```sh
eval "$(_TABLEVAULT_COMPLETE=bash_source tablevault)"
```

In `~/.zshrc`:

```zsh
eval "$(_TABLEVAULT_COMPLETE=zsh_source tablevault)"
```

In `~/.config/fish/config.fish`:

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
    lines = [f"## {name}", "", inspect.cleandoc(command.help or ""), "", f"`{usage}`"]
    if table:
        lines += ["", "| Option | |", "| --- | --- |", *(line.replace("  [", " [") for line in table)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
