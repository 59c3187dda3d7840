// The console's only script: it replaces regions that changed, says how far away instants are, and adds the palette,
// keys, and the wall. Every page works without it. It makes HTML of text in one place, parse, and only of what our own
// origin sent; it has no state but what the page shows.
const policy = globalThis.trustedTypes?.createPolicy("console", { createHTML: (html) => html });
const parse = (html) => new DOMParser().parseFromString(policy ? policy.createHTML(html) : html, "text/html");
const { at, etag, version } = document.body.dataset;
const base = document.body.dataset.base;
const $ = (selector, within = document) => within.querySelector(selector);

function make(tag, attributes = {}, ...inside) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
  e.append(...inside);
  return e;
}

// --- Loads that no person asked for are marked, so that a forgotten tab keeps nobody signed in

const here = new URL(location.href);
if (here.searchParams.has("unasked")) {
  here.searchParams.delete("unasked"); // a load that a person asks for is none
  history.replaceState(null, "", here);
}
function reload() {
  const to = new URL(location.href);
  to.searchParams.set("unasked", "1");
  location.replace(to);
}

// --- Live regions

const changed = new Set(); // what is to be seen as fresh
// patch makes a like b, and keeps every element that may stay: focus, selection and open details with it.
function patch(a, b) {
  for (const { name } of [...a.attributes]) if (!b.hasAttribute(name) && name !== "open") a.removeAttribute(name);
  for (const { name, value } of b.attributes) if (a.getAttribute(name) !== value) a.setAttribute(name, value);
  const was = [...a.childNodes].filter((n) => !n.dataset?.mine), is = [...b.childNodes];
  is.forEach((n, i) => {
    const o = was[i];
    if (!o) a.append(document.importNode(n, true));
    else if (o.nodeType !== n.nodeType || o.nodeName !== n.nodeName) o.replaceWith(document.importNode(n, true));
    else if (n.nodeType === Node.TEXT_NODE) {
      if (o.data === n.data) return;
      o.data = n.data;
      changed.add(o.parentElement.closest("li, tr, p, dd, article"));
    }
    else if (o !== document.activeElement || o.tagName !== "INPUT") patch(o, n);
  });
  was.slice(is.length).forEach((n) => n.remove());
}

function show(regions) {
  changed.clear();
  for (const [id, html] of Object.entries(regions)) {
    const old = $("#region-" + CSS.escape(id));
    if (!old) return reload();
    const next = parse(`<div>${html}</div>`).body.firstChild;
    const shell = old.cloneNode(false);
    shell.append(...next.childNodes);
    patch(old, shell);
  }
  sayAway();
  wall?.refresh();
  for (const e of changed) {
    if (!e || e.closest("footer, nav")) continue;
    e.classList.add("fresh");
    e.addEventListener("animationend", () => e.classList.remove("fresh"), { once: true });
  }
}

let source, known = etag;
function follow() {
  if (!at || document.hidden || source) return; // a page of one moment has no address to follow
  source = new EventSource(`${base}live?` + new URLSearchParams({ at, have: known, version }));
  source.addEventListener("regions", (e) => { known = e.lastEventId; show(JSON.parse(e.data)); });
  source.addEventListener("reload", reload);
  source.onopen = () => say("live");
  source.onerror = () => {
    say("not connected: trying again");
    if (source.readyState === EventSource.CLOSED) { unfollow(); setTimeout(follow, 5000); }
  };
}
function unfollow() { source?.close(); source = undefined; }
function say(text) { const e = $("#live"); if (e && e.textContent !== text) e.textContent = text; }
document.addEventListener("visibilitychange", () => document.hidden ? unfollow() : follow());
addEventListener("pagehide", unfollow);
addEventListener("pageshow", follow);

// --- How far away instants are

const far = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const near = [["day", 86400], ["hour", 3600], ["minute", 60]];
function sayAway() {
  for (const e of document.querySelectorAll("main time[datetime]")) {
    const seconds = (Date.parse(e.dateTime) - Date.now()) / 1000;
    const [unit, size] = near.find(([, n]) => Math.abs(seconds) >= n * 2) ?? ["minute", 60];
    const text = Math.abs(seconds) < 60 ? (seconds < 0 ? "just now" : "in a moment") : far.format(Math.round(seconds / size), unit);
    if (e.dataset.away !== text) e.dataset.away = text;
    if (!e.title) e.title = new Date(e.dateTime).toLocaleString([], { dateStyle: "full", timeStyle: "long" });
  }
}
sayAway();
setInterval(sayAway, 20_000);

// --- A form that takes its time says so

addEventListener("submit", (e) => {
  const b = $("button[data-busy]", e.target);
  if (b) b.textContent = b.dataset.busy;
});

// --- Passkeys: a form that lacks what only an authenticator makes asks it first

const bytesOf = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const base64 = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)));
const base64url = (buffer) => base64(buffer).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
const keysOf = (d) => d.has.split(" ").filter(Boolean).map((id) => ({ type: "public-key", id: bytesOf(id) }));

async function makePasskey({ dataset: d, elements: e }) {
  // An authenticator replaces the passkey that it has for the same user: that may be in use at another address.
  const user = crypto.getRandomValues(new Uint8Array(32));
  const made = await navigator.credentials.create({ publicKey: {
    challenge: crypto.getRandomValues(new Uint8Array(32)), // nothing is signed by it: sluice.yaml says whose the key is
    rp: { name: "Sluice" }, user: { id: user, name: d.person, displayName: d.person },
    pubKeyCredParams: [-7, -8].map((alg) => ({ type: "public-key", alg })), attestation: "none",
    excludeCredentials: keysOf(d), authenticatorSelection: { userVerification: "required", residentKey: "preferred" } } });
  const key = made.response.getPublicKey();
  if (!key) throw new Error("this authenticator offers neither ES256 nor Ed25519");
  e.id.value = base64url(made.rawId);
  e["public-key"].value = base64(key);
  e.origin.value = location.origin;
}

async function signByPasskey({ dataset: d, elements: e }) {
  const { rawId, response: r } = await navigator.credentials.get({ publicKey: { challenge: bytesOf(d.challenge), rpId: d.rp,
    userVerification: "required", allowCredentials: keysOf(d) } });
  e.assertion.value = JSON.stringify({ nonce: d.nonce, credential: { id: base64url(rawId), response: {
    clientDataJSON: base64url(r.clientDataJSON), authenticatorData: base64url(r.authenticatorData), signature: base64url(r.signature) } } });
}

for (const form of document.querySelectorAll("form[data-passkey]")) {
  const making = form.dataset.passkey === "make", button = $("button", form), word = button.textContent;
  if (making && !form.elements.id.value) {
    form.noValidate = true;
    for (const field of form.querySelectorAll(".field")) field.hidden = true; // the browser fills them in
    button.textContent = "Make a passkey";
  } else if (making) continue;
  form.addEventListener("submit", async (e) => {
    e.preventDefault();
    button.disabled = true;
    $(".wrong", form)?.remove();
    try {
      if (!navigator.credentials) throw new Error("passkeys need https:// or localhost");
      await (making ? makePasskey : signByPasskey)(form);
      form.submit();
    } catch (why) {
      button.before(make("span", { class: "wrong", role: "alert" }, `Your passkey was not used: ${why.message} `));
      if (!making) button.textContent = word;
      button.disabled = false;
    }
  });
}

// --- Commands are copied by a button

function addCopies() {
  for (const c of document.querySelectorAll(".command:not(:has(button))")) {
    const b = make("button", { type: "button", "data-mine": "1" }, "Copy");
    b.addEventListener("click", async () => {
      await navigator.clipboard.writeText(c.querySelector("code").textContent);
      b.textContent = "Copied";
      setTimeout(() => (b.textContent = "Copy"), 1500);
    });
    c.append(b);
  }
}
if (navigator.clipboard) { addCopies(); new MutationObserver(addCopies).observe($("main"), { childList: true, subtree: true }); }

// --- The palette

let palette;
function openPalette() {
  if (!palette) {
    const input = make("input", { type: "search", role: "combobox", "aria-expanded": "true", "aria-controls": "palette-list",
      "aria-label": "Go to a cell, a channel, a release, a flag or a page", placeholder: "Go to…", maxlength: "200" });
    const list = make("ul", { id: "palette-list", role: "listbox", "aria-label": "Found" });
    palette = make("dialog", { "aria-label": "Go to" }, input, list);
    let asked = 0;
    const choose = (i) => {
      const all = [...list.children];
      all.forEach((li, k) => li.setAttribute("aria-selected", k === i));
      if (all[i]) { input.setAttribute("aria-activedescendant", all[i].id); all[i].scrollIntoView({ block: "nearest" }); }
      else input.removeAttribute("aria-activedescendant");
    };
    const chosen = () => [...list.children].findIndex((li) => li.getAttribute("aria-selected") === "true");
    const ask = async () => {
      const mine = ++asked;
      let links;
      if (input.value.trim() === "") links = [...document.querySelectorAll("nav a")];
      else {
        const r = await fetch(`${base}search?` + new URLSearchParams({ q: input.value }));
        links = r.ok ? [...parse(await r.text()).querySelectorAll(".found a")] : [];
      }
      if (mine !== asked) return; // a later key was faster
      list.replaceChildren(...links.slice(0, 40).map((a, i) => {
        const kind = a.querySelector(".soft"), to = make("a", { href: a.getAttribute("href"), tabindex: "-1" });
        to.append(make("span", {}, a.firstChild.textContent), make("span", { class: "soft" }, kind ? kind.textContent : "page"));
        return make("li", { role: "option", id: "found-" + i, "aria-selected": "false" }, to);
      }));
      choose(0);
    };
    input.addEventListener("input", ask);
    input.addEventListener("keydown", (e) => {
      const n = list.children.length;
      if (e.key === "ArrowDown" && n) choose((chosen() + 1) % n);
      else if (e.key === "ArrowUp" && n) choose((chosen() - 1 + n) % n);
      else if (e.key === "Enter") $("[aria-selected=true] a", list)?.click();
      else return;
      e.preventDefault();
    });
    palette.addEventListener("close", () => { input.value = ""; });
    palette.ask = ask;
    document.body.append(palette);
  }
  palette.showModal();
  palette.ask();
}

// --- Keys

let help;
function openHelp() {
  if (!help) {
    const keys = [["Ctrl K", "go to anything"], ["/", "filter, or search"], ["j  k", "next, previous"], ["Enter", "open"],
      ...[...document.querySelectorAll("nav a[data-key]")].map((a) => ["g " + a.dataset.key, a.firstChild.textContent]),
      ["?", "this list"], ["Esc", "close"]];
    const list = make("dl", {}, ...keys.flatMap(([k, what]) =>
      [make("dt", {}, ...k.split(" ").filter(Boolean).flatMap((one) => [make("kbd", {}, one), " "])), make("dd", {}, what)]));
    const close = make("button", { type: "button" }, "Close");
    help = make("dialog", { class: "help", "aria-label": "Keys" }, make("h2", {}, "Keys"), list, close);
    close.addEventListener("click", () => help.close());
    document.body.append(help);
  }
  help.showModal();
}

let went = 0; // when g was pressed
const items = () => [...document.querySelectorAll(".need, tbody tr, .found li")];
function step(by) {
  const all = items();
  if (!all.length) return;
  const now = all.findIndex((e) => e.contains(document.activeElement));
  const to = all[Math.min(Math.max(now + by, 0), all.length - 1)];
  (to.querySelector("a") ?? to).focus();
  to.scrollIntoView({ block: "nearest" });
}
addEventListener("keydown", (e) => {
  if ((e.ctrlKey || e.metaKey) && !e.altKey && e.key.toLowerCase() === "k") { e.preventDefault(); openPalette(); return; }
  if (e.ctrlKey || e.metaKey || e.altKey || e.target.closest("input, textarea, select, canvas, dialog")) return;
  if (went && Date.now() - went < 1500) {
    went = 0;
    const to = document.querySelector(`nav a[data-key="${CSS.escape(e.key)}"]`);
    if (to) { e.preventDefault(); to.click(); }
    return;
  }
  switch (e.key) {
    case "g": went = Date.now(); break;
    case "/": e.preventDefault(); ($("#filter") ?? $(".search input"))?.focus(); break;
    case "?": openHelp(); break;
    case "j": step(1); break;
    case "k": step(-1); break;
  }
});

// --- The wall: one mark a cell. The marks are the symbols of the document, each drawn once on a tile that patterns repeat

class Wall {
  constructor(box) {
    this.box = box;
    this.canvas = make("canvas", { tabindex: "0", role: "application", "data-mine": "1", "aria-label":
      "The wall of cells: arrow keys move, Enter opens. The table below has the same cells." });
    this.spoken = make("p", { class: "spoken", role: "status", "data-mine": "1" }, "");
    this.cursor = make("span", { class: "cursor", "data-mine": "1", hidden: "" });
    box.append(this.canvas, this.cursor, this.spoken);
    this.at = -1;
    this.canvas.addEventListener("pointermove", (e) => this.move(this.indexAt(e.offsetX, e.offsetY)));
    this.canvas.addEventListener("click", () => this.open());
    this.canvas.addEventListener("contextrestored", () => this.draw());
    this.canvas.addEventListener("keydown", (e) => this.key(e));
    for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)"])
      matchMedia(query).addEventListener("change", () => { this.sprites = undefined; this.draw(); });
    new ResizeObserver(() => this.draw()).observe(box);
    this.refresh();
  }
  async refresh() {
    if (this.sum === this.box.dataset.wall && this.filter === this.box.dataset.filter) return;
    ({ wall: this.sum, filter: this.filter } = this.box.dataset);
    const r = await fetch(`${base}wall?` + new URLSearchParams({ q: this.filter }));
    if (!r.ok) return;
    this.data = await r.json();
    this.draw();
  }
  tiles(pixels, size) {
    const style = getComputedStyle(document.documentElement), forced = matchMedia("(forced-colors: active)").matches;
    return this.data.legend.map((name) => {
      const g = new OffscreenCanvas(size, size).getContext("2d");
      g.scale(pixels / 12, pixels / 12);
      g.fillStyle = forced ? getComputedStyle(document.body).color : style.getPropertyValue("--" + name).trim();
      g.fill(new Path2D($(`#mark-${name} path`).getAttribute("d")), "evenodd");
      return g.canvas;
    });
  }
  layout() {
    const width = this.canvas.clientWidth || this.box.clientWidth - 24, cells = this.data.groups.reduce((n, g) => n + g.cells.length, 0);
    const scale = devicePixelRatio || 1, size = Math.round((cells > 4000 ? 9 : cells > 800 ? 12 : 18) * scale);
    const step = size / scale, columns = Math.max(1, Math.floor(width / step));
    let rows = 0, from = 0;
    this.places = this.data.groups.map((g) => {
      rows += Math.ceil(24 / step); // above the marks is the name
      const p = { g, from, row: rows, top: rows * step };
      rows += Math.ceil(g.cells.length / columns);
      from += g.cells.length;
      return p;
    });
    Object.assign(this, { scale, size, step, columns, width, height: Math.ceil(rows * step), cells });
  }
  draw() {
    if (!this.data) return;
    this.layout();
    const { canvas, scale, size, columns } = this;
    if (!this.sprites || this.drawn !== size) {
      this.sprites = this.tiles(size - Math.round(2 * scale), size);
      this.drawn = size;
    }
    canvas.width = this.width * scale;
    canvas.height = this.height * scale;
    canvas.style.height = this.height + "px";
    const g = canvas.getContext("2d");
    // A path a condition: the browser fills ten thousand marks by as many calls as there are conditions.
    const runs = this.sprites.map(() => new Path2D());
    for (const { row, g: { states } } of this.places)
      for (let from = 0, to; from < states.length; from = to) {
        const end = Math.min(states.length, from - from % columns + columns);
        for (to = from + 1; to < end && states[to] === states[from];) to++;
        runs[states.charCodeAt(from) - 97].rect(from % columns * size, (row + Math.floor(from / columns)) * size,
          (to - from) * size, size);
      }
    g.imageSmoothingEnabled = false;
    runs.forEach((path, i) => {
      g.fillStyle = g.createPattern(this.sprites[i], "repeat");
      g.fill(path);
    });
    g.scale(scale, scale);
    g.font = "12px system-ui, sans-serif";
    g.fillStyle = getComputedStyle(document.body).color;
    for (const p of this.places) g.fillText(`${p.g.name} · ${p.g.cells.length}`, 0, p.top - 6);
    this.point();
    canvas.dataset.drawn = this.sum;
  }
  point() { // frames the cell under the cursor
    this.cursor.hidden = this.at < 0 || this.at >= this.cells;
    if (this.cursor.hidden) return;
    const [p, i] = this.placeOf(this.at), { step } = this;
    Object.assign(this.cursor.style, { width: step + "px", height: step + "px",
      left: this.canvas.offsetLeft + (i % this.columns) * step - 2.5 + "px",
      top: this.canvas.offsetTop + p.top + Math.floor(i / this.columns) * step - 2.5 + "px" });
  }
  placeOf(at) {
    const p = this.places.findLast((p) => p.from <= at);
    return [p, at - p.from];
  }
  indexAt(x, y) {
    const p = this.places?.findLast((p) => p.top <= y), column = Math.floor(x / this.step);
    if (!p || column >= this.columns) return -1;
    const i = Math.floor((y - p.top) / this.step) * this.columns + column;
    return i < p.g.cells.length ? p.from + i : -1;
  }
  move(at) {
    if (!this.data || at < 0 || at >= this.cells || at === this.at) return;
    this.at = at;
    const [p, i] = this.placeOf(at);
    this.spoken.textContent = `${p.g.cells[i]}, ${p.g.name}: ${this.data.legend[p.g.states.charCodeAt(i) - 97]}`;
    this.point();
  }
  key(e) {
    if (!this.data) return;
    const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns }[e.key];
    if (by) this.move(Math.min(Math.max(this.at + by, 0), this.cells - 1));
    else if (e.key === "Home") this.move(0);
    else if (e.key === "End") this.move(this.cells - 1);
    else if (e.key === "Enter") this.open();
    else return;
    e.preventDefault();
  }
  open() {
    if (this.at < 0) return;
    const [p, i] = this.placeOf(this.at);
    location.assign(`${base}cells/${encodeURIComponent(p.g.cells[i])}`);
  }
}
const box = $(".wall");
const wall = box && new Wall(box);

follow();
