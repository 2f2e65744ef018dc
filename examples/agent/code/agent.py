"""An agent that audits packages and stores its findings in tables that it creates while it runs.

Plain rules stand in for the decisions of a language model.
"""

import warnings
from dataclasses import dataclass

import pandas as pd

from tablevault import TableVault, TableVaultWarning

GOOD_ENOUGH = 0.5  # the documented share of the functions of a file

FILES_INDEX = """
builder_type: IndexBuilder
changed_columns: [file]
python_function: list_files
code_module: inspection
is_custom: true
return_type: generator
arguments: {{package: {package}}}
primary_key: [file]
"""
FILES_COUNTS = """
builder_type: ColumnBuilder
changed_columns: [lines, documented]
python_function: inspect_file
code_module: inspection
is_custom: true
return_type: row-wise
arguments: {file: "<<self.file[index]>>"}
dtypes: {lines: Int64, documented: Float64}
"""
GAPS_INDEX = """
builder_type: IndexBuilder
changed_columns: [function]
python_function: list_undocumented
code_module: inspection
is_custom: true
return_type: generator
arguments: {{file: {file}}}
"""


@dataclass(frozen=True)
class Workbench:
    """The vault, as the agent uses it for one row."""

    vault: TableVault
    task: str
    """The process and the row; prefix of the process ids of all steps."""

    def make(self, table: str, builders: dict[str, str]) -> tuple[pd.DataFrame, str]:
        """Create a table or a new instance of it; finished steps are no-ops."""
        steps = f"{self.task}.{table}"
        with warnings.catch_warnings():
            # A finished step is a no-op with a warning.
            warnings.simplefilter("ignore", TableVaultWarning)
            if table not in self.vault.get_tables():
                self.vault.create_table(table, process_id=f"{steps}.table")
            self.vault.create_instance(table, copy=True, builders=builders, process_id=f"{steps}.instance")
            self.vault.execute_instance(table, process_id=f"{steps}.rows")
        return self.vault.get_dataframe(table)


def audit(package: str, process_id: str, db_dir: str) -> tuple[str, list[str]]:
    """Return a verdict on a package, and the instances that it is based on."""
    vault = TableVault(db_dir, author="agent", parent_id=process_id)
    bench, name = Workbench(vault, f"{process_id}.{package}"), package.replace(".", "-")
    index = {f"files_{name}_index": FILES_INDEX.format(package=package), "counts": FILES_COUNTS}
    files, evidence = bench.make(f"files_{name}", index)
    verdict = f"{len(files)} files, {files['lines'].sum()} lines"
    worst = files.loc[files["documented"].idxmin()]
    if worst["documented"] >= GOOD_ENOUGH:
        return f"{verdict}, well documented", [evidence]
    # Inspect the file with the fewest docstrings, in another table.
    gaps, more_evidence = bench.make(f"gaps_{name}", {f"gaps_{name}_index": GAPS_INDEX.format(file=worst["file"])})
    return f"{verdict}; {len(gaps)} functions of {worst['file']} are undocumented", [evidence, more_evidence]
