"use strict";
// Fetches again what changes while something runs, and adds buttons that copy. Pages are complete without it.

const EVERY = 1000;

function addCopyButtons(root) {
  for (const element of root.querySelectorAll("[data-copy]")) {
    if (element.nextElementSibling?.classList.contains("copy")) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "copy";
    button.setAttribute("aria-label", `Copy ${element.dataset.copy.slice(0, 80)}`);
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(element.dataset.copy);
        button.textContent = "copied";
      } catch {
        button.textContent = "press Ctrl-C";
        getSelection().selectAllChildren(element);
      }
      setTimeout(() => { button.textContent = "copy"; }, 1500);
    });
    element.after(button);
  }
}

const tags = new Map();

async function fetchAgain(element) {
  const path = element.dataset.poll;
  const headers = tags.has(path) ? { "If-None-Match": tags.get(path) } : {};
  const answer = await fetch(path, { headers, cache: "no-store" });
  if (answer.status === 304) return;
  if (answer.status === 404) return tellEnd(element);
  if (!answer.ok) throw new Error(answer.status);
  tags.set(path, answer.headers.get("ETag"));
  const parsed = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = parsed.body.firstElementChild;
  if (!fresh) return;
  keepOpen(element, fresh);
  const scrolled = [...element.querySelectorAll(".scroll")].map((box) => [box.scrollLeft, box.scrollTop]);
  const focused = document.activeElement;
  const place = element.contains(focused) ? [...element.querySelectorAll("a, button, summary, [tabindex]")].indexOf(focused) : -1;
  element.replaceWith(fresh);
  addCopyButtons(fresh);
  fresh.querySelectorAll(".scroll").forEach((box, at) => { if (scrolled[at]) box.scrollTo(...scrolled[at]); });
  if (place >= 0) [...fresh.querySelectorAll("a, button, summary, [tabindex]")][place]?.focus({ preventScroll: true });
}

// What was temporary has become an instance, or is gone.
function tellEnd(element) {
  element.removeAttribute("data-poll");
  const links = document.querySelectorAll(".crumbs a");
  if (document.getElementById("ended") || !links.length) return;
  const above = links[links.length - 1];
  const note = document.createElement("p");
  const link = document.createElement("a");
  note.id = "ended";
  note.setAttribute("role", "status");
  link.href = above.href;
  link.textContent = `Go to ${above.textContent}`;
  note.append("It has ended. ", link);
  element.before(note);
}

function keepOpen(before, after) {
  const old = before.querySelectorAll("details");
  after.querySelectorAll("details").forEach((details, place) => {
    if (old[place]) details.open = old[place].open;
  });
}

async function poll() {
  let failures = 0;
  let took = 0;
  for (;;) {
    // What takes the server long is asked for less often: a tenth of the time at most.
    await new Promise((resolve) => setTimeout(resolve, Math.max(EVERY * (1 + failures), 9 * took)));
    if (document.hidden) continue;
    const start = performance.now();
    for (const element of document.querySelectorAll("[data-poll]")) {
      try {
        await fetchAgain(element);
        failures = 0;
      } catch {
        failures = Math.min(failures + 1, 10);
      }
    }
    took = performance.now() - start;
  }
}

async function fetchOnce() {
  for (const element of document.querySelectorAll("[data-fetch]")) {
    const answer = await fetch(element.dataset.fetch);
    if (!answer.ok) continue;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").body.firstElementChild;
    if (fresh) element.replaceWith(fresh), addCopyButtons(fresh);
  }
}

addCopyButtons(document);
fetchOnce().catch(() => {});
poll();
