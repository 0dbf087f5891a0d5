// The watch's socket. The browser says what it has seen, so that its own reconnects leave no hole
// and a range that is added does not wipe the list; it acknowledges each frame, so that it is
// never sent more than it can show.
"use strict";

(() => {
  const ROWS_MAX = 300;
  const RETRY_MS = 2000;
  const SAY_MS = 10_000;
  // Codes after which the extension comes back by itself.
  const RETRIED = [1006, 1011, 1012, 1013];
  const STOPPED = {
    4400: "stopped: no such range",
    4401: "stopped: the session has ended, sign in again",
    4403: "stopped: permission denied",
  };
  let socket = null;
  let had = null;

  htmx.config.wsReconnectDelay = (tries) => Math.min(250 * 2 ** tries, 8000) * (0.5 + Math.random() / 2);

  const all = (selector) => [...document.querySelectorAll(selector)];
  const of = (event) => event.target instanceof Element && event.target.matches("[data-watch]");
  const counts = () => document.getElementById("watch-counts");
  const rows = () => document.getElementById("watch-rows");
  const isPaused = () => all('[data-watch-pause][aria-pressed="true"]').length > 0;

  function chip(state, words) {
    const chips = document.getElementById("watch-chips");
    const [first, ...others] = chips.children;
    others.forEach((other) => other.remove());
    first.className = "chip live-chip";
    first.dataset.live = state;
    first.querySelector(".live-text").textContent = words;
  }

  document.addEventListener("htmx:wsOpen", (event) => {
    if (!of(event)) return;
    socket = event.detail.socketWrapper;
    chip("poll", "connecting");
    all("[data-without-script]").forEach((element) => { element.hidden = true; });
    socket.send(JSON.stringify({ page: counts().dataset.place, had, pause: isPaused() }));
  });
  document.addEventListener("htmx:wsClose", (event) => {
    if (!of(event) || !event.target.isConnected) return;
    const code = event.detail.event.code;
    if (STOPPED[code]) {
      chip("off", STOPPED[code]);
      return;
    }
    const from = JSON.parse(had || counts().dataset.place).at.map(([, , revision]) => BigInt(revision));
    if (code === 1013) chip("poll", "waiting: too many watches are open");
    else chip("poll", `resuming from ${from.reduce((a, b) => (a < b ? a : b))}`);
    if (!RETRIED.includes(code)) setTimeout(event.detail.socketWrapper.reconnect, RETRY_MS);
  });
  document.addEventListener("htmx:wsAfterMessage", (event) => {
    if (!of(event)) return;
    had = counts().dataset.place;
    while (rows().children.length > ROWS_MAX) rows().lastElementChild.remove();
    event.detail.socketWrapper.send('{"ack": 1}');
  });

  // What was wrong with a new range is said beside the list, which stays.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const detail = event.detail;
    if (detail.xhr.status !== 400 || !detail.requestConfig.elt.closest("#watch-head")) return;
    detail.target = document.getElementById("watch-head");
    detail.selectOverride = "#watch-head";
  });

  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target : null;
    const pause = target && target.closest("[data-watch-pause]");
    if (target && target.closest("[data-watch-clear]")) rows().replaceChildren();
    if (!pause) return;
    const paused = !isPaused();
    pause.setAttribute("aria-pressed", String(paused));
    pause.querySelector(".label").textContent = paused ? "Go on" : "Pause";
    if (socket) socket.send(JSON.stringify({ pause: paused }));
  });

  // Rows are not read out one by one: a summary is, when there is something to tell.
  let told = 0n;
  setInterval(() => {
    if (!had) return;
    const seen = JSON.parse(had).counted.reduce((sum, each) => sum + BigInt(each), 0n);
    const said = document.getElementById("watch-said");
    if (said && seen > told) said.textContent = `${seen - told} new events`;
    told = seen;
  }, SAY_MS);
})();
