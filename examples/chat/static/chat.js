// The page: a room, the connection to it, and what the user does.

import { Bench } from "./bench.js";
import { Connection } from "./connection.js";
import { Log, avatar, node } from "./log.js";

const ROOMS = ["lobby", "kitchen", "workshop", "garden"];
const SHOWN = 5;
const STATES = {
  connecting: "connecting",
  online: "online",
  waiting: "connecting again",
  unplugged: "unplugged",
  refused: "refused",
};
const ADJECTIVES = ["Brave", "Calm", "Clever", "Curious", "Gentle", "Happy", "Quick", "Quiet"];
const ANIMALS = ["Badger", "Finch", "Fox", "Heron", "Lynx", "Marten", "Otter", "Owl"];

const $ = (id) => document.getElementById(id);
const pick = (list) => list[Math.floor(Math.random() * list.length)];

const me = { id: randomId(), name: sessionStorage.getItem("name") ?? "" };
const bench = new Bench(document);
const log = new Log({ list: $("log"), scroll: $("scroll"), newer: $("newer"), me: me.id });
let connection = null;
let wasAway = false;

function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// -- the room ------------------------------------------------------------------------------

function enter() {
  const wanted = location.hash.slice(1);
  const room = ROOMS.includes(wanted) ? wanted : ROOMS[0];
  connection?.close();
  wasAway = false;
  log.clear();
  bench.idle();
  $("room").textContent = room;
  document.title = `${room} · Channels chat`;
  for (const link of $("rooms").querySelectorAll("a")) {
    if (link.hash === `#${room}`) link.ariaCurrent = "page";
    else link.removeAttribute("aria-current");
  }
  let hasJoined = false;
  connection = new Connection(room, { ...me }, bench.slow);
  on("state", showState);
  on("joined", (joined) => {
    if (hasJoined) tellResumed(joined);
    else if (joined.replayed) log.note(`the last ${count(joined.replayed, "message")}`);
    hasJoined = true;
  });
  on("event", ({ data }) => (data.type === "said" ? log.said(data) : log.drop(data)));
  on("missing", ({ channel, dropped }) => {
    if (channel !== room) log.dropsAreMissing();
    else log.note(dropped ? "messages were dropped here" : "messages are missing here", "bad");
  });
  on("people", showPeople);
  on("backlog", (backlog) => bench.show(backlog));
  on("refused", ({ text, why }) => {
    log.note(`not sent: ${why}`, "bad");
    $("text").value ||= text;
  });
  connection.plug(bench.isPlugged);
}

function on(kind, handle) {
  connection.addEventListener(kind, ({ detail }) => handle(detail));
}

function tellResumed({ recovered, replayed, keeps_history: keepsHistory }) {
  if (!keepsHistory) log.note("back; this backend keeps no history, so messages may be missing", "bad");
  else if (recovered === false) log.note("back; some of what was missed is no longer kept", "bad");
  else if (replayed) log.note(`back; ${count(replayed, "missed event")} read from history`, "good");
  else if (wasAway) log.note("back; nothing was missed", "good");
  wasAway = false;
}

function count(number, thing) {
  return `${number} ${thing}${number === 1 ? "" : "s"}`;
}

function showState({ state, reason }) {
  wasAway ||= state === "waiting" || state === "unplugged";
  $("state").dataset.state = state;
  $("state").textContent = STATES[state];
  $("state").title = reason;
  $("send").disabled = bench.floodButton.disabled = state !== "online";
  if (state === "refused") log.note(`the server refused: ${reason || "reload the page"}`, "bad");
}

function showPeople({ here, counts }) {
  const more = here.length > SHOWN ? [node("span", "avatar more", `+${here.length - SHOWN}`)] : [];
  $("avatars").replaceChildren(...here.slice(0, SHOWN).map(({ name }) => avatar(name)), ...more);
  $("count").textContent = here.length === 1 ? "only you are here" : `${here.length} are here`;
  $("count").title = here.map(({ name }) => name).join(", ");
  for (const [room, number] of Object.entries(counts)) {
    const badge = document.querySelector(`#rooms a[href="#${room}"] .badge`);
    badge.textContent = number || "";
    badge.ariaLabel = number ? `${number} there` : "empty";
  }
}

// -- the user ------------------------------------------------------------------------------

function ask() {
  $("name").value = me.name || `${pick(ADJECTIVES)} ${pick(ANIMALS)}`;
  $("welcome").showModal();
  $("name").select();
}

function call(name) {
  me.name = name;
  sessionStorage.setItem("name", name);
  $("who").replaceChildren(avatar(me.name), node("span", "", me.name));
  if (connection) {
    connection.who = { ...me };
    connection.reconnect();
  } else {
    enter();
  }
}

$("welcome").addEventListener("close", () => {
  call($("name").value.trim().slice(0, 40) || me.name || pick(ANIMALS));
  $("text").focus();
});

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text || $("send").disabled) return;
  connection.send({ type: "say", text });
  $("text").value = "";
});

$("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});

$("who").addEventListener("click", ask);
addEventListener("hashchange", () => connection && enter());

bench.addEventListener("slow", () => {
  bench.idle();
  connection.slow = bench.slow;
  connection.reconnect();
});
bench.addEventListener("plug", () => connection.plug(bench.isPlugged));
bench.addEventListener("flood", () => connection.send({ type: "flood" }));

for (const room of ROOMS) {
  const link = node("a", "", node("span", "label", room), node("span", "badge"));
  link.href = `#${room}`;
  $("rooms").append(node("li", "", link));
}
if (me.name) call(me.name);
else ask();
