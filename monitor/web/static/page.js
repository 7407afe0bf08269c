// Keeps an open page up to date: asks for it again when driftd says that something has changed.
// Pages are whole without this; a form that somebody is filling in is never replaced.
"use strict";

(() => {
  const content = document.getElementById("content");
  if (!content || !window.EventSource || document.querySelector("form.login")) return;

  let wanted = false;
  let asking = false;

  const isBusy = () => {
    const active = document.activeElement;
    if (active && content.contains(active) && active.closest("form")) return true;
    return [...content.querySelectorAll("form input:not([type=hidden])")].some((field) => field.value !== field.defaultValue);
  };

  const refresh = async () => {
    if (!wanted || asking || document.hidden || isBusy()) return;
    asking = true;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (!answer.ok || answer.redirected) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("content");
      if (!fresh) return;
      wanted = false;
      if (fresh.innerHTML === content.innerHTML) return;
      const opened = [...content.querySelectorAll("details")].map((part) => part.open);
      const scrolled = [...content.querySelectorAll(".scroll")].map((part) => part.scrollLeft);
      content.replaceChildren(...fresh.childNodes);
      content.querySelectorAll("details").forEach((part, i) => { part.open = opened[i] || part.open; });
      content.querySelectorAll(".scroll").forEach((part, i) => { part.scrollLeft = scrolled[i] || 0; });
    } catch {
      // driftd is away; the stream comes back when it does.
    } finally {
      asking = false;
    }
  };

  const events = new EventSource("/live");
  events.addEventListener("changed", () => { wanted = true; refresh(); });
  document.addEventListener("visibilitychange", refresh);
  setInterval(refresh, 5000);
})();
