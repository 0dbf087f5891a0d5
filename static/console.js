// What htmx does not do for the console. Everything here is a comfort: without it every action
// still works as a plain link or form.
"use strict";

(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const typing = (element) =>
    element instanceof HTMLElement &&
    (element.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(element.tagName));

  // --- things that only make sense with scripts show themselves -------------------------------
  function reveal(root) {
    all("[data-copy], [data-copy-text], [data-dismiss], [data-live], [data-scripted]", root).forEach((element) => {
      element.hidden = false;
    });
    all("[data-countdown]", root).forEach((element) => {
      element.dataset.endsAt = Date.now() + Number(element.dataset.countdown) * 1000;
    });
  }

  // --- menus, dialog, toasts, copy -------------------------------------------------------------
  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target : null;
    if (!target) return;
    all("details.menu[open]").forEach((menu) => {
      if (!menu.contains(target)) menu.open = false;
    });
    const dismiss = target.closest("[data-dismiss]");
    if (dismiss) dismiss.closest(".toast").remove();
    const close = target.closest("[data-close]");
    const dialog = target.closest("dialog");
    if (close && dialog) {
      event.preventDefault();
      dialog.close();
    }
    const copy = target.closest("[data-copy], [data-copy-text]");
    if (copy) copyFrom(copy);
  });

  async function copyFrom(button) {
    const source = button.dataset.copy && document.querySelector(button.dataset.copy);
    const text = source ? source.textContent : button.dataset.copyText;
    const label = button.lastChild;
    const before = label.textContent;
    try {
      await navigator.clipboard.writeText(text);
      label.textContent = "Copied";
    } catch {
      label.textContent = "Not allowed";
    }
    setTimeout(() => { label.textContent = before; }, 1500);
  }

  document.addEventListener("htmx:afterSwap", (event) => {
    const dialog = document.getElementById("dialog");
    if (event.detail.target !== dialog || !dialog.children.length) return;
    if (!dialog.open) dialog.showModal();
    // The safe way out has the focus: a stray Enter deletes nothing.
    const cancel = dialog.querySelector("[data-close]");
    if (cancel) cancel.focus();
  });

  // A fragment that answers with an error page shows that page, not a fragment of it.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const detail = event.detail;
    if (detail.xhr.status < 400) return;
    detail.shouldSwap = true;
    detail.isError = false;
    detail.target = document.getElementById("main");
    detail.selectOverride = "#main";
    detail.swapOverride = "outerHTML";
  });

  document.addEventListener("htmx:load", (event) => reveal(event.detail.elt));

  // --- a live region that is swapped keeps the focus and what is unfolded -----------------------
  // htmx itself keeps the focus in a swap of its own if the element has an id, and not in what comes
  // over a socket. What has none is known by what it is, where it leads and what it says.
  const STOPS = "a[href], button, summary, [tabindex]";
  const looks = (element) =>
    [element.tagName, element.getAttribute("href"), element.ariaLabel ?? element.textContent].join("\n");
  let held = null;
  function hold() {
    const focused = document.activeElement;
    held = {
      find: focused && focused !== document.body && finder(focused),
      open: all("main details[open][id]").map((each) => each.id),
    };
  }
  function finder(focused) {
    if (focused.id) return () => document.getElementById(focused.id);
    const said = looks(focused);
    const around = focused.parentElement?.closest("[id]")?.id;
    return () => {
      const stops = all(STOPS, document.getElementById(around) ?? document);
      return stops.find((each) => looks(each) === said);
    };
  }
  function restore() {
    if (!held) return;
    held.open.forEach((id) => {
      const details = document.getElementById(id);
      if (details) details.open = true;
    });
    const was = held.find;
    held = null;
    if (was && document.activeElement === document.body) was()?.focus({ preventScroll: true });
  }
  for (const before of ["htmx:beforeSwap", "htmx:wsBeforeMessage"]) document.addEventListener(before, hold);
  for (const after of ["htmx:afterSwap", "htmx:wsAfterMessage"]) document.addEventListener(after, restore);

  // --- theme: changed in place, so that nothing typed on the page is lost -----------------------
  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.matches("[data-in-place]") || !event.submitter) return;
    event.preventDefault();
    const theme = event.submitter.value;
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    all("button", form).forEach((button) => {
      button.toggleAttribute("aria-pressed", false);
      if (button === event.submitter) button.setAttribute("aria-pressed", "true");
    });
    form.closest("details").open = false;
    const body = new URLSearchParams(new FormData(form, event.submitter));
    // It is sent though the page is left at once; lost, the next page has the theme of before.
    await fetch(form.action, { method: "POST", body, redirect: "manual", keepalive: true }).catch(() => {});
  });

  // --- countdowns ------------------------------------------------------------------------------
  function duration(seconds) {
    const two = (number) => String(number).padStart(2, "0");
    if (seconds < 60) return `${seconds}\u00a0s`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)}:${two(seconds % 60)}`;
    if (seconds < 86400) {
      return `${Math.floor(seconds / 3600)}\u00a0h ${two(Math.floor((seconds % 3600) / 60))}\u00a0min`;
    }
    return `${Math.floor(seconds / 86400)}\u00a0d ${Math.floor((seconds % 86400) / 3600)}\u00a0h`;
  }
  setInterval(() => {
    all("[data-ends-at]").forEach((element) => {
      const left = Math.round((Number(element.dataset.endsAt) - Date.now()) / 1000);
      element.textContent = left > 0 ? duration(left) : "due";
    });
  }, 1000);

  // --- live regions: socket first, poll when there is none -------------------------------------
  const POLL_MS = 5000;
  let pollTimer = null;

  function live(element, state, words) {
    const chip = document.querySelector(element.dataset.liveSource);
    if (!chip) return;
    chip.dataset.live = state;
    chip.querySelector(".live-text").textContent = words;
  }
  function poll(element) {
    if (pollTimer) return;
    live(element, "poll", "every 5 s");
    pollTimer = setInterval(() => {
      if (!document.hidden) htmx.trigger(element.dataset.livePoll, "poll");
    }, POLL_MS);
  }
  // A room that drives its socket itself has no `data-live-source`.
  document.addEventListener("htmx:wsOpen", (event) => {
    if (!event.target.matches("[data-live-source]")) return;
    clearInterval(pollTimer);
    pollTimer = null;
    live(event.target, "on", "live");
  });
  document.addEventListener("htmx:wsClose", (event) => {
    if (!event.target.matches("[data-live-source]")) return;
    const code = event.detail.event.code;
    if (code === 4401) location.reload();
    else if (code === 4403) live(event.target, "off", "stopped: not allowed");
    else poll(event.target);
  });

  // --- keyboard ----------------------------------------------------------------------------------
  let going = -Infinity;
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      const open = document.querySelector("details.menu[open]");
      if (open) {
        open.open = false;
        open.querySelector("summary").focus();
      } else if (typing(event.target)) event.target.blur();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    if (document.querySelector("dialog[open]")) return;
    // By when a key was pressed: a page that was busy hears both late.
    if (event.timeStamp - going < 1200) {
      going = -Infinity;
      const entry = document.querySelector(`[data-go="${CSS.escape(event.key)}"]`);
      if (entry) {
        event.preventDefault();
        entry.click();
      }
      return;
    }
    if (event.key === "g") {
      going = event.timeStamp;
      return;
    }
    // What the page is about comes before its frame.
    const hotkey = `[data-hotkey="${CSS.escape(event.key)}"]`;
    const target = document.querySelector(`main ${hotkey}`) ?? document.querySelector(hotkey);
    if (!target) return;
    event.preventDefault();
    if (typing(target)) target.select();
    else target.click();
  });

  // What a page has to say about what was sent stands at its beginning, and the focus on the button
  // at its end, which the browser scrolls to.
  addEventListener("load", () => requestAnimationFrame(() => {
    const said = document.querySelector("main [role=alert]");
    if (said && said.getBoundingClientRect().top < 60) said.scrollIntoView({ block: "center" });
  }));

  reveal(document);
})();
