// Pictures and films instead of a camera: picked, or dropped anywhere on the page.
import { showFile, source, startIfAllowed, stop } from "./camera.js";
import { $, icon, iconButton, make, many, say, toast } from "./ui.js";

let chosen = [];
export const files = () => chosen;

const isMedia = (file) => /^(image|video)\//.test(file.type) || /\.(jpe?g|png|webp|gif|bmp|tiff?|heic|avif|mp4|mov|webm|mkv|avi)$/i.test(file.name);
const isZip = (file) => /\.zip$/i.test(file.name);

export async function choose(list, name = "") {
  const usable = list.filter(isMedia);
  if (!usable.length) {
    toast(list.length ? `${list[0].name} is not a picture or a video.` : "No pictures are in there.", { bad: true });
    return;
  }
  chosen = usable;
  if (name) $("name").value = name;
  drawReel();
  await select(usable[0]);
  say("Name what is on the picture and press Teach, or see what it is taken for.");
}

/** Forget the chosen files; what is shown stays. */
export function putAway() {
  if (!chosen.length) return;
  chosen = [];
  drawReel();
}

function close() {
  putAway();
  stop();
  say("");
  startIfAllowed();
}

async function select(file) {
  const works = await showFile(file);
  for (const cell of $("reel").querySelectorAll("[data-index]")) cell.setAttribute("aria-pressed", String(chosen[cell.dataset.index] === file));
  if (!works && chosen.includes(file)) say(`This browser cannot show ${file.name}; it can be taught all the same.`, true);
}

/** The next of the chosen pictures; false after the last one. */
export function next() {
  const file = chosen[chosen.indexOf(source.file) + 1];
  if (file) select(file);
  return Boolean(file);
}

function drawReel() {
  const reel = $("reel");
  for (const picture of reel.querySelectorAll("img")) URL.revokeObjectURL(picture.src);
  reel.hidden = !chosen.length;
  const most = 60;
  reel.replaceChildren(...chosen.slice(0, most).map((file, index) => {
    const film = file.type.startsWith("video/");
    const cell = make("button", { type: "button", class: "cell", "data-index": index, "aria-pressed": "false", "aria-label": `Show ${file.name}`, title: file.name, onclick: () => select(file) });
    cell.append(film ? icon("film") : make("img", { src: URL.createObjectURL(file), alt: "", loading: "lazy", onerror: (event) => event.target.replaceWith(icon("pictures")) }));
    return cell;
  }));
  if (chosen.length > most) reel.append(make("span", { class: "rest" }, `and ${chosen.length - most} more`));
  if (chosen.length) reel.append(iconButton("cross", "Put the files away", close));
  $("holdText").textContent = chosen.length ? `Teach ${chosen.length === 1 ? "this" : many(chosen.length, "file")}` : "Hold to teach";
}

// -- picking and dropping -----------------------------------------------------------------------

/** Files of what was dropped, with folders walked: [[path, file]]. */
async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => [file.name, file]);
  const found = [];
  const walk = async (entry, path) => {
    if (found.length > 20000) return;
    if (entry.isFile) {
      found.push([path + entry.name, await new Promise((done, failed) => entry.file(done, failed))]);
      return;
    }
    const reader = entry.createReader();
    for (;;) { // a folder is read in portions
      const portion = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!portion.length) return;
      for (const each of portion) await walk(each, `${path}${entry.name}/`);
    }
  };
  for (const entry of entries) await walk(entry, "");
  return found;
}

/** take: { zip(file), folder(pairs) } for what is not taught from here; `checking` says which mode the page is in. */
export function setUpFiles({ zip, folder, checking }) {
  const input = $("fileInput");
  for (const id of ["pick", "openFiles"]) $(id).addEventListener("click", () => input.click());
  input.addEventListener("change", () => { const list = [...input.files]; input.value = ""; if (list.length) choose(list); });
  let inside = 0;
  const mark = (by) => { inside = Math.max(0, inside + by); document.body.classList.toggle("dropping", inside > 0); };
  const carries = (event) => [...event.dataTransfer.types].includes("Files");
  addEventListener("dragenter", (event) => { if (carries(event)) mark(1); });
  addEventListener("dragleave", (event) => { if (carries(event)) mark(-1); });
  addEventListener("dragover", (event) => { if (carries(event)) event.preventDefault(); });
  addEventListener("drop", async (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    mark(-Infinity);
    const pairs = await dropped(event.dataTransfer).catch(() => []);
    const inFolders = pairs.some(([path]) => path.includes("/"));
    if (pairs.length === 1 && isZip(pairs[0][1])) zip(pairs[0][1]);
    else if (inFolders && checking()) folder(pairs);
    else choose(pairs.map(([, file]) => file), inFolders ? pairs[0][0].split("/").at(-2) : "");
  });
}
