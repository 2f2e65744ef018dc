"""Random graphs of tables.

States predict executions, and steps are in order.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab import Lab, builder, column, copied, shouted, words

from tablevault import tv_errors
from tablevault.freshness.graph import DependencyGraph, Node, TableVersion

NAMES = "abcdef"
RANDOM_GRAPHS = int(os.environ.get("RANDOM_GRAPHS", "6"))
"""More of them with `make test-slow RANDOM_GRAPHS=20`."""


@st.composite
def graphs(draw) -> dict[str, set[str]]:
    """Tables, each with those that it reads."""
    names = NAMES[: draw(st.integers(1, 6))]
    return {name: draw(st.sets(st.sampled_from(names), max_size=3)) - {name} for name in names}


def graph_of(reads: dict[str, set[str]]) -> DependencyGraph:
    keys = {name: TableVersion(name, "base") for name in reads}

    class Document:
        def place(self, *path: object) -> str:
            return "x.yaml, line 1"

    def node(name: str) -> Node:
        return Node(keys[name], None, None, inputs={keys[other]: (Document(), ()) for other in reads[name]})

    return DependencyGraph("base", {keys[name]: node(name) for name in reads})


def ordered(reads: dict[str, set[str]]) -> list[str] | None:
    """Return the names in topological order.

    Of several candidates, the first is chosen; returns `None` for a cycle.
    """
    done: list[str] = []
    while len(done) < len(reads):
        ready = [name for name in sorted(reads) if name not in done and reads[name] <= set(done)]
        if not ready:
            return None
        done.append(ready[0])
    return done


@given(graphs())
@settings(max_examples=300, deadline=None)
def test_order_is_topological_and_names_decide_ties(reads):
    graph, expected = graph_of(reads), ordered(reads)
    if expected is not None:
        assert [key.table_name for key in graph.ordered(list(graph.nodes))] == expected
        return
    with pytest.raises(tv_errors.TVBuilderError) as caught:
        graph.ordered(list(graph.nodes))
    path = str(caught.value).partition("cycle: ")[2].partition(" (")[0].replace("'", "").split(" reads ")
    assert path[0] == path[-1] == min(path)
    assert all(after in reads[before] for before, after in pairwise(path))


@given(graphs(), st.sampled_from(NAMES))
@settings(max_examples=200, deadline=None)
def test_upstream_and_downstream_are_each_others_inverse(reads, name):
    graph = graph_of(reads)
    keys = {key.table_name: key for key in graph.nodes}
    for other in keys.values():
        for key in keys.values():
            assert (other in graph.upstream([key])) == (key in graph.downstream([other]))
    if name in keys:
        assert {read.table_name for read in graph.inputs(keys[name])} == reads[name]


class RandomTables:
    """Tables that read random others, changed at random."""

    def __init__(self, lab: Lab, seed: int) -> None:
        self.lab = lab
        self.random = random.Random(seed)
        self.names = list(NAMES[: self.random.randint(3, 5)])
        self.endings = 0
        for place, name in enumerate(self.names):
            before = self.names[:place]
            self.lab.table(name, {**self.rows(name, before), **shouted(), **self.reading(before)}, execute=False)
        self.refresh()

    def rows(self, name: str, before: Sequence[str] = ()) -> dict[str, str]:
        """Return a random IndexBuilder.

        It has its own words or those of another table, or is called for each of these.
        """
        other = self.random.choice([None, *before])
        if other is None:
            return words(name, *self.random.sample(["x", "y", "zw"], self.random.randint(1, 3)))
        if self.random.random() < 0.5:
            return copied(name, other)
        arguments = {"word": f"<<{other}.word[index]>>"}
        fields = {"return_type": "row-wise", "for_each": other}
        return {f"{name}_index": builder("IndexBuilder", ["word"], "lab.split", arguments, **fields)}

    def reading(self, before: list[str]) -> dict[str, str]:
        columns: dict[str, str] = {}
        for other in self.random.sample(before, min(len(before), self.random.randint(0, 2))):
            part = self.random.choice(["loud[word::<<self.word[index]>>]", "loud"])
            columns |= column(f"from_{other}", "lab.joined", {"words": f"<<{other}.{part}>>", "word": "w"})
        return columns

    def change(self) -> None:
        """Change something, somewhere."""
        name = self.random.choice(self.names)
        vault = self.lab.vault
        if "TEMP_base" in vault.get_table_instances(name, include_temp=True):
            vault.delete_instance("TEMP_base", name)
        match self.random.randrange(5):
            case 0:
                self.lab.edit(name, self.rows(name))
            case 1:
                self.lab.again(name, self.rows(name))
            case 2:
                self.endings += 1
                self.lab.edit_code(("word.upper()", f"word.upper() + '!' * {self.endings % 3}"))
            case 3:
                self.lab.again(name, column("more", "lab.each", {"word": str(self.random.randrange(3))}))
            case 4:
                vault.create_instance(name, copy=True)

    def execute(self, name: str) -> tuple[bool, int]:
        """Execute a table as a refresh does.

        Returns whether it made an instance, and the number of calls.
        """
        vault = self.lab.vault
        before = vault.get_table_instances(name)
        if "TEMP_base" not in vault.get_table_instances(name, include_temp=True):
            vault.create_instance(name, copy=True)
        self.lab.calls  # noqa: B018
        vault.execute_instance(name, skip_unchanged=True)
        return vault.get_table_instances(name) != before, len(self.lab.calls)

    def refresh(self) -> None:
        """Execute all tables, and compare what they do with what their states and the plan say."""
        states = self.lab.states()
        steps = self.lab.vault.plan_refresh().steps
        for step in steps:
            name, state = step.table_name, states[step.table_name]
            assert step.action == {"fresh": "skip", "never": "execute", "pending": "execute"}.get(state, step.action)
            makes, calls = self.execute(name)
            if state == "fresh":
                assert not makes
                assert not calls
            if step.computed is not None:
                assert calls == step.computed
            if step.action == "look":
                assert any(reason.startswith("`") for reason in step.reasons)
        assert set(self.lab.states().values()) == {"fresh"}

    def refresh_at_once(self) -> None:
        """Refresh all tables in one operation.

        It makes the planned calls, and none the second time.
        """
        known = [step.computed for step in self.lab.vault.plan_refresh().steps]
        self.lab.calls  # noqa: B018
        self.lab.vault.refresh()
        calls = len(self.lab.calls)
        assert calls >= sum(count or 0 for count in known)
        assert None in known or calls == sum(known)
        before = [self.lab.vault.get_table_instances(name) for name in self.names]
        assert set(self.lab.states().values()) == {"fresh"}
        self.lab.vault.refresh()
        assert self.lab.calls == []
        assert [self.lab.vault.get_table_instances(name) for name in self.names] == before


def check_random_tables(lab: Lab, seed: int, changes: int) -> None:
    tables = RandomTables(lab, seed)
    for _ in range(changes):
        for _ in range(tables.random.randint(1, 2)):
            tables.change()
        tables.random.choice([tables.refresh, tables.refresh_at_once])()


@pytest.mark.parametrize("seed", range(2))
def test_states_predict_executions(lab, seed):
    check_random_tables(lab, seed, changes=2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 100 + RANDOM_GRAPHS))
def test_states_predict_executions_in_many_rounds(lab, seed):
    check_random_tables(lab, seed, changes=10)
