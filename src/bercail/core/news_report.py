"""What happens while Bercail works, as lines for people."""

import json
import shlex
from typing import assert_never

from bercail.core import news
from bercail.core.model import Findings
from bercail.core.plan import Fits
from bercail.core.report import machine_lines, nowhere_lines, plan_line, slots_text, threads_text
from bercail.core.units import format_bytes, format_count, format_seconds, format_tokens


def news_lines(item: news.News) -> tuple[str, ...]:  # noqa: C901 - one case per kind of news
    """A step in a line or a few; empty for what is shown otherwise."""
    match item:
        case news.Reconciled(ended=ended):
            return tuple(f"left by a killed server, ended: {what}" for what in ended)
        case news.MachineProbed(machine=machine):
            return tuple(f"machine  {line}" for line in machine_lines(machine))
        case news.ModelsFound(findings=findings):
            return _found_lines(findings)
        case news.Listening(url=url):
            return (f"gateway  listening on {url}",)
        case news.Waiting():
            return _waiting_lines(item)
        case news.ModelRead(model=model):
            return (
                f"model    {model.id}: {model.architecture}, {format_count(model.parameter_count)} parameters, "
                f"{model.quantization}, {format_bytes(model.file_bytes)}",
                *(f"         {n}" for n in model.notes),
            )
        case news.Trying(engine=engine, repack=order, setting=setting):
            return (
                f"trying   {engine}, weights {'rearranged' if order else 'as they are'}{setting and f', {setting}'}",
            )
        case news.Warned(text=text):
            return (f"note     {text}",)
        case news.Planned(plan=plan):
            return (f"plan     {plan_line(plan)}",)
        case news.Loading() | news.Ready():
            return ()
        case news.CommandReady(model_id=model_id, seconds=seconds, address=address):
            return (f"ready    {model_id} after {format_seconds(seconds)}, at {address}",)
        case news.Reloaded():
            return _reloaded_lines(item)
        case news.LoadFailed(model_id=model_id, error=error):
            return (f"failed   {model_id}: {error.removeprefix(f'{model_id} could not be loaded: ')}",)
        case news.EngineDied(model_id=model_id, error=error, log_tail=tail, retry_s=retry_s):
            after = (
                "it is not started again unless asked for"
                if retry_s is None
                else f"starting it again in {format_seconds(retry_s)}"
            )
            return (f"died     {model_id}: {error}; {after}", *(f"         {line}" for line in tail[-8:]))
        case news.ContextKept(model_id=model_id, tokens=tokens):
            return (f"kept     {format_tokens(tokens)} tokens that {model_id} had read",)
        case news.ContextRestored(model_id=model_id, tokens=tokens):
            return (f"restored {format_tokens(tokens)} tokens that {model_id} had read",)
        case news.Unloaded(model_id=model_id):
            return (f"unloaded {model_id}",)
        case news.Stopping(drain_s=drain_s):
            return (f"stopping: running requests may finish within {format_seconds(drain_s)}; Ctrl-C stops at once",)
        case news.Stopped(cut=cut):
            what = "1 request was cut" if cut == 1 else f"{cut} requests were cut"
            return (f"stopped, {what}" if cut else "stopped",)
        case _ as unreachable:
            assert_never(unreachable)


def _waiting_lines(item: news.Waiting) -> tuple[str, ...]:
    count = "1 model" if item.models == 1 else f"{item.models} models"
    failed = f", {item.failed} of them cannot be loaded" if item.failed else ""
    return (f"ready    {count}{failed}; the first request for one loads it", f"url      {item.url}")


def _reloaded_lines(item: news.Reloaded) -> tuple[str, ...]:
    parts = (("start anew", item.changed), ("new", item.added), ("gone", item.gone))
    unmoved = ("no model starts anew",) if item.altered and not item.changed else ()
    others = (f"changed: {'; '.join(item.altered)}",) if item.altered else ()
    moved = (f"{what}: {', '.join(names)}" for what, names in parts if names)
    said = "; ".join((*moved, *others, *unmoved))
    waits = (f"         counts from the next start: {', '.join(item.later)}",) if item.later else ()
    nothing = "no model has changed" if item.later else "nothing has changed"
    return (f"reload   {said or nothing}", *waits)


def log_lines(item: news.News) -> tuple[str, ...]:
    """A step as a log keeps it."""
    return ready_lines(item, "") if isinstance(item, news.Ready) else news_lines(item)


def level_of(item: news.News) -> str:
    """How much a step matters, one of ``core.log.LEVELS``."""
    match item:
        case news.LoadFailed() | news.EngineDied():
            return "error"
        case news.Warned():
            return "warn"
        case _:
            return "info"


def _found_lines(findings: Findings) -> tuple[str, ...]:
    if not findings.models:
        return nowhere_lines(findings)
    count = len(findings.models)
    names = ", ".join(found.id for found in findings.models[:8]) + (", ..." if count > 8 else "")
    what = "1 model" if count == 1 else f"{count} models"
    demo = [demo_line()] if any(found.source == "demo" for found in findings.models) else []
    return (f"models   {what}: {names}", *(f"         {problem}" for problem in findings.problems), *demo)


def demo_line() -> str:
    """What somebody who talks to the model in the box has to know."""
    return (
        "demo     this model is a demo of a few million parameters that knows only Bercail; "
        "load a real one with: bercail up path/to/model.gguf"
    )


def ready_lines(item: news.Ready, url: str) -> tuple[str, ...]:
    """What a person needs once a model answers."""
    plan, settings = item.plan, item.plan.settings
    planned = format_bytes(plan.devices[0].total_bytes)
    held = f", {format_bytes(item.resident_bytes)} held now" if item.resident_bytes else ""
    rows = (
        ("ready", f"{plan.model_id} after {format_seconds(item.seconds)}"),
        ("url", url),
        ("context", f"{format_tokens(settings.slot_context_tokens)} tokens x {slots_text(settings.slots)}"),
        ("memory", f"{planned} planned{held}"),
        ("engine", f"{plan.engine}, {threads_text(settings.threads)}"),
        ("try", _curl(plan, url, chat=item.chat)),
    )
    return tuple(f"{name:<8} {value}" for name, value in rows if url or name not in ("url", "try"))


def _curl(plan: Fits, url: str, *, chat: bool) -> str:
    body: dict[str, object] = {"model": plan.model_id}
    if plan.settings.embedding:
        route, body["input"] = "embeddings", "Hello"
    elif chat:
        route, body["messages"] = "chat/completions", [{"role": "user", "content": "Hello"}]
    else:
        route, body["prompt"] = "completions", "Once upon a time"
    # Quoted, for a file may be named so that pasting the line would run something else.
    text = shlex.quote(json.dumps(body, ensure_ascii=False, separators=(",", ":")))
    return f"curl {url}/v1/{route} -H 'Content-Type: application/json' -d {text}"
