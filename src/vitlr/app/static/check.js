// "How good is it?": answers are judged one by one, or a folder of pictures is asked about. Nothing here leaves the page.
import { query, send } from "./api.js";
import { fitting } from "./camera.js";
import { names, onState, state } from "./state.js";
import { $, iconButton, make, many, percent, plainName, toast } from "./ui.js";

export const UNKNOWN = "unknown";
let records = []; // { truth, answer, picture (canvas or null), where, model }
let showing = null; // the answer on the picture: { answer, canvas }
let judged = () => {}; // called after each judgement
let stopFolder = false;

export function setUpCheck(afterJudging) {
  judged = afterJudging;
  $("right").addEventListener("click", () => showing && judge(showing.answer));
  $("wrong").addEventListener("click", () => showing && openTruths($("truths").hidden));
  $("truths").addEventListener("keydown", (event) => { if (event.key === "Escape") { openTruths(false); $("wrong").focus(); } });
  $("checkAgain").addEventListener("click", () => {
    const before = records;
    records = [];
    draw();
    toast("The check starts over.", { action: () => { records = before; draw(); } });
  });
  $("checkFolder").addEventListener("click", () => { if ($("folderProgress").hidden) $("folderInput").click(); else stopFolder = true; });
  $("folderInput").addEventListener("change", () => {
    const list = [...$("folderInput").files].map((file) => [file.webkitRelativePath || file.name, file]);
    $("folderInput").value = "";
    checkFolder(list);
  });
  onState(draw);
}

/** The answer that stands on the picture now, with the frame it was given for; null if there is none. */
export function offer(answer, canvas) {
  if (!$("truths").hidden) return; // the one being named stays
  showing = answer === null ? null : { answer, canvas };
  for (const id of ["right", "wrong"]) $(id).setAttribute("aria-disabled", String(!showing)); // disabled would lose the focus
  if (showing) $("right").replaceChildren($("right").firstElementChild, make("span", {}, answer === UNKNOWN ? "Right, it was never taught" : `Right, ${answer}`));
}

/** Whether the picture stands still because a wrong answer is being named. */
export const frozen = () => !$("truths").hidden;

export function closeTruths() { openTruths(false); }

function openTruths(open) {
  $("truths").hidden = !open;
  $("wrong").setAttribute("aria-expanded", String(open));
  const video = $("video");
  if (open) video.pause(); // the frame that is judged stays on the picture
  else if (video.paused && !video.hidden) video.play().catch(() => {});
  $("checkAsk").textContent = open ? "What is it really?" : "Show an object. Is the answer right?";
  if (!open || !showing) return;
  const choices = names().filter((each) => each !== showing.answer).map((each) => [each, each]);
  if (showing.answer !== UNKNOWN) choices.push([UNKNOWN, "Something never taught"]);
  $("truths").replaceChildren(...choices.map(([truth, text]) => make("button", { type: "button", class: "plain small", onclick: () => judge(truth) }, text)));
  $("truths").firstElementChild?.focus();
}

function judge(truth) {
  if (!showing) return;
  const record = { truth, answer: showing.answer, picture: showing.canvas, where: "", model: signature() };
  records.push(record);
  const focusBack = !$("truths").hidden;
  openTruths(false);
  offer(null, null); // one answer is judged once
  if (focusBack) $("right").focus();
  draw();
  judged(record);
}

/** Changes with every lesson, so that answers of an older model can be told apart. */
const signature = () => JSON.stringify(state.classes.map(({ label, images }) => [label, images]));

// -- a folder -----------------------------------------------------------------------------------

/** Ask about each picture of [[path, file]]; the folder it lies in is what it shows. */
export async function checkFolder(list) {
  const known = new Map(names().map((each) => [plainName(each), each]));
  const pictures = list.filter(([, file]) => file.type.startsWith("image/"));
  const folderOf = (path) => path.split("/").at(-2) ?? "";
  if (!pictures.length) return void ($("folderNote").textContent = "There are no pictures in that folder.");
  if (!known.size) return void ($("folderNote").textContent = "Nothing has been taught yet.");
  const strange = new Set(pictures.map(([path]) => folderOf(path)).filter((each) => !known.has(plainName(each))));
  const bar = $("folderProgress");
  const notes = [];
  let done = 0, unread = 0;
  stopFolder = false;
  bar.hidden = false;
  $("checkFolder").lastChild.textContent = "Stop";
  for (const [path, file] of pictures) {
    if (stopFolder) break;
    try {
      const { answer, small } = await askAbout(file);
      records.push({ truth: known.get(plainName(folderOf(path))) ?? UNKNOWN, answer, picture: small, where: path, model: signature() });
    } catch (error) {
      if (error.status === 0 || error.status === 401 || error.status === 403) { notes.push(error.message); break; }
      unread += 1;
    }
    done += 1;
    bar.value = done / pictures.length;
    if (done % 5 === 0 || done === pictures.length) draw();
    $("folderNote").textContent = `${done} of ${many(pictures.length, "picture")}`;
  }
  bar.hidden = true;
  $("checkFolder").lastChild.textContent = "Choose a folder";
  if (unread) notes.push(`${many(unread, "picture")} could not be read.`);
  if (strange.size) notes.push(`Counted as “unknown”: ${[...strange].slice(0, 5).join(", ")}${strange.size > 5 ? " and others" : ""}.`);
  $("folderNote").textContent = `${many(done - unread, "picture")} checked. ${notes.join(" ")}`;
  draw();
}

async function askAbout(file) {
  const picture = await createImageBitmap(file).catch(() => null);
  const small = make("canvas");
  small.width = small.height = 96;
  if (picture) {
    const side = Math.min(picture.width, picture.height);
    small.getContext("2d").drawImage(picture, (picture.width - side) / 2, (picture.height - side) / 2, side, side, 0, 0, 96, 96);
  }
  const body = await fitting(file, picture, state.limits.frame_bytes);
  picture?.close();
  const { label } = await send(query("/live/answer", { attention: 0, smooth: 0 }), body, 60);
  return { answer: label ?? UNKNOWN, small };
}

// -- results ------------------------------------------------------------------------------------

/** Bounds of the true share after `right` of `all`, 95 % (Wilson's interval). */
export function bounds(right, all) {
  const z = 1.96, share = right / all, z2 = (z * z) / all;
  const middle = (share + z2 / 2) / (1 + z2), half = (z / (1 + z2)) * Math.sqrt((share * (1 - share)) / all + z2 / (4 * all));
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
}

function draw() {
  const all = records.length, right = records.filter((each) => each.truth === each.answer).length;
  $("checkAgain").disabled = !all;
  const score = $("score");
  if (!all) {
    score.replaceChildren(make("p", { class: "panelNote" }, "Judge a few answers, best of objects in places and poses it was not taught in. The score builds up here."));
  } else {
    const [low, high] = bounds(right, all);
    const older = records.filter((each) => each.model !== signature()).length;
    score.replaceChildren(
      make("p", { class: "figure" }, percent(right / all)),
      make("p", { class: "figureNote" }, make("b", {}, `${right} of ${many(all, "answer")} right`),
        make("span", {}, `With that many answers the true figure is likely between ${percent(low)} and ${percent(high)}.`),
        older ? make("span", { class: "older" }, `${many(older, "answer")} came before the last lesson.`) : null));
  }
  drawMatrix();
  drawMistakes();
}

function drawMatrix() {
  $("matrixHolder").hidden = !records.length;
  const seen = new Set(records.flatMap(({ truth, answer }) => [truth, answer]));
  const order = [...names(), ...seen].filter((each, index, list) => seen.has(each) && list.indexOf(each) === index && each !== UNKNOWN);
  if (seen.has(UNKNOWN)) order.push(UNKNOWN);
  const heading = (text, scope) => make("th", { scope, title: text }, make("span", {}, text));
  const rows = order.filter((truth) => records.some((each) => each.truth === truth)).map((truth) => {
    const mine = records.filter((each) => each.truth === truth);
    return make("tr", {}, heading(truth, "row"), ...order.map((answer) => {
      const number = mine.filter((each) => each.answer === answer).length;
      const cell = make("td", { class: truth === answer ? "hit" : "miss" }, number ? String(number) : "");
      cell.style.setProperty("--share", `${Math.round((100 * number) / mine.length)}%`);
      if (number) cell.title = `${truth}, answered ${answer}: ${number}`;
      return cell;
    }), make("td", { class: "recall" }, percent(mine.filter((each) => each.answer === truth).length / mine.length)));
  });
  const corner = make("th", { class: "corner" }, make("span", {}, "shown ↓ answer →"));
  $("matrix").replaceChildren(
    make("caption", { class: "sr" }, "What was shown (rows) and what was answered (columns)"),
    make("thead", {}, make("tr", {}, corner, ...order.map((each) => heading(each, "col")), make("th", { scope: "col", class: "recallHead" }, make("span", {}, "right")))),
    make("tbody", {}, ...rows));
}

function drawMistakes() {
  const wrong = records.filter((each) => each.truth !== each.answer).slice(-12).reverse();
  $("mistakes").hidden = !wrong.length;
  $("mistakeList").replaceChildren(...wrong.map((record) => {
    const picture = record.picture ?? make("canvas");
    picture.className = "mistakePicture";
    return make("li", { title: record.where }, picture,
      make("p", {}, make("b", {}, record.truth), make("span", {}, `answered ${record.answer}`)),
      iconButton("cross", `Take back: ${record.truth}, answered ${record.answer}`, () => { records = records.filter((each) => each !== record); draw(); }));
  }));
}

/** Take back the last judgement. */
export function takeBack() {
  records.pop();
  draw();
}
