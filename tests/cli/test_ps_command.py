"""What ``bercail ps`` shows."""

from bercail.cli.ps import sections

ROW = {"model": "m", "state": "ready", "engine": "llama.cpp", "requests": 0, "waiting": 0, "slots": 4}


def test_cores_and_nodes_are_shown_where_a_model_is_kept_to_some() -> None:
    (alone,) = sections([ROW], "")
    assert alone.header[-2:] == ("slots", "context")
    assert alone.rows == (("m", "ready", "llama.cpp", "0", "0", "4", "-"),)
    kept, why = sections([ROW, {**ROW, "cores": "0-3", "cores_because": "asked"}], "")
    assert kept.header[-2:] == ("context", "cores")
    assert [row[-1] for row in kept.rows] == ["-", "0-3"]
    assert why.rows == (("m", "asked"),)
