"use strict";

const byId = id => document.getElementById(id);
const token = location.hash.slice(1) || sessionStorage.getItem("token") || "";
sessionStorage.setItem("token", token);
history.replaceState(null, "", location.pathname);

let state = { archives: [], runs: [], releases: [] };
let shownRun = "";
const chosen = new Set();

// Elements: make("li", { class: "x", onclick: f }, child, "text", …)
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (typeof value === "boolean") element.toggleAttribute(name, value);
    else element.setAttribute(name, value);
  }
  element.append(...children.filter(child => child !== "" && child !== null));
  return element;
}

// Redraws a list only when it has changed, and keeps the keyboard focus.
function fill(target, key, children) {
  if (target.dataset.key === key) return;
  const focused = document.activeElement && target.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
  target.dataset.key = key;
  target.replaceChildren(...children());
  if (focused) target.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
}

function button(label, focus, work) {
  return make("button", { type: "button", "data-focus": focus, onclick: event => withErrors(work, event.target) }, label);
}

let clearTimer;
function announce(message) {
  byId("message").textContent = message;
  clearTimeout(clearTimer);
  if (!message.startsWith("✗")) clearTimer = setTimeout(() => { byId("message").textContent = ""; }, 10000);
}

// Runs the work and announces its error; the element that triggered it is disabled meanwhile.
async function withErrors(work, trigger) {
  if (trigger) trigger.disabled = true;
  try { await work(); }
  catch (error) { announce("✗ " + error.message); }
  finally { if (trigger) trigger.disabled = false; }
}

// GET without a body, POST with one; returns the JSON document or throws its error.
async function request(path, body) {
  const options = { headers: { "X-Atoll-Token": token } };
  if (body !== undefined) Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  let response;
  try { response = await fetch(path, options); }
  catch { throw new Error("atoll ui does not answer; is it still running in its terminal?"); }
  const json = await response.json();
  if (!response.ok) throw new Error(json.error || `the page was answered with ${response.status}`);
  return json;
}

const pause = millis => new Promise(done => setTimeout(done, millis));

async function waitForTask(started, onProgress) {
  for (;;) {
    const now = await request("/api/errands/" + started.task);
    if (now.state === "done") return now;
    if (now.state === "refused") throw new Error(now.error);
    onProgress(now.message);
    await pause(300);
  }
}

const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
const megabytes = bytes => bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
function time(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

// 1 Pictures

function upload(file) {
  const xhr = new XMLHttpRequest();
  byId("drop-problem").textContent = "";
  byId("upload-progress").hidden = false;
  xhr.open("POST", "/api/archives?name=" + encodeURIComponent(file.name));
  xhr.setRequestHeader("X-Atoll-Token", token);
  xhr.upload.onprogress = event => { byId("upload-progress").value = 100 * event.loaded / event.total; };
  return new Promise((done, failed) => {
    xhr.onload = () => {
      let response = {};
      try { response = JSON.parse(xhr.responseText); } catch { /* reported below */ }
      if (xhr.status === 200) done(response); else failed(new Error(response.error || "the upload was refused"));
    };
    xhr.onerror = () => failed(new Error("the upload broke off; is atoll ui still running in its terminal?"));
    xhr.send(file);
  });
}

async function addArchive(file) {
  if (!file) return;
  try {
    announce(`sending ${file.name}`);
    const started = await upload(file);
    byId("upload-progress").hidden = true;
    const added = await waitForTask(started, announce);
    announce(`${file.name} is in the store`);
    chosen.clear();
    chosen.add(added.name);
    await refresh();
    showContents(added.name, added.lint);
    await writeFile();
  } catch (error) {
    byId("drop-problem").textContent = error.message;
    announce("");
  } finally {
    byId("upload-progress").hidden = true;
    byId("file").value = "";
  }
}

function drawArchives() {
  fill(byId("archives"), JSON.stringify([state.archives, [...chosen]]), () => state.archives.map(item => {
    const box = make("input", { type: "checkbox", checked: chosen.has(item.name), "data-focus": "archive " + item.name,
      onchange: () => { box.checked ? chosen.add(item.name) : chosen.delete(item.name); drawArchives(); } });
    const message = item.lint ? item.lint.message : "not looked into yet";
    return make("li", {}, make("label", { class: "grow" }, box, " ", make("span", { class: "name" }, item.name), " ",
      make("span", { class: "muted" }, `${megabytes(item.bytes)}, ${message}`)),
      item.lint ? button("What is in it", "contents " + item.name, () => showContents(item.name, item.lint)) : "");
  }));
  byId("write").disabled = !chosen.size;
}

function showContents(name, lint) {
  const splits = Object.keys(lint.split || {});
  const tiny = lint.classes.some(item => item.tiny);
  const rows = lint.classes.map(item => make("tr", {}, make("th", { scope: "row" }, item.name),
    ...splits.map(split => make("td", {}, String(item.boxes[split] || 0))), tiny ? make("td", {}, String(item.tiny)) : ""));
  const counts = splits.map(split => `${lint.split[split]} ${split}`).join(", ");
  const empty = lint.negatives ? ` ${plural(lint.negatives, "picture")} without objects.` : "";
  const problems = Object.entries(lint.problemCounts || {}).map(([kind, count]) => `${kind}: ${count}`);
  byId("contents").hidden = false;
  byId("contents").replaceChildren(
    make("h3", {}, name),
    make("p", {}, `${lint.message}. Pictures: ${counts}.${empty}`),
    make("table", {}, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "boxes"),
      ...splits.map(split => make("th", { scope: "col" }, split)), tiny ? make("th", { scope: "col" }, "tiny") : "")), make("tbody", {}, ...rows)),
    ...(lint.warnings || []).map(warning => make("p", {}, "⚠ " + warning)),
    ...(problems.length ? [make("p", { class: "muted" }, "Counted on the way: " + problems.join(", "))] : []));
}

// 2 run.yaml

async function writeFile() {
  const archives = [...chosen];
  const started = await request("/api/drafts", { archives, from: byId("from").value });
  const draft = await waitForTask(started, message => { byId("estimate").textContent = message + " …"; });
  byId("text").value = draft.text;
  showContents(archives.join(", "), draft.lint);
  byId("estimate").textContent = draft.seconds ? `About ${time(draft.seconds)} (${draft.basis}).` : `No estimate: ${draft.basis}.`;
  announce(`run ${draft.run} can start`);
  await check();
}

async function check() {
  const text = byId("text").value;
  const problems = text.trim() ? (await request("/api/checks", { text })).problems : [];
  byId("problems").replaceChildren(...problems.map(problem => make("li", {}, problem)));
  byId("start").disabled = !text.trim() || problems.length > 0;
}

async function start() {
  const queued = await request("/api/runs", { text: byId("text").value });
  shownRun = queued.run;
  announce(`run ${queued.run} is in the queue`);
  await refresh();
}

// 3 Training

const STATE_MARKS = { Succeeded: ["✓", "good"], Failed: ["✗", "bad"], Cancelled: ["✗", "idle"], Suspended: ["‖", "idle"],
  Interrupted: ["‖", "bad"], Queued: ["…", "idle"], Pending: ["…", "idle"] };

const STAGE_MARKS = { Succeeded: "✓", Failed: "✗", Running: "▶ now", Skipped: "– skipped", Pending: "…" };

function stateLabel(run) {
  const [mark, kind] = STATE_MARKS[run.state] || ["▶", "busy"];
  return make("span", { class: "state " + kind }, `${mark} ${run.state}${run.queuePosition ? " " + run.queuePosition : ""}`);
}

function actionButtons(run) {
  const actionButton = (label, action) => button(label, `${action} ${run.name}`, async () => {
    await request(`/api/runs/${run.name}/${action}`, {});
    await refresh();
  });
  const buttons = [];
  if (["Suspended", "Interrupted", "Failed"].includes(run.state)) buttons.push(actionButton(run.state === "Failed" ? "Try again" : "Go on", "resume"));
  if (run.state === "Queued" || (run.working && !run.ended)) buttons.push(actionButton(run.state === "Queued" ? "Take out" : "Suspend", "suspend"));
  if (!run.ended && run.model) buttons.push(actionButton("Cancel", "cancel"));
  return buttons;
}

function drawRuns() {
  byId("no-runs").hidden = state.runs.length > 0;
  fill(byId("runs"), JSON.stringify([state.runs, shownRun]), () => state.runs.map(run => make("li", {},
    make("button", { type: "button", class: "grow", "data-focus": "run " + run.name, "aria-pressed": String(run.name === shownRun),
      onclick: () => { shownRun = run.name; withErrors(drawRun); drawRuns(); } }, make("span", { class: "name" }, run.name),
      run.ap50 ? make("span", { class: "muted" }, ` AP50 ${run.ap50}`) : ""),
    stateLabel(run))));
}

async function drawRun() {
  const listed = state.runs.find(run => run.name === shownRun);
  byId("run").hidden = !listed;
  if (!listed) return;
  const run = listed.model ? await request("/api/runs/" + encodeURIComponent(shownRun)) : { ...listed, stages: [], curve: [], perClass: [] };
  fill(byId("run"), JSON.stringify(run), () => [
    make("h3", {}, run.name),
    make("progress", { max: "100", value: String(run.percent), "aria-label": `${run.name}: ${run.percent} percent` }),
    make("p", {}, stateLabel(run), " ", run.problem || run.message || "", run.eta ? ` About ${time(run.eta)} of training left.` : ""),
    make("ol", { class: "stages" }, ...run.stages.map(stage => make("li", { class: stage.phase, title: stage.message },
      make("b", {}, stage.name), make("br"), make("span", { class: "hidden" }, stage.phase + " "),
      (STAGE_MARKS[stage.phase] || "") + (stage.seconds ? ` ${time(stage.seconds)}` : "")))),
    ...(run.curve.length > 1 ? [curve(run), make("p", { class: "muted" }, curveDescription(run))] : []),
    ...(run.perClass.length ? [make("p", {}, "AP50: " + run.perClass.map(item => `${item.name} ${Number(item.ap50).toFixed(3)}`).join(", "))] : []),
    make("p", { class: "row" }, ...(run.report ? [button("Open the report", "report", () => openReport(run.name))] : []), ...actionButtons(run)),
  ]);
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
  const svg = (tag, attributes, text = "") => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.textContent = text;
    return element;
  };
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

async function openReport(name) {
  const tab = window.open("about:blank");
  try {
    const link = await request(`/api/runs/${name}/report`, {});
    if (tab) { tab.opener = null; tab.location = link.path; } else location.assign(link.path);
  } catch (error) { tab?.close(); throw error; }
}

// 4 Releases

function drawReleases() {
  byId("no-releases").hidden = state.releases.length > 0;
  if (state.problem) byId("no-releases").textContent = "✗ " + state.problem;
  byId("compare").hidden = state.releases.length < 2;
  const key = JSON.stringify(state.releases);
  const newest = [...state.releases].reverse();
  fill(byId("releases"), key, () => newest.map(item => make("li", {},
    make("span", { class: "grow" }, make("span", { class: "name" }, item.release), " ", make("span", { class: "muted" },
      [item.ap50 === undefined ? "" : `AP50 ${item.ap50.toFixed(2)}`, item.tpu ? "Edge TPU" : "CPU only", item.labels.join(" "), item.channels.join(" ")].filter(Boolean).join(" · "))),
    state.runs.some(run => run.name === item.run && run.report) ? button("Report", "report " + item.release, () => openReport(item.run)) : "",
    button("model.tar.gz", "bundle " + item.release, async () => {
      const link = await request(`/api/releases/${item.release}/bundle`, {});
      make("a", { href: link.path, download: "model.tar.gz" }).click();
      announce(`${item.release} is in your downloads`);
    }))));
  const options = () => newest.map(item => make("option", {}, item.release));
  fill(byId("from"), key, () => [make("option", { value: "" }, "no release"), ...options()]);
  if (byId("old").dataset.key !== key) {
    fill(byId("old"), key, options);
    fill(byId("new"), key, options);
    byId("old").selectedIndex = Math.min(1, newest.length - 1);
  }
}

function changeCell(old, now) {
  const gain = old === undefined || now === undefined ? NaN : now - old;
  if (Number.isNaN(gain)) return make("td", {}, "");
  if (Math.abs(gain) < 0.0005) return make("td", {}, "= same");
  return gain > 0 ? make("td", { class: "better" }, `▲ ${gain.toFixed(3)} better`) : make("td", { class: "worse" }, `▼ ${(-gain).toFixed(3)} worse`);
}

function figuresTable(names, rows, facts = []) {
  const shown = value => value === undefined ? "–" : value.toFixed(3);
  const head = ["", ...names, "change"].map(title => make("th", { scope: "col" }, title));
  const figures = rows.map(row => make("tr", {}, make("th", { scope: "row" }, row.name), make("td", {}, shown(row.old)), make("td", {}, shown(row.new)), changeCell(row.old, row.new)));
  const others = facts.map(row => make("tr", {}, make("th", { scope: "row" }, row.name), make("td", {}, row.old), make("td", {}, row.new), make("td")));
  return make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...figures, ...others));
}

function setRows(set) {
  const rows = [{ name: "AP50", old: set.old.ap50, new: set.new.ap50 }, { name: "AP", old: set.old.ap, new: set.new.ap }];
  const classes = Object.keys({ ...set.old.perClass, ...set.new.perClass });
  return [...rows, ...classes.map(name => ({ name: "AP50 of " + name, old: set.old.perClass[name], new: set.new.perClass[name] }))];
}

async function compare() {
  const pair = { old: byId("old").value, new: byId("new").value };
  const own = await request(`/api/comparison?old=${encodeURIComponent(pair.old)}&new=${encodeURIComponent(pair.new)}`);
  const waiting = make("p", { role: "status" });
  byId("comparison").replaceChildren(make("h3", {}, "By their own figures"), figuresTable([pair.old, pair.new], own.figures, own.facts),
    make("p", { class: "muted" }, own.note), make("h3", {}, "On the same pictures"), waiting);
  if (pair.old === pair.new) { waiting.textContent = "Both are the same release."; return; }
  try {
    const both = await waitForTask(await request("/api/comparisons", pair), message => { waiting.textContent = message + " …"; });
    const sets = both.sets.flatMap(set => [make("p", {}, `${set.name}: ${plural(set.pictures, "picture")}, ${plural(set.boxes, "box")}`.replace(/boxs$/, "boxes")),
      figuresTable([pair.old, pair.new], setRows(set))]);
    waiting.replaceWith(...sets, ...both.notes.map(note => make("p", { class: "muted" }, note)),
      make("p", {}, make("a", { href: both.path, target: "_blank", rel: "noopener" }, "The pictures on which they differ the most")));
  } catch (error) { waiting.replaceWith(make("p", { class: "problem" }, error.message)); }
}

// The whole page

async function refresh() {
  state = await request("/api/state");
  byId("store").textContent = state.store;
  if (!shownRun && state.runs.length) shownRun = state.runs[0].name;
  drawArchives(); drawRuns(); drawReleases();
  await drawRun();
}

async function watch() {
  let offline = false;
  for (;;) {
    try {
      if (!document.hidden) { await refresh(); if (offline) announce(""); offline = false; }
    } catch (error) { announce("✗ " + error.message); offline = true; }
    await pause(offline ? 4000 : 1500);
  }
}

let checkTimer;
byId("file").addEventListener("change", () => addArchive(byId("file").files[0]));
byId("write").addEventListener("click", event => withErrors(writeFile, event.target).then(() => { byId("write").disabled = !chosen.size; }));
byId("start").addEventListener("click", event => withErrors(start, event.target));
byId("text").addEventListener("input", () => { clearTimeout(checkTimer); checkTimer = setTimeout(() => withErrors(check), 400); });
byId("compare").addEventListener("submit", event => { event.preventDefault(); withErrors(compare, event.submitter); });
for (const name of ["dragover", "dragenter"])
  byId("drop").addEventListener(name, event => { event.preventDefault(); byId("drop").classList.add("over"); });
for (const name of ["dragleave", "drop"]) byId("drop").addEventListener(name, () => byId("drop").classList.remove("over"));
byId("drop").addEventListener("drop", event => { event.preventDefault(); addArchive(event.dataTransfer.files[0]); });
// A file that is dropped beside the field must not replace the page.
for (const name of ["dragover", "drop"]) window.addEventListener(name, event => event.preventDefault());

if (token) watch();
else announce("✗ open the address that atoll ui printed in its terminal");
