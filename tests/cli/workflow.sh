#!/usr/bin/env bash
# The whole basic workflow, as somebody would type it; $TABLEVAULT is the command. Any step that fails ends it.
set -euo pipefail
set -m  # Jobs get Ctrl-C as at a terminal.

cd "$1"
export TABLEVAULT_DIR=vault TABLEVAULT_AUTHOR=tester

tablevault() { $TABLEVAULT "$@"; }
fail() { echo "failed: $*" >&2; exit 1; }

mkdir stories_builders
cat > asking.py <<'PYTHON'
import time
from pathlib import Path

import pandas as pd


def questions():
    return pd.DataFrame({"question": [f"question {number}" for number in range(40)]})


def answer(question):
    with Path("calls.log").open("a") as log:
        log.write(question + "\n")
    time.sleep(0.001 if Path("quick").exists() else 0.1)
    return question.upper()
PYTHON
cat > stories_builders/stories_index.yaml <<'YAML'
builder_type: IndexBuilder
changed_columns: [question]
primary_key: [question]
python_function: questions
code_module: asking
is_custom: true
YAML
cat > stories_builders/stories_answer.yaml <<'YAML'
builder_type: ColumnBuilder
changed_columns: [answer]
python_function: answer
code_module: asking
is_custom: true
return_type: row-wise
arguments: {question: "<<self.question[index]>>"}
YAML

tablevault init vault --description "a vault for a test" > /dev/null
tablevault create-table stories > /dev/null
tablevault create-code-module --copy-dir asking.py > /dev/null
tablevault create-instance stories > /dev/null
tablevault create-builder-file stories --copy-dir stories_builders > /dev/null
tablevault plan-instance stories > /dev/null

# Ctrl-C in the middle pauses, and says how to go on.
$TABLEVAULT execute-instance stories --process-id answers 2> interrupted.txt &
job=$!
while ! [ -s calls.log ] || [ "$(wc -l < calls.log)" -lt 5 ]; do sleep 0.05; done
kill -INT "$job"
status=0; wait "$job" || status=$?
[ "$status" = 4 ] || fail "the exit status of a paused process was $status"
grep -q "Resume: tablevault .*execute-instance stories --process-id answers" interrupted.txt || fail "no way to resume"
grep -q "Stop:   tablevault --db-dir .*vault stop-process answers" interrupted.txt || fail "no way to stop"

# Its work is kept, its table is locked.
tablevault ps | grep -q '"state": "paused"' || fail "ps does not show it"
status=0; tablevault delete-table stories 2> locked.txt || status=$?
[ "$status" = 1 ] && grep -q answers locked.txt || fail "a locked table could be deleted"

# The same command goes on after the last finished row.
touch quick
[ "$(tablevault execute-instance stories --process-id answers)" = answers ] || fail "not resumed"
[ "$(sort -u calls.log | wc -l)" = 40 ] || fail "rows are missing"
[ "$(wc -l < calls.log)" -le 42 ] || fail "finished rows were computed again"
[ "$(tablevault ps)" = "[]" ] || fail "something is still active"

for suffix in csv parquet json; do tablevault get-dataframe stories --output "stories.$suffix" > /dev/null; done
[ "$(wc -l < stories.csv)" = 41 ] || fail "the CSV file is not complete"
tablevault log --table stories --operation execute_instance | grep -q '"state": "succeeded"' || fail "not in the log"

# A paused process can be stopped instead.
tablevault create-instance stories --copy > /dev/null
rm quick
$TABLEVAULT execute-instance stories --force --process-id again 2> /dev/null &
job=$!
lines=$(wc -l < calls.log)
while [ "$(wc -l < calls.log)" -lt $((lines + 3)) ]; do sleep 0.05; done
kill -INT "$job"
status=0; wait "$job" || status=$?
[ "$status" = 4 ] || fail "the second run ended with $status"
tablevault ps | grep -q '"state": "paused"' || fail "the second run is not paused"
tablevault stop-process again > /dev/null
[ "$(tablevault ps)" = "[]" ] || fail "not stopped"

tablevault verify > /dev/null
tablevault compress vault > /dev/null 2>&1
tablevault delete-vault vault --yes 2> /dev/null
tablevault decompress vault.tar.xz > /dev/null 2>&1
[ "$(tablevault get-table-instances --table_name stories | grep -c base_)" = 1 ] || fail "not unpacked"
echo done
