// Small pieces of the page: elements, sentences, short notices, questions. Text from outside only ever becomes textContent.

export const $ = (id) => document.getElementById(id);

/** An element: make("button", { class: "plain", onclick: f }, "text", child, ...). */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg"), use = document.createElementNS(space, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

export const iconButton = (name, label, act, more = {}) =>
  make("button", { type: "button", class: "icon", "aria-label": label, title: label, onclick: act, ...more }, icon(name));

export const many = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;
export const percent = (share) => `${Math.round(100 * share)}\u00a0%`;
/** As the server compares names: one spelling of accents, upper and lower case alike. */
export const plainName = (name) => name.normalize("NFC").trim().toLowerCase();

export function say(text, bad = false) {
  const line = $("message");
  if (line.textContent !== text) line.textContent = text;
  line.classList.toggle("bad", bad);
}

/** The large label on the picture. */
export function showLabel(text) {
  $("said").textContent = text;
  $("said").classList.toggle("long", text.length > 22);
}

/** A notice that goes by itself; with an action it stays longer, and while it has the focus. One of the same key is replaced. */
export function toast(text, { action = null, label = "Undo", bad = false, key = "" } = {}) {
  const notice = make("div", { class: bad ? "toast bad" : "toast", "data-key": key }, make("span", {}, text));
  if (key) for (const old of $("toasts").querySelectorAll(`[data-key=${key}]`)) old.remove();
  const close = () => notice.remove();
  if (action) notice.append(make("button", { type: "button", onclick: () => { close(); action(); } }, label));
  notice.append(iconButton("cross", "Close", close));
  $("toasts").append(notice);
  while ($("toasts").children.length > 3) $("toasts").firstChild.remove();
  const end = () => (notice.matches(":hover, :focus-within") ? setTimeout(end, 2000) : close());
  setTimeout(end, bad ? 14000 : action ? 9000 : 4500);
  return close;
}

/** Ask in a dialog; returns the chosen answer's value, or null. `body` is an element, `answers` [[value, text, kind]]. */
export function ask(title, text, answers, body = null) {
  const dialog = $("ask");
  if (dialog.open) dialog.close();
  $("askTitle").textContent = title;
  $("askText").textContent = text;
  $("askText").hidden = !text;
  $("askBody").replaceChildren(...(body ? [body] : []));
  return new Promise((done) => {
    let chosen = null;
    const choose = (value) => { chosen = value; dialog.close(); };
    $("askActions").replaceChildren(...answers.map(([value, words, kind]) =>
      make("button", { type: "button", class: kind || "plain", onclick: () => choose(value) }, words)));
    dialog.addEventListener("close", () => done(chosen), { once: true });
    dialog.showModal();
  });
}

/** Press and hold on a button, by pointer or by space or Enter. Letting go anywhere counts, and so does leaving the page. */
export function onHold(button, down, up) {
  let held = false;
  const begin = () => { if (!held && !button.disabled && down() !== false) held = true; };
  const end = () => { if (held) { held = false; up(); } };
  const key = (event) => event.key === " " || event.key === "Enter";
  button.addEventListener("pointerdown", (event) => { if (event.button === 0) { event.preventDefault(); button.focus(); begin(); } });
  for (const kind of ["pointerup", "pointercancel", "blur"]) window.addEventListener(kind, end);
  button.addEventListener("keydown", (event) => { if (key(event)) { event.preventDefault(); if (!event.repeat) begin(); } });
  button.addEventListener("keyup", (event) => { if (key(event)) { event.preventDefault(); end(); } });
  button.addEventListener("blur", end);
  button.addEventListener("contextmenu", (event) => event.preventDefault()); // a long press on a phone
}
