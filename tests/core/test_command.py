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
