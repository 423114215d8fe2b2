// What the templates cannot do: copy to the clipboard, say what changed, show that the service is away.
"use strict";

const announce = () => {
  const live = document.getElementById("live");
  const said = document.getElementById("announce");
  if (live && said && said.textContent !== live.dataset.announce) said.textContent = live.dataset.announce;
};

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const label = button.firstChild;
  const before = button.dataset.label || label.textContent;
  button.dataset.label = before;
  try {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent.trim());
    label.textContent = "Copied";
  } catch {
    // No clipboard without a secure context: select the text, so that a key press copies it.
    getSelection().selectAllChildren(document.getElementById(button.dataset.copy));
    label.textContent = "Selected";
  }
  setTimeout(() => { label.textContent = before; }, 1500);
});

const offline = (away) => { document.getElementById("offline").hidden = !away; };
document.addEventListener("htmx:sendError", () => offline(true));
document.addEventListener("htmx:responseError", (event) => {
  // A session that has ended, or a job that is gone: the page itself says so.
  if ([401, 403, 404, 409].includes(event.detail.xhr.status)) location.reload();
  else offline(true);
});
document.addEventListener("htmx:afterSwap", () => { offline(false); announce(); });

// Plots: the numbers come from the service, the colours from the style sheet.
const drawn = new Map();
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const short = (value) => value == null ? "–" : Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : String(+value.toPrecision(3));

const draw = (element, data) => {
  const axis = (more) => ({
    stroke: color("quiet"), font: "12px system-ui, sans-serif", ticks: { show: false },
    grid: { stroke: color("grid"), width: 1 }, ...more,
  });
  const series = data.series.map((line) => ({
    label: line.label,
    stroke: color(line.color),
    width: line.kind === "bars" ? 1 : 2,
    dash: line.kind === "dashed" ? [6, 5] : undefined,
    fill: line.kind === "bars" ? color(line.color) : undefined,
    paths: line.kind === "bars" ? uPlot.paths.bars({ size: [0.7, 40] }) : undefined,
    points: { show: line.kind === "line" && line.values.filter((value) => value !== null).length <= 8, size: 6, fill: color("surface") },
    spanGaps: true,
    value: (_plot, value) => short(value),
  }));
  return new uPlot({
    width: element.clientWidth,
    height: 216,
    scales: {
      x: { time: false, range: data.series[0].kind === "bars" ? (_plot, low, high) => [low - 0.5, high + 0.5] : undefined },
      y: { range: (_plot, low, high) => [Math.min(0, low), high > 0 ? high * 1.08 : 1] },
    },
    series: [{ label: "Pick", value: (_plot, value) => short(value) }, ...series],
    axes: [
      axis({ grid: { show: false }, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6], size: 30 }),
      axis({ size: 52, values: (_plot, ticks) => ticks.map(short) }),
    ],
    cursor: { y: false, drag: { x: false, y: false } },
    padding: [8, 8, 0, 0],
  }, [data.x, ...data.series.map((line) => line.values)], element);
};

const redraw = (element) => {
  const known = drawn.get(element);
  if (known.plot) known.plot.destroy();
  known.plot = draw(element, known.data);
};

const drawAll = async () => {
  for (const element of drawn.keys()) if (!element.isConnected) drawn.delete(element);
  const waiting = [...document.querySelectorAll("[data-plot]")].filter((element) => !drawn.has(element));
  if (waiting.length === 0) return;
  waiting.forEach((element) => drawn.set(element, {}));
  const answer = await fetch(waiting[0].dataset.from);
  if (!answer.ok) return;
  const data = await answer.json();
  for (const element of waiting) {
    drawn.set(element, { data: data[element.dataset.plot] });
    redraw(element);
    new ResizeObserver(() => {
      const plot = drawn.get(element)?.plot;
      if (plot && Math.abs(plot.width - element.clientWidth) > 1) plot.setSize({ width: element.clientWidth, height: plot.height });
    }).observe(element);
  }
};

document.addEventListener("htmx:afterSwap", drawAll);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => [...drawn.keys()].forEach(redraw));
drawAll();

// A target that is not wanted goes; what the form would take is asked for again.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-remove]");
  if (!button) return;
  const form = button.form;
  button.closest(button.dataset.remove).remove();
  form.dispatchEvent(new Event("input"));
});
