"""Templates of new builder files and code modules."""

from __future__ import annotations

from tablevault.names import index_builder_name

_FIELDS = """\
python_function: {function}   # a function of the module, by its name
code_module: {module}   # the module, without .py
is_custom: {is_custom}   # true: a module of this vault; false: a built-in module
"""

_INDEX = """\
# The IndexBuilder of the table {table}, which creates the table's rows.
builder_type: IndexBuilder
changed_columns: [name]   # the columns it produces, in the order in which the function returns them
{fields}
return_type: dataframe   # dataframe (all rows at once), generator (row by row) or row-wise (once per row of the origin)
# for_each: documents   # with row-wise: called once per row of another table; returns a list of rows

# Arguments of the function: plain values, references, or the placeholders
# ~ARTIFACT_FOLDER~, ~PROCESS_ID~ and ~ENV:NAME~ (an environment variable, never recorded).
arguments:
  vals: [first, second, third]
  # stories: '<<stories.title>>'   # a column of another table, as a frame; keep the quotes

# All fields below are optional.
# primary_key: [name]   # the columns that identify rows; default: their position
# dtypes: {{name: string}}   # pandas names, artifact_string, json, or Arrow names such as list<float32>
# keep_old: true   # keep the origin's rows that a new run does not produce
# untracked: [api_key]   # arguments that are not recorded and do not affect reuse
# dependencies: [stories.title]   # only if the references do not determine them
"""

_COLUMN = """\
# The ColumnBuilder {name}, which computes columns of existing rows.
builder_type: ColumnBuilder
changed_columns: [{column}]   # the columns it produces, in the order in which the function returns them
{fields}
return_type: row-wise   # row-wise (once per row), batch (many rows), generator (row by row) or dataframe (all at once)
# max_concurrency: 8   # how many calls may run at once
# on_error: collect   # record the errors of rows and continue
# retry: 3   # repeat calls that failed with a transient error
# timeout: 60   # seconds per call

# Arguments of the function: plain values, references, or the placeholders
# ~ARTIFACT_FOLDER~, ~PROCESS_ID~ and ~ENV:NAME~ (an environment variable, never recorded).
arguments:
  column_names: [{column}]
  # text: '<<self.text[index]>>'   # this row's text; keep the quotes
  # author: '<<authors.name[id::<<self.author_id[index]>>]>>'   # looked up in another table

# All fields below are optional.
# dtypes: {{{column}: string}}   # pandas names, artifact_string, json, or Arrow names such as list<float32>
# untracked: [api_key]   # arguments that are not recorded and do not affect reuse
# dependencies: [authors.name]   # only if the references do not determine them
"""

_MODULE = '''\
"""Code module {name}: functions that builders call.

A builder names one of them as `python_function: shout` and `code_module: {name}`, with `is_custom: true`. Its
`arguments` are passed by name. Other modules of this vault can be imported by their names.
"""


def shout(text: str) -> str:
    """Return one cell: with `return_type: row-wise`, this is called once per row."""
    return text.upper()
'''


def index_builder_template(table: str) -> str:
    """Return a new IndexBuilder file, which creates three rows with a built-in function."""
    fields = _FIELDS.format(function="create_data_table_from_list", module="table_generation", is_custom="false")
    return _INDEX.format(table=table, fields=fields.rstrip())


def column_builder_template(name: str) -> str:
    """Return a new ColumnBuilder file, which fills one column with a built-in function."""
    fields = _FIELDS.format(function="random_row_string", module="random_string", is_custom="false")
    return _COLUMN.format(name=name, column=f"'{name}'", fields=fields.rstrip())


def module_template(name: str) -> str:
    """Return the text of a new code module."""
    return _MODULE.format(name=name)


def builder_template(table_name: str, builder_name: str) -> str:
    """Return the text of a new builder file of a table."""
    if builder_name == index_builder_name(table_name):
        return index_builder_template(table_name)
    return column_builder_template(builder_name)
