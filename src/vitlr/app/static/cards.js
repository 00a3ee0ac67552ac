// The known objects: one card each, with its name, its pictures and what can be done with it.
import { get, post, query } from "./api.js";
import { change, names, onState, state } from "./state.js";
import { holdable } from "./teach.js";
import { $, ask, icon, iconButton, make, many, percent, plainName } from "./ui.js";

const cards = new Map(); // label -> its parts

export function setUpCards() {
  onState(draw);
  $("keep").addEventListener("change", () => change(keepPictures($("keep").checked)));
}

async function keepPictures(on) {
  await post("/live/keep", { on });
  return { state: "done" };
}

function draw() {
  const { classes, limits, keep_pictures: kept } = state;
  const busy = state.jobs.filter((job) => ["waiting", "learning"].includes(job.state) && job.label);
  $("objectCount").textContent = busy.length ? `learning “${busy[0].label}” …` : classes.length ? `${classes.length} of at most ${limits.classes}` : "";
  $("nothing").hidden = classes.length > 0;
  $("keep").checked = kept;
  $("keepNote").textContent = kept
    ? "Pictures taught from now on are kept, so that single ones can be thrown out."
    : "No picture is kept, only what the network remembers of it.";
  $("known").replaceChildren(...classes.map(({ label }) => make("option", { value: label })));
  for (const [label, card] of cards) if (!classes.some((each) => each.label === label)) { card.item.remove(); cards.delete(label); }
  classes.forEach((each, index) => {
    if (!cards.has(each.label)) cards.set(each.label, build(each.label));
    const card = cards.get(each.label);
    update(card, each);
    if ($("cards").children[index] !== card.item) $("cards").insertBefore(card.item, $("cards").children[index] ?? null);
  });
}

function build(label) {
  const image = make("img", { class: "face", alt: "", hidden: true });
  const name = make("button", { type: "button", class: "cardName", "aria-label": `Rename ${label}`, title: "Rename", onclick: () => edit(card) },
    make("span", {}, label), icon("pen"));
  const count = make("span", { class: "cardCount" });
  const share = make("span", { class: "cardShare", "aria-hidden": "true" });
  const more = iconButton("plus", `Hold to teach ${label} more`, null, { title: "Hold to teach more of it" });
  const pictures = iconButton("pictures", `Pictures of ${label}`, () => showPictures(label));
  const merge = iconButton("merge", `Merge ${label} with another object`, () => chooseMerge(label), { title: "Merge with another" });
  const trash = iconButton("trash", `Forget ${label}`, () => forget(label), { title: "Forget" });
  const fill = make("div", { class: "cardFill" });
  const item = make("li", { class: "card" },
    make("div", { class: "faceHolder" }, image), name, make("p", { class: "cardFacts" }, count, share),
    make("div", { class: "acts" }, more, pictures, merge, trash), fill);
  const card = { label, item, image, name, count, share, pictures, merge, fill };
  holdable(more, () => label);
  return card;
}

function update(card, { images, latents, thumbnail, pictures }) {
  if (thumbnail && card.image.getAttribute("src") !== thumbnail) card.image.src = thumbnail;
  card.image.hidden = !thumbnail;
  card.count.textContent = many(images, "picture");
  card.count.title = latents ? `${latents} of them are in memory for practice` : "";
  card.pictures.hidden = !state.keep_pictures && !pictures;
  card.merge.hidden = state.classes.length < 2;
}

/** The live answer on the cards, as [[label, share], ...]; an empty list clears them. */
export function showShares(shares, said) {
  const found = new Map(shares);
  for (const [label, card] of cards) {
    const share = found.get(label) ?? 0;
    card.fill.style.transform = `scaleX(${share})`;
    card.share.textContent = shares.length && share >= 0.005 ? percent(share) : "";
    card.item.classList.toggle("seen", label === said);
  }
}

// -- names --------------------------------------------------------------------------------------

function edit(card) {
  const field = make("input", { type: "text", class: "cardEdit", maxlength: state.limits.name, "aria-label": `New name of ${card.label}` });
  let over = false;
  const close = (focus) => { over = true; field.replaceWith(card.name); if (focus) card.name.focus(); };
  const accept = (focus) => {
    if (over) return;
    const name = field.value.trim();
    close(focus);
    if (name && name !== card.label) rename(card.label, name);
  };
  field.value = card.label;
  field.addEventListener("keydown", (event) => {
    if (!["Enter", "Escape"].includes(event.key)) return;
    event.preventDefault(); // or the key would press what gets the focus next
    if (event.key === "Enter") accept(true);
    else close(true);
  });
  field.addEventListener("blur", () => accept(false));
  card.name.replaceWith(field);
  field.select();
  field.focus();
}

async function rename(label, name) {
  const other = names().find((each) => each !== label && plainName(each) === plainName(name));
  if (!other) return change(post("/live/rename", { label, name }), { done: `“${label}” is called “${name}” now.` });
  const alike = other === name ? "There is an object of that name already." : `That differs from “${other}” in upper and lower case only.`;
  const answers = [["merge", `They are the same: merge into “${other}”`, "primary"]];
  if (other !== name) answers.push(["rename", `They are different: call it “${name}”`]);
  const answer = await ask(`Is “${label}” the same as “${other}”?`, alike, [...answers, [null, "Cancel"]]);
  if (answer === "merge") return merge(label, other);
  if (answer === "rename") return change(post("/live/rename", { label, name, new: true }), { done: `“${label}” is called “${name}” now.` });
}

async function chooseMerge(label) {
  const list = make("select", { "aria-label": "The other object" }, ...names().filter((each) => each !== label).map((each) => make("option", { value: each }, each)));
  const answer = await ask(`Merge “${label}” into which object?`, "Both become one object with the name you choose. Undo separates them again.",
    [["merge", "Merge", "primary"], [null, "Cancel"]], list);
  if (answer) await merge(label, list.value);
}

const merge = (label, into) => change(post("/live/merge", { label, into }), { done: `“${label}” is part of “${into}” now.` });
async function forget(label) {
  await change(post("/live/forget", { label }), {
    done: (job) => `Forgot “${label}”.${job.message.startsWith("what remains") ? " Traces remain in what was learned together with it." : ""}`,
  });
  if (document.activeElement === document.body) (document.querySelector(".cardName") ?? $("name")).focus(); // the card had it
}

// -- pictures -----------------------------------------------------------------------------------

async function showPictures(label) {
  const strip = make("ul", { class: "pictures" }), note = make("p", { class: "panelNote" });
  const fill = async () => {
    const { pictures } = await get(query("/live/pictures", { label }));
    const images = state.classes.find((each) => each.label === label)?.images ?? 0, lost = images - pictures.length;
    note.textContent = !pictures.length ? "No pictures are kept yet. Switch on “Keep pictures” and teach it again."
      : "Throw out those that show something else. What remains is learned anew."
        + (lost > 0 ? ` ${many(lost, "picture")} taught without being kept would be forgotten with the first one. Undo brings them back.` : "");
    strip.replaceChildren(...pictures.map(({ id, url }, index) => make("li", {},
      make("img", { src: url, alt: `${label}, picture ${index + 1}`, loading: "lazy" }),
      iconButton("trash", `Throw out picture ${index + 1}`, async (event) => {
        event.currentTarget.closest("li").classList.add("going");
        await change(post("/live/discard", { id }), { done: (job) => `Threw out one picture of “${label}”. ${job.message}`.trim() });
        await fill().catch(() => {});
      }))));
  };
  try {
    await fill();
  } catch (error) {
    note.textContent = error.message;
  }
  await ask(`Pictures of “${label}”`, "", [[null, "Close"]], make("div", {}, note, strip));
}
