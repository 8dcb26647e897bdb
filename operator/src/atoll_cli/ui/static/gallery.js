// Pictures of an archive with their boxes, by class.

import { byId, make, plural, request, svg, withErrors } from "./base.js";

const NO_BOX = "-";
// Blue, vermilion, green, purple, yellow, sky: told apart with every kind of colour blindness; the name stands beside.
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#56b4e9"];

export const colourOf = (labels, label) => COLOURS[Math.max(0, labels.indexOf(label)) % COLOURS.length];

// Boxes are [label, xmin, ymin, xmax, ymax] relative to the picture.
function framed(item, labels) {
  const drawing = svg("svg", { viewBox: `0 0 ${item.width} ${item.height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const [label, xmin, ymin, xmax, ymax] of item.boxes)
    drawing.append(svg("rect", { x: xmin * item.width, y: ymin * item.height, width: (xmax - xmin) * item.width,
      height: (ymax - ymin) * item.height, stroke: colourOf(labels, label) }));
  const counts = {};
  for (const [label] of item.boxes) counts[label] = (counts[label] || 0) + 1;
  const names = Object.entries(counts).map(([label, count]) => count > 1 ? `${count} ${label}` : label);
  const caption = names.length ? names.flatMap((name, index) => [index ? ", " : "",
    make("span", { class: "key" }, name)]) : ["no box"];
  const figure = make("figure", { title: `${item.name} (${item.split})` },
    make("div", { class: "framed" }, make("img", { src: item.data, width: String(item.width), height: String(item.height), alt: `${item.name}: ${names.join(", ") || "no box"}` }), drawing),
    make("figcaption", {}, ...caption));
  [...figure.querySelectorAll(".key")].forEach((key, index) => { key.style.borderColor = colourOf(labels, Object.keys(counts)[index]); });
  return figure;
}

// Draws the gallery of an archive below what is in it.
export async function showGallery(archive, lint) {
  const target = byId("gallery");
  const labels = lint.classes.map(item => item.name);
  const choice = make("select", { id: "gallery-class" }, make("option", { value: "" }, "all classes"),
    ...labels.map(label => make("option", { value: label }, label)), lint.negatives ? make("option", { value: NO_BOX }, "without objects") : "");
  const grid = make("div", { class: "grid", id: "gallery-images", tabindex: "0", role: "group", "aria-label": `Pictures of ${archive}` });
  const counted = make("p", { class: "muted", role: "status" });
  const more = make("button", { type: "button", onclick: event => withErrors(load, event.target) }, "More");
  target.hidden = false;
  target.dataset.archive = archive;
  target.replaceChildren(make("p", {}, make("label", {}, "pictures of ", choice)), grid, counted, more);
  more.hidden = true;

  async function load() {
    const wanted = choice.value;
    const query = `class=${encodeURIComponent(wanted)}&start=${grid.children.length}`;
    const found = await request(`/api/archives/${encodeURIComponent(archive)}/images?${query}`);
    if (wanted !== choice.value || target.dataset.archive !== archive) return;
    grid.append(...found.images.map(item => framed(item, labels)));
    counted.textContent = found.total ? `${plural(grid.children.length, "picture")} of ${found.total} chosen ones, of ${lint.pictures.toLocaleString("en")} in the archive`
      : "No picture of this kind.";
    more.hidden = grid.children.length >= found.total;
  }
  choice.addEventListener("change", () => { grid.replaceChildren(); withErrors(load); });
  await load();
}
