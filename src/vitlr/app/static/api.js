// Requests to the page's server. Every error is an Error with a sentence for people; `status` is 0 if nothing answered.

export const visitor = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

export const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

const GONE = "The page's server does not answer. Is vitlr serve still running?";

function failure(sentence, status, content = {}) {
  return Object.assign(new Error(sentence), { status, content });
}

async function request(path, options, seconds) {
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), 1000 * seconds);
  let reply, content;
  try {
    reply = await fetch(path, { ...options, signal: patience.signal, headers: { "X-VitLR": "1", ...options.headers } });
    content = await reply.json().catch(() => ({}));
  } catch {
    throw failure(GONE, 0);
  } finally {
    clearTimeout(timer);
  }
  if (!reply.ok) throw failure(content.error || `The page's server answered ${reply.status}.`, reply.status, content);
  return content;
}

export const get = (path, seconds = 10) => request(path, { cache: "no-store" }, seconds);

/** Post bytes (a Blob), with what belongs to them in the address. */
export const send = (path, blob, seconds = 15) =>
  request(path, { method: "POST", body: blob, headers: { "Content-Type": blob.type || "application/octet-stream" } }, seconds);

export const post = (path, content = {}) =>
  request(path, { method: "POST", body: JSON.stringify(content), headers: { "Content-Type": "application/json" } }, 20);

export const query = (path, values) => `${path}?${new URLSearchParams(values)}`;

/** The job once it is done. `told` sees every state on the way; a failed job is thrown. */
export async function finished(job, told = () => {}) {
  for (;;) {
    told(job);
    if (job.state === "done") return job;
    if (job.state === "failed") throw failure(job.message || "That did not work.", 200);
    await sleep(80);
    job = await get(query("/live/job", { number: job.number }));
  }
}
