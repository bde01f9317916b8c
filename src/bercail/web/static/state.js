"use strict";

// Asks what any client may ask, and shows it; texts of the server are set as text, never as markup.
const EVERY_MS = 2000;
const COLUMNS = ["model", "state", "answering", "waiting", "context", "size", "engine"];
const part = (id) => document.getElementById(id);
let key = "";
let timer = 0;

class Refused extends Error {}

async function ask(path) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const response = await fetch(path, { headers, cache: "no-store" });
  const found = await response.json();
  if (response.status === 401 || response.status === 403) throw new Refused(found.error.message ?? found.error);
  return found;
}

function bytes(count) {
  if (!count) return "";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const step = Math.min(Math.floor(Math.log2(count) / 10), units.length - 1);
  return `${(count / 1024 ** step).toPrecision(3)} ${units[step]}`;
}

function state(model) {
  const { value, progress, failed, error } = model.status;
  const name = failed ? "failed" : value;
  const shown = document.createElement("span");
  shown.className = name;
  shown.textContent = name === "loading" && progress !== undefined ? `loading, ${Math.round(progress * 100)} %` : name;
  if (!error) return [shown];
  const why = document.createElement("span");
  why.className = "why";
  why.textContent = error;
  return [shown, why];
}

function row(model, running) {
  const slots = running?.slots ?? model.slots;
  const context = model.loaded_context_length ?? model.max_context_length;
  const cells = {
    model: [model.id],
    state: state(model),
    answering: [running ? `${running.requests}${slots ? ` of ${slots}` : ""}` : ""],
    waiting: [running ? String(running.waiting) : ""],
    context: [context ? context.toLocaleString("en") : ""],
    size: [bytes(model.meta?.size)],
    engine: [model.engine ?? ""],
  };
  const line = document.createElement("tr");
  for (const name of COLUMNS) {
    const cell = document.createElement("td");
    cell.dataset.name = name;
    cell.append(...cells[name].filter(Boolean));
    line.append(cell);
  }
  return line;
}

function show(models, running, version, health) {
  const there = new Map(running.map((one) => [one.model, one]));
  const own = models.filter((one) => !one.meta?.llamaswap?.modelID);
  part("models").replaceChildren(...own.map((one) => row(one, there.get(one.id))));
  part("none").hidden = own.length > 0;
  const waiting = running.reduce((sum, one) => sum + one.waiting, 0);
  const loaded = own.filter((one) => one.loaded).length;
  part("server").textContent =
    `version ${version}: ${health}, ${loaded} of ${own.length} models in memory, ${waiting} requests waiting`;
}

async function look() {
  clearTimeout(timer);
  try {
    const [models, running, version, health] = await Promise.all(
      ["/v1/models", "/running", "/api/version", "/health"].map(ask));
    show(models.data, running.running, version.server_version, health.status);
    part("door").hidden = true;
    part("state").hidden = false;
  } catch (error) {
    part("state").hidden = true;
    if (error instanceof Refused) {
      part("door").hidden = false;
      part("refusal").textContent = key ? error.message : "";
      part("server").textContent = "an API key is needed";
      return;
    }
    part("server").textContent = "the server does not answer; asking again";
  }
  timer = setTimeout(look, EVERY_MS);
}

part("door").addEventListener("submit", (event) => {
  event.preventDefault();
  key = part("key").value.trim();
  look();
});
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : look()));
for (const one of document.querySelectorAll(".here")) one.textContent = location.origin;
look();
