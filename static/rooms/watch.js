// The watch's socket. The browser says where it is, so that its own reconnects leave no hole, and
// acknowledges each frame, so that it is never sent more than it can show.
"use strict";

(() => {
  const ROWS_MAX = 300;
  const RETRY_MS = 2000;
  // Codes after which the extension comes back by itself.
  const RETRIED = [1006, 1011, 1012, 1013];
  const STOPPED = {
    4400: "stopped: no such range",
    4401: "stopped: the session ended, sign in again",
    4403: "stopped: permission denied",
  };
  let socket = null;

  const of = (event) => event.target instanceof Element && event.target.matches("[data-watch]");
  const nextRevision = () => document.getElementById("watch-counts").dataset.next;
  const pauseButton = () => document.querySelector("[data-watch-pause]");
  const isPaused = () => pauseButton().getAttribute("aria-pressed") === "true";

  function chip(state, words) {
    const element = document.getElementById("watch-chip");
    element.dataset.live = state;
    element.querySelector(".live-text").textContent = words;
  }

  document.addEventListener("htmx:wsOpen", (event) => {
    if (!of(event)) return;
    socket = event.detail.socketWrapper;
    chip("poll", "connecting");
    document.querySelectorAll("[data-without-script]").forEach((link) => { link.hidden = true; });
    socket.send(JSON.stringify({ from: nextRevision(), pause: isPaused() }));
  });
  document.addEventListener("htmx:wsClose", (event) => {
    if (!of(event)) return;
    const code = event.detail.event.code;
    if (STOPPED[code]) {
      chip("off", STOPPED[code]);
      return;
    }
    chip("poll", `resuming from ${nextRevision()}`);
    if (!RETRIED.includes(code)) setTimeout(event.detail.socketWrapper.reconnect, RETRY_MS);
  });
  document.addEventListener("htmx:wsAfterMessage", (event) => {
    if (!of(event)) return;
    const rows = document.getElementById("watch-rows");
    while (rows.children.length > ROWS_MAX) rows.lastElementChild.remove();
    event.detail.socketWrapper.send('{"ack": 1}');
  });

  document.addEventListener("click", (event) => {
    const button = event.target instanceof Element && event.target.closest("[data-watch-pause]");
    if (!button) return;
    const paused = !isPaused();
    button.setAttribute("aria-pressed", String(paused));
    button.querySelector(".label").textContent = paused ? "Go on" : "Pause";
    if (socket) socket.send(JSON.stringify({ pause: paused }));
  });
})();
