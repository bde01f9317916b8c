"""What a reload does not take is told by its key."""

from bercail.core.configuration import Configuration, Gateway, Loaded
from bercail.core.later import later, set_for_later
from bercail.core.options import EngineOptions, ServerOptions, Settings

BEGAN = Loaded(settings=Settings(server=ServerOptions(port=1, queue=5), engine=EngineOptions(slots=2)))


def test_every_setting_that_is_another_than_at_the_start_waits() -> None:
    now = Loaded(
        settings=Settings(server=ServerOptions(port=2, queue=9, max_wait=1), engine=EngineOptions(context=512)),
        configuration=Configuration(gateway=Gateway(log_time="kitchen", log_level="warn", log_output="both")),
    )
    assert later(BEGAN, now) == (
        "server.port", "engine.context", "engine.slots", "logLevel", "logTimeFormat", "logToStdout",
    )  # fmt: skip


def test_what_counts_at_once_or_is_as_it_was_does_not_wait() -> None:
    now = Loaded(
        settings=BEGAN.settings, configuration=Configuration(gateway=Gateway(api_keys=("k",), aliases_listed=True))
    )
    assert later(BEGAN, now) == ()


def test_what_a_file_sets_is_what_differs_from_the_usual() -> None:
    assert set_for_later(BEGAN) == ("server.port", "engine.slots")
    assert set_for_later(Loaded()) == ()
