// The whole page: asks for its state again and again, and connects what the page's parts share.

import { announce, app, byId, pause, request, showLocked, token, withErrors } from "./base.js";
import { openEditor, writeFile } from "./editor.js";
import { addArchive, drawArchives } from "./pictures.js";
import { compare, drawReleases } from "./releases.js";
import { connectTrial } from "./trial.js";
import { drawRun, drawRuns, openLog } from "./training.js";

app.refresh = async () => {
  app.state = await request("/api/state");
  byId("store").textContent = app.state.store;
  if (!app.state.runs.some(run => run.name === app.shownRun)) app.shownRun = app.state.runs[0]?.name || "";
  drawArchives();
  drawRuns();
  drawReleases();
  await drawRun();
};

async function watch() {
  let offline = false;
  while (byId("locked").hidden) {
    try {
      if (!document.hidden) {
        await app.refresh();
        if (offline) announce("");
        offline = false;
      }
    } catch (error) {
      announce("✗ " + error.message);
      offline = true;
    }
    await pause(offline ? 4000 : 1500);
  }
  announce("");
}

const added = file => addArchive(file, writeFile);
byId("file").addEventListener("change", () => added(byId("file").files[0]));
byId("compare").addEventListener("submit", event => { event.preventDefault(); withErrors(compare, event.submitter); });
for (const name of ["dragover", "dragenter"])
  byId("drop").addEventListener(name, event => { event.preventDefault(); byId("drop").classList.add("over"); });
for (const name of ["dragleave", "drop"]) byId("drop").addEventListener(name, () => byId("drop").classList.remove("over"));
byId("drop").addEventListener("drop", event => { event.preventDefault(); added(event.dataTransfer.files[0]); });
// A file that is dropped beside the field must not replace the page.
for (const name of ["dragover", "drop"]) window.addEventListener(name, event => event.preventDefault());

openEditor();
openLog();
connectTrial();
if (token) watch();
else showLocked();
