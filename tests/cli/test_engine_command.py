import pytest

from bercail.cli.engine import told_if_stopped


def test_ctrl_c_during_a_build_says_that_what_is_done_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), told_if_stopped():
        raise KeyboardInterrupt
    told = capsys.readouterr()
    assert told.err == "stopped: what is done is kept, and the same command goes on from there\n"
    assert not told.out
