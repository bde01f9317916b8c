"""What clients can expect of all models together."""

from bercail.core.route import Phase, ServedModel, nothing_served


def served(name: str, phase: Phase, error: str = "") -> ServedModel:
    return ServedModel(id=name, phase=phase, created=0, file_bytes=0, error=error)


def test_that_nothing_can_be_loaded_is_told_with_every_reason() -> None:
    failed = [served(name, Phase.FAILED, f"no file {name}") for name in "abcdef"]
    assert nothing_served(failed[:2]) == (
        "NONE OF 2 MODELS CAN BE LOADED, so every request will fail: a: no file a; b: no file b"
    )
    assert nothing_served(failed).endswith("d: no file d; and 2 more")
    assert nothing_served(failed[:1]).startswith("THE ONLY MODEL CANNOT BE LOADED")


def test_one_that_may_be_loaded_is_enough_and_none_at_all_are_told_elsewhere() -> None:
    assert nothing_served([served("a", Phase.FAILED, "x"), served("b", Phase.UNLOADED)]) == ""
    assert nothing_served([]) == ""
