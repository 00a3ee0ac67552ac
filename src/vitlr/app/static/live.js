// The page: asks what the picture shows, again and again, and draws the answer.
import { post, query, send, sleep, visitor } from "./api.js";
import { asJpeg, onChange, setUpCamera, showing, snapshot, source, start, startIfAllowed, stop } from "./camera.js";
import { setUpCards, showShares } from "./cards.js";
import { checkFolder, closeTruths, frozen, offer, setUpCheck, takeBack, UNKNOWN } from "./check.js";
import { files, next, putAway, setUpFiles } from "./files.js";
import { importZip, setUpMore } from "./more.js";
import { change, onState, refresh, setUpState, state } from "./state.js";
import { abandon, lesson, setUpTeaching, takeFrame } from "./teach.js";
import { $, make, percent, say, showLabel, toast } from "./ui.js";

const PAUSE = 100; // milliseconds between two frames at least
const STALE = 1500; // milliseconds after which an answer is shown to be old
const STEADY = 1200; // milliseconds that an answer stays before it is read out

let checking = false, attention = false;
let answeredAt = 0; // when the answer on the picture came
let asked = ""; // what a still picture was last asked for
let gone = false; // the server did not answer the last time
let steady = { label: "", since: 0, spoken: "" };

// -- the loop -----------------------------------------------------------------------------------

async function loop() {
  for (;;) {
    const began = performance.now();
    try {
      await once();
      if (gone) { gone = false; say(""); }
    } catch (error) {
      gone = error.status === 0;
      if (lesson || ![429, 503].includes(error.status)) say(error.message, true); // busy for a moment: the label fades meanwhile
      await sleep(error.status === 0 ? 1000 : 400);
    }
    await sleep(Math.max(15, PAUSE - (performance.now() - began)));
  }
}

async function once() {
  if (document.hidden || !showing()) return;
  if (lesson) {
    if (answeredAt) clear({ bars: false }); // no old answer beside the object that is taught
    if (lesson.state === "taking") await takeFrame(asJpeg);
    return;
  }
  if (checking && frozen()) return;
  const still = source.kind === "picture" ? `${source.file.name} ${attention} ${checking} ${state.revision}` : "";
  if (still && still === asked) return;
  const canvas = snapshot(), kind = source.kind, file = source.file;
  const smooth = checking || still ? 0 : 1;
  const answer = await send(query("/live/answer", { visitor, attention: Number(attention), smooth }), await asJpeg(canvas));
  if (lesson || !showing() || kind !== source.kind || file !== source.file || (checking && frozen())) return; // too late
  asked = still;
  answeredAt = performance.now();
  draw(answer, canvas);
}

// -- the answer ---------------------------------------------------------------------------------

function draw(answer, canvas) {
  const none = answer.label === null, unknown = answer.label === UNKNOWN;
  $("caption").hidden = false;
  $("caption").className = none ? "caption none" : unknown ? "caption unknown" : "caption";
  showLabel(none ? "Nothing taught yet" : answer.label);
  $("how").textContent = none ? "Write a name and hold the red button." : unknown ? "does not look like anything taught" : percent(answer.probabilities[0]?.[1] ?? 0);
  drawBars(answer.probabilities, answer.label);
  showShares(answer.probabilities, answer.label);
  drawDial(none ? null : answer.known);
  $("overlay").hidden = !answer.attention;
  if (answer.attention) $("overlay").src = answer.attention;
  offer(answer.label, canvas);
  speak(answer.label ?? "");
}

function clear({ bars: too = true } = {}) { // no answer is better than an outdated one
  answeredAt = 0;
  asked = "";
  if (!lesson) $("caption").hidden = true;
  $("overlay").hidden = true;
  if (too) drawBars([], null);
  showShares([], null);
  drawDial(null);
  offer(null, null);
}

const bars = new Map();

function drawBars(shares, said) {
  const order = state.classes.map((each) => each.label);
  const list = order.length <= 5 ? [...shares].sort((a, b) => order.indexOf(a[0]) - order.indexOf(b[0])) : shares; // few: each keeps its place
  for (const [label, bar] of bars) if (!list.some(([each]) => each === label)) { bar.row.remove(); bars.delete(label); }
  list.forEach(([label, share], index) => {
    if (!bars.has(label)) {
      const fill = make("div", { class: "fill" }), number = make("span", { class: "share" });
      const row = make("div", { class: "bar" }, make("span", { class: "barName", title: label }, label), make("div", { class: "track" }, fill), number);
      bars.set(label, { row, fill, number });
    }
    const { row, fill, number } = bars.get(label);
    fill.style.transform = `scaleX(${share})`;
    number.textContent = percent(share);
    row.classList.toggle("best", label === said);
    if ($("bars").children[index] !== row) $("bars").insertBefore(row, $("bars").children[index] ?? null);
  });
  $("reading").hidden = !list.length;
}

function speak(label) { // an answer that stays is read out once
  const now = performance.now();
  if (label !== steady.label) steady = { label, since: now, spoken: steady.spoken };
  if (label && label !== steady.spoken && now - steady.since >= STEADY) {
    steady.spoken = label;
    $("spoken").textContent = label;
  }
}

function watch() {
  const age = performance.now() - answeredAt;
  const old = Boolean(answeredAt) && !lesson && !frozen() && source.kind !== "picture" && showing() && !document.hidden && age > STALE;
  $("stage").classList.toggle("stale", old);
  if (old) $("how").textContent = `no answer for ${Math.round(age / 1000)} s`;
}

// -- the limit of "unknown" ---------------------------------------------------------------------

let edits = 0; // of the limit that the server does not know yet

function drawDial(score) {
  $("dialMark").hidden = score === null;
  $("known-score").textContent = score === null ? "–" : percent(score);
  if (score !== null) $("dialMark").style.left = `${100 * score}%`;
  $("familiar").classList.toggle("below", score !== null && score < Number($("threshold").value));
}

function drawLimit() {
  const { value, auto } = state.threshold;
  $("auto").setAttribute("aria-pressed", String(auto));
  if (!edits) $("threshold").value = value;
  markLimit();
}

function markLimit() {
  const value = Number($("threshold").value);
  $("dialUnknown").style.width = `${100 * value}%`;
  $("threshold").setAttribute("aria-valuetext", `unknown below ${percent(value)}`);
  $("dialNote").textContent = value > 0 ? `Below ${percent(value)} the answer is “unknown”.` : "It never answers “unknown”.";
}

function setUpDial() {
  const field = $("threshold");
  let timer = 0;
  const set = async (what) => {
    const mine = edits;
    await change(post("/live/threshold", what).then(() => ({ state: "done" })));
    if (mine === edits) edits = 0; // else it was moved on meanwhile
    drawLimit();
  };
  field.addEventListener("input", () => {
    const value = Number(field.value);
    edits += 1;
    markLimit();
    clearTimeout(timer);
    timer = setTimeout(() => set({ value }), 150);
  });
  $("auto").addEventListener("click", () => { clearTimeout(timer); edits += 1; set({ auto: true }); });
}

// -- what is on the picture ---------------------------------------------------------------------

function drawSource() {
  const { kind, lost, mirrored } = source;
  $("stage").dataset.state = lost ? "lost" : kind || "empty";
  $("empty").hidden = Boolean(kind) && !lost;
  $("emptyTitle").textContent = lost ? "The camera is gone" : "Show it something";
  $("emptyText").hidden = lost; // the line under the picture says more
  $("video").hidden = kind !== "camera" && kind !== "film";
  $("still").hidden = kind !== "picture";
  $("stage").classList.toggle("mirrored", mirrored);
  $("mirror").hidden = kind !== "camera";
  $("mirror").setAttribute("aria-pressed", String(mirrored));
  $("stop").hidden = kind !== "camera";
  if (kind !== "camera") $("cameras").hidden = true;
  $("hold").disabled = !showing() && !files().length;
  if (kind === "camera") putAway(); // the camera takes the place of files
  if (lost || !kind) abandon();
  clear();
}

function setMode(check) {
  checking = check;
  closeTruths();
  asked = "";
  for (const [tab, on] of [[$("tabTeach"), !check], [$("tabCheck"), check]]) {
    tab.setAttribute("aria-selected", String(on));
    tab.tabIndex = on ? 0 : -1;
  }
  $("objects").hidden = $("teachBar").hidden = check;
  $("results").hidden = $("checkBar").hidden = !check;
}

function setUpModes() {
  const tabs = [$("tabTeach"), $("tabCheck")];
  tabs.forEach((tab, index) => {
    tab.addEventListener("click", () => setMode(index === 1));
    tab.addEventListener("keydown", (event) => {
      if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
      setMode(index === 0);
      tabs[1 - index].focus();
    });
  });
}

function afterJudging({ truth, answer }) {
  const text = truth === answer ? `Counted: ${answer} was right.` : `Counted: it was ${truth}, not ${answer}.`;
  toast(text, { action: takeBack, key: "check" });
  next();
}

onChange(drawSource);
onState(drawLimit);
setUpMore();
setUpCards();
setUpTeaching(files);
setUpFiles({ zip: importZip, folder: checkFolder, checking: () => checking });
setUpCheck(afterJudging);
setUpCamera();
setUpDial();
setUpModes();
setUpState();
$("start").addEventListener("click", () => start());
$("stop").addEventListener("click", () => { abandon(); stop(); say(""); });
$("attention").addEventListener("click", () => {
  attention = !attention;
  $("attention").setAttribute("aria-pressed", String(attention));
  if (!attention) $("overlay").hidden = true;
});
setInterval(watch, 300);
await refresh().catch((error) => say(error.message, true));
document.documentElement.dataset.ready = "1";
startIfAllowed();
loop();
