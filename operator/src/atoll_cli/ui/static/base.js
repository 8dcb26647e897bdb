// What the parts of the page share: its state, elements, requests and words.

export const app = { state: { archives: [], runs: [], releases: [] }, shownRun: "", chosen: new Set(), refresh: async () => {} };

export const byId = id => document.getElementById(id);

export const token = location.hash.slice(1) || sessionStorage.getItem("token") || "";
sessionStorage.setItem("token", token);
history.replaceState(null, "", location.pathname);

// Elements: make("li", { class: "x", onclick: f }, child, "text", …)
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (typeof value === "boolean") element.toggleAttribute(name, value);
    else element.setAttribute(name, value);
  }
  element.append(...children.filter(child => child !== "" && child !== null));
  return element;
}

export function svg(tag, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

// Redraws a list only when it has changed, and keeps the keyboard focus.
export function fill(target, key, children) {
  if (target.dataset.key === key) return;
  const focused = document.activeElement && target.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
  target.dataset.key = key;
  target.replaceChildren(...children());
  if (focused) target.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
}

export function button(label, focus, work) {
  return make("button", { type: "button", "data-focus": focus, onclick: event => withErrors(work, event.target) }, label);
}

let clearTimer;
export function announce(message) {
  if (!byId("locked").hidden) return;
  byId("message").textContent = message;
  clearTimeout(clearTimer);
  if (!message.startsWith("✗")) clearTimer = setTimeout(() => { byId("message").textContent = ""; }, 10000);
}

// Runs the work and announces its error; the element that triggered it is disabled meanwhile.
export async function withErrors(work, trigger) {
  if (trigger) trigger.disabled = true;
  try { await work(); }
  catch (error) { announce("✗ " + error.message); }
  finally { if (trigger) trigger.disabled = false; }
}

// Whether the user agrees. Escape and the first button say no.
export function agreed(question, yes, no = "No") {
  const dialog = byId("question");
  byId("question-text").textContent = question;
  byId("question-yes").textContent = yes;
  byId("question-no").textContent = no;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise(done => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}

// Nothing but the sentence: what the page showed before may be of another folder.
export function showLocked() {
  byId("message").textContent = "";
  byId("store").textContent = "";
  document.querySelector("main").hidden = true;
  byId("locked").hidden = false;
}

// GET without a body, POST with one (an object, or a Blob as it is); returns the JSON document or throws its error.
export async function request(path, body) {
  const options = { headers: { "X-Atoll-Token": token } };
  if (body !== undefined) Object.assign(options, { method: "POST", body: body instanceof Blob ? body : JSON.stringify(body) });
  let response;
  try { response = await fetch(path, options); }
  catch { throw new Error("atoll ui does not answer; is it still running in its terminal?"); }
  const json = await response.json();
  if (response.status === 403) showLocked();
  if (!response.ok) throw new Error(json.error || `the page was answered with ${response.status}`);
  return json;
}

export const pause = millis => new Promise(done => setTimeout(done, millis));

export async function waitForTask(started, onProgress) {
  for (;;) {
    const now = await request("/api/errands/" + started.task);
    if (now.state === "done") return now;
    if (now.state === "refused") throw new Error(now.error);
    onProgress(now.message);
    await pause(300);
  }
}

export const plural = (count, word, many = word + "s") => `${count.toLocaleString("en")} ${count === 1 ? word : many}`;
export const megabytes = bytes => bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
export function time(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}
