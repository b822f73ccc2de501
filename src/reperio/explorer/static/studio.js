// Keys, marks and what else a page does without being loaded again. It sends texts and sets texts: never HTML.

const root = document.documentElement.dataset.root;
const main = document.querySelector("main");
const said = document.querySelector(".said");
const help = document.querySelector("dialog.help");
const cards = () => [...document.querySelectorAll(".hit")];
const plain = (value) => decodeURIComponent(value || "");
const UNDO = `reperio-undo ${root}`;

let quiet;
function say(text, wrong = false) {
  said.textContent = text;
  said.hidden = false;
  said.classList.toggle("wrong", wrong);
  clearTimeout(quiet);
  quiet = setTimeout(() => { said.hidden = true; }, wrong ? 12000 : 2500);
}

async function send(path, body) {
  let answer;
  try {
    answer = await fetch(root + path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Reperio-Studio": "1" },
      body: JSON.stringify(body),
    });
  } catch {
    throw new Error("the studio does not answer; start it again, and load this page again");
  }
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(found.error || `the studio refused this (${answer.status})`);
  return found;
}

async function tried(work) {
  try {
    await work();
  } catch (error) {
    say(error.message, true);
  }
}

// Undo: the names of what was done, in this tab.
const done = () => JSON.parse(sessionStorage.getItem(UNDO) || "[]");
function remember(name) {
  sessionStorage.setItem(UNDO, JSON.stringify([...done(), name].slice(-100)));
}

const asked = () => ({ q: plain(main.dataset.question), where: plain(main.dataset.where), mode: main.dataset.mode });
const about = () => document.querySelector("input[name=about]:checked")?.value || "chunk";

function show(card, grade) {
  if (grade === null) delete card.dataset.graded;
  else card.dataset.graded = String(Math.min(grade, 3));
  for (const button of card.querySelectorAll("[data-grade]")) {
    button.setAttribute("aria-pressed", String(card.dataset.graded === button.dataset.grade));
  }
}

function showAll({ marks, state, words }) {
  const known = new Map(Object.entries(marks));
  const badge = document.querySelector(".asked .state");
  if (badge && state) {
    badge.className = `state ${state}`;
    badge.textContent = words;
  }
  for (const card of cards()) {
    const names = [plain(card.dataset.id), plain(card.dataset.document)];
    const name = names.find((each) => each && known.has(each));
    show(card, name === undefined ? null : known.get(name));
  }
  const judged = document.querySelector("[data-judged]");
  if (judged) {
    const number = cards().filter((card) => "graded" in card.dataset).length;
    judged.textContent = String(number);
    judged.parentElement.querySelector(".fill").setAttribute("width", String((100 * number) / cards().length));
  }
}

const WORDS = ["wrong", "helps", "answers", "answers best"];
let marking = Promise.resolve();
function mark(card, grade) {
  // One after the other, so that the page ends up with what is in the file.
  marking = marking.then(() => tried(async () => {
    const written = await send("/mark", {
      ...asked(),
      id: plain(card.dataset.id),
      grade: grade === null ? "" : String(grade),
      document: about() === "document",
    });
    remember(written.undo);
    showAll(written);
    say(grade === null ? "mark taken away" : `${grade}: ${WORDS[grade]}`);
  }));
}

function undo() {
  const names = done();
  if (!names.length) {
    say("nothing to undo in this tab");
    return;
  }
  tried(async () => {
    sessionStorage.setItem(UNDO, JSON.stringify(names.slice(0, -1)));
    await send("/undo", { undo: names.at(-1) });
    location.reload();
  });
}

let chosen = -1;
function select(place) {
  const all = cards();
  if (!all.length) return;
  chosen = Math.max(0, Math.min(place, all.length - 1));
  all[chosen].focus({ preventScroll: true });
  all[chosen].scrollIntoView({ block: "nearest" });
}
const current = () => document.activeElement?.closest?.(".hit") || (chosen >= 0 ? cards()[chosen] : cards()[0]);

function question(what, more = {}) {
  tried(async () => {
    const written = await send("/question", { ...asked(), what, ...more });
    remember(written.undo);
    if (what === "reword") {
      location.search = `?${new URLSearchParams({ q: written.text, where: plain(main.dataset.where) })}`;
    } else if (what === "remove") {
      location.assign(document.querySelector("a[rel=next]")?.href || `${root}/judge`);
    } else {
      location.reload();
    }
  });
}

const actions = {
  help: () => help.showModal(),
  keep: () => tried(async () => {
    const form = Object.fromEntries(new URLSearchParams(location.search));
    const kept = await send("/keep", form);
    say(`${kept.name}: choose it on the page Compare`);
  }),
  confirm: () => question("confirm"),
  remove: () => question("remove"),
  stop: () => tried(async () => { await send("/duplicates", { stop: true }); location.reload(); }),
};

document.addEventListener("click", (event) => {
  const grade = event.target.closest("[data-grade]");
  if (grade) {
    const card = grade.closest(".hit");
    mark(card, grade.getAttribute("aria-pressed") === "true" ? null : Number(grade.dataset.grade));
    return;
  }
  const name = event.target.closest("button[data-do]")?.dataset.do;
  if (name) actions[name]?.();
});

document.addEventListener("focusin", (event) => {
  const card = event.target.closest?.(".hit");
  if (card) chosen = cards().indexOf(card);
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  const values = Object.fromEntries(new FormData(form));
  if (form.dataset.do === "reword") {
    event.preventDefault();
    question("reword", { text: values.text });
  } else if (form.dataset.do === "duplicates") {
    event.preventDefault();
    tried(async () => { await send("/duplicates", values); location.reload(); });
  } else if (form.method === "get") {
    document.body.classList.add("busy");
    // Addresses stay short: what is empty says nothing.
    for (const field of form.elements) if (field.name && field.value === "") field.disabled = true;
  }
});
addEventListener("pageshow", () => {
  document.body.classList.remove("busy");
  for (const field of document.querySelectorAll("form :disabled")) field.disabled = false;
});

const keys = {
  "/": () => document.querySelector("input[type=search], .ask input")?.focus(),
  j: () => select(chosen + 1),
  k: () => select(chosen - 1),
  u: undo,
  x: () => { const card = current(); if (card && "graded" in card.dataset) mark(card, null); },
  n: () => document.querySelector("a[rel=next]")?.click(),
  p: () => document.querySelector("a[rel=prev]")?.click(),
  c: () => document.querySelector("[data-do=confirm]")?.click(),
  "?": actions.help,
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || help.open) return;
  if (event.target.closest("input, textarea, select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.repeat && !["ArrowDown", "ArrowUp", "j", "k"].includes(event.key)) return; // a key that is held is one decision
  const card = current();
  if (/^[0-3]$/.test(event.key) && card?.querySelector(`[data-grade="${event.key}"]`)) {
    event.preventDefault();
    mark(card, Number(event.key));
  } else if (event.key === "Enter" && document.activeElement?.matches(".hit")) {
    document.activeElement.querySelector("a.id").click();
  } else if (keys[event.key]) {
    event.preventDefault();
    keys[event.key]();
  }
});

// What is hidden on a phone is open where there is room.
const wide = matchMedia("(min-width: 900px)");
for (const each of document.querySelectorAll("[data-wide-open]")) each.open = wide.matches;

document.querySelector(".tabs [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

// A mode or a box is a whole decision: it is asked again at once.
for (const each of document.querySelectorAll(".ask .segments input, .ask .check input")) {
  each.addEventListener("change", () => {
    const form = each.form;
    if (form.elements.q?.value) form.requestSubmit();
  });
}

// What is still being counted comes by itself.
if ("reload" in document.documentElement.dataset) {
  setTimeout(() => { if (!document.activeElement?.matches("input, textarea, select")) location.reload(); }, 1500);
}
