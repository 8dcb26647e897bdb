// 3 Training: the list of runs, and one run with its stages, curve and log.

import { agreed, app, button, byId, fill, make, request, svg, time, withErrors } from "./base.js";

const STATE_MARKS = { Succeeded: ["✓", "good"], Failed: ["✗", "bad"], Cancelled: ["–", "idle"], Suspended: ["‖", "idle"],
  Suspending: ["‖", "idle"], Cancelling: ["–", "idle"], Interrupted: ["‖", "bad"], Queued: ["…", "idle"], Pending: ["…", "idle"] };

const STAGE_MARKS = { Succeeded: "✓", Failed: "✗", Cancelled: "– cancelled", Running: "▶ now", Skipped: "– skipped", Pending: "…" };

const CANCEL = name => `Cancel ${name}? It ends for good: what it has learned so far cannot be continued. Suspend keeps it.`;
const DELETE = name => `Delete ${name}? Its log, curve, report and checkpoints are removed. Releases that it has published stay.`;

// The run whose log is shown, and the stage that was chosen for it.
const open = { run: "", stage: "" };

function stateLabel(run) {
  const [mark, kind] = STATE_MARKS[run.state] || ["▶", "busy"];
  return make("span", { class: "state " + kind }, `${mark} ${run.state}${run.queuePosition ? " " + run.queuePosition : ""}`);
}

function actionButtons(run) {
  const actionButton = (label, action, question = "") => button(label, `${action} ${run.name}`, async () => {
    if (question && !await agreed(question, label)) return;
    await request(`/api/runs/${run.name}/${action}`, {});
    await app.refresh();
  });
  const ending = ["Suspending", "Cancelling"].includes(run.state);
  const buttons = [];
  if (["Suspended", "Interrupted", "Failed"].includes(run.state)) buttons.push(actionButton(run.state === "Failed" ? "Try again" : "Go on", "resume"));
  if (run.state === "Queued" || (run.working && !run.ended && !ending && run.state !== "Suspended"))
    buttons.push(actionButton(run.state === "Queued" ? "Take out" : "Suspend", "suspend"));
  if (!run.ended && !ending && run.model) buttons.push(actionButton("Cancel", "cancel", CANCEL(run.name)));
  if (run.ended && run.model && run.state !== "Queued") buttons.push(actionButton("Delete", "delete", DELETE(run.name)));
  return buttons;
}

// On a phone the training lies far below the editor: a link at the top leads there.
function drawNow() {
  const run = app.state.runs.find(item => item.working && !item.ended);
  byId("now").hidden = !run;
  byId("now").textContent = run ? `${run.name}: ${run.state}` : "";
}

export function drawRuns() {
  drawNow();
  byId("no-runs").hidden = app.state.runs.length > 0;
  fill(byId("runs"), JSON.stringify([app.state.runs.map(run => [run.name, run.state, run.queuePosition, run.ap50]), app.shownRun]),
    () => app.state.runs.map(run => make("li", {},
      make("button", { type: "button", class: "grow", "data-focus": "run " + run.name, "aria-pressed": String(run.name === app.shownRun),
        onclick: () => { app.shownRun = run.name; withErrors(drawRun); drawRuns(); } }, make("span", { class: "name" }, run.name),
        run.ap50 ? make("span", { class: "muted" }, ` AP50 ${run.ap50}`) : ""),
      stateLabel(run))));
}

export async function drawRun() {
  const listed = app.state.runs.find(run => run.name === app.shownRun);
  byId("run").hidden = byId("log").hidden = !listed;
  if (!listed) return;
  const run = listed.model ? await request("/api/runs/" + encodeURIComponent(app.shownRun))
    : { ...listed, stages: [], curve: [], perClass: [], targets: [], warnings: [] };
  if (run.name !== app.shownRun) return;
  // The list beside it shows the same state, although it was asked for a moment before.
  Object.assign(listed, { state: run.state });
  drawRuns();
  fill(byId("run"), JSON.stringify(run), () => runView(run));
  byId("log").hidden = !listed.model;
  if (listed.model) await drawLog(run.name);
}

function runView(run) {
  const moving = run.working && !run.ended && run.state !== "Suspended";
  const told = run.stages.filter(stage => stage.message && ["Skipped", "Failed", "Cancelled"].includes(stage.phase) && stage.message !== run.message);
  return [
    make("h3", {}, run.name),
    moving ? make("progress", { max: "100", value: String(run.percent), "aria-label": `${run.name}: ${run.percent} percent` }) : "",
    make("p", {}, stateLabel(run), " ", run.reason ? `${run.reason}: ` : "", run.problem || run.message || "", moving ? make("span", { class: "muted" }, ` ${run.percent} %`) : ""),
    make("ol", { class: "stages" }, ...run.stages.map(stage => make("li", { class: stage.phase },
      make("b", {}, stage.name), make("br"), make("span", { class: "hidden" }, stage.phase + " "),
      (STAGE_MARKS[stage.phase] || "") + (stage.seconds ? ` ${time(stage.seconds)}` : "")))),
    run.advice ? make("p", { class: "muted" }, run.advice) : "",
    ...told.map(stage => make("p", { class: "muted" }, `${stage.name}: ${stage.message}`)),
    ...run.warnings.map(warning => make("p", { class: "warning" }, warning)),
    ...(run.curve.length > 1 ? [curve(run), make("p", { class: "muted", id: "curve-text" }, curveDescription(run))] : []),
    ...(run.perClass.length ? [make("p", {}, "AP50: " + run.perClass.map(item => `${item.name} ${Number(item.ap50).toFixed(3)}`).join(", "))] : []),
    ...(run.targets.length ? [targetsTable(run.targets)] : []),
    make("p", { class: "row" }, ...(run.report ? [button("Open the report", "report", () => openReport(run.name))] : []), ...actionButtons(run)),
  ].filter(child => child !== "");
}

function targetsTable(targets) {
  const shown = value => value ? Number(value).toFixed(3) : "–";
  const head = ["chip", "file", "AP50", "AP", "on the chip"].map(title => make("th", { scope: "col" }, title));
  const rows = targets.map(item => make("tr", {}, make("th", { scope: "row" }, item.name),
    make("td", {}, item.result, item.source ? make("span", { class: "muted" }, ` (figures ${item.source})`) : ""),
    make("td", {}, shown(item.ap50)), make("td", {}, shown(item.ap)),
    make("td", {}, item.mapped ? item.mapped.replace(/^[\d.]+/, "$& %") : "–")));
  return make("table", { id: "targets" }, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows));
}

// The log is asked for while it is open; what the user has scrolled to stays.
async function drawLog(name) {
  if (open.run !== name) Object.assign(open, { run: name, stage: "" });
  if (!byId("log").open) return;
  const log = await request(`/api/runs/${encodeURIComponent(name)}/log?stage=${encodeURIComponent(open.stage)}`);
  if (app.shownRun !== name) return;
  fill(byId("log-stage"), JSON.stringify([log.stages, open.stage]), () => ["", ...log.stages].map(stage =>
    make("option", { value: stage, selected: stage === open.stage }, stage || "newest stage")));
  const text = byId("log-text");
  const atEnd = text.scrollTop + text.clientHeight >= text.scrollHeight - 4;
  const lines = log.lines.join("\n") || "Nothing was written yet.";
  if (text.textContent === lines) return;
  text.textContent = lines;
  if (atEnd) text.scrollTop = text.scrollHeight;
}

export function openLog() {
  const draw = () => withErrors(() => drawLog(app.shownRun));
  byId("log").addEventListener("toggle", draw);
  byId("log-stage").addEventListener("change", () => { open.stage = byId("log-stage").value; draw(); });
}
function curveDescription(run) {
  const last = run.curve[run.curve.length - 1];
  return `Step ${last.step} of ${Math.max(run.steps || 0, last.step)}` + (last.loss === undefined ? "" : `, loss ${last.loss.toFixed(2)}`)
    + (last.ap50 === undefined ? "" : `, best AP50 so far ${last.ap50.toFixed(2)}`);
}

function curve(run) {
  const width = Math.max(280, byId("run").clientWidth);
  const [height, left, right, top, bottom] = [240, 36, 32, 30, 26];
  const last = run.curve[run.curve.length - 1];
  const steps = Math.max(run.steps || 0, last.step);
  const losses = run.curve.map(point => point.loss).filter(value => value !== undefined);
  // The loss of the first steps would flatten the rest of the curve.
  const maxLoss = [...losses].sort((a, b) => a - b)[Math.floor(losses.length * 0.98)] || 1;
  const x = step => left + (width - left - right) * step / steps;
  const y = fraction => top + (height - top - bottom) * (1 - Math.min(1, Math.max(0, fraction)));
  const line = (name, fraction) => run.curve.filter(point => point[name] !== undefined)
    .map((point, index) => `${index ? "L" : "M"}${x(point.step).toFixed(1)} ${y(fraction(point[name])).toFixed(1)}`).join("");
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": curveDescription(run) });
  for (const fraction of [0, 0.5, 1]) {
    drawing.append(svg("line", { class: "axis", x1: left, x2: width - right, y1: y(fraction), y2: y(fraction) }),
      svg("text", { x: left - 6, y: y(fraction) + 4, "text-anchor": "end" }, (fraction * maxLoss).toFixed(1)),
      svg("text", { x: width - right + 6, y: y(fraction) + 4 }, fraction.toFixed(1)));
  }
  for (const step of [0, steps / 2, steps])
    drawing.append(svg("text", { x: x(step), y: height - 6, "text-anchor": "middle" }, String(Math.round(step))));
  drawing.append(svg("path", { class: "loss", d: line("loss", value => value / maxLoss) }), svg("path", { class: "ap", d: line("ap50", value => value) }),
    svg("text", { class: "loss-name", x: 2, y: 14 }, "loss (dashed)"),
    svg("text", { class: "ap-name", x: width - 2, y: 14, "text-anchor": "end" }, "best AP50 (solid)"));
  return drawing;
}

export async function openReport(name) {
  const tab = window.open("about:blank");
  try {
    const link = await request(`/api/runs/${name}/report`, {});
    if (tab) { tab.opener = null; tab.location = link.path; } else location.assign(link.path);
  } catch (error) { tab?.close(); throw error; }
}
