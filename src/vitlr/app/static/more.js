// The head of the page: which network, undo, save and load, export and import, the address for a phone.
import { post, query, send, visitor } from "./api.js";
import { change, onState, state, undo } from "./state.js";
import { $, ask, make, many, percent, say, toast } from "./ui.js";

export function setUpMore() {
  onState(draw);
  $("undo").addEventListener("click", undo);
  addEventListener("keydown", (event) => {
    const typing = event.target.matches?.("input[type=text], textarea, select");
    if (!typing && (event.ctrlKey || event.metaKey) && !event.shiftKey && event.key === "z" && state.undo) { event.preventDefault(); undo(); }
  });
  setUpMenu();
  $("save").addEventListener("click", () => change(post("/live/save"), { done: "Saved.", undoable: false }));
  $("load").addEventListener("click", load);
  for (const button of document.querySelectorAll("[data-export]")) button.addEventListener("click", () => exportAs(button.dataset.export));
  $("import").addEventListener("click", () => $("zipInput").click());
  $("zipInput").addEventListener("change", () => { const [file] = $("zipInput").files; $("zipInput").value = ""; if (file) importZip(file); });
  $("phone").addEventListener("click", showAddress);
}

function draw() {
  const { network, save, classes } = state;
  $("network").hidden = !network.name;
  $("network").replaceChildren("Network: ", make("b", {}, network.name));
  $("network").title = network.image_size ? `It sees pictures of ${network.image_size} × ${network.image_size} pixels.` : "";
  $("networkWarning").hidden = !network.warning;
  $("networkWarning").textContent = network.warning ?? "";
  $("undo").disabled = !state.undo;
  $("undo").title = state.undo ? `Take back: ${state.undo.what} (Ctrl Z)` : "Nothing to take back";
  $("save").disabled = $("load").disabled = !save.directory;
  $("saveNote").textContent = !save.directory ? "It was started without a directory, so nothing is saved." : save.autosave ? "Every lesson is saved by itself." : "";
  for (const button of document.querySelectorAll("[data-export]")) button.disabled = !classes.length;
  $("phone").hidden = !state.url;
}

function setUpMenu() {
  const menu = $("menu"), button = $("more");
  const open = (yes) => { menu.hidden = !yes; button.setAttribute("aria-expanded", String(yes)); };
  button.addEventListener("click", () => { open(menu.hidden); if (!menu.hidden) menu.querySelector("button:enabled")?.focus(); });
  menu.addEventListener("click", (event) => { if (event.target.closest("button")) { open(false); button.focus(); } });
  addEventListener("pointerdown", (event) => { if (!menu.hidden && !event.target.closest(".menuHolder")) open(false); });
  menu.parentElement.addEventListener("keydown", (event) => {
    if (menu.hidden) return;
    if (event.key === "Escape") { open(false); button.focus(); }
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const all = [...menu.querySelectorAll("button:enabled")];
    all.at((all.indexOf(document.activeElement) + step) % all.length).focus();
  });
}

async function load() {
  const answer = await ask("Go back to what was saved?", "Lessons since then are lost, also those that other people gave.", [["load", "Go back", "danger"], [null, "Cancel"]]);
  if (answer) await change(post("/live/load"), { done: "This is what was saved.", undoable: false });
}

async function exportAs(format) {
  const close = toast("Writing the model …");
  const job = await change(post("/live/export", { format }), { undoable: false });
  close();
  if (!job?.download) return;
  const link = make("a", { href: job.download, download: "" });
  document.body.append(link);
  link.click();
  link.remove();
  toast("The model is being downloaded.");
}

export async function importZip(file) {
  if (file.size > state.limits.import_bytes) {
    toast(`${file.name} is larger than ${Math.round(state.limits.import_bytes / 1e6)} MB.`, { bad: true });
    return;
  }
  say(`Sending ${file.name} …`);
  const before = new Map(state.classes.map(({ label, images }) => [label, images]));
  await change(send(query("/live/import", { visitor }), file, 600), {
    told: (job) => say(job.state === "done" ? "" : `Learning from ${file.name} …${job.progress ? ` ${percent(job.progress)}` : ""}`),
    done: () => {
      const news = state.classes.map(({ label, images }) => images - (before.get(label) ?? 0)).filter((each) => each > 0);
      return `Learned ${many(news.reduce((sum, each) => sum + each, 0), "picture")} of ${many(news.length, "object")} from ${file.name}.`;
    },
  });
  say("");
}

async function showAddress() {
  const body = make("div", { class: "address" },
    make("img", { src: "/live/qr.svg", alt: `QR code of ${state.url}`, width: 240, height: 240 }), make("code", {}, state.url));
  const open = state.url.startsWith("https:") ? "" : " Phones allow their camera only on encrypted pages: start with --https to teach with it.";
  await ask("Open it on a phone", `Point the phone's camera at the code. Both must be in the same network.${open}`, [[null, "Close"]], body);
}
