// 4 Releases: the list, downloads, and the comparison of two.

import { announce, app, button, byId, fill, make, plural, request, waitForTask } from "./base.js";
import { openReport } from "./training.js";
import { openTrial } from "./trial.js";

export function drawReleases() {
  byId("no-releases").hidden = app.state.releases.length > 0;
  if (app.state.problem) byId("no-releases").textContent = "✗ " + app.state.problem;
  byId("compare").hidden = app.state.releases.length < 2;
  const key = JSON.stringify(app.state.releases);
  const newest = [...app.state.releases].reverse();
  fill(byId("releases"), key, () => newest.map(item => make("li", {},
    make("span", { class: "grow" }, make("span", { class: "name" }, item.release), " ", make("span", { class: "muted" },
      [item.ap50 === undefined ? "" : `AP50 ${item.ap50.toFixed(2)}`, item.targets, item.labels.join(" "), item.channels.join(" ")].filter(Boolean).join(" · "))),
    app.state.runs.some(run => run.name === item.run && run.report) ? button("Report", "report " + item.release, () => openReport(item.run)) : "",
    button("Try it", "try " + item.release, () => openTrial(item)),
    button("model.tar.gz", "bundle " + item.release, async () => {
      const link = await request(`/api/releases/${item.release}/bundle`, {});
      make("a", { href: link.path, download: "model.tar.gz" }).click();
      announce(`${item.release} is in your downloads`);
    }))));
  const options = () => newest.map(item => make("option", {}, item.release));
  fill(byId("from"), key, () => [make("option", { value: "" }, "ImageNet weights"), make("option", { value: "random" }, "random weights"), ...options()]);
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

export async function compare() {
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
