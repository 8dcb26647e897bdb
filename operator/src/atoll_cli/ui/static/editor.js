// 2 run.yaml: its draft, its estimate, the editor with line numbers, and the start.

import { announce, app, byId, make, request, time, waitForTask, withErrors } from "./base.js";
import { showContents } from "./pictures.js";

// The newest draft, for the estimate; null where the text in the editor was written by hand.
let draft = null;
// Whether a timing is at work for the newest draft.
let timing = false;
// The steps and settings of the text in the editor, while it is valid.
let valid = null;

export async function writeFile() {
  const wanted = { archives: [...app.chosen], from: byId("from").value };
  const started = await request("/api/drafts", wanted);
  const written = await waitForTask(started, message => { byId("estimate").textContent = message + " …"; })
    .finally(drawEstimate);
  draft = written;
  setText(written.text);
  const [first, ...others] = wanted.archives;
  withErrors(() => showContents([first, ...others].join(", "), written.lint, !others.length));
  announce(`run ${written.run} can start`);
  await check();
  if (!written.timed) withErrors(() => measure(wanted, written));
}

// Times a few steps for the draft, while the user may edit and start it already.
async function measure(wanted, written) {
  timing = true;
  drawEstimate();
  try {
    const timed = await waitForTask(await request("/api/timings", wanted), () => {});
    if (draft !== written) return;
    // The timing also shows whether a GPU trains; its settings differ, but never replace what the user has typed.
    if (timed.timed && byId("text").value === written.text) setText(timed.text);
    draft = timed;
  } finally {
    if (draft === written || draft?.timed) timing = false;
    await check();
  }
}

function setText(text) {
  byId("text").value = text;
  drawLines();
}

function drawEstimate() {
  byId("skip").hidden = !timing;
  byId("estimate").textContent = draft ? estimate() : "";
}

function estimate() {
  if (timing) return "Timing a few training steps on this machine; the run can be started meanwhile.";
  if (!draft.timed) return `No estimate: ${draft.basis}.`;
  if (!valid || !valid.steps) return "";
  if (valid.settings !== draft.settings) return "No estimate: model or batch size differ from what was timed.";
  return `About ${time(Math.max(1, draft.seconds + draft.perStep * (valid.steps - draft.steps)))} (${draft.basis}).`;
}

export async function check() {
  const text = byId("text").value;
  const found = text.trim() ? await request("/api/checks", { text }) : { problems: [] };
  if (text !== byId("text").value) return;
  valid = text.trim() && !found.problems.length ? found : null;
  byId("problems").replaceChildren(...found.problems.map(problem => make("li", {}, problem)));
  byId("start").disabled = !valid;
  const wrong = new Set(found.problems.map(problem => Number(/^run\.yaml:(\d+)/.exec(problem)?.[1])));
  [...byId("lines").children].forEach((line, index) => line.classList.toggle("wrong", wrong.has(index + 1)));
  drawEstimate();
}

// The numbers beside the text: problems name lines.
function drawLines() {
  const count = byId("text").value.split("\n").length;
  const lines = byId("lines");
  while (lines.children.length > count) lines.lastChild.remove();
  while (lines.children.length < count) lines.append(make("span", {}, String(lines.children.length + 1)));
  lines.scrollTop = byId("text").scrollTop;
}

async function start() {
  const queued = await request("/api/runs", { text: byId("text").value });
  app.shownRun = queued.run;
  timing = false;
  drawEstimate();
  announce(`run ${queued.run} is in the queue`);
  await app.refresh();
  byId("runs-title").scrollIntoView({ block: "nearest" });
}

export function openEditor() {
  let timer;
  const text = byId("text");
  text.addEventListener("input", () => {
    drawLines();
    clearTimeout(timer);
    timer = setTimeout(() => withErrors(check), 400);
  });
  text.addEventListener("scroll", () => { byId("lines").scrollTop = text.scrollTop; });
  byId("start").addEventListener("click", event => withErrors(start, event.target).then(() => { byId("start").disabled = !valid; }));
  byId("skip").addEventListener("click", event => withErrors(() => request("/api/timings/skip", {}), event.target));
  byId("write").addEventListener("click", event => withErrors(writeFile, event.target).then(() => { byId("write").disabled = !app.chosen.size; }));
  drawLines();
}
