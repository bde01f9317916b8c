import pytest

from bercail.core.launch import Address
from bercail.core.server import Server


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:8123", Address(host="127.0.0.1", port=8123)),
        ("http://[::1]:9", Address(host="::1", port=9)),
    ],
)
def test_a_server_is_asked_where_its_url_says(url: str, address: Address) -> None:
    assert Server(pid=7, url=url).address == address


@pytest.mark.parametrize("url", ["", "127.0.0.1:8123", "http://127.0.0.1", "http://h:0", "http://h:x", "http://[::1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the words are the library's
        _ = Server(pid=7, url=url).address


def test_a_server_is_told_with_the_configuration_that_was_named_to_it() -> None:
    assert str(Server(pid=7, url="http://h:1")) == "http://h:1"
    assert str(Server(pid=7, url="http://h:1", config="/c.yaml")) == "http://h:1 (/c.yaml)"
