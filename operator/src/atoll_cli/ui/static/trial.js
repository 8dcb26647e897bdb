// Try a release: a dropped picture or the webcam, with the boxes that its int8 model finds.

import { announce, byId, make, plural, request, withErrors } from "./base.js";
import { colourOf } from "./gallery.js";

const LONGEST_SIDE = 640;
const trial = { release: "", labels: [], stream: null };

export function openTrial(release) {
  stopCamera();
  Object.assign(trial, { release: release.release, labels: release.labels });
  byId("trial").hidden = false;
  byId("trial-title").textContent = `Try ${trial.release}`;
  byId("trial-canvas").hidden = true;
  byId("trial-found").replaceChildren();
  byId("trial-file").focus();
}

async function tryFile(file) {
  if (!file) return;
  stopCamera();
  byId("trial-found").textContent = "looking …";
  try {
    const found = await request(`/api/releases/${encodeURIComponent(trial.release)}/trial`, file);
    const image = await createImageBitmap(file);
    draw(image, image.width, image.height, found);
  } catch (error) { byId("trial-found").replaceChildren(make("span", { class: "problem" }, error.message)); }
  finally { byId("trial-file").value = ""; }
}

// One frame after the other: the next is sent when the answer to the last is drawn.
async function startCamera() {
  let stream;
  try { stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: LONGEST_SIDE } }, audio: false }); }
  catch (error) { throw new Error(`the webcam cannot be used (${error.name}); allow it in the browser, or drop a picture`); }
  const video = make("video", { muted: true, playsinline: true });
  trial.stream = stream;
  video.srcObject = stream;
  await video.play();
  drawCameraButtons();
  const release = trial.release;
  const frame = document.createElement("canvas");
  try {
    while (trial.stream === stream && trial.release === release) {
      const scale = Math.min(1, LONGEST_SIDE / Math.max(video.videoWidth, video.videoHeight));
      [frame.width, frame.height] = [Math.round(video.videoWidth * scale), Math.round(video.videoHeight * scale)];
      frame.getContext("2d").drawImage(video, 0, 0, frame.width, frame.height);
      const jpeg = await new Promise(done => frame.toBlob(done, "image/jpeg", 0.85));
      const found = await request(`/api/releases/${encodeURIComponent(release)}/trial`, jpeg);
      if (trial.stream === stream) draw(frame, frame.width, frame.height, found);
    }
  } finally { if (trial.stream === stream) stopCamera(); }
}

function stopCamera() {
  trial.stream?.getTracks().forEach(track => track.stop());
  trial.stream = null;
  drawCameraButtons();
}

function drawCameraButtons() {
  byId("trial-camera").hidden = trial.stream !== null;
  byId("trial-stop").hidden = trial.stream === null;
}

function draw(image, width, height, found) {
  const canvas = byId("trial-canvas");
  const scale = Math.min(1, 2 * LONGEST_SIDE / Math.max(width, height));
  [canvas.width, canvas.height] = [Math.round(width * scale), Math.round(height * scale)];
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const unit = Math.max(canvas.width, canvas.height) / 320;
  context.lineWidth = Math.max(2, unit);
  context.font = `${Math.max(12, 9 * unit)}px system-ui, sans-serif`;
  context.textBaseline = "bottom";
  for (const { label, score, box: [xmin, ymin, xmax, ymax] } of [...found.detections].reverse()) {
    const [x, y] = [xmin * canvas.width, ymin * canvas.height];
    const text = `${label} ${Math.round(100 * score)} %`;
    const size = Math.max(12, 9 * unit) * 1.2;
    context.strokeStyle = context.fillStyle = colourOf(trial.labels, label);
    context.strokeRect(x, y, (xmax - xmin) * canvas.width, (ymax - ymin) * canvas.height);
    const left = Math.max(0, Math.min(x, canvas.width - context.measureText(text).width - 6));
    context.fillRect(left, Math.max(0, y - size), context.measureText(text).width + 6, size);
    context.fillStyle = "#fff";
    context.fillText(text, left + 3, Math.max(size, y));
  }
  const list = found.detections.map(item => `${item.label} ${Math.round(100 * item.score)} %`).join(", ");
  const speed = `${Math.round(1000 * found.seconds)} ms on this machine`;
  canvas.hidden = false;
  canvas.setAttribute("aria-label", list || "nothing found");
  byId("trial-found").textContent = found.detections.length
    ? `${plural(found.detections.length, "object")}: ${list} (${speed})` : `Nothing found (${speed}).`;
}

export function connectTrial() {
  const drop = byId("trial");
  byId("trial-file").addEventListener("change", () => tryFile(byId("trial-file").files[0]));
  byId("trial-camera").addEventListener("click", () => withErrors(startCamera));
  byId("trial-stop").addEventListener("click", stopCamera);
  byId("trial-close").addEventListener("click", () => { stopCamera(); byId("trial").hidden = true; announce(""); });
  for (const name of ["dragover", "dragenter"])
    drop.addEventListener(name, event => { event.preventDefault(); drop.classList.add("over"); });
  for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
  drop.addEventListener("drop", event => { event.preventDefault(); tryFile(event.dataTransfer.files[0]); });
}
