// The experiments: what the switches are set to, and how the backlog of a slow client is doing.

export class Bench extends EventTarget {
  #element;
  #toggle;

  constructor(document) {
    super();
    const find = (id) => document.getElementById(id);
    this.#element = find("bench");
    this.#toggle = find("bench-toggle");
    this.slowSwitch = find("slow");
    this.unplugSwitch = find("unplug");
    this.floodButton = find("flood");
    this.strategies = find("strategy");
    this.panel = find("backlog");
    this.bar = find("bar");
    this.outputs = Object.fromEntries(["waiting", "handed", "dropped"].map((id) => [id, find(id)]));

    const tell = (kind) => this.dispatchEvent(new Event(kind));
    this.slowSwitch.addEventListener("change", () => tell("slow"));
    this.strategies.addEventListener("change", () => this.slow && tell("slow"));
    this.unplugSwitch.addEventListener("change", () => tell("plug"));
    this.floodButton.addEventListener("click", () => tell("flood"));
    this.#toggle.addEventListener("click", () => this.open(!this.isOpen));
    find("bench-close").addEventListener("click", () => this.open(false, true));
    document.addEventListener("keydown", ({ key }) => key === "Escape" && this.open(false, true));
    this.idle();
  }

  get isOpen() {
    return this.#element.hasAttribute("data-open");
  }

  open(isOpen, comesBack = false) {
    if (isOpen === this.isOpen) return;
    this.#element.toggleAttribute("data-open", isOpen);
    this.#toggle.ariaExpanded = String(isOpen);
    if (comesBack) this.#toggle.focus();
  }

  get slow() {
    if (!this.slowSwitch.checked) return null;
    return this.strategies.querySelector(":checked").value;
  }

  get isPlugged() {
    return !this.unplugSwitch.checked;
  }

  idle() {
    this.panel.toggleAttribute("data-idle", !this.slow);
    this.show({ waiting: 0, limit: 40, handed: 0, dropped: 0, replays: false });
  }

  show({ waiting, limit, handed, dropped, replays }) {
    const filled = Math.min(waiting, limit); // beside events, marks of gaps may wait
    const text = replays ? `${waiting} with history` : `${filled} of ${limit}`;
    const { bar } = this;
    [bar.ariaValueMax, bar.ariaValueNow, bar.ariaValueText] = [limit, filled, text];
    bar.style.setProperty("--filled", filled / limit);
    this.outputs.waiting.textContent = text;
    this.outputs.handed.textContent = handed;
    this.outputs.dropped.textContent = dropped;
    this.outputs.dropped.classList.toggle("bad", dropped > 0);
    this.panel.toggleAttribute("data-full", waiting >= limit);
  }
}
