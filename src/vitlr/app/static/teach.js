// Teaching: hold a button while the camera shows an object, or teach chosen files. One lesson at a time is on the picture.
import { finished, get, post, query, send, visitor } from "./api.js";
import { fitting, showing, snapshot } from "./camera.js";
import { refreshNow, state, undoOf } from "./state.js";
import { $, ask, make, many, onHold, percent, say, showLabel, toast } from "./ui.js";

const LEAST = 500; // milliseconds: a tap teaches nothing
const PLENTY = 30; // frames at which the ring is full; more may be taken

/** The lesson on the picture, or null: { label, began, taken, state: "taking" | "sending" | "learning" }. */
export let lesson = null;
let pending = Promise.resolve(); // the frame on its way
let files = () => []; // of files.js

export function setUpTeaching(chosenFiles) {
  files = chosenFiles;
  $("teachBar").addEventListener("submit", (event) => { event.preventDefault(); $("hold").focus(); });
  $("name").addEventListener("focus", () => $("name").select());
  holdable($("hold"), () => $("name").value);
}

/** Make a button teach what its function names, while it is held. */
export function holdable(button, name) {
  onHold(button, () => press(name().trim(), button), letGo);
}

function press(label, button) {
  if (lesson && lesson.state !== "learning") return false;
  if (!label) {
    $("name").focus();
    say("Give the object a name first.", true);
    return false;
  }
  if (files().length) {
    teachFiles(label, files());
    return false;
  }
  if (!showing()) {
    say("Start the camera first, or choose pictures.", true);
    return false;
  }
  begin({ label, state: "taking", button });
  $("name").value = label;
  button.classList.add("held");
  say("Keep holding, and turn it slowly: every side helps.");
}

function begin(news) {
  lesson = { began: performance.now(), taken: 0, most: 0, sent: 0, ...news };
  $("strip").replaceChildren();
  draw();
}

async function letGo() {
  const mine = lesson;
  if (mine?.state !== "taking") return;
  mine.button.classList.remove("held");
  const short = performance.now() - mine.began < LEAST;
  mine.state = "sending";
  draw();
  await pending.catch(() => {}); // reported where it was sent
  if (short || !mine.taken) {
    end(mine);
    drop();
    say(short ? "A tap teaches nothing: keep the button pressed while you turn the object." : "No picture arrived, so nothing was learned.", true);
    return;
  }
  await learn(mine);
}

/** Give up the lesson, for example because the camera was lost. */
export function abandon() {
  if (lesson?.state !== "taking") return;
  lesson.button.classList.remove("held");
  end(lesson);
  drop();
}

const drop = () => post(query("/live/drop", { visitor })).catch(() => {});

function end(mine) {
  if (lesson !== mine) return; // the next lesson is on the picture already
  lesson = null;
  draw();
}

/** One frame of the object that is held up; called by the loop of the page. */
export async function takeFrame(asJpeg) {
  const mine = lesson, canvas = snapshot();
  pending = asJpeg(canvas).then((blob) => send(query("/live/frame", { visitor }), blob));
  const { taken } = await pending;
  if (lesson !== mine) return;
  mine.taken = taken;
  addToStrip(canvas);
  draw();
  if (taken >= state.limits.frames) { say(`${taken} pictures are enough for one lesson.`); letGo(); }
}

function addToStrip(picture) {
  const small = make("canvas", { class: "cell" });
  small.width = small.height = 64;
  const side = Math.min(picture.width, picture.height);
  small.getContext("2d").drawImage(picture, (picture.width - side) / 2, (picture.height - side) / 2, side, side, 0, 0, 64, 64);
  $("strip").append(small);
  while ($("strip").children.length > 40) $("strip").firstChild.remove();
}

// -- learning -----------------------------------------------------------------------------------

async function learn(mine) {
  const released = performance.now();
  mine.state = "learning";
  draw();
  try {
    const job = await release(mine.label);
    if (!job) return;
    mine.label = job.label;
    await finished(job, (news) => { mine.progress = news.progress; mine.waits = news.state === "waiting"; draw(); });
    await refreshNow();
    const seconds = ((performance.now() - released) / 1000).toFixed(1);
    toast(`Learned “${job.label}” from ${many(job.frames, "picture")} in ${seconds} s.`, state.undo ? { action: undoOf(), key: "change" } : { key: "change" });
    say(state.classes.length === 1 ? "Teach a second object too: one alone cannot be told apart from anything." : "");
  } catch (error) {
    say(error.message, true);
  } finally {
    end(mine);
  }
}

/** The job, or null if the visitor decided against it. */
async function release(label) {
  const address = query("/live/release", { visitor });
  try {
    return await post(address, { label });
  } catch (error) {
    if (error.status !== 409) throw error;
    const other = error.content.same_as;
    const answer = await ask(`Is “${label}” the same as “${other}”?`, "The names differ in upper and lower case only.", [
      ["same", `Yes, teach “${other}” more`, "primary"], ["new", `No, “${label}” is another object`], [null, "Cancel"]]);
    if (answer === "same") return post(address, { label, same_as: other });
    if (answer === "new") return post(address, { label, new: true });
    drop();
    return null;
  }
}

async function teachFiles(label, list) {
  begin({ label, state: "sending", most: list.length });
  const mine = lesson, notes = [], faults = [];
  for (const file of list) {
    try {
      const picture = file.type.startsWith("image/") ? await createImageBitmap(file).catch(() => null) : null;
      const body = await fitting(file, picture, state.limits.upload_bytes);
      picture?.close();
      if (body.size > state.limits.upload_bytes) throw new Error(`${file.name} is larger than ${Math.round(state.limits.upload_bytes / 1e6)} MB.`);
      const { taken, note } = await send(query("/live/upload", { visitor, name: file.name }), body, 300);
      mine.taken = taken;
      if (note) notes.push(note);
    } catch (error) {
      faults.push(error.message);
      if (error.status === 0 && !(await get("/live/state").then(() => true, () => false))) break;
    }
    mine.sent += 1;
    draw();
  }
  if (mine.taken) await learn(mine);
  else end(mine);
  for (const [lines, bad] of [[notes, false], [faults, true]])
    if (lines.length) toast(lines.slice(0, 3).join(" ") + (lines.length > 3 ? ` And ${lines.length - 3} more.` : ""), { bad });
}

// -- what stands on the picture -----------------------------------------------------------------

const RING = {
  taking: (mine) => [Math.min(1, mine.taken / PLENTY), String(mine.taken)],
  sending: (mine) => [mine.most ? mine.sent / mine.most : 0, mine.most ? `${mine.sent}/${mine.most}` : ""],
  learning: (mine) => [mine.progress || 0.2, mine.progress ? percent(mine.progress) : ""], // of unknown length: a part that turns
};
const BADGES = { taking: "Teaching", sending: "Sending", learning: "Learning" };

function draw() {
  const stage = $("stage");
  $("ring").hidden = $("badge").hidden = !lesson;
  stage.classList.toggle("inLesson", Boolean(lesson));
  if (!lesson) { stage.dataset.lesson = ""; $("strip").replaceChildren(); return; }
  const early = lesson.state === "taking" && performance.now() - lesson.began < LEAST;
  const [share, text] = RING[lesson.state](lesson);
  stage.dataset.lesson = lesson.state;
  $("badge").textContent = lesson.waits && lesson.state === "learning" ? "Waiting for its turn" : BADGES[lesson.state];
  $("ring").classList.toggle("early", early);
  $("ringFill").style.strokeDashoffset = String(100 - 100 * share);
  $("ringText").textContent = text;
  $("caption").hidden = false;
  $("caption").className = "caption teaching";
  showLabel(lesson.label);
  $("how").textContent = `${many(lesson.taken, "picture")}${lesson.state === "learning" ? ", being learned" : ""}`;
}
