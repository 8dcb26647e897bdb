// 1 Pictures: uploads, the list of archives, and what is in one.

import { announce, app, button, byId, fill, make, megabytes, plural, request, token, waitForTask } from "./base.js";
import { showGallery } from "./gallery.js";

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

export async function addArchive(file, onAdded) {
  if (!file) return;
  try {
    announce(`sending ${file.name}`);
    const started = await upload(file);
    byId("upload-progress").hidden = true;
    const added = await waitForTask(started, announce);
    announce(`${file.name} is in the store`);
    app.chosen.clear();
    app.chosen.add(added.name);
    await app.refresh();
    await showContents(added.name, added.lint);
    await onAdded();
  } catch (error) {
    byId("drop-problem").textContent = error.message;
    announce("");
  } finally {
    byId("upload-progress").hidden = true;
    byId("file").value = "";
  }
}

export function drawArchives() {
  byId("no-archives").hidden = app.state.archives.length > 0;
  fill(byId("archives"), JSON.stringify([app.state.archives, [...app.chosen]]), () => app.state.archives.map(item => {
    const box = make("input", { type: "checkbox", checked: app.chosen.has(item.name), "data-focus": "archive " + item.name,
      onchange: () => { box.checked ? app.chosen.add(item.name) : app.chosen.delete(item.name); drawArchives(); } });
    const warnings = item.lint?.warnings?.length || 0;
    const message = (item.lint ? item.lint.message : "not looked into yet") + (warnings ? `, ⚠ ${plural(warnings, "warning")}` : "");
    return make("li", {}, make("label", { class: "grow" }, box, " ", make("span", { class: "name" }, item.name), " ",
      make("span", { class: "muted" }, `${megabytes(item.bytes)}, ${message}`)),
      button(item.lint ? "What is in it" : "Look into it", "contents " + item.name, () => item.lint ? showContents(item.name, item.lint) : inspect(item.name)));
  }));
  byId("write").disabled = !app.chosen.size;
}

async function inspect(name) {
  const found = await waitForTask(await request(`/api/archives/${encodeURIComponent(name)}/inspection`, {}), announce);
  announce("");
  await app.refresh();
  await showContents(name, found.lint);
}

// What is in one archive, or in several taken together, which have no gallery.
export async function showContents(name, lint, gallery = true) {
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
    ...(lint.warnings || []).map(warning => make("p", { class: "warning" }, warning)),
    ...(problems.length ? [make("p", { class: "muted" }, "Counted on the way: " + problems.join(", "))] : []));
  byId("gallery").hidden = !gallery;
  if (gallery) await showGallery(name, lint);
}
