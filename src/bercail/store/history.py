"""What is looked up in the database of requests: a page of them, and their sums."""

import sqlite3
from collections.abc import Sequence
from dataclasses import fields
from math import ceil
from typing import Any

from bercail.core.activity import Entry
from bercail.core.history import Column, Page, Row, Spread, Tally, Wish, bins_for

COLUMNS = tuple(item.name for item in fields(Entry))
EMPTY = Tally(requests=0, prompt_tokens=0, cached_tokens=0, generated_tokens=0, prefill=None, decode=None)

_SORTS = {
    Column.ID: "id",
    Column.TIME: "ended_s",
    Column.MODEL: "model",
    Column.PATH: "path",
    Column.STATUS: "status",
    Column.CONTENT_TYPE: "content_type",
    Column.CACHED: "cached_tokens",
    Column.PROMPT: "prompt_tokens",
    Column.GENERATED: "generated_tokens",
    Column.DRAFTED: "drafted_tokens",
    Column.PROMPT_SPEED: "prefill_tokens_per_s",
    Column.GENERATION_SPEED: "decode_tokens_per_s",
    Column.DURATION: "total_s",
}
_BOUNDS = (("start_s", "ended_s >= ?"), ("end_s", "ended_s <= ?"), ("min_id", "id >= ?"), ("max_id", "id <= ?"))

# Names of columns and signs stand in the queries, never what somebody asked.
# ruff: noqa: S608


def read_page(database: sqlite3.Connection, wish: Wish) -> Page:
    """The requests that meet a wish; those that are alike follow by their numbers."""
    where, values = _conditions(wish)
    [(total,)] = database.execute(f"SELECT count(*) FROM activity {where}", values).fetchall()
    order = "DESC" if wish.descending else "ASC"
    found = database.execute(
        f"SELECT id, {', '.join(COLUMNS)} FROM activity {where} ORDER BY {_SORTS[wish.sort]} {order}, id {order}"
        " LIMIT ? OFFSET ?",
        (*values, wish.limit, min((wish.page - 1) * wish.limit, total)),
    )
    return Page(rows=tuple(Row(id=number, entry=_entry(told)) for number, *told in found), total=total)


def _conditions(wish: Wish) -> tuple[str, tuple[Any, ...]]:
    """What follows WHERE, and the values in it."""
    bounds = [(text, value) for name, text in _BOUNDS if (value := getattr(wish, name)) is not None]
    parts = [text for text, _ in bounds]
    if wish.models:
        parts.append(f"model IN ({', '.join('?' * len(wish.models))})")
    where = f"WHERE {' AND '.join(parts)}" if parts else ""
    return where, (*(value for _, value in bounds), *wish.models)


def _entry(told: Sequence[Any]) -> Entry:
    found = dict(zip(COLUMNS, told, strict=True))
    return Entry(**found | {"aborted": bool(found["aborted"])})


def read_tally(database: sqlite3.Connection, model: str) -> Tally:
    """Sums of all requests, or of those of one model."""
    where, values = ("WHERE model = ?", (model,)) if model else ("WHERE 1", ())
    [(requests, *tokens)] = database.execute(
        f"SELECT count(*), total(prompt_tokens), total(cached_tokens), total(generated_tokens) FROM activity {where}",
        values,
    )
    prompt, cached, generated = map(int, tokens)
    return Tally(
        requests=requests, prompt_tokens=prompt, cached_tokens=cached, generated_tokens=generated,
        prefill=_spread(database, "prefill_tokens_per_s", where, values),
        decode=_spread(database, "decode_tokens_per_s", where, values),
    )  # fmt: skip


def _spread(database: sqlite3.Connection, column: str, where: str, values: tuple[str, ...]) -> Spread | None:
    """How a column is spread; counted by the database, so that a long record takes no memory here."""
    known = f"FROM activity {where} AND {column} IS NOT NULL"
    [(count, least, most)] = database.execute(f"SELECT count(*), min({column}), max({column}) {known}", values)
    if not count:
        return None
    bins = [0] * bins_for(count)
    width = (most - least) / len(bins) or 1.0
    place = f"min(CAST(({column} - ?) / ? AS INTEGER), ?)"
    for number, held in database.execute(
        f"SELECT {place}, count(*) {known} GROUP BY 1", (least, width, len(bins) - 1, *values)
    ):
        bins[number] = held

    def at(share: float) -> float:
        rank = ceil(share * count) - 1
        query = f"SELECT {column} {known} ORDER BY {column} LIMIT 1 OFFSET ?"
        return float(database.execute(query, (*values, rank)).fetchone()[0])

    return Spread(bins=tuple(bins), least=least, most=most, p50=at(0.5), p95=at(0.95), p99=at(0.99))
