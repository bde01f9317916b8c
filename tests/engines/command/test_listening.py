"""Who has which port."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from bercail.core.errors import EngineError
from bercail.engines.command.listening import free_port, is_taken, parse_listeners, who_listens

TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12345 1 0000 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 777 1 0000 20 4 30 10 -1
   2: 00000000:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 999 1 0000 100 0 0 10 0
   3: nonsense
"""


@pytest.mark.parametrize(("port", "inodes"), [(8080, {12345}), (8081, {999}), (50_000, set())])
def test_listeners_are_read_and_connections_are_none(port: int, inodes: set[int]) -> None:
    assert parse_listeners(TCP, port) == inodes


def recorded(root: Path) -> Path:
    net, process = root / "proc" / "net", root / "proc" / "4321"
    net.mkdir(parents=True)
    (net / "tcp").write_text(TCP)
    (process / "fd").mkdir(parents=True)
    (process / "fd" / "7").symlink_to("socket:[12345]")
    (process / "cmdline").write_bytes(b"/usr/bin/llama-server\0--port\x008080\0")
    (root / "proc" / "99").mkdir()
    return root


def test_a_listener_is_named_as_far_as_the_system_tells(tmp_path: Path) -> None:
    root = recorded(tmp_path)
    assert who_listens(8080, fsroot=root) == "llama-server (pid 4321)"
    assert who_listens(8081, fsroot=root) == "a process of another user"
    assert who_listens(8082, fsroot=root) == ""
    assert who_listens(8080, fsroot=tmp_path / "none") == ""


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_port_that_somebody_has_is_passed_over(family: socket.AddressFamily) -> None:
    with socket.socket(family) as plug:
        try:
            plug.bind(("::1" if family is socket.AF_INET6 else "127.0.0.1", 0))
        except OSError:
            pytest.skip("this machine has no such loopback")
        plug.listen()
        port = plug.getsockname()[1]
        found = free_port(port)
        assert found > port
        assert free_port(found, held={found}) > found
        assert f"(pid {os.getpid()})" in who_listens(port)
        assert asyncio.run(is_taken(plug.getsockname()[0], port))
    assert free_port(port) == port
    assert not asyncio.run(is_taken("127.0.0.1", port))


def test_any_port_will_do_if_none_is_preferred() -> None:
    assert free_port(None) > 1023


def test_a_port_that_was_promised_is_not_given_to_another() -> None:
    asked: list[int] = []

    class Promised(set[int]):
        def __contains__(self, port: object) -> bool:
            asked.append(int(str(port)))
            return len(asked) == 1

    assert free_port(None, Promised()) == asked[1]


def test_no_port_left_is_an_error() -> None:
    with pytest.raises(EngineError, match="no port from 65535 on is free"):
        free_port(65_535, held={65_535})
