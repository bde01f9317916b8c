"""Answers of a served model, as its engine times them."""

import http.client
import json
from urllib.parse import urlsplit

from bercail.core.pace import Timing


def ask(url: str, prompt: list[int], count: int) -> Timing:
    """An answer of `count` tokens to `prompt`, as the engine behind the server at `url` times it."""
    body = {"prompt": prompt, "max_tokens": count, "temperature": 0, "ignore_eos": True, "cache_prompt": True}
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=3600)
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    if response.status != 200:
        raise SystemExit(f"status {response.status}: {answer}")
    said = answer["timings"]
    return Timing(
        depth_tokens=said["cache_n"], prompt_tokens=said["prompt_n"], prefill_s=said["prompt_ms"] / 1000,
        decode_tokens=said["predicted_n"], decode_s=said["predicted_ms"] / 1000,
    )  # fmt: skip
