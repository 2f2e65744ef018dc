"""Commands that read a vault."""

from __future__ import annotations

from pathlib import Path

import click

from tablevault.cli.application import REFUSED, Place, in_place
from tablevault.cli.completion import instances, tables
from tablevault.cli.showing import show

table = click.argument("table_name", shell_complete=tables)
instance = click.option("--instance-id", default="", shell_complete=instances, help="The newest one if it is left out.")
version = click.option("--version", default="base", show_default=True, help="Version of the table.")
temporary = click.option("--temp/--materialised", default=True, help="Of the temporary instance, or of a finished one.")


@click.command()
@in_place
def get_tables(place: Place) -> None:
    """List the tables."""
    show(place, place.vault().get_tables())


@click.command()
@click.option("--table_name", "--table-name", default="", shell_complete=tables, help="All tables if it is left out.")
@version
@click.option("--temp/--no-temp", default=False, show_default=True, help="Temporary instances too.")
@in_place
def get_table_instances(place: Place, table_name: str, version: str, temp: bool) -> None:
    """List the instances of a table."""
    show(place, place.vault().get_table_instances(table_name, version, include_temp=temp))


@click.command()
@click.option("--table-name", default="", shell_complete=tables, help="Of a table; else of the vault.")
@click.option("--instance-id", default="", help="Of an instance of that table.")
@in_place
def get_descriptions(place: Place, table_name: str, instance_id: str) -> None:
    """Show how the vault, a table or an instance is described."""
    show(place, place.vault().get_descriptions(instance_id, table_name))


@click.command()
@click.option("--table-name", default="", shell_complete=tables, help="Only this table.")
@click.option("--instance-id", default="", help="Only this instance.")
@click.option("--code-files/--no-code-files", default=True, help="With code modules.")
@click.option("--builder-files/--no-builder-files", default=True, help="With builder files.")
@click.option("--metadata-files/--no-metadata-files", default=False, help="With metadata.")
@click.option("--artifact-files/--no-artifact-files", default=False, help="With artifacts.")
@in_place
def get_file_tree(place: Place, instance_id: str, table_name: str, **files: bool) -> None:
    """Show the files of the vault as a tree."""
    show(place, str(place.vault().get_file_tree(instance_id, table_name, **files)))


@click.command()
@in_place
def get_code_modules_list(place: Place) -> None:
    """List the Python modules."""
    show(place, place.vault().get_code_modules_list())


get_modules_list = get_code_modules_list
"""The name that this command had in 0.1."""


@click.command()
@click.argument("module_name")
@in_place
def get_code_module_str(place: Place, module_name: str) -> None:
    """Show the text of a Python module."""
    show(place, place.vault().get_code_module_str(module_name))


@click.command()
@table
@instance
@version
@temporary
@in_place
def get_builders_list(place: Place, table_name: str, instance_id: str, version: str, temp: bool) -> None:
    """List the builders of an instance."""
    show(place, place.vault().get_builders_list(table_name, instance_id, version, temp))


@click.command()
@table
@click.option("--builder-name", default="", help="The IndexBuilder if it is left out.")
@instance
@version
@temporary
@in_place
def get_builder_str(
    place: Place, table_name: str, builder_name: str, instance_id: str, version: str, temp: bool
) -> None:
    """Show the text of a builder."""
    show(place, place.vault().get_builder_str(table_name, builder_name, instance_id, version, temp))


@click.command()
@table
@instance
@version
@temporary
@in_place
def get_artifact_folder(place: Place, table_name: str, instance_id: str, version: str, temp: bool) -> None:
    """Show where the artifacts of an instance are."""
    show(place, str(place.vault().get_artifact_folder(table_name, instance_id, version, temp)))


@click.command()
@table
@click.option("--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="csv, parquet or json.")
@instance
@version
@click.option("--rows", type=int, default=None, help="The first rows only.")
@click.option("--include-inactive", is_flag=True, help="Also instances that are not active.")
@click.option("--no-artifact-path", is_flag=True, help="Names of artifacts instead of full paths.")
@in_place
def get_dataframe(
    place: Place,
    table_name: str,
    output: Path,
    instance_id: str,
    version: str,
    rows: int | None,
    include_inactive: bool,
    no_artifact_path: bool,
) -> None:
    """Write the frame of an instance to a file, whose suffix says how."""
    frame, found = place.vault().get_dataframe(
        table_name,
        instance_id,
        version,
        active_only=not include_inactive,
        rows=rows,
        full_artifact_path=not no_artifact_path,
    )
    kind = output.suffix.lower()
    if kind == ".parquet":
        frame.to_parquet(output, index=False)
    elif kind == ".json":
        frame.to_json(output, orient="records", date_format="iso")
    else:
        kind = ".csv"
        frame.to_csv(output, index=False)
    show(place, {"instance_id": found, "rows": len(frame), kind.removeprefix("."): str(output)})


@click.command()
@table
@instance
@click.option("--column", default="", help="Of one column; else of all.")
@in_place
def get_lineage(place: Place, table_name: str, instance_id: str, column: str) -> None:
    """Show what an instance was computed from, and what was computed from it."""
    show(place, place.vault().get_lineage(table_name, instance_id, column))


@click.command()
@table
@version
@click.option("--force", is_flag=True, help="As if everything were computed anew.")
@click.option("--run-index", is_flag=True, help="Run the IndexBuilder to know the rows.")
@in_place
def plan_instance(place: Place, table_name: str, version: str, force: bool, run_index: bool) -> None:
    """Show what an execution would compute and what it would reuse."""
    show(place, place.vault().plan_instance(table_name, version, force, run_index=run_index))


@click.command()
@click.option("--repair", is_flag=True, help="Mend what can be mended.")
@in_place
def verify(place: Place, repair: bool) -> None:
    """Check every file of the vault; exit with 1 if something is wrong."""
    report = place.vault().verify(repair=repair)
    show(place, report)
    if not report.ok:
        raise SystemExit(REFUSED)
