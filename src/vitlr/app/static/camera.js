// What is shown: a camera, or a picture or film chosen from files. Knows nothing of teaching and answers.
import { $, make, say } from "./ui.js";
import { sleep } from "./api.js";

const WIDTH = 320; // pixels of a frame that is sent
const MOST_PIXELS = 8e6; // of a picture that is sent as it is
const KEPT = "vitlr-camera"; // the chosen camera, for the next visit

/** kind: "" (nothing), "camera", "film" or "picture". */
export const source = { kind: "", file: null, mirrored: false, lost: false };

const video = $("video"), still = $("still");
const remembered = { get: () => { try { return localStorage.getItem(KEPT); } catch { return null; } },
  set: (id) => { try { localStorage.setItem(KEPT, id); } catch { /* private window: not remembered */ } } };
let wanted = null; // id of the chosen camera
let changed = () => {}; // called whenever what is shown changes
let attempt = 0; // the newest call of show or start wins

export const onChange = (act) => { changed = act; };
export const shown = () => (source.kind === "picture" ? still : video);
export const showing = () => Boolean(source.kind) && !source.lost && size()[0] > 0;

function size() {
  return source.kind === "picture" ? [still.naturalWidth, still.naturalHeight] : [video.videoWidth, video.videoHeight];
}

/** A canvas of what is shown now, as the network gets it: never mirrored. */
export function snapshot(width = WIDTH) {
  const [w, h] = size();
  const canvas = make("canvas");
  canvas.width = width;
  canvas.height = Math.max(1, Math.round((width * h) / Math.max(1, w)));
  canvas.getContext("2d").drawImage(shown(), 0, 0, canvas.width, canvas.height);
  return canvas;
}

export const asJpeg = (canvas) => new Promise((done, failed) =>
  canvas.toBlob((blob) => (blob ? done(blob) : failed(new Error("The picture could not be read."))), "image/jpeg", 0.9));

/** The picture's file as the server takes it: one of too many bytes or pixels is shrunk here. `picture` is its ImageBitmap. */
export async function fitting(file, picture, bytes) {
  if (!picture || (file.size <= bytes && picture.width * picture.height <= MOST_PIXELS)) return file;
  const share = 2048 / Math.max(picture.width, picture.height), canvas = make("canvas");
  canvas.width = Math.max(1, Math.round(Math.min(1, share) * picture.width));
  canvas.height = Math.max(1, Math.round(Math.min(1, share) * picture.height));
  canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
  return asJpeg(canvas);
}

// -- the camera ---------------------------------------------------------------------------------

const phone = () => matchMedia("(pointer: coarse)").matches;

async function openStream() {
  const shape = { width: { ideal: 640 }, height: { ideal: 480 } };
  const id = wanted ?? remembered.get();
  if (id) {
    try {
      return await navigator.mediaDevices.getUserMedia({ video: { ...shape, deviceId: { exact: id } }, audio: false });
    } catch (error) {
      if (error.name === "NotAllowedError") throw error; // asked and refused; another camera changes nothing
    }
  }
  return navigator.mediaDevices.getUserMedia({ video: { ...shape, ...(phone() ? { facingMode: { ideal: "environment" } } : {}) }, audio: false });
}

/** Start the camera; says why if it cannot. Returns whether it runs. */
export async function start({ quietly = false } = {}) {
  const mine = ++attempt;
  if (!navigator.mediaDevices) {
    if (!quietly) say("This browser allows the camera only on encrypted pages (start with --https) or on the same machine. Files work here.", true);
    return false;
  }
  try {
    const stream = await openStream();
    if (mine !== attempt) { stream.getTracks().forEach((track) => track.stop()); return false; }
    close();
    const [track] = stream.getVideoTracks();
    track.addEventListener("ended", () => { if (video.srcObject === stream) lose(); });
    video.srcObject = stream;
    await video.play();
    const settings = track.getSettings();
    Object.assign(source, { kind: "camera", file: null, lost: false, mirrored: facesUser(settings.facingMode, track.label) });
    wanted = settings.deviceId ?? null;
    fit();
    await listCameras();
    changed();
    return true;
  } catch (error) {
    if (!quietly) say(reason(error), true);
    return false;
  }
}

function reason(error) {
  if (error.name === "NotAllowedError") return "The camera was not allowed. Allow it in the address bar and start again, or use files.";
  if (error.name === "NotFoundError") return "No camera was found. Connect one and start again, or use files.";
  if (error.name === "NotReadableError") return "The camera is in use by another program. Close that one and start again, or use files.";
  return `The camera did not start (${error.message || error.name}). Connect it again, or use files.`;
}

/** People expect a mirror from a camera that looks at them. Most browsers on computers do not say which way it looks. */
const facesUser = (facing, label) => (facing ? facing === "user" : /front|facetime|built-?in|integrated/i.test(label));

async function listCameras() {
  const all = (await navigator.mediaDevices.enumerateDevices()).filter((each) => each.kind === "videoinput");
  const list = $("cameras");
  list.replaceChildren(...all.map((each, index) => make("option", { value: each.deviceId }, each.label || `Camera ${index + 1}`)));
  list.value = wanted ?? "";
  list.hidden = all.length < 2 || source.kind !== "camera";
}

async function lose() {
  source.lost = true;
  changed();
  say("The camera was disconnected. It goes on by itself as soon as it is back.", true);
  const mine = attempt;
  while (source.lost && mine === attempt) {
    await Promise.race([sleep(2000), new Promise((done) => navigator.mediaDevices.addEventListener("devicechange", done, { once: true }))]);
    if (!source.lost || mine !== attempt) return;
    const stream = await openStream().catch(() => null);
    if (!stream) continue;
    stream.getTracks().forEach((track) => track.stop()); // it is there again; start() opens it in the usual way
    if (mine === attempt && (await start({ quietly: true }))) say("The camera is back.");
    return;
  }
}

function close() {
  if (video.srcObject) video.srcObject.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
  if (video.src) { URL.revokeObjectURL(video.src); video.removeAttribute("src"); video.load(); }
  if (still.src) { URL.revokeObjectURL(still.src); still.removeAttribute("src"); }
}

/** Show nothing. */
export function stop() {
  attempt++;
  close();
  Object.assign(source, { kind: "", file: null, lost: false, mirrored: false });
  changed();
}

// -- files --------------------------------------------------------------------------------------

/** Show a picture or play a film, over and over. Returns whether this browser can. */
export async function showFile(file) {
  const mine = ++attempt;
  const film = file.type.startsWith("video/");
  close();
  Object.assign(source, { kind: film ? "film" : "picture", file, lost: false, mirrored: false });
  const address = URL.createObjectURL(file);
  try {
    if (film) {
      video.loop = true;
      video.src = address;
      await video.play();
    } else {
      still.src = address;
      await still.decode();
    }
  } catch {
    if (mine === attempt) { close(); source.kind = ""; changed(); }
    return false;
  }
  if (mine !== attempt) return false;
  fit();
  changed();
  return true;
}

function fit() { // the whole picture is shown, upright ones too, so that attention lies over what was looked at
  const [w, h] = size();
  if (w) $("bench").style.setProperty("--shape", String(Math.min(2.4, Math.max(0.6, w / h))));
}

export function setUpCamera() {
  video.addEventListener("resize", fit); // when a phone is turned
  document.addEventListener("visibilitychange", () => { if (!document.hidden && source.kind === "camera" && video.paused) video.play().catch(() => {}); });
  navigator.mediaDevices?.addEventListener("devicechange", () => { if (source.kind === "camera") listCameras().catch(() => {}); });
  $("cameras").addEventListener("change", () => { wanted = $("cameras").value; remembered.set(wanted); start(); });
  $("mirror").addEventListener("click", () => { source.mirrored = !source.mirrored; changed(); });
}

/** Start without asking if this page was allowed the camera before. */
export async function startIfAllowed() {
  try {
    const right = await navigator.permissions.query({ name: "camera" });
    if (right.state === "granted" && !source.kind) await start({ quietly: true });
  } catch { /* browsers that cannot be asked: the button starts it */ }
}
