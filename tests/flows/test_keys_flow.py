import pytest

from bercail.core.access import Key, KeyWish, digest
from bercail.core.activity import Grouping, Total
from bercail.core.errors import NotFoundError, UsageError
from bercail.flows import create, revoke, usage
from fakes.house import Fakes

NOW_S = 1_800_000_000.0


def make(fakes: Fakes, name: str, number: int = 1, **facts: object) -> Key:
    wish = KeyWish(name=name, **facts)  # type: ignore[arg-type] # a test names what it sets
    return create(fakes.house(), wish, wall_s=NOW_S, secret=bytes([number]) * 36)[0]


def test_a_new_key_is_kept_without_its_text() -> None:
    fakes = Fakes()
    key, token = create(fakes.house(), KeyWish(name=" me "), wall_s=NOW_S, secret=bytes(range(36)))
    assert fakes.keyring.held == {key.id: key}
    assert (key.name, key.created_s, key.hash) == ("me", NOW_S, digest(token))
    assert token not in repr(key)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\x1b[1m"])
def test_a_key_needs_a_name_that_can_be_printed(name: str) -> None:
    with pytest.raises(UsageError, match="printed"):
        make(Fakes(), name)


def test_two_keys_in_force_never_share_a_name() -> None:
    fakes = Fakes()
    make(fakes, "me", 1, expires_s=NOW_S + 5)
    with pytest.raises(UsageError, match="called 'me' already"):
        make(fakes, "me", 2)
    make(fakes, "you", 2)
    revoke(fakes.house(), "me", wall_s=NOW_S)
    assert make(fakes, "me", 3).id == "03030303"


def test_a_key_is_revoked_by_id_or_by_name_and_those_left_are_counted() -> None:
    fakes = Fakes()
    one, two = make(fakes, "one", 1), make(fakes, "two", 2)
    done = revoke(fakes.house(), one.id, wall_s=NOW_S)
    assert (done.key.revoked_s, done.before, done.left) == (NOW_S, False, 1)
    done = revoke(fakes.house(), "two", wall_s=NOW_S)
    assert (done.key.id, done.left) == (two.id, 0)
    assert revoke(fakes.house(), "two", wall_s=NOW_S + 9).before
    assert (fakes.keyring.held or {})[two.id].revoked_s == NOW_S


def test_of_keys_of_one_name_the_one_in_force_is_meant() -> None:
    fakes = Fakes()
    make(fakes, "me", 1)
    revoke(fakes.house(), "me", wall_s=NOW_S)
    make(fakes, "me", 2)
    assert revoke(fakes.house(), "me", wall_s=NOW_S).key.id == "02020202"


def test_a_key_that_is_not_there_is_an_error_that_names_the_nearest() -> None:
    fakes = Fakes()
    with pytest.raises(NotFoundError, match="bercail keys list"):
        revoke(fakes.house(), "laptop", wall_s=NOW_S)
    make(fakes, "laptop")
    with pytest.raises(NotFoundError, match="did you mean laptop"):
        revoke(fakes.house(), "labtop", wall_s=NOW_S)


def a_total(name: str) -> Total:
    return Total(
        name=name, requests=1, failed=0, prompt_tokens=1, cached_tokens=0, generated_tokens=1, ttft_s=None,
        decode_tokens_per_s=None,
    )  # fmt: skip


def test_usage_by_key_tells_names() -> None:
    fakes = Fakes()
    make(fakes, "me", 1)
    fakes.ledger.sums = (a_total("01010101"), a_total("gone"), a_total(""))
    found = usage(fakes.house(), Grouping.KEY, days=2, wall_s=NOW_S)
    assert [total.name for total in found] == ["01010101 me", "gone", ""]
    assert fakes.ledger.asked == [(Grouping.KEY, NOW_S - 172_800)]


def test_usage_by_model_is_as_recorded() -> None:
    fakes = Fakes()
    fakes.ledger.sums = (a_total("tiny"),)
    assert usage(fakes.house(), Grouping.MODEL, days=1, wall_s=NOW_S) == fakes.ledger.sums
    assert usage(Fakes().house(), Grouping.KEY, days=1, wall_s=NOW_S) == ()
