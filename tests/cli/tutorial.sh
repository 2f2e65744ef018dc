#!/usr/bin/env bash
# The whole tutorial by command line, as somebody would type it at a terminal: `bash tutorial.sh EMPTY_FOLDER`.
# $TABLEVAULT is the command, if it is not `tablevault`. Any step that fails ends it.
# Twice it waits for Ctrl-C, pressed at the terminal while rows are computed.
set -euo pipefail
trap : INT  # Ctrl-C reaches everything in the foreground; a prompt would go on after it, too.

cd "$1"
export TABLEVAULT_DIR=$PWD/vault TABLEVAULT_AUTHOR=tester

tablevault() { ${TABLEVAULT:-command tablevault} "$@"; }
fail() { echo "failed: $*" >&2; exit 1; }
calls() { if [ -e calls.log ]; then wc -l < calls.log; else echo 0; fi; }

# --- a vault, a table, code ------------------------------------------------------------------------------------------

tablevault init "$TABLEVAULT_DIR" --description "a vault for a test" > printed.txt
[ "$(cat printed.txt)" = "$TABLEVAULT_DIR" ] || fail "init did not say where the vault is"
tablevault create-table stories --description "questions with answers" > printed.txt
[ "$(wc -w < printed.txt)" = 1 ] || fail "a write printed more than its process id"
[ "$(tablevault get-process-completion "$(cat printed.txt)")" = True ] || fail "the printed id is not the process's"

cat > asking.py <<'PYTHON'
import os
import time
from pathlib import Path

import pandas as pd

FOLDER = Path(os.environ["TUTORIAL_FOLDER"])


def questions():
    count = 41 if (FOLDER / "one-more").exists() else 40
    return pd.DataFrame({"question": [f"question {number}" for number in range(count)]})


def answer(question):
    with (FOLDER / "calls.log").open("a") as log:
        log.write(question + "\n")
    time.sleep(0.001 if (FOLDER / "quick").exists() else 0.1)
    return question.upper()
PYTHON
export TUTORIAL_FOLDER=$PWD
tablevault create-code-module --copy-dir asking.py > printed.txt
tablevault get-code-module-str asking | grep -q "def answer" || fail "the module is not there"

# --- an instance and its builders ------------------------------------------------------------------------------------

tablevault create-instance stories --builder answer > printed.txt
tablevault get-builders-list stories | grep -q stories_index || fail "no template of the index builder"
tablevault get-builder-str stories --builder-name answer | grep -q builder_type || fail "no template of the builder"

mkdir builders
cat > builders/stories_index.yaml <<'YAML'
builder_type: IndexBuilder
changed_columns: [question]
primary_key: [question]
python_function: questions
code_module: asking
is_custom: true
YAML
cat > builders/answer.yaml <<'YAML'
builder_type: ColumnBuilder
changed_columns: [answer]
python_function: answr
code_module: asking
is_custom: true
return_type: row-wise
arguments: {question: "<<self.question[index]>>"}
YAML
tablevault create-builder-file stories --copy-dir builders > printed.txt

# A misspelt function is answered with the nearest right one, in one line, before anything runs.
status=0; tablevault execute-instance stories 2> said.txt || status=$?
[ "$status" = 1 ] && grep -q "did you mean 'answer'" said.txt || fail "a misspelt function: $status, $(cat said.txt)"
[ "$(wc -l < said.txt)" = 1 ] || fail "a refusal is not one line: $(cat said.txt)"
sed -i 's/answr/answer/' builders/answer.yaml
tablevault create-builder-file stories --copy-dir builders > printed.txt
tablevault plan-instance stories --json | grep -q '"answer"' || fail "no plan"

# --- executed, interrupted, looked at, resumed -----------------------------------------------------------------------

echo "Press Ctrl-C (1)"
status=0; tablevault execute-instance stories --process-id answers 2> said.txt || status=$?
[ "$status" = 4 ] || fail "the exit status of a paused process was $status: $(cat said.txt)"
grep -q "^Resume: tablevault --db-dir .* execute-instance stories --process-id answers$" said.txt || fail "no way to resume"
grep -q "^Stop:   tablevault --db-dir .* stop-process answers$" said.txt || fail "no way to stop"

# On the terminal `ps` has columns.
tablevault ps | tee printed.txt | cat
tablevault ps --json | grep -q '"state": "paused"' || fail "ps does not show it"

# Its work is kept, its table is locked.
status=0; tablevault delete-table stories 2> locked.txt || status=$?
[ "$status" = 1 ] && grep -q "paused process 'answers'" locked.txt || fail "a locked table could be deleted"

# The command that was said, as it stands, goes on after the last finished row.
touch quick
sed -n 's/^Resume: //p' said.txt > resume.sh
resumed=$(. ./resume.sh)
[ "$resumed" = answers ] || fail "not resumed"
[ "$(sort -u calls.log | wc -l)" = 40 ] || fail "rows are missing"
[ "$(calls)" -le 41 ] || fail "finished rows were computed again"
[ "$(tablevault ps)" = "[]" ] || fail "something is still active"

for suffix in csv parquet json; do tablevault get-dataframe stories --output "stories.$suffix" > printed.txt; done
[ "$(wc -l < stories.csv)" = 41 ] || fail "the CSV file is not complete"
tablevault log --table stories --operation execute-instance --state succeeded | grep -q answers || fail "not in the log"

# --- one more row costs one row --------------------------------------------------------------------------------------

touch one-more
tablevault create-instance stories --copy > printed.txt
tablevault plan-instance stories --run-index | grep -q '"reused": 40' || fail "the plan reuses nothing"
before=$(calls)
tablevault execute-instance stories > printed.txt
[ "$(calls)" = $((before + 1)) ] || fail "one new row cost $(($(calls) - before)) rows"

# --- another run, interrupted and stopped ----------------------------------------------------------------------------

rm quick
tablevault create-instance stories --copy > printed.txt
echo "Press Ctrl-C (2)"
status=0; tablevault execute-instance stories --force --process-id again 2> said.txt || status=$?
[ "$status" = 4 ] || fail "the second run ended with $status"
tablevault stop-process again > printed.txt
[ "$(tablevault ps)" = "[]" ] || fail "not stopped"

# --- the vault as a whole --------------------------------------------------------------------------------------------

tablevault verify > printed.txt || fail "verify: $(cat printed.txt)"
[ "$(tablevault compress vault)" = "Compressed → vault.tar.xz" ] || fail "not packed"
[ "$(tablevault delete-vault vault --yes)" = "Vault deleted ✔" ] || fail "not deleted"
[ ! -e vault ] || fail "still there"
[ "$(tablevault decompress vault.tar.xz)" = "Decompressed → vault/" ] || fail "not unpacked"
[ "$(tablevault get-table-instances stories | grep -c base_)" = 2 ] || fail "not all unpacked"
tablevault verify > printed.txt || fail "verify: $(cat printed.txt)"
echo "The tutorial is done."
