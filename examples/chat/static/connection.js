// One WebSocket that comes back: it connects again with growing, random pauses, and tells the
// server the last event of each channel that it has, so that the stream goes on behind it.

const FIRST_PAUSE = 300;
const LONGEST_PAUSE = 5000;
const BACKLOG_FULL = 4008;
const REFUSED = 1008;

export class Connection extends EventTarget {
  #url;
  #socket = null;
  #timer = 0;
  #failures = 0;
  #positions = {};
  #isPlugged = true;

  constructor(room, who, slow) {
    super();
    this.#url = new URL(`rooms/${encodeURIComponent(room)}`, location.href);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    this.#url.hash = this.#url.search = "";
    this.room = room;
    this.who = who;
    this.slow = slow;
    this.connect = this.connect.bind(this);
    addEventListener("online", this.connect);
  }

  connect() {
    clearTimeout(this.#timer);
    if (this.#socket || !this.#isPlugged) return;
    this.#state("connecting");
    const socket = (this.#socket = new WebSocket(this.#url));
    socket.onopen = () => {
      const { who, slow } = this;
      this.send({ type: "join", who, slow, since: this.#positions });
    };
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    socket.onclose = ({ code, reason }) => this.#closed(code, reason);
  }

  // Begins anew where the old connection stopped, after something about this client has changed.
  reconnect() {
    this.#drop();
    this.connect();
  }

  plug(isPlugged) {
    this.#isPlugged = isPlugged;
    this.#drop();
    if (isPlugged) this.connect();
    else this.#state("unplugged");
  }

  close() {
    this.plug(false);
    removeEventListener("online", this.connect);
  }

  send(frame) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(frame));
  }

  #drop() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
  }

  #receive(frame) {
    if (frame.type === "joined") {
      this.#failures = 0;
      this.#positions = { ...this.#positions, ...frame.positions };
      this.#state("online");
    } else if (frame.type === "event" && frame.id) {
      this.#positions[frame.channel] = frame.id;
    }
    this.dispatchEvent(new CustomEvent(frame.type, { detail: frame }));
  }

  #closed(code, reason) {
    this.#socket = null;
    if (code === REFUSED) return this.#state("refused", reason);
    const growing = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** this.#failures++);
    const pause = code === BACKLOG_FULL ? 0 : growing * (0.5 + Math.random() / 2);
    this.#state("waiting", reason);
    this.#timer = setTimeout(this.connect, pause);
  }

  #state(state, reason = "") {
    this.dispatchEvent(new CustomEvent("state", { detail: { state, reason } }));
  }
}
