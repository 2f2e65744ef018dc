"""Reuse gives the same frame as a full computation, after any changes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from counted_desk import ASK, CITY, LENGTH, SHOUT, Desk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NAMES = st.lists(st.sampled_from(["ann", "bob", "cleo", "dan", "eve"]), min_size=1, max_size=5, unique=True)
EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("people"), NAMES, st.sampled_from(["x", "y"])),
        st.tuples(st.just("prompt"), st.sampled_from(["Who is", "Where is"])),
        st.tuples(st.just("suffix"), st.sampled_from(["?", "!"])),
        st.tuples(st.just("case"), st.sampled_from(["upper", "title"])),
        st.tuples(st.just("comment"), st.integers(0, 9)),
    ),
    min_size=1,
    max_size=3,
)


def apply(desk: Desk, edit: tuple) -> dict[str, str] | None:
    """Make one edit; return builder files that it changes."""
    match edit:
        case ("people", names, city):
            desk.people(names, [f"{name}-{city}" for name in names])
        case ("prompt", prompt):
            return {"ask": ASK.format(prompt=prompt)}
        case ("suffix", mark):
            desk.write_code(
                desk.code.replace('text + "?"', f'text + "{mark}"').replace('text + "!"', f'text + "{mark}"')
            )
        case ("case", method):
            desk.write_code(
                desk.code.replace("text.upper()", f"text.{method}()").replace("text.title()", f"text.{method}()")
            )
        case ("comment", number):
            desk.write_code(desk.code + f"\n# {number}\n")
    return None


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(edits=EDITS, key=st.sampled_from(["[name]", "[]"]), keep_old=st.sampled_from(["true", "false"]))
def test_a_sequence_of_edits_gives_the_same_frame_as_computing_everything(
    edits: list[tuple], key: str, keep_old: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        desk = Desk(Path(folder))
        builders = {"ask": ASK.format(prompt="Who is"), "shout": SHOUT, "length": LENGTH, "city": CITY}
        desk.first(builders, key=key, keep_old=keep_old)
        for edit in edits:
            changed = apply(desk, edit)
            desk.vault.create_instance("answers", version="forced", copy=True, origin_id="", builders=changed)
            desk.vault.execute_instance("answers", version="forced", force_execute=True)
            forced = desk.vault.get_dataframe("answers", version="forced")[0]
            newest = desk.vault.get_table_instances("answers")[-1]
            desk.vault.create_instance("answers", origin_id=newest, builders=changed)
            desk.run()
            assert desk.frame().equals(forced), edit
