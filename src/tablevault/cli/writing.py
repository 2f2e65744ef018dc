"""Commands that change a vault; each prints the id of its process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tablevault.cli.application import CommandContext, end_with_failures, in_context, json_option, process_id_option
from tablevault.cli.completion import builders, instances, modules, tables, tags
from tablevault.cli.policies import budget, given_amounts, given_rules, policies
from tablevault.cli.showing import show
from tablevault.errors import TVArgumentError, TVTableError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

version = click.option("--version", default="base", show_default=True, help="Version of the table.")


@click.command()
@click.argument("table_name")
@click.option("--multiple-artifacts", is_flag=True, help="Give each instance an artifact folder of its own.")
@click.option("--side-effects", is_flag=True, help="Executing has external effects: one active instance at a time.")
@click.option("--description", default="", help="Free text.")
@click.option("--exist-ok", is_flag=True, help="Do nothing if the table exists.")
@process_id_option
@in_context
def create_table(
    context: CommandContext, table_name: str, multiple_artifacts: bool, side_effects: bool, **options: Any
) -> str:
    """Create a table."""
    return context.vault().create_table(table_name, multiple_artifacts, side_effects, **options)


@click.command()
@click.argument("old_name", shell_complete=tables)
@click.argument("new_name")
@process_id_option
@in_context
def rename_table(context: CommandContext, old_name: str, new_name: str, process_id: str) -> str:
    """Rename a table."""
    return context.vault().rename_table(new_name, old_name, process_id)


@click.command()
@click.argument("table_name", shell_complete=tables)
@process_id_option
@in_context
def delete_table(context: CommandContext, table_name: str, process_id: str) -> str:
    """Delete a table with its instances; its descriptions and lineage stay."""
    return context.vault().delete_table(table_name, process_id)


@click.command()
@click.argument("source", metavar="FILE|FOLDER", type=click.Path(exists=True, path_type=Path))
@version
@click.option("--overwrite", is_flag=True, help="Replace files that were edited since they were applied.")
@click.option("--dry-run", is_flag=True, help="Print the changes of each file without making them.")
@json_option
@process_id_option
@in_context
def apply(context: CommandContext, source: Path, dry_run: bool, process_id: str, **options: Any) -> str | None:
    """Write the builders and modules of a definitions file, and create its tables."""
    if not dry_run:
        return context.vault().apply(source, process_id=process_id, **options)
    show(context, context.vault().plan_apply(source, **options))
    return None


@click.command()
@click.argument("name")
@click.option(
    "--limit",
    multiple=True,
    metavar="LIMIT=NUMBER",
    help="As in calls_per_minute=500, tokens_per_day=1000000 or max_concurrency=50; repeatable.",
)
@click.option("--remove", is_flag=True, help="Remove the service.")
@in_context
def set_service(context: CommandContext, name: str, limit: tuple[str, ...], remove: bool) -> str:
    """Set the limits of a service, which all builders and processes obey together."""
    if remove == bool(limit):
        raise click.UsageError("Give --limit, once for each limit, or --remove.")
    return context.vault().set_service(name, None if remove else given_amounts("limit", limit))


@click.command()
@click.argument("table_name", shell_complete=tables)
@click.argument("instance_id", shell_complete=instances)
@process_id_option
@in_context
def delete_instance(context: CommandContext, table_name: str, instance_id: str, process_id: str) -> str:
    """Delete an instance; its description and lineage stay."""
    return context.vault().delete_instance(instance_id, table_name, process_id)


@click.command()
@click.argument("table_name", shell_complete=tables)
@version
@click.option("--origin-id", default="", help="Instance whose builders are copied and whose cells are reused.")
@click.option("--origin-table", default="", help="Table of that instance, if different.")
@click.option("--external-edit", is_flag=True, help="The frame will come from write-instance.")
@click.option("--copy", is_flag=True, help="Take the newest instance as the origin.")
@click.option("--builder", "builders", multiple=True, help="Write a template for a builder of this name; repeatable.")
@click.option("--description", default="", help="Free text.")
@process_id_option
@in_context
def create_instance(context: CommandContext, table_name: str, builders: tuple[str, ...], **options: Any) -> str:
    """Create a temporary instance, to be filled by its builders or by write-instance."""
    return context.vault().create_instance(table_name, builders=list(builders) or None, **options)


@click.command()
@click.option("--module-name", default="", help="Name of the module; without a file a template is written.")
@click.option("--copy-dir", default="", help="File or folder to copy.")
@process_id_option
@in_context
def create_code_module(context: CommandContext, module_name: str, copy_dir: str, process_id: str) -> str:
    """Create or replace a Python module."""
    return context.vault().create_code_module(module_name, copy_dir, process_id=process_id)


@click.command()
@click.argument("name")
@click.argument("addresses", metavar="[ADDRESS]...", nargs=-1, shell_complete=tables)
@click.option("--all", "everything", is_flag=True, help="Every table with an instance of the version.")
@click.option("--version", default="base", show_default=True, help="With --all: version of the tables.")
@click.option("--move", is_flag=True, help="Move the tag away from the instances that it already names.")
@click.option("--description", default="", help="Free text.")
@process_id_option
@in_context
def tag(context: CommandContext, name: str, addresses: tuple[str, ...], everything: bool, **options: Any) -> str:
    """Tag instances, which protects them from deletion.

    An address is TABLE, 'TABLE(VERSION)' or 'TABLE(INSTANCE_ID)'.
    """
    if everything == bool(addresses):
        raise click.UsageError("Which instances? Name their addresses, or give --all.")
    return context.vault().create_tag(name, list(addresses) or None, **options)


@click.command()
@click.argument("name", shell_complete=tags)
@click.argument("table_names", metavar="[TABLE]...", nargs=-1, shell_complete=tables)
@process_id_option
@in_context
def delete_tag(context: CommandContext, name: str, table_names: tuple[str, ...], process_id: str) -> str:
    """Delete a tag from some tables, or from all; the instances stay."""
    return context.vault().delete_tag(name, list(table_names) or None, process_id=process_id)


@click.command()
@click.option("--table", "table_name", default="", shell_complete=tables, help="Only this table.")
@click.option("--version", default="", help="Only this version.")
@click.option("--keep-last", type=int, metavar="N", help="Keep the newest N instances of each table and version.")
@click.option("--keep-within", metavar="TIME", help="Keep instances that are not older, e.g. 12h, 30d or 8w.")
@click.option("--keep-daily", type=int, metavar="N", help="Keep the newest instance of each of the last N days.")
@click.option("--keep-weekly", type=int, metavar="N", help="Keep the newest instance of each of the last N weeks.")
@click.option("--keep-monthly", type=int, metavar="N", help="Keep the newest instance of each of the last N months.")
@click.option("--no-keep-inputs", is_flag=True, help="Remove inputs of kept instances, too.")
@click.option("--no-leftovers", is_flag=True, help="Keep leftovers of crashes.")
@click.option("--worker-logs-older-than", metavar="TIME", help="Also remove older logs of background workers.")
@click.option("--apply", "is_applied", is_flag=True, help="Remove everything in the plan; this cannot be undone.")
@process_id_option
@json_option
@in_context
def gc(
    context: CommandContext, is_applied: bool, process_id: str, no_keep_inputs: bool, no_leftovers: bool, **rules: Any
) -> str | None:
    """Show the instances that no retention rule keeps; remove them with --apply.

    With the --process-id of a paused gc, apply its recorded plan.
    """
    vault = context.vault()
    if process_id and not any(rules.values()):
        return vault.gc(None, process_id=process_id)
    plan = vault.plan_gc(**rules, keep_inputs=not no_keep_inputs, leftovers=not no_leftovers)
    if not is_applied:
        show(context, plan)
        return None
    click.echo(repr(plan), err=True)
    return vault.gc(plan, process_id=process_id)


@click.command()
@click.argument("module_name", shell_complete=modules)
@process_id_option
@in_context
def delete_code_module(context: CommandContext, module_name: str, process_id: str) -> str:
    """Delete a Python module."""
    return context.vault().delete_code_module(module_name, process_id)


@click.command()
@click.argument("table_name", shell_complete=tables)
@click.option("--builder-name", default="", help="Name of the builder; without a file a template is written.")
@version
@click.option("--copy-dir", default="", help="Builder file, or folder of builder files, to copy.")
@process_id_option
@in_context
def create_builder_file(context: CommandContext, table_name: str, **options: str) -> str:
    """Create or replace builder files of a temporary instance."""
    return context.vault().create_builder_file(table_name, **options)


@click.command()
@click.argument("table_name", shell_complete=tables)
@click.argument("builder_name", shell_complete=builders)
@version
@process_id_option
@in_context
def delete_builder_file(context: CommandContext, table_name: str, builder_name: str, **options: str) -> str:
    """Delete a builder file of a temporary instance."""
    return context.vault().delete_builder_file(builder_name, table_name, **options)


@click.command()
@click.argument("table_name", shell_complete=tables)
@version
@click.option("--force", "force_execute", is_flag=True, help="Recompute all cells.")
@click.option("--background", is_flag=True, help="Run in a background process; `watch` and `wait-process` follow it.")
@click.option("--reuse-partial", is_flag=True, help="Reuse the computed cells of a reverted execution.")
@click.option("--skip-unchanged", is_flag=True, help="Do not create an instance equal to the newest one.")
@policies
@budget
@process_id_option
@in_context
def execute_instance(
    context: CommandContext, table_name: str, policy: tuple[str, ...], budget: tuple[str, ...], **options: Any
) -> str:
    """Fill a temporary instance by running its builders.

    The exit status is 5 if the execution succeeded but rows failed; get-errors lists them.
    """
    process = context.vault().execute_instance(table_name, **given_rules(policy, budget), **options)
    return process if options["background"] else end_with_failures(context, process)


@click.command()
@click.argument("table_name", shell_complete=tables)
@click.option("--instance-id", default="", help="The instance; without it, the newest of the version.")
@version
@click.option("--background", is_flag=True, help="Run in a background process; `watch` and `wait-process` follow it.")
@policies
@budget
@process_id_option
@in_context
def retry_failed(
    context: CommandContext, table_name: str, policy: tuple[str, ...], budget: tuple[str, ...], **options: Any
) -> str:
    """Compute the failed, skipped and missing rows of an instance in a new one.

    The exit status is 5 if rows failed again; get-errors lists them.
    """
    process = context.vault().retry_failed(table_name, **given_rules(policy, budget), **options)
    return process if options["background"] else end_with_failures(context, process)


@click.command()
@click.argument("table_name", shell_complete=tables)
@click.option("--csv", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="File with the frame.")
@click.option("--parquet", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="File with the frame.")
@click.option("--jsonl", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="File with the frame.")
@click.option(
    "--dataset",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Dataset folder with the frame; artifacts stay names.",
)
@version
@process_id_option
@in_context
def write_instance(
    context: CommandContext,
    table_name: str,
    csv: Path | None,
    parquet: Path | None,
    jsonl: Path | None,
    dataset: Path | None,
    **options: Any,
) -> str:
    """Fill a temporary instance with a frame from a file or dataset folder."""
    readers = ((csv, _read_delimited), (parquet, _read_parquet), (jsonl, _read_json_lines), (dataset, _read_dataset))
    given = [(path, read) for path, read in readers if path is not None]
    if len(given) != 1:
        raise click.UsageError("Name one: --csv FILE, --parquet FILE, --jsonl FILE or --dataset FOLDER.")
    ((path, read),) = given
    return context.vault().write_instance(read(path), table_name, **options)


@click.command()
@click.argument("table_name", shell_complete=tables)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@version
@click.option("--primary-key", multiple=True, help="Column of the primary key; repeatable.")
@click.option("--description", default="", help="Description of the instance.")
@click.option(
    "--skip-unchanged/--no-skip-unchanged", default=True, help="Do not create an instance equal to the newest one."
)
@process_id_option
@in_context
def write(context: CommandContext, table_name: str, file: Path, primary_key: tuple[str, ...], **options: Any) -> str:
    """Write the frame in a file as the newest instance of a table.

    A missing table is created.

    FILE ends in .csv, .tsv, .parquet, .jsonl, .arrow or .feather.
    """
    return context.vault().write(table_name, _frame_of(file), primary_key=list(primary_key) or None, **options)


def _frame_of(file: Path) -> Any:
    suffix = file.suffix.lower()
    if suffix not in _READERS:
        *most, last = _READERS
        raise TVArgumentError(f"There is no reader for '{file.name}'. Use a file in {', '.join(most)} or {last}.")
    return _READERS[suffix](file)


def _read_delimited(file: Path) -> pa.Table:
    from tablevault.texts.delimited import read_delimited

    try:
        return read_delimited(file)
    except ValueError as error:
        raise TVTableError(str(error)) from None


def _read_parquet(file: Path) -> pa.Table:
    from pyarrow import parquet

    with _damage_named(file):
        return parquet.read_table(file)


def _read_json_lines(file: Path) -> pd.DataFrame:
    """Return the frame of a file with one object per line."""
    from tablevault.texts.json_lines import read_json_lines

    try:
        return read_json_lines(file)
    except ValueError as error:
        raise TVTableError(str(error)) from None


def _read_dataset(folder: Path) -> pa.Table:
    """Return the frame of a dataset folder, as `export-table` makes it."""
    found = sorted(folder.glob("data/*.parquet"))
    if len(found) != 1:
        raise TVTableError(f"'{folder}' has {len(found)} files data/*.parquet; a dataset folder of a table has one.")
    return _read_parquet(found[0])


def _read_arrow(file: Path) -> pa.Table:
    from pyarrow import feather

    with _damage_named(file):
        return feather.read_table(str(file))


@contextmanager
def _damage_named(file: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if getattr(error, "errno", None) is not None:
            raise
        # Also an OSError without a number, which Arrow raises for data that it cannot decompress or decode.
        raise TVTableError(f"'{file}' cannot be read as a {file.suffix} file; it may be damaged: {error}") from None


_READERS: dict[str, Callable[[Path], pa.Table]] = {
    ".csv": _read_delimited,
    ".tsv": _read_delimited,
    ".parquet": _read_parquet,
    ".jsonl": _read_json_lines,
    ".arrow": _read_arrow,
    ".feather": _read_arrow,
}
