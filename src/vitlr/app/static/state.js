// What the server knows, asked for once a second and at once after every change.
import { finished, get, post } from "./api.js";
import { toast } from "./ui.js";

export const state = {
  classes: [], network: { name: "", bundled: false, warning: null, image_size: 0 }, threshold: { value: 0, auto: true },
  undo: null, save: { directory: false, autosave: false }, keep_pictures: false, jobs: [],
  limits: { classes: 200, frames: 300, frame_bytes: 4 << 20, upload_bytes: 64 << 20, import_bytes: 256 << 20, name: 60 }, url: null, revision: -1,
};
const watchers = [];
let asking = null, last = "";

export const onState = (act) => watchers.push(act);
export const names = () => state.classes.map((each) => each.label);

export function refresh() {
  asking ??= get("/live/state").then((news) => {
    const text = JSON.stringify(news);
    if (text === last) return;
    last = text;
    Object.assign(state, news);
    watchers.forEach((act) => act(state));
  }).finally(() => { asking = null; });
  return asking;
}

/** The state after everything that has been answered so far. */
export async function refreshNow() {
  await asking?.catch(() => {});
  await refresh().catch(() => {}); // a server that is gone is reported by whoever asks for answers
}

/** Do something that becomes a job, wait for it, and say how it went. Returns the job, or null if it failed. */
export async function change(request, { done = null, undoable = true, told } = {}) {
  try {
    const job = await finished(await request, told);
    await refreshNow();
    const text = typeof done === "function" ? done(job) : done;
    if (text) toast(text, undoable && state.undo ? { action: undoOf(), key: "change" } : { key: "change" });
    return job;
  } catch (error) {
    toast(error.message, { bad: true });
    refreshNow();
    return null;
  }
}

/** Undo for a notice: only what the notice is about, not what was done since, perhaps by another person. */
export function undoOf() {
  const { what } = state.undo;
  return () => (state.undo?.what === what ? undo() : toast("Something else was changed since, so this cannot be taken back.", { bad: true }));
}

export async function undo() {
  const what = state.undo?.what;
  return change(post("/live/undo"), { done: what ? `Taken back: ${what}.` : "Taken back.", undoable: false });
}

export function setUpState() {
  const ask = () => { if (!document.hidden) refresh().catch(() => {}); };
  setInterval(ask, 1000);
  document.addEventListener("visibilitychange", ask);
}
