// Draws the scenes of every figure.turning: drag, arrow keys and a slider; {scenes: [{name, frames: [{label, points}],
// edges, groups, groupNames, names}]} stands in the figure as JSON. Points lie within 1 of the origin.
"use strict";
(() => {
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const START = { yaw: -35, pitch: 20, zoom: 1 };
  const STEP = 6, NEAR = 14, MORPH_MS = 350, MOST_NAMED = 40, DISTANCE = 3.4;
  const radians = degrees => degrees * Math.PI / 180;
  const clamp = (x, low, high) => Math.min(high, Math.max(low, x));

  // Rows of a rotation; turning multiplies from the left, so that drags follow the screen.
  function turned(m, yaw, pitch) {
    const [c, s, d, t] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
    const k = [[c, 0, s], [s * t, d, -c * t], [-s * d, t, c * d]];
    return k.map(row => [0, 1, 2].map(j => row[0] * m[0][j] + row[1] * m[1][j] + row[2] * m[2][j]));
  }

  function mount(figure) {
    const find = selector => figure.querySelector(selector);
    const { scenes } = JSON.parse(find("script").textContent);
    const stage = find(".stage"), canvas = find("canvas"), tip = find(".tip"), spin = find(".spin");
    const choice = find("select"), slider = find("input"), output = find("output");
    const pen = canvas.getContext("2d");
    let scene, screen, order, at, goal, matrix, zoom, theme, hovered = -1, spinning = false, asked = 0, last = 0, pace = 1;

    function readTheme() {
      const style = getComputedStyle(figure), of = name => style.getPropertyValue(name).trim();
      const dark = matchMedia("screen and (prefers-color-scheme: dark)").matches;
      const many = scene.groupNames.length > 5;
      const hue = g => `hsl(${(g * 137.508 + 205) % 360} ${dark ? "65% 68%" : "70% 38%"})`;
      theme = {
        ink: of("--fg"), line: of("--muted"), paper: of("--panel"), font: style.fontFamily,
        group: g => g < 0 ? of(scene.groupNames.length ? "--fg" : "--series-1") : many ? hue(g) : of(`--series-${g + 1}`),
      };
      theme.colours = scene.groups.map(theme.group);
    }

    function enter(chosen) {
      scene = chosen;
      screen = new Float32Array(scene.names.length * 4);
      order = Uint32Array.from(scene.names, (_, i) => i);
      at = goal = scene.frames.length - 1;
      hovered = -1;
      slider.max = at;
      slider.value = at;
      find(".through").hidden = at === 0;
      readTheme();
      told();
    }

    function told() {
      output.textContent = scene.frames[goal].label;
      slider.setAttribute("aria-valuetext", scene.frames[goal].label);
    }

    function project(width, height) {
      const size = Math.min(width, height) * 0.44 * zoom, [a, b, c] = matrix;
      const before = scene.frames[Math.floor(at)].points, after = scene.frames[Math.ceil(at)].points, part = at % 1;
      for (let i = 0; i < scene.names.length; i++) {
        const p = before[i], q = after[i];
        const x = p[0] + part * (q[0] - p[0]), y = p[1] + part * (q[1] - p[1]), z = p[2] + part * (q[2] - p[2]);
        const depth = c[0] * x + c[1] * y + c[2] * z, scale = DISTANCE / (DISTANCE - depth);
        screen[4 * i] = width / 2 + (a[0] * x + a[1] * y + a[2] * z) * size * scale;
        screen[4 * i + 1] = height / 2 - (b[0] * x + b[1] * y + b[2] * z) * size * scale;
        screen[4 * i + 2] = depth;
        screen[4 * i + 3] = scale;
      }
    }

    // Edges in three bands of depth, the farthest first and faintest.
    function drawEdges() {
      const bands = [[], [], []];
      for (const edge of scene.edges) {
        const depth = (screen[4 * edge[0] + 2] + screen[4 * edge[1] + 2]) / 2;
        bands[depth < -0.25 ? 0 : depth < 0.25 ? 1 : 2].push(edge);
      }
      const dense = scene.edges.length > 500;
      pen.strokeStyle = theme.line;
      bands.forEach((edges, band) => stroke(edges, [0.3, 0.5, 0.8][band], dense ? 0.7 : 1.2));
      if (hovered >= 0) {
        pen.strokeStyle = theme.ink;
        stroke(scene.edges.filter(edge => edge.includes(hovered)), 1, 2);
      }
    }

    function stroke(edges, alpha, width) {
      pen.globalAlpha = alpha;
      pen.lineWidth = width;
      pen.beginPath();
      for (const [a, b] of edges) {
        pen.moveTo(screen[4 * a], screen[4 * a + 1]);
        pen.lineTo(screen[4 * b], screen[4 * b + 1]);
      }
      pen.stroke();
    }

    function drawNodes() {
      const n = order.length, radius = n > 600 ? 2.6 : n > 100 ? 3.4 : 5.5;
      order.sort((i, j) => screen[4 * i + 2] - screen[4 * j + 2] || i - j);
      pen.lineWidth = 1;
      for (const i of order) {
        pen.globalAlpha = i === hovered ? 1 : clamp(0.78 + 0.3 * screen[4 * i + 2], 0.45, 1);
        pen.fillStyle = theme.colours[i];
        pen.strokeStyle = i === hovered ? theme.ink : theme.paper;
        pen.beginPath();
        pen.arc(screen[4 * i], screen[4 * i + 1], (i === hovered ? 1.6 : 1) * radius * screen[4 * i + 3], 0, 7);
        pen.fill();
        if (n <= 600 || i === hovered) pen.stroke();
      }
      pen.globalAlpha = 1;
      if (n > MOST_NAMED) return;
      pen.font = `11px ${theme.font}`;
      pen.fillStyle = theme.ink;
      for (const i of order) {
        const right = screen[4 * i] > stage.clientWidth * 0.75;
        pen.textAlign = right ? "right" : "left";
        pen.fillText(short(scene.names[i]), screen[4 * i] + (right ? -8 : 8), screen[4 * i + 1] - 7);
      }
    }

    const short = name => (name = name.replace(/^node /, "")).length > 14 ? `${name.slice(0, 13)}…` : name;

    function draw(now) {
      asked = 0;
      // A frame's time may lie before the event that asked for it.
      const elapsed = clamp(now - last, 0, 50), { clientWidth: width, clientHeight: height } = stage;
      last = now;
      if (at !== goal) at = still.matches ? goal : approach(elapsed / MORPH_MS);
      if (spinning) matrix = turned(matrix, radians(elapsed * 0.02), 0);
      const ratio = devicePixelRatio || 1;
      if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
        [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
      }
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, width, height);
      project(width, height);
      drawEdges();
      drawNodes();
      placeTip(width);
      if (spinning || at !== goal) ask();
    }

    // The farther the goal was, the faster, so that every jump takes as long.
    function approach(part) {
      const stride = part * pace;
      return Math.abs(goal - at) <= stride ? goal : at + Math.sign(goal - at) * stride;
    }

    function ask() {
      if (asked) return;
      asked = requestAnimationFrame(draw);
    }

    function placeTip(width) {
      tip.hidden = hovered < 0;
      if (hovered < 0) return;
      const group = scene.groups[hovered];
      tip.textContent = scene.names[hovered] + (group < 0 ? "" : ` · ${scene.groupNames[group]}`);
      const x = clamp(screen[4 * hovered] + 12, 0, width - tip.offsetWidth - 2);
      tip.style.transform = `translate(${x}px, ${Math.max(2, screen[4 * hovered + 1] - 34)}px)`;
    }

    function nearest(x, y) {
      let best = -1, least = NEAR * NEAR;
      for (const i of order) {
        const distance = (screen[4 * i] - x) ** 2 + (screen[4 * i + 1] - y) ** 2;
        if (distance <= least) [best, least] = [i, distance];
      }
      return best;
    }

    function setSpin(on) {
      spinning = on;
      spin.setAttribute("aria-pressed", on);
      last = performance.now();
      ask();
    }

    function reset() {
      matrix = turned([[1, 0, 0], [0, 1, 0], [0, 0, 1]], radians(START.yaw), radians(START.pitch));
      zoom = START.zoom;
      ask();
    }

    function closer(factor) {
      zoom = clamp(zoom * factor, 0.4, 12);
      ask();
    }

    let held = null;
    canvas.addEventListener("pointerdown", event => {
      held = [event.offsetX, event.offsetY];
      setSpin(false);
      canvas.setPointerCapture(event.pointerId);
      canvas.classList.add("held");
      hovered = nearest(...held);
    });
    canvas.addEventListener("pointermove", event => {
      if (held) {
        const [x, y] = [event.offsetX, event.offsetY];
        matrix = turned(matrix, radians((x - held[0]) * 0.5), radians((y - held[1]) * 0.5));
        held = [x, y];
      } else {
        hovered = nearest(event.offsetX, event.offsetY);
      }
      ask();
    });
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, () => { held = null; canvas.classList.remove("held"); });
    }
    canvas.addEventListener("pointerleave", () => { if (!held) { hovered = -1; ask(); } });
    canvas.addEventListener("wheel", event => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      closer(Math.exp(-event.deltaY / 200));
    }, { passive: false });
    const keys = {
      ArrowLeft: () => turnBy(-STEP, 0), ArrowRight: () => turnBy(STEP, 0),
      ArrowUp: () => turnBy(0, -STEP), ArrowDown: () => turnBy(0, STEP),
      "+": () => closer(1.2), "=": () => closer(1.2), "-": () => closer(1 / 1.2), Home: reset,
    };
    const turnBy = (yaw, pitch) => { matrix = turned(matrix, radians(yaw), radians(pitch)); ask(); };
    canvas.addEventListener("keydown", event => {
      if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      setSpin(false);
      keys[event.key]();
    });
    slider.addEventListener("input", () => {
      goal = Number(slider.value);
      pace = Math.abs(goal - at);
      last = performance.now();
      told();
      ask();
    });
    choice.addEventListener("change", () => { enter(scenes[choice.selectedIndex]); ask(); });
    spin.addEventListener("click", () => setSpin(!spinning));
    find(".back").addEventListener("click", () => { setSpin(false); reset(); });
    for (const media of ["screen and (prefers-color-scheme: dark)", "print"]) {
      matchMedia(media).addEventListener("change", () => { readTheme(); ask(); });
    }
    for (const { name } of scenes) choice.append(new Option(name));
    find(".way").hidden = scenes.length < 2;
    for (const part of figure.querySelectorAll(".stage, .controls, .hint")) part.hidden = false;
    enter(scenes[0]);
    reset();
    new ResizeObserver(ask).observe(stage);
  }

  document.querySelectorAll("figure.turning").forEach(mount);
})();
