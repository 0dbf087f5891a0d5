// The palette (Ctrl K) and the sheet of keys (?). The palette follows the ARIA combobox pattern:
// the focus stays in the field, the option that Enter takes is its active descendant.
"use strict";

(() => {
  const palette = document.getElementById("palette");
  const sheet = document.getElementById("shortcuts");
  if (!palette || !sheet) return;
  const input = document.getElementById("palette-input");
  const list = document.getElementById("palette-list");
  const options = () => [...list.querySelectorAll('a[role="option"]')];
  const active = () => list.querySelector('[aria-selected="true"]');
  let moved = false;
  let entered = false;

  // --- palette ---------------------------------------------------------------------------------
  function open() {
    if (document.querySelector("dialog[open]")) return;
    palette.showModal();
    input.value = "";
    moved = entered = false;
    htmx.trigger(input, "palette");
  }

  function choose(option) {
    options().forEach((each, number) => {
      each.id = `go-${number}`;
      each.setAttribute("aria-selected", String(each === option));
    });
    if (!option) {
      input.removeAttribute("aria-activedescendant");
      return;
    }
    input.setAttribute("aria-activedescendant", option.id);
    option.scrollIntoView({ block: "nearest" });
  }

  // What is listed was found for what is typed, not for the beginning of it.
  const isAnswer = () => list.querySelector("[data-of]")?.dataset.of === input.value;
  const isBusy = () => !isAnswer() || (!active() && list.querySelector('[aria-busy="true"]'));

  new MutationObserver(() => {
    // What somebody has moved to stays when keys arrive below it.
    choose((moved && active()) || options()[0]);
    const count = options().length;
    document.getElementById("palette-said").textContent =
      `${count} place${count === 1 ? "" : "s"}`;
    if (!entered || isBusy()) return;
    entered = false;
    active()?.click();
  }).observe(list, { childList: true, subtree: true });
  input.addEventListener("input", () => { moved = entered = false; });
  input.addEventListener("keydown", (event) => {
    const all = options();
    const at = all.indexOf(active());
    const to = {
      ArrowDown: (at + 1) % all.length,
      ArrowUp: (at - 1 + all.length) % all.length,
      PageDown: Math.min(at + 8, all.length - 1),
      PageUp: Math.max(at - 8, 0),
    }[event.key];
    if (to !== undefined && all.length) {
      event.preventDefault();
      moved = true;
      choose(all[to]);
    } else if (event.key === "Enter" && isBusy() && !entered) {
      event.preventDefault();
      // Who types faster than is answered gets what was typed. A second Enter sends the form.
      entered = true;
    } else if (event.key === "Enter" && active()) {
      event.preventDefault();
      active().click();
    }
  });

  // --- the sheet: what this page really has ------------------------------------------------------
  function words(element) {
    const labelled = element.getAttribute("aria-label") || element.dataset.hotkeyLabel;
    if (labelled) return labelled;
    if (element.labels && element.labels.length) return element.labels[0].textContent.trim();
    const copy = element.cloneNode(true);
    copy.querySelectorAll("kbd, svg").forEach((each) => each.remove());
    return copy.textContent.replace(/…$/, "").trim();
  }
  function described() {
    const usable = (element) => !element.disabled && !element.closest("[hidden]");
    const inMain = (element) => Number(!element.closest("main"));
    const here = [...document.querySelectorAll("[data-hotkey]")]
      .filter(usable)
      .sort((a, b) => inMain(a) - inMain(b));
    const seen = new Set();
    const keys = here
      .filter((element) => !seen.has(element.dataset.hotkey) && seen.add(element.dataset.hotkey))
      .map((element) => [[element.dataset.hotkey], words(element)]);
    document.querySelectorAll("[data-keys]").forEach((element) => {
      element.dataset.keys.split(";").forEach((line) => {
        const [key, label] = line.split("=");
        keys.push([key.split(" "), label]);
      });
    });
    const go = [...document.querySelectorAll("[data-go]")].map((element) => [
      ["g", element.dataset.go],
      words(element),
    ]);
    return [
      ["On this page", keys],
      ["Go to", go],
      ["Everywhere", [
        [["Ctrl", "K"], "Go to anything by name"],
        [["?"], "This sheet"],
        [["Esc"], "Close a dialog or menu, leave a field"],
      ]],
    ];
  }
  function showSheet() {
    if (document.querySelector("dialog[open]")) return;
    const box = document.getElementById("shortcuts-list");
    box.replaceChildren();
    for (const [title, lines] of described()) {
      if (!lines.length) continue;
      const head = document.createElement("h3");
      head.textContent = title;
      const table = document.createElement("dl");
      for (const [keys, label] of lines) {
        const row = document.createElement("div");
        const term = document.createElement("dt");
        const said = document.createElement("dd");
        said.textContent = label;
        keys.forEach((key) => {
          const cap = document.createElement("kbd");
          cap.textContent = key;
          term.append(cap, " ");
        });
        row.append(term, said);
        table.append(row);
      }
      box.append(head, table);
    }
    sheet.showModal();
  }

  const typing = (element) =>
    element instanceof HTMLElement &&
    (element.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(element.tagName));
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "k") {
      event.preventDefault();
      if (palette.open) palette.close();
      else open();
    } else if (event.key === "?" && !typing(event.target)) {
      event.preventDefault();
      showSheet();
    }
  });
  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target : null;
    if (!target) return;
    if (target.closest("[data-open-palette]")) {
      event.preventDefault();
      open();
    }
    if (target.closest("[data-open-shortcuts]")) showSheet();
    // A click beside a dialog closes it.
    if (target === palette || target === sheet) target.close();
  });
})();
