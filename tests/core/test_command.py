"""Programs that end in an HTTP server."""

from bercail.core.command import CommandSpec


def test_the_port_goes_wherever_it_is_named() -> None:
    spec = CommandSpec(
        model_id="images",
        argv=("sd-server", "--listen", "127.0.0.1:${PORT}", "--name=${PORT}-${PORT}"),
        stop_argv=("kill-it", "${PID}", "${PORT}"),
        environment={"WHERE": "http://here:${PORT}"},
    )
    assert spec.takes_port
    placed = spec.at(5801)
    assert placed.argv == ("sd-server", "--listen", "127.0.0.1:5801", "--name=5801-5801")
    assert placed.stop_argv == ("kill-it", "${PID}", "5801")
    assert placed.url == "http://localhost:5801"
    assert placed.environment == {"WHERE": "http://here:5801"}
    assert placed.port == 5801
    assert not placed.takes_port


def test_a_server_elsewhere_needs_no_port() -> None:
    assert not CommandSpec(model_id="peer", url="https://models.example/api").takes_port


def test_a_command_that_ends_a_container_outlives_the_process_and_one_that_speaks_to_the_process_does_not() -> None:
    assert CommandSpec(model_id="m", stop_argv=("docker", "stop", "m")).cleanup_argv == ("docker", "stop", "m")
    assert CommandSpec(model_id="m", stop_argv=("kill", "-INT", "${PID}")).cleanup_argv == ()
    assert CommandSpec(model_id="m").cleanup_argv == ()


def test_a_key_is_not_in_what_is_printed() -> None:
    spec = CommandSpec(model_id="m", headers=(("authorization", "Bearer sesame"),), environment={"TOKEN": "sesame"})
    assert "sesame" not in repr(spec)
