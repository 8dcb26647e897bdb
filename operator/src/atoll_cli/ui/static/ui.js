"use strict";

const at = id => document.getElementById(id);
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

// A list is only drawn anew when it has changed, and the keyboard stays where it was.
function fill(target, key, children) {
  if (target.dataset.key === key) return;
  const held = document.activeElement && target.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
  target.dataset.key = key;
  target.replaceChildren(...children());
  if (held) target.querySelector(`[data-focus="${CSS.escape(held)}"]`)?.focus();
}

function button(words, focus, work) {
  return make("button", { type: "button", "data-focus": focus, onclick: event => guarded(work, event.target) }, words);
}

let quiet;
function say(words) {
  at("said").textContent = words;
  clearTimeout(quiet);
  if (!words.startsWith("✗")) quiet = setTimeout(() => { at("said").textContent = ""; }, 10000);
}

async function guarded(work, pressed) {
  if (pressed) pressed.disabled = true;
  try { await work(); }
  catch (error) { say("✗ " + error.message); }
  finally { if (pressed) pressed.disabled = false; }
}

async function ask(path, body) {
  const options = { headers: { "X-Atoll-Token": token } };
  if (body !== undefined) Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  let answer;
  try { answer = await fetch(path, options); }
  catch { throw new Error("atoll ui does not answer; is it still running in its terminal?"); }
  const document = await answer.json();
  if (!answer.ok) throw new Error(document.error || `the page was answered with ${answer.status}`);
  return document;
}

const pause = millis => new Promise(done => setTimeout(done, millis));

async function errand(started, tell) {
  for (;;) {
    const now = await ask("/api/errands/" + started.errand);
    if (now.state === "done") return now;
    if (now.state === "refused") throw new Error(now.error);
    tell(now.words);
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
  const request = new XMLHttpRequest();
  at("drop-problem").textContent = "";
  at("sent").hidden = false;
  request.open("POST", "/api/archives?name=" + encodeURIComponent(file.name));
  request.setRequestHeader("X-Atoll-Token", token);
  request.upload.onprogress = event => { at("sent").value = 100 * event.loaded / event.total; };
  return new Promise((done, failed) => {
    request.onload = () => {
      let answer = {};
      try { answer = JSON.parse(request.responseText); } catch { /* told below */ }
      if (request.status === 200) done(answer); else failed(new Error(answer.error || "the upload was refused"));
    };
    request.onerror = () => failed(new Error("the upload broke off; is atoll ui still running in its terminal?"));
    request.send(file);
  });
}

async function take(file) {
  if (!file) return;
  try {
    say(`sending ${file.name}`);
    const started = await upload(file);
    at("sent").hidden = true;
    const taken = await errand(started, say);
    say(`${file.name} is in the store`);
    chosen.clear();
    chosen.add(taken.name);
    await refresh();
    showLook(taken.name, taken.look);
    await writeFile();
  } catch (error) {
    at("drop-problem").textContent = error.message;
    say("");
  } finally {
    at("sent").hidden = true;
    at("file").value = "";
  }
}

function drawArchives() {
  fill(at("archives"), JSON.stringify([state.archives, [...chosen]]), () => state.archives.map(item => {
    const box = make("input", { type: "checkbox", checked: chosen.has(item.name), "data-focus": "archive " + item.name,
      onchange: () => { box.checked ? chosen.add(item.name) : chosen.delete(item.name); drawArchives(); } });
    const words = item.look ? item.look.message : "not looked into yet";
    return make("li", {}, make("label", { class: "grow" }, box, " ", make("span", { class: "name" }, item.name), " ",
      make("span", { class: "soft" }, `${megabytes(item.bytes)}, ${words}`)),
      item.look ? button("What is in it", "look " + item.name, () => showLook(item.name, item.look)) : "");
  }));
  at("write").disabled = !chosen.size;
}

function showLook(name, look) {
  const parts = Object.keys(look.split || {});
  const tiny = look.classes.some(item => item.tiny);
  const rows = look.classes.map(item => make("tr", {}, make("th", { scope: "row" }, item.name),
    ...parts.map(part => make("td", {}, String(item.boxes[part] || 0))), tiny ? make("td", {}, String(item.tiny)) : ""));
  const split = parts.map(part => `${look.split[part]} ${part}`).join(", ");
  const empty = look.negatives ? ` ${plural(look.negatives, "picture")} without objects.` : "";
  const problems = Object.entries(look.problemCounts || {}).map(([kind, count]) => `${kind}: ${count}`);
  at("look").hidden = false;
  at("look").replaceChildren(
    make("h3", {}, name),
    make("p", {}, `${look.message}. Pictures: ${split}.${empty}`),
    make("table", {}, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "boxes"),
      ...parts.map(part => make("th", { scope: "col" }, part)), tiny ? make("th", { scope: "col" }, "tiny") : "")), make("tbody", {}, ...rows)),
    ...(look.warnings || []).map(words => make("p", {}, "⚠ " + words)),
    ...(problems.length ? [make("p", { class: "soft" }, "Counted on the way: " + problems.join(", "))] : []));
}

// 2 run.yaml

async function writeFile() {
  const archives = [...chosen];
  const started = await ask("/api/drafts", { archives, from: at("from").value });
  const draft = await errand(started, words => { at("estimate").textContent = words + " …"; });
  at("text").value = draft.text;
  showLook(archives.join(", "), draft.look);
  at("estimate").textContent = draft.seconds ? `About ${time(draft.seconds)} (${draft.basis}).` : `No estimate: ${draft.basis}.`;
  say(`run ${draft.run} can start`);
  await check();
}

async function check() {
  const text = at("text").value;
  const problems = text.trim() ? (await ask("/api/checks", { text })).problems : [];
  at("problems").replaceChildren(...problems.map(words => make("li", {}, words)));
  at("start").disabled = !text.trim() || problems.length > 0;
}

async function start() {
  const begun = await ask("/api/runs", { text: at("text").value });
  shownRun = begun.run;
  say(`run ${begun.run} is in the queue`);
  await refresh();
}

// 3 Training

const MARKS = { Succeeded: ["✓", "good"], Failed: ["✗", "bad"], Cancelled: ["✗", "rest"], Suspended: ["‖", "rest"],
  Interrupted: ["‖", "bad"], Queued: ["…", "rest"], Pending: ["…", "rest"] };

const STAGE_MARKS = { Succeeded: "✓", Failed: "✗", Running: "▶ now", Skipped: "– skipped", Pending: "…" };

function stateWord(run) {
  const [mark, kind] = MARKS[run.state] || ["▶", "busy"];
  return make("span", { class: "state " + kind }, `${mark} ${run.state}${run.place ? " " + run.place : ""}`);
}

function actions(run) {
  const does = (words, action) => button(words, `${action} ${run.name}`, async () => {
    await ask(`/api/runs/${run.name}/${action}`, {});
    await refresh();
  });
  const found = [];
  if (["Suspended", "Interrupted", "Failed"].includes(run.state)) found.push(does(run.state === "Failed" ? "Try again" : "Go on", "resume"));
  if (run.state === "Queued" || (run.working && !run.ended)) found.push(does(run.state === "Queued" ? "Take out" : "Suspend", "suspend"));
  if (!run.ended && run.model) found.push(does("Cancel", "cancel"));
  return found;
}

function drawRuns() {
  at("no-runs").hidden = state.runs.length > 0;
  fill(at("runs"), JSON.stringify([state.runs, shownRun]), () => state.runs.map(run => make("li", {},
    make("button", { type: "button", class: "grow", "data-focus": "run " + run.name, "aria-pressed": String(run.name === shownRun),
      onclick: () => { shownRun = run.name; guarded(drawRun); drawRuns(); } }, make("span", { class: "name" }, run.name),
      run.ap50 ? make("span", { class: "soft" }, ` AP50 ${run.ap50}`) : ""),
    stateWord(run))));
}

async function drawRun() {
  const listed = state.runs.find(run => run.name === shownRun);
  at("run").hidden = !listed;
  if (!listed) return;
  const run = listed.model ? await ask("/api/runs/" + encodeURIComponent(shownRun)) : { ...listed, stages: [], curve: [], perClass: [] };
  fill(at("run"), JSON.stringify(run), () => [
    make("h3", {}, run.name),
    make("progress", { max: "100", value: String(run.percent), "aria-label": `${run.name}: ${run.percent} percent` }),
    make("p", {}, stateWord(run), " ", run.problem || run.message || "", run.eta ? ` About ${time(run.eta)} of training left.` : ""),
    make("ol", { class: "stages" }, ...run.stages.map(stage => make("li", { class: stage.phase, title: stage.message },
      make("b", {}, stage.name), make("br"), make("span", { class: "hidden" }, stage.phase + " "),
      (STAGE_MARKS[stage.phase] || "") + (stage.seconds ? ` ${time(stage.seconds)}` : "")))),
    ...(run.curve.length > 1 ? [curve(run), make("p", { class: "soft" }, curveWords(run))] : []),
    ...(run.perClass.length ? [make("p", {}, "AP50: " + run.perClass.map(item => `${item.name} ${Number(item.ap50).toFixed(3)}`).join(", "))] : []),
    make("p", { class: "row" }, ...(run.report ? [button("Open the report", "report", () => openReport(run.name))] : []), ...actions(run)),
  ]);
}

function curveWords(run) {
  const last = run.curve[run.curve.length - 1];
  return `Step ${last.step} of ${Math.max(run.steps || 0, last.step)}` + (last.loss === undefined ? "" : `, loss ${last.loss.toFixed(2)}`)
    + (last.ap50 === undefined ? "" : `, best AP50 so far ${last.ap50.toFixed(2)}`);
}

function curve(run) {
  const width = Math.max(280, at("run").clientWidth);
  const [height, left, right, top, bottom] = [240, 36, 32, 30, 26];
  const last = run.curve[run.curve.length - 1];
  const steps = Math.max(run.steps || 0, last.step);
  const losses = run.curve.map(point => point.loss).filter(value => value !== undefined);
  // The first steps' loss would flatten all that follows.
  const most = [...losses].sort((a, b) => a - b)[Math.floor(losses.length * 0.98)] || 1;
  const x = step => left + (width - left - right) * step / steps;
  const y = share => top + (height - top - bottom) * (1 - Math.min(1, Math.max(0, share)));
  const line = (name, share) => run.curve.filter(point => point[name] !== undefined)
    .map((point, index) => `${index ? "L" : "M"}${x(point.step).toFixed(1)} ${y(share(point[name])).toFixed(1)}`).join("");
  const svg = (tag, attributes, text = "") => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.textContent = text;
    return element;
  };
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": curveWords(run) });
  for (const share of [0, 0.5, 1]) {
    drawing.append(svg("line", { class: "axis", x1: left, x2: width - right, y1: y(share), y2: y(share) }),
      svg("text", { x: left - 6, y: y(share) + 4, "text-anchor": "end" }, (share * most).toFixed(1)),
      svg("text", { x: width - right + 6, y: y(share) + 4 }, share.toFixed(1)));
  }
  for (const step of [0, steps / 2, steps])
    drawing.append(svg("text", { x: x(step), y: height - 6, "text-anchor": "middle" }, String(Math.round(step))));
  drawing.append(svg("path", { class: "loss", d: line("loss", value => value / most) }), svg("path", { class: "ap", d: line("ap50", value => value) }),
    svg("text", { class: "loss-name", x: 2, y: 14 }, "loss (dashed)"),
    svg("text", { class: "ap-name", x: width - 2, y: 14, "text-anchor": "end" }, "best AP50 (solid)"));
  return drawing;
}

async function openReport(name) {
  const tab = window.open("about:blank");
  try {
    const link = await ask(`/api/runs/${name}/report`, {});
    if (tab) { tab.opener = null; tab.location = link.path; } else location.assign(link.path);
  } catch (error) { tab?.close(); throw error; }
}

// 4 Releases

function drawReleases() {
  at("no-releases").hidden = state.releases.length > 0;
  if (state.problem) at("no-releases").textContent = "✗ " + state.problem;
  at("compare").hidden = state.releases.length < 2;
  const key = JSON.stringify(state.releases);
  const newest = [...state.releases].reverse();
  fill(at("releases"), key, () => newest.map(item => make("li", {},
    make("span", { class: "grow" }, make("span", { class: "name" }, item.release), " ", make("span", { class: "soft" },
      [item.ap50 === undefined ? "" : `AP50 ${item.ap50.toFixed(2)}`, item.tpu ? "Edge TPU" : "CPU only", item.labels.join(" "), item.channels.join(" ")].filter(Boolean).join(" · "))),
    state.runs.some(run => run.name === item.run && run.report) ? button("Report", "report " + item.release, () => openReport(item.run)) : "",
    button("model.tar.gz", "bundle " + item.release, async () => {
      const link = await ask(`/api/releases/${item.release}/bundle`, {});
      make("a", { href: link.path, download: "model.tar.gz" }).click();
      say(`${item.release} is in your downloads`);
    }))));
  const options = () => newest.map(item => make("option", {}, item.release));
  fill(at("from"), key, () => [make("option", { value: "" }, "no release"), ...options()]);
  if (at("old").dataset.key !== key) {
    fill(at("old"), key, options);
    fill(at("new"), key, options);
    at("old").selectedIndex = Math.min(1, newest.length - 1);
  }
}

function verdict(old, now) {
  const gain = old === undefined || now === undefined ? NaN : now - old;
  if (Number.isNaN(gain)) return make("td", {}, "");
  if (Math.abs(gain) < 0.0005) return make("td", {}, "= same");
  return gain > 0 ? make("td", { class: "better" }, `▲ ${gain.toFixed(3)} better`) : make("td", { class: "worse" }, `▼ ${(-gain).toFixed(3)} worse`);
}

function figuresTable(names, rows, facts = []) {
  const shown = value => value === undefined ? "–" : value.toFixed(3);
  const head = ["", ...names, "change"].map(words => make("th", { scope: "col" }, words));
  const figures = rows.map(row => make("tr", {}, make("th", { scope: "row" }, row.name), make("td", {}, shown(row.old)), make("td", {}, shown(row.new)), verdict(row.old, row.new)));
  const others = facts.map(row => make("tr", {}, make("th", { scope: "row" }, row.name), make("td", {}, row.old), make("td", {}, row.new), make("td")));
  return make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...figures, ...others));
}

function setRows(set) {
  const rows = [{ name: "AP50", old: set.old.ap50, new: set.new.ap50 }, { name: "AP", old: set.old.ap, new: set.new.ap }];
  const classes = Object.keys({ ...set.old.perClass, ...set.new.perClass });
  return [...rows, ...classes.map(name => ({ name: "AP50 of " + name, old: set.old.perClass[name], new: set.new.perClass[name] }))];
}

async function compare() {
  const pair = { old: at("old").value, new: at("new").value };
  const own = await ask(`/api/comparison?old=${encodeURIComponent(pair.old)}&new=${encodeURIComponent(pair.new)}`);
  const waiting = make("p", { role: "status" });
  at("comparison").replaceChildren(make("h3", {}, "By their own figures"), figuresTable([pair.old, pair.new], own.figures, own.facts),
    make("p", { class: "soft" }, own.note), make("h3", {}, "On the same pictures"), waiting);
  if (pair.old === pair.new) { waiting.textContent = "Both are the same release."; return; }
  try {
    const both = await errand(await ask("/api/comparisons", pair), words => { waiting.textContent = words + " …"; });
    const sets = both.sets.flatMap(set => [make("p", {}, `${set.name}: ${plural(set.pictures, "picture")}, ${plural(set.boxes, "box")}`.replace(/boxs$/, "boxes")),
      figuresTable([pair.old, pair.new], setRows(set))]);
    waiting.replaceWith(...sets, ...both.notes.map(note => make("p", { class: "soft" }, note)),
      make("p", {}, make("a", { href: both.path, target: "_blank", rel: "noopener" }, "The pictures on which they differ the most")));
  } catch (error) { waiting.replaceWith(make("p", { class: "problem" }, error.message)); }
}

// All of it

async function refresh() {
  state = await ask("/api/state");
  at("store").textContent = state.store;
  if (!shownRun && state.runs.length) shownRun = state.runs[0].name;
  drawArchives(); drawRuns(); drawReleases();
  await drawRun();
}

async function watch() {
  let away = false;
  for (;;) {
    try {
      if (!document.hidden) { await refresh(); if (away) say(""); away = false; }
    } catch (error) { say("✗ " + error.message); away = true; }
    await pause(away ? 4000 : 1500);
  }
}

let typed;
at("file").addEventListener("change", () => take(at("file").files[0]));
at("write").addEventListener("click", event => guarded(writeFile, event.target).then(() => { at("write").disabled = !chosen.size; }));
at("start").addEventListener("click", event => guarded(start, event.target));
at("text").addEventListener("input", () => { clearTimeout(typed); typed = setTimeout(() => guarded(check), 400); });
at("compare").addEventListener("submit", event => { event.preventDefault(); guarded(compare, event.submitter); });
for (const name of ["dragover", "dragenter"])
  at("drop").addEventListener(name, event => { event.preventDefault(); at("drop").classList.add("over"); });
for (const name of ["dragleave", "drop"]) at("drop").addEventListener(name, () => at("drop").classList.remove("over"));
at("drop").addEventListener("drop", event => { event.preventDefault(); take(event.dataTransfer.files[0]); });
// A file that misses the field must not replace the page.
for (const name of ["dragover", "drop"]) window.addEventListener(name, event => event.preventDefault());

if (token) watch();
else say("✗ open the address that atoll ui printed in its terminal");
