// What was said, drawn with DOM nodes only: nothing that somebody wrote is ever read as HTML.

const GROUP_MS = 3 * 60 * 1000;
const LONGEST = 500;
const FLOOD_ENDS_MS = 600;

export function node(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

export function hue(name) {
  let sum = 0;
  for (const letter of name) sum = (sum * 31 + letter.codePointAt(0)) % 9973;
  return Math.round(sum * 137.5) % 360; // the golden angle keeps neighbours apart
}

export function avatar(name) {
  const words = name.trim().split(/\s+/);
  const initials = [words[0], words.length > 1 ? words.at(-1) : ""].map((w) => [...w][0] ?? "");
  const made = node("span", "avatar", initials.join("").toUpperCase());
  made.style.setProperty("--hue", hue(name));
  made.title = name;
  made.ariaHidden = "true";
  return made;
}

export class Log {
  #list;
  #scroll;
  #newer;
  #me;
  #last = null;
  #floods = new Map();
  #follows = true;

  constructor({ list, scroll, newer, me }) {
    [this.#list, this.#scroll, this.#newer, this.#me] = [list, scroll, newer, me];
    newer.addEventListener("click", () => this.toEnd());
    scroll.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = scroll;
      this.#follows = scrollHeight - scrollTop - clientHeight < 60;
      if (this.#follows) newer.hidden = true;
    });
    const observer = new ResizeObserver(() => this.#follows && this.toEnd());
    for (const element of [list, scroll]) observer.observe(element);
  }

  clear() {
    this.#list.replaceChildren();
    this.toEnd();
    this.#last = null;
    for (const { timer } of this.#floods.values()) clearTimeout(timer);
    this.#floods.clear();
  }

  toEnd() {
    this.#follows = true;
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
    this.#newer.hidden = true;
  }

  said({ who, text, at }) {
    const time = new Date(at * 1000);
    const mine = who.id === this.#me;
    const goesOn = this.#last?.id === who.id && this.#last.name === who.name
      && time - this.#last.time < GROUP_MS;
    const clock = time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    const item = node("li", `said${mine ? " mine" : ""}${goesOn ? " goes-on" : ""}`);
    item.style.setProperty("--hue", hue(who.name));
    if (!mine) item.append(avatar(who.name));
    const stamp = node("time", "", clock);
    stamp.dateTime = time.toISOString();
    const name = node("b", "name", who.name);
    item.append(node("div", "head", name, " ", stamp), node("p", "text", text));
    this.#last = { id: who.id, name: who.name, time };
    this.#add(item, mine);
  }

  note(text, kind = "") {
    this.#last = null;
    this.#add(node("li", `note ${kind}`, text));
  }

  // One of many: a square for each event of a flood, a hole where one did not arrive. A channel's
  // events come in order, so one that was passed over will not come.
  drop({ who, flood, number, of }) {
    const card = this.#floods.get(flood) ?? this.#flood(who, flood, of);
    clearTimeout(card.timer);
    card.cells[number].className = "arrived";
    card.arrived += 1;
    this.#settle(card, number + 1);
  }

  // Events of a flood are missing; if no other comes after them, up to its end.
  dropsAreMissing() {
    const card = [...this.#floods.values()].at(-1);
    if (!card) return;
    clearTimeout(card.timer);
    card.timer = setTimeout(() => this.#settle(card, card.cells.length), FLOOD_ENDS_MS);
  }

  #settle(card, next) {
    for (let cell = card.next; cell < next; cell++) card.cells[cell].className ||= "hole";
    card.next = next;
    const of = card.cells.length;
    const holes = next - card.arrived;
    const lost = holes ? `, ${holes} did not` : next === of ? ", none is missing" : "";
    card.sum.textContent = `${card.arrived} of ${of} arrived${lost}`;
    card.grid.ariaLabel = card.sum.textContent;
  }

  #flood(who, flood, of) {
    const cells = Array.from({ length: of }, () => node("i"));
    const grid = node("div", "grid", ...cells);
    grid.role = "img";
    const sum = node("span", "sum");
    const item = node("li", "flood", node("p", "head", node("b", "name", who.name), " floods the room"), grid, sum);
    item.style.setProperty("--hue", hue(who.name));
    item.ariaLive = "off";
    const card = { cells, grid, sum, next: 0, arrived: 0, timer: 0 };
    this.#floods.set(flood, card);
    this.#last = null;
    this.#add(item);
    return card;
  }

  #add(item, follow = false) {
    this.#list.append(item);
    while (this.#list.children.length > LONGEST) this.#list.firstChild.remove();
    if (follow || this.#follows) this.toEnd();
    else this.#newer.hidden = false;
  }
}
