// What the pages do beyond links and forms: curves and lists that keep up, filters that stay in the address, keys.
// Every page works without it.

const said = document.getElementById("said");

function say(text, seen = false) {
  if (said.textContent !== text) said.textContent = text;
  said.classList.toggle("seen", seen);
}

function parsed(html) {
  return new DOMParser().parseFromString(html, "text/html").body.childNodes;
}

// ---- what changes is put in place of what was there, with focus, choices and open details as they were

function keyOf(element) {
  const figure = element.closest("[data-key], [data-row]");
  const inside = figure ? figure.dataset.key ?? figure.dataset.row : "";
  return `${inside} ${element.tagName} ${element.className} ${element.getAttribute("href") ?? element.name ?? ""}`;
}

function replace(place, html) {
  const focused = place.contains(document.activeElement) ? keyOf(document.activeElement) : null;
  const chosen = new Set([...place.querySelectorAll("input:checked")].map(box => box.value));
  const at = place.querySelector(".at")?.dataset.row;
  const [x, y] = [...place.querySelectorAll(".scroll")].slice(0, 1).flatMap(e => [e.scrollLeft, e.scrollTop]);
  place.replaceChildren(...parsed(html));
  for (const box of place.querySelectorAll("input[type=checkbox]")) box.checked = chosen.has(box.value);
  for (const row of place.querySelectorAll("[data-row]")) row.classList.toggle("at", row.dataset.row === at);
  const scrolled = place.querySelector(".scroll");
  if (scrolled && x !== undefined) [scrolled.scrollLeft, scrolled.scrollTop] = [x, y];
  if (focused !== null) {
    const all = place.querySelectorAll("a, button, input, select, summary, [tabindex]");
    [...all].find(element => keyOf(element) === focused)?.focus({ preventScroll: true });
  }
  toldState(place);
}

function toldState(place) {
  const status = place.querySelector("[data-say]");
  if (status && status.dataset.say.split(" ")[0] !== place.dataset.told) {
    if (place.dataset.told) say(status.dataset.say);
    place.dataset.told = status.dataset.say.split(" ")[0];
  }
}

const STILL = ["finished", "failed", "interrupted"];

function live(place) {
  let tag = "", timer = 0, waited = 0, asking = null;

  async function ask() {
    clearTimeout(timer);
    asking?.abort();
    const mine = asking = new AbortController();
    const url = place.dataset.live;
    try {
      const answer = await fetch(url, { headers: tag ? { "If-None-Match": tag } : {}, signal: mine.signal, cache: "no-store" });
      if (answer.status === 401) return say("The token is no longer accepted: open the address that the server printed.", true);
      if (answer.status === 200) {
        const html = await answer.text();
        if (mine.signal.aborted || place.dataset.live !== url) return;
        tag = answer.headers.get("ETag") ?? "";
        if (!held(place)) replace(place, html); else tag = "";
      }
      if (waited) say("The server answers again.");
      waited = 0;
    } catch (error) {
      if (mine.signal.aborted) return;
      waited = Math.min(60000, 2 * (waited || 2000));
      say("The server does not answer; trying again.", true);
    }
    next();
  }

  function next() {
    const state = place.querySelector("[data-state]")?.dataset.state;
    if (STILL.includes(state)) delete place.dataset.told;
    if (place.hasAttribute("data-still") || STILL.includes(state)) return;
    timer = setTimeout(() => document.hidden ? next() : ask(), waited || Number(place.dataset.every));
  }

  place.addEventListener("asked", () => { tag = ""; ask(); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden && timer) { clearTimeout(timer); next(); } });
  toldState(place);
  next();
}

// A value that is being read is not taken away.
const held = place => place.querySelector(".readout:not([hidden])") !== null && place.matches(":hover, :focus-within");

for (const place of document.querySelectorAll("[data-live]")) live(place);

for (const place of document.querySelectorAll("[data-load]")) {
  fetch(place.dataset.load).then(async answer => { if (answer.ok) place.replaceChildren(...parsed(await answer.text())); }).catch(() => {});
}

// ---- filters: what is typed is shown at once, and stands in the address

function asked(form) {
  const fields = [...new FormData(form)].filter(([name, value]) => value !== "" && !(name === "sort" && value === "started" && form.elements.order?.value === "desc"));
  const kept = fields.filter(([name, value]) => !(name === "order" && !fields.some(([other]) => other === "sort") && value === "desc"));
  return new URLSearchParams(kept);
}

for (const form of document.querySelectorAll("form[data-filter]")) {
  const place = document.querySelector("[data-live]");
  let timer = 0;
  const show = () => {
    const query = asked(form), action = form.getAttribute("action");
    history.replaceState(null, "", query.size ? `${action}?${query}` : action);
    const whole = new URL(place.dataset.live, location.href);
    if (whole.searchParams.has("part")) query.set("part", whole.searchParams.get("part"));
    place.dataset.live = query.size ? `${whole.pathname}?${query}` : whole.pathname;
    place.dispatchEvent(new Event("asked"));
  };
  form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(show, 200); });
  form.addEventListener("submit", event => { event.preventDefault(); clearTimeout(timer); show(); });
}

// ---- values under the pointer, or by arrow keys

function scale(text, log) {
  const [low, high, start, end] = text.split(",").map(Number);
  const [a, b] = log ? [Math.log10(low), Math.log10(high)] : [low, high];
  return place => { const value = a + (place - start) / (end - start || 1) * (b - a); return log ? 10 ** value : value; };
}

function points(path) {
  return [...path.getAttribute("d").matchAll(/[ML](-?[\d.]+) (-?[\d.]+)/g)].map(found => [Number(found[1]), Number(found[2])]);
}

const short = value => Number.isInteger(value) ? value.toLocaleString("en") : String(Number(value.toPrecision(3)));

function nearest(line, x) {
  let low = 0, high = line.length - 1;
  while (high - low > 1) { const middle = (low + high) >> 1; if (line[middle][0] < x) low = middle; else high = middle; }
  return x - line[low]?.[0] < line[high]?.[0] - x ? line[low] : line[high];
}

function read(plot, x) {
  const svg = plot.querySelector("svg.curve"), out = plot.querySelector(".readout");
  const lines = [...svg.querySelectorAll(".line")].map(path => [Number(path.dataset.line), points(path)]).filter(([, p]) => p.length);
  if (!lines.length) return;
  const at = nearest(lines[0][1], x)[0];
  const step = scale(svg.dataset.x, false), value = scale(svg.dataset.y, svg.dataset.log === "1");
  const names = [...plot.closest("figure").querySelectorAll(".legend .what")].map(name => name.textContent);
  const told = lines.map(([i, line]) => `${names[i] ?? ""} ${short(value(nearest(line, at)[1]))}`);
  out.textContent = `step ${Math.round(step(at)).toLocaleString("en")}: ${told.join(", ")}`;
  out.hidden = false;
  let cursor = svg.querySelector(".cursor");
  if (!cursor) svg.append(cursor = document.createElementNS("http://www.w3.org/2000/svg", "path"));
  cursor.setAttribute("class", "cursor");
  cursor.setAttribute("d", `M${at} 8V174`);
  plot.dataset.at = at;
}

function leave(plot) {
  plot.querySelector(".readout").hidden = true;
  plot.querySelector(".cursor")?.remove();
}

document.addEventListener("pointermove", event => {
  const svg = event.target.closest?.("svg.curve");
  for (const plot of document.querySelectorAll(".plot:has(.cursor)")) if (!svg || plot !== svg.parentElement) if (plot !== document.activeElement) leave(plot);
  if (!svg) return;
  const box = svg.getBoundingClientRect();
  read(svg.parentElement, (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width);
});
document.addEventListener("focusout", event => { if (event.target.matches?.(".plot")) leave(event.target); });

function along(plot, by) {
  const line = points(plot.querySelector(".line"));
  const now = plot.querySelector(".cursor") ? line.findIndex(point => point[0] >= Number(plot.dataset.at)) : by > 0 ? -1 : line.length;
  const goal = line[Math.max(0, Math.min(line.length - 1, now + by))];
  if (goal) read(plot, goal[0]);
}

// ---- keys

const dialog = document.getElementById("keyboard"), single = document.getElementById("single-keys");
const keysButton = document.getElementById("keys");
keysButton.hidden = false;
keysButton.addEventListener("click", () => dialog.showModal());
try { single.checked = localStorage.getItem("single-keys") !== "off"; } catch { /* storage may be refused */ }
single.addEventListener("change", () => { try { localStorage.setItem("single-keys", single.checked ? "on" : "off"); } catch { /* as above */ } });

const rows = () => [...document.querySelectorAll("[data-row]")];

function move(by) {
  const all = rows();
  if (all.length) {
    const goal = all[Math.max(0, Math.min(all.length - 1, all.findIndex(row => row.classList.contains("at")) + by))] ?? all[0];
    all.forEach(row => row.classList.toggle("at", row === goal));
    goal.querySelector("a").focus();
    goal.scrollIntoView({ block: "nearest" });
    return;
  }
  const figures = [...document.querySelectorAll(".plot, figure.turning canvas")];
  const next = figures[Math.max(0, Math.min(figures.length - 1, figures.indexOf(document.activeElement) + by))];
  next?.focus();
}

const actions = {
  "/": () => document.querySelector("form[data-filter] input[type=search]")?.focus(),
  j: () => move(1),
  k: () => move(-1),
  x: () => document.querySelector(".at input[type=checkbox]")?.click(),
  c: () => { if (document.querySelectorAll("input[name=run]:checked").length > 1) document.getElementById("compare").requestSubmit(); else say("Choose at least two runs with x.", true); },
  "?": () => dialog.showModal(),
};

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || dialog.open) return;
  const plot = event.target.closest?.(".plot");
  if (plot && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
    event.preventDefault();
    along(plot, event.key === "ArrowRight" ? 1 : -1);
    return;
  }
  if (event.key === "Escape" && plot) return leave(plot);
  const typing = event.target.matches?.("input:not([type=checkbox]), select, textarea");
  if (typing || !single.checked || !actions[event.key]) return;
  event.preventDefault();
  actions[event.key]();
});
document.addEventListener("focusin", event => {
  const row = event.target.closest?.("[data-row]");
  if (row) rows().forEach(other => other.classList.toggle("at", other === row));
});
