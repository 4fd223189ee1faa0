// The page around a call: buttons, what is happening now, and the numbers as they come.

import { Call, CallError } from "./call.js";

const SCALE_MS = 2500; // a full bar
const element = (id) => document.getElementById(id);
const ms = (value) => (value === undefined ? "–" : value < 10 ? value.toFixed(1) : Math.round(value).toString());

const WORDS = {
  idle: "Ready when you are",
  asking: "Asking for the microphone…",
  connecting: "Connecting…",
  listening: "Listening",
  user: "You speak",
  thinking: "The agent thinks",
  agent: "The agent speaks",
};

const AFTER = {
  user_speech_started: "user",
  user_speech_stopped: "listening",
  response_requested: "thinking",
  agent_audio_started: "agent",
  agent_audio_stopped: "listening",
};

let call = null;
let stopped = new Map(); // turn → when the user's last word ended
let latencies = [];
let answering = false;

function show(state, words = WORDS[state]) {
  document.body.dataset.state = state;
  element("state").textContent = words;
}

function complain(problem) {
  element("problem").hidden = !problem;
  element("problem").textContent = problem ?? "";
}

function inCall(yes) {
  const moveFocus = [element("start"), element("hang-up")].includes(document.activeElement);
  element("start").hidden = yes;
  element("hang-up").hidden = !yes;
  element("region").disabled = element("consent").disabled = yes;
  if (moveFocus) element(yes ? "hang-up" : "start").focus();
}

async function start() {
  complain(null);
  reset();
  show("asking");
  inCall(true);
  call = new Call(element("speaker"));
  window.sidetone = call;
  const mine = call;
  call.addEventListener("state", ({ detail }) => show(detail));
  call.addEventListener("session", ({ detail }) => {
    element("session").textContent = detail;
    show("connecting");
  });
  call.addEventListener("turn", ({ detail }) => turn(detail));
  call.addEventListener("sample", ({ detail }) => sample(detail));
  call.addEventListener("levels", ({ detail }) => levels(detail));
  call.addEventListener("ended", ({ detail }) => mine === call && over(detail));
  try {
    await call.start(element("region").value, element("consent").checked);
  } catch (error) {
    if (!(error instanceof CallError)) console.error(error);
    mine.end(error instanceof CallError ? error.message : `The call failed: ${error.message}`);
  }
}

function over(problem) {
  levels({ user: 0, agent: 0 });
  inCall(false);
  complain(problem);
  show("idle", problem ? "The call did not work" : "The call is over");
}

function reset() {
  stopped = new Map();
  latencies = [];
  answering = false;
  element("turns").replaceChildren();
  element("no-turns").hidden = false;
  for (const id of ["rtt", "median", "lost", "buffer", "session"]) element(id).textContent = "–";
}

function turn({ kind, turn_id, at_ns }) {
  if (kind === "agent_audio_started" || kind === "agent_audio_stopped") answering = kind === "agent_audio_started";
  // While the agent speaks, a pause of the user's does not end what is going on.
  if (AFTER[kind] && !(answering && kind === "user_speech_stopped")) show(AFTER[kind]);
  if (kind === "user_speech_stopped") stopped.set(turn_id, at_ns);
  if (kind === "agent_audio_started" && stopped.has(turn_id)) answered((at_ns - stopped.get(turn_id)) / 1e6);
}

function answered(latency) {
  latencies.push(latency);
  const bar = document.createElement("i");
  bar.style.width = `${Math.max(0, Math.min(100, (100 * latency) / SCALE_MS))}%`;
  const number = document.createElement("b");
  number.textContent = latencies.length;
  const value = document.createElement("span");
  value.textContent = `${Math.round(latency)} ms`;
  const item = document.createElement("li");
  item.dataset.testid = "turn";
  item.append(number, bar, value);
  element("turns").append(item);
  item.scrollIntoView({ block: "nearest" });
  element("no-turns").hidden = true;
  const sorted = latencies.toSorted((a, b) => a - b);
  element("median").textContent = ms((sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2);
}

function sample({ rttMs, lostPercent, bufferMs }) {
  element("rtt").textContent = ms(rttMs);
  element("lost").textContent = lostPercent === undefined ? "–" : lostPercent.toFixed(1);
  element("buffer").textContent = ms(bufferMs);
}

function levels({ user, agent }) {
  // −60 dB to full scale over the bar's length.
  const percent = (level) => Math.max(0, Math.min(100, 100 + (100 / 60) * 20 * Math.log10(level || 1e-6)));
  element("level-user").style.width = `${percent(user)}%`;
  element("level-agent").style.width = `${percent(agent)}%`;
}

async function describe() {
  try {
    const { regions, model } = await (await fetch("/v1/regions")).json();
    element("model").textContent = `Model: ${model}`;
    element("region").replaceChildren(...regions.map((name) => new Option(name, name)));
    const wanted = new URLSearchParams(location.search).get("region");
    if (regions.includes(wanted)) element("region").value = wanted;
    if (regions.length === 0) complain("The relay knows no edge yet, so no call can enter. Check its settings.");
  } catch {
    complain(`The relay at ${location.host} does not answer. Start it (sidetone up), then load this page again.`);
  }
}

element("start").addEventListener("click", start);
element("hang-up").addEventListener("click", () => call?.hangUp());
window.addEventListener("pagehide", () => call?.hangUp());
describe();
