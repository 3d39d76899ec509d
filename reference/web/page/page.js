// The chat page: holds the conversation, shows it, and lets the reader stop an answer.

import { ApiError, answer, models } from "./api.js";
import { Figures } from "./figures.js";

const KEY = "windtunnel-api-key";
const element = (id) => document.getElementById(id);
const [conversation, question, send, stop, status, notice, picker] =
  ["conversation", "question", "send", "stop", "status", "notice", "model"].map(element);

let base = "";
let messages = [];
let running = null;

const key = () => sessionStorage.getItem(KEY) ?? "";

async function start() {
  try { base = (await (await fetch("settings.json", { cache: "no-store" })).json()).api_base ?? ""; }
  catch { base = ""; }
  await loadModels();
  question.focus();
}

async function loadModels() {
  try {
    const names = await models(base, key());
    const chosen = picker.value;
    picker.replaceChildren(...names.map((name) => new Option(name, name, false, name === chosen)));
    picker.disabled = names.length === 0;
    tell(names.length ? "" : "No model is served here at the moment.");
  } catch (error) {
    picker.replaceChildren(new Option("no model", ""));
    picker.disabled = true;
    tell(error.message);
    if (error instanceof ApiError && error.kind === "key") openKeyDialog();
  }
}

function tell(words) {
  notice.textContent = words;
  notice.hidden = !words;
}

function show(role, text) {
  element("welcome")?.remove();
  const article = document.createElement("article");
  article.className = role === "user" ? "mine" : "answer";
  article.setAttribute("aria-label", role === "user" ? "You" : "Answer");
  render(article, text);
  conversation.append(article);
  article.scrollIntoView({ block: "end" });
  return article;
}

// Fenced code becomes <pre>; everything is set as text, never as markup.
function render(article, text) {
  const parts = text.split(/^```.*\n?/m).map((part, index) => {
    const block = document.createElement(index % 2 ? "pre" : "p");
    block.className = index % 2 ? "" : "text";
    block.textContent = part;
    return block;
  }).filter((block, index) => block.textContent || index === 0);
  article.replaceChildren(...parts);
}

function addFigures(article, figures) {
  const list = document.createElement("dl");
  list.className = "figures";
  for (const [name, value, meaning] of figures.rows()) {
    const row = document.createElement("div");
    const term = document.createElement("dt");
    const detail = document.createElement("dd");
    [term.textContent, term.title, detail.textContent] = [name, meaning, value];
    row.append(term, detail);
    list.append(row);
  }
  article.append(list);
}

function addError(article, words) {
  const line = document.createElement("p");
  line.className = "error";
  line.setAttribute("role", "alert");
  line.textContent = words;
  article.append(line);
}

function setRunning(controller) {
  running = controller;
  send.hidden = Boolean(controller);
  stop.hidden = !controller;
  conversation.setAttribute("aria-busy", String(Boolean(controller)));
}

async function askModel(text) {
  tell("");
  messages.push({ role: "user", content: text });
  show("user", text);
  const article = show("assistant", "");
  article.classList.add("running");
  const controller = new AbortController();
  const figures = new Figures();
  let written = "";
  let failure = null;
  setRunning(controller);
  status.textContent = "The model is answering.";
  try {
    for await (const { text: piece, usage } of answer(base, key(), picker.value, messages, controller.signal)) {
      if (usage) figures.usage(usage);
      if (!piece) continue;
      figures.piece();
      written += piece;
      const stay = atBottom();
      render(article, written);
      if (stay) article.scrollIntoView({ block: "end" });
    }
    status.textContent = "The answer is complete.";
  } catch (error) {
    failure = error;
    status.textContent = error.name === "AbortError" ? "Stopped." : "";
  }
  article.classList.remove("running");
  if (written) messages.push({ role: "assistant", content: written });
  else messages.pop();
  if (written) addFigures(article, figures);
  if (failure && failure.name !== "AbortError") {
    addError(article, failure.message);
    if (!written) question.value ||= text;
    if (failure.kind === "key") openKeyDialog();
  } else if (failure && !written) article.remove();
  setRunning(null);
  article.scrollIntoView({ block: "end" });
  question.focus();
}

function atBottom() {
  const main = document.querySelector("main");
  return main.scrollHeight - main.scrollTop - main.clientHeight < 80;
}

function openKeyDialog() {
  const dialog = element("key-dialog");
  if (dialog.open) return;
  element("key").value = key();
  dialog.returnValue = "";
  dialog.showModal();
}

function fit() {
  question.style.setProperty("height", "auto");
  question.style.setProperty("height", `${question.scrollHeight + 2}px`);
}

element("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = question.value.trim();
  if (!text || running) return;
  if (!picker.value) { loadModels(); return; }
  question.value = "";
  fit();
  askModel(text);
});
question.addEventListener("input", fit);
question.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    element("ask").requestSubmit();
  }
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape" && running) running.abort(); });
stop.addEventListener("click", () => running?.abort());
element("clear").addEventListener("click", () => {
  running?.abort();
  messages = [];
  conversation.replaceChildren();
  status.textContent = "A new chat.";
  question.focus();
});
element("key-open").addEventListener("click", openKeyDialog);
element("key-save").addEventListener("click", () => {
  const entered = element("key").value.trim();
  if (entered) sessionStorage.setItem(KEY, entered);
  else sessionStorage.removeItem(KEY);
  loadModels();
});

start();
