"""Every route there is, and those that one may have been meant for that is not."""

from collections.abc import Iterable
from functools import lru_cache

from bercail.core.alike import alike
from bercail.core.chat import ApiError, Endpoint
from bercail.web.captures import PATH as CAPTURES
from bercail.web.dialects import ROUTES
from bercail.web.performance import PATH as PERFORMANCE

LISTED = (
    "GET /v1/models",
    "GET /v1/models/{id}",
    "GET /api/v0/models",
    *(f"POST /v1/{one.value}" for one in Endpoint),
    "GET /health",
    "GET /metrics",
    "GET /ui",
    f"GET {CAPTURES}",
    f"GET {PERFORMANCE}",
    *ROUTES,
)
_MOST_NEAR = 3
_MOST_LETTERS = 200


@lru_cache(maxsize=64)  # to look for what is near takes most of a millisecond, and programs ask again and again
def unknown_route(path: str) -> ApiError:
    """The answer to a path that is nobody's: the nearest there are, and where all of them stand."""
    near = " or ".join(_nearest(path, LISTED))
    meant = f"did you mean {near}? " if near else ""
    message = f"there is no {path[:_MOST_LETTERS]} here: {meant}GET / lists every route"
    return ApiError(status=404, message=message, code="unknown_route")


def _nearest(path: str, routes: Iterable[str]) -> tuple[str, ...]:
    """Routes whose path is alike, whatever stands before its last parts, such as ``/v1`` or ``/api``."""
    by_path = {route.partition(" ")[2]: route for route in routes}
    near = alike(path, by_path, most=_MOST_NEAR)
    last = path.rpartition("/")[2]
    ends = {known.rpartition("/")[2]: route for known, route in by_path.items()} if not near else {}
    return tuple(by_path[one] for one in near) or tuple(ends[one] for one in alike(last, ends, most=_MOST_NEAR))
