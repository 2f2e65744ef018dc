"""Every method has exactly the parameters and defaults that are documented, and nothing else is public."""

from __future__ import annotations

import inspect

import pytest

import tablevault
from tablevault import TableVault

EMPTY = inspect.Parameter.empty

SIGNATURES = {
    "__init__": "db_dir, author='', description='', create=False, restart=False, verbose=False, parent_id='', *, "
    "lock_timeout=5.0, catalog_url=None, exist_ok=False, ray=None",
    "create_table": "table_name, allow_multiple_artifacts=False, has_side_effects=False, description='', "
    "process_id='', *, exist_ok=False",
    "make_table": "table_name, allow_multiple_artifacts=False, has_side_effects=False, description='', "
    "process_id='', *, exist_ok=False",
    "write": "table_name, frame, *, version='base', primary_key=None, dtypes=None, dependencies=None, "
    "description='', skip_unchanged=True, process_id=''",
    "create_instance": "table_name, version='base', origin_id='', origin_table='', external_edit=False, copy=False, "
    "builders=None, *, process_id='', description=''",
    "apply": "source, *, version='base', overwrite=False, process_id=''",
    "plan_apply": "source, *, version='base', overwrite=False",
    "create_tag": "tag, instances=None, *, version='base', move=False, description='', process_id=''",
    "delete_tag": "tag, table_names=None, *, process_id=''",
    "get_tags": "table_name=''",
    "create_code_module": "module_name='', copy_dir='', text='', process_id=''",
    "create_builder_file": "table_name, builder_name='', version='base', copy_dir='', text='', process_id=''",
    "write_instance": "table_df, table_name, version='base', dependencies=None, dtypes=None, process_id=''",
    "execute_instance": "table_name, version='base', force_execute=False, process_id='', background=False, "
    "reuse_partial=False, *, policies=None, budget=None, skip_unchanged=False",
    "retry_failed": "table_name, instance_id='', version='base', process_id='', background=False, *, policies=None, "
    "budget=None",
    "rename_table": "new_table_name, table_name, process_id=''",
    "delete_table": "table_name, process_id=''",
    "delete_instance": "instance_id, table_name, process_id=''",
    "delete_code_module": "module_name, process_id=''",
    "delete_builder_file": "builder_name, table_name, version='base', process_id=''",
    "generate_process_id": "",
    "get_dataframe": "table_name, instance_id='', version='base', active_only=True, successful_only=False, rows=None, "
    "full_artifact_path=True, *, columns=None, format='pandas', failed='null', offset=0, as_of=None",
    "scan": "table_name, instance_id='', version='base', *, active_only=True, successful_only=False, as_of=None, "
    "columns=None, format='polars', full_artifact_path=True, check_content=True",
    "get_frame_path": "table_name, instance_id='', version='base', *, check_content=True",
    "query": "sql, parameters=None, *, as_of=None, frames=None, format='pandas', rows=None, timeout=None, "
    "memory_limit='', full_artifact_path=False, check_content=True",
    "connect": "tables=None, *, as_of=None, full_artifact_path=False, check_content=True",
    "get_errors": "table_name='', instance_id='', version='base', process_id='', *, format='pandas'",
    "get_usage": "table_name='', instance_id='', version='base', process_id='', *, format='pandas'",
    "read": "address, *, columns=None, rows=None, as_of=None, format='pandas'",
    "get_tables": "",
    "get_table_instances": "table_name='', version='base', include_temp=False, *, as_of=None",
    "get_active_processes": "",
    "get_process": "process_id",
    "get_process_completion": "process_id",
    "wait_process": "process_id, timeout=None",
    "get_descriptions": "instance_id='', table_name=''",
    "get_lineage": "table_name, instance_id='', column=''",
    "diff_instances": "table_name, before='', after='', *, after_table='', on=None, columns=None, why=True",
    "export_table": "table_name, target, instance_id='', version='base', *, format='', columns=None, "
    "embed_artifacts=False, license='', overwrite=False",
    "export_vault": "target, addresses, *, inputs='provenance', overwrite=False",
    "import_instances": "source, tables=None, *, process_id=''",
    "plan_gc": "*, keep_last=None, keep_within=None, keep_daily=None, keep_weekly=None, keep_monthly=None, "
    "table_name='', version='', keep_inputs=True, leftovers=True, worker_logs_older_than=None",
    "gc": "plan, *, process_id=''",
    "trace_cell": "table_name, row, column, instance_id='', version='base'",
    "get_artifact_folder": "table_name, instance_id='', version='base', is_temp=True",
    "get_builders_list": "table_name, instance_id='', version='base', is_temp=True",
    "get_builder_str": "table_name, builder_name='', instance_id='', version='base', is_temp=True",
    "get_code_modules_list": "",
    "get_code_module_str": "module_name",
    "get_file_tree": "instance_id='', table_name='', code_files=True, builder_files=True, metadata_files=False, "
    "artifact_files=False",
    "plan_instance": "table_name, version='base', force_execute=False, *, run_index=False",
    "get_status": "table_names=None, *, version='base', run_index=False",
    "plan_refresh": "table_names=None, *, version='base', upstream=True, downstream=False, run_index=False",
    "refresh": "table_names=None, *, version='base', upstream=True, downstream=False, keep_going=False, "
    "process_id='', background=False, policies=None, budget=None",
    "run": "source, *, version='base', process_id='', background=False, policies=None, budget=None",
    "set_service": "name, limits",
    "get_services": "",
    "verify": "repair=False",
    "serve": "port=0, *, host='127.0.0.1', allow_writes=False, allow_hosts=(), open_browser=False, block=True",
    "show": "table_name, instance_id='', version='base', *, rows=20, offset=0, columns=None",
    "watch": "process_id",
    "get_history": "table_name='', author='', operation='', status='', limit=100",
}


def signature_of(method):
    parameters = list(inspect.signature(method).parameters.values())[1:]
    plain = [parameter.replace(annotation=EMPTY) for parameter in parameters]
    return str(inspect.Signature(plain)).removeprefix("(").removesuffix(")").replace('"', "'")


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_method_has_its_documented_parameters_and_defaults(name):
    assert signature_of(getattr(TableVault, name)) == SIGNATURES[name]


def test_stop_process_takes_the_documented_parameters():
    parameters = inspect.signature(TableVault.stop_process).parameters
    assert list(parameters)[1:4] == ["process_id", "force", "materialize"]
    assert (parameters["force"].default, parameters["materialize"].default) == (False, False)
    assert parameters["timeout"].default == 5.0
    assert parameters["timeout"].kind is inspect.Parameter.KEYWORD_ONLY


def test_nothing_else_is_public():
    public = {name for name, value in vars(TableVault).items() if callable(value) and not name.startswith("_")}
    assert public == (set(SIGNATURES) - {"__init__"}) | {"stop_process"}


def test_every_method_and_parameter_is_typed():
    for name in [*SIGNATURES, "stop_process"]:
        signature = inspect.signature(getattr(TableVault, name))
        assert signature.return_annotation is not EMPTY, name
        untyped = [item.name for item in signature.parameters.values() if item.annotation is EMPTY]
        assert untyped == ["self"], name


def test_the_documented_names_are_exported():
    for name in [
        "TableVault",
        "tv_errors",
        "__version__",
        "TableVaultError",
        "TVArgumentError",
        "TVLockError",
        "TVProcessError",
        "TVBuilderError",
        "TVTableError",
        "TVArtifactError",
        "TVFileError",
        "TVForcedError",
        "TVImplementationError",
        "TableReferenceError",
        "TableVaultWarning",
        "ProcessInfo",
        "ErrorInfo",
        "OwnerInfo",
        "BuilderProgress",
        "InstancePlan",
        "TableStatus",
        "TagInfo",
        "InstanceDiff",
        "ColumnDiff",
        "RowCounts",
        "DefinitionDiff",
        "BuilderDiff",
        "ChangedCell",
        "CellTrace",
        "GcPlan",
        "GcGroup",
        "GcItem",
        "ComputedIn",
        "RefreshPlan",
        "RefreshStep",
        "BuilderPlan",
        "Lineage",
        "VerifyReport",
        "Problem",
    ]:
        assert name in dir(tablevault), name
        assert getattr(tablevault, name) is not None
