"""``bercail keys``."""

import secrets
import time

import click

from bercail.cli.render import Style, say, show, show_json, show_sections
from bercail.core.access import ID_BYTES, SECRET_BYTES, KeyWish, Limits, Scope, format_moment, parse_expiry, read_scopes
from bercail.core.errors import UsageError
from bercail.core.key_report import keys_document, keys_section, limits_text
from bercail.core.overflow import OVERFLOWS, Overflow
from bercail.core.units import parse_tokens
from bercail.flows import create, revoke
from bercail.wiring import build_house

_CONFIG = click.option("--config", metavar="FILE", default=None, help="Settings file to read instead of the usual one.")


@click.group("keys", context_settings={"max_content_width": 110})
def command() -> None:
    """Make, list and revoke API keys.

    As soon as there is one, every request needs one (server.require_key says otherwise). A running server follows
    within a second.
    """


class _Tokens(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.5
    """Tokens, as in the settings."""

    name = "tokens"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            tokens = parse_tokens(str(value))
        except UsageError as error:
            self.fail(error.message, param, ctx)
        return tokens if tokens else self.fail("a limit is 1 or more", param, ctx)


@command.command("create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    metavar="|".join(Scope),
    help="What it opens: requests to models, lists and metrics, or all; again for more. [default: inference, models]",
)
@click.option("--models", multiple=True, metavar="PATTERN", help="Models it may use, such as 'qwen*'; again for more.")
@click.option("--tokens-per-minute", type=_Tokens(), default=None, help="Tokens within any minute.")
@click.option("--tokens-per-day", type=_Tokens(), default=None, help="Tokens within any 24 hours.")
@click.option("--concurrency", type=click.IntRange(1), default=None, help="Requests at once.")
@click.option(
    "--priority", type=click.IntRange(-9, 9), default=0, help="Whose turn is sooner: 0 is ordinary, 9 comes first."
)
@click.option(
    "--overflow", type=click.Choice(OVERFLOWS), default=None,
    help="What becomes of its prompts that are longer than the context. [default: as the model or the server says]",
)  # fmt: skip
@click.option(
    "--capture/--no-capture", default=True, help="Whether its texts may be kept where server.capture keeps texts."
)
@click.option("--expires", metavar="WHEN", default=None, help="90d, 12h, 2w, or a day such as 2027-01-31.")
@click.option("--json", "as_json", is_flag=True, help="Print bercail.keys/1, with the key itself as token.")
@_CONFIG
def create_(
    *, name: str, scopes: tuple[str, ...], models: tuple[str, ...], tokens_per_minute: int | None,
    tokens_per_day: int | None, concurrency: int | None, priority: int, overflow: str | None, expires: str | None,
    capture: bool, as_json: bool, config: str | None,
) -> int:  # fmt: skip
    """Make an API key for NAME. It is shown once, and kept nowhere.

    Tokens of limits are prompt tokens worked through and tokens generated; those found in a cache are free.
    """
    wall_s = time.time()
    house = build_house(config, {})
    first = house.keyring.keys() is None
    wish = KeyWish(
        name=name,
        scopes=read_scopes(scopes or (Scope.INFERENCE, Scope.MODELS)),
        models=models,
        limits=Limits(tokens_per_minute=tokens_per_minute, tokens_per_day=tokens_per_day, concurrency=concurrency),
        priority=priority,
        capture=capture,
        overflow=None if overflow is None else Overflow(overflow),
        expires_s=None if expires is None else parse_expiry(expires, wall_s),
    )
    key, token = create(house, wish, wall_s=wall_s, secret=secrets.token_bytes(ID_BYTES + SECRET_BYTES))
    if as_json:
        show_json(keys_document((key,), wall_s, token))
    else:
        show(token)
        until = "" if key.expires_s is None else f", until {format_moment(key.expires_s)}"
        say(f"key      {key.id}, for {key.name}: opens {', '.join(key.scopes)}; limits: {limits_text(key)}{until}")
        say("note     it is not shown again; clients send it as `Authorization: Bearer ...`")
    if first and house.settings.server.require_key == "auto":
        say("note     this is the first key: from now on every request needs one", Style.WARNING)
    if house.settings.server.require_key == "never":
        say("note     keys are not looked at: server.require_key is never", Style.WARNING)
    return 0


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print bercail.keys/1 instead of a table.")
@_CONFIG
def list_(*, as_json: bool, config: str | None) -> int:
    """List the keys, those in force first. The keys themselves are not kept, so they are not shown."""
    keys, wall_s = build_house(config, {}).keyring.keys() or {}, time.time()
    if as_json:
        show_json(keys_document(keys.values(), wall_s))
    elif keys:
        show_sections((keys_section(keys.values(), wall_s),))
    else:
        show("there is no API key; `bercail keys create NAME` makes one")
    return 0


@command.command("revoke")
@click.argument("key", metavar="ID|NAME")
@click.option("--json", "as_json", is_flag=True, help="Print bercail.keys/1: the key.")
@_CONFIG
def revoke_(*, key: str, as_json: bool, config: str | None) -> int:
    """Put a key out of force at once; answers that are running end as they would."""
    wall_s = time.time()
    house = build_house(config, {})
    done = revoke(house, key, wall_s=wall_s)
    if as_json:
        show_json(keys_document((done.key,), wall_s))
        return 0
    show(f"{done.key.id} {done.key.name}: {'was revoked already' if done.before else 'revoked'}")
    if not done.left and house.settings.server.require_key != "never":
        say(
            f"note     no key is in force now, so nobody can come in; to do without keys, delete {house.keyring.place} "
            "and start the server again",
            Style.WARNING,
        )
    return 0
