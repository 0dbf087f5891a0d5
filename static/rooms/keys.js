// The tree of the key browser: branches open in place, and the keyboard is that of the ARIA tree
// pattern. Without this every row is a plain link to a page that shows the same.
"use strict";

(() => {
  const tree = () => document.querySelector("#tree [role=tree]");
  const items = () =>
    [...(tree()?.querySelectorAll("[role=treeitem]") ?? [])].filter((item) => item.offsetParent);
  const group = (item) => item.parentElement.querySelector(":scope > [role=group]");
  const parent = (item) =>
    item.parentElement.parentElement.closest("li")?.querySelector(":scope > [role=treeitem]");

  // --- one stop for Tab ---------------------------------------------------------------------------
  function stopAt(item) {
    items().forEach((each) => { each.tabIndex = each === item ? 0 : -1; });
  }
  function enter() {
    if (!tree()) return;
    stopAt(tree().querySelector("[aria-current]") ?? items()[0]);
  }
  function focus(item) {
    if (!item) return;
    stopAt(item);
    item.focus();
  }

  // --- branches -----------------------------------------------------------------------------------
  async function rowsOf(item, level) {
    const url = new URL(item.href);
    url.pathname += "/tree";
    url.searchParams.set("level", level);
    const answer = await fetch(url, { headers: { "HX-Request": "true" } });
    if (answer.status === 401) location.reload();
    if (!answer.ok) throw new Error(answer.status);
    return answer.text();
  }
  async function open(item) {
    if (item.getAttribute("aria-expanded") !== "false") return;
    let rows = group(item);
    if (item.matches(".busy")) return;  // asked for already
    if (!rows) {
      rows = document.createElement("ul");
      rows.setAttribute("role", "group");
      rows.id = item.dataset.group;
      item.classList.add("busy");
      try {
        rows.innerHTML = await rowsOf(item, Number(item.ariaLevel) + 1);
      } catch {
        location.assign(item.href);
        return;
      }
      item.classList.remove("busy");
      item.after(rows);
      item.setAttribute("aria-owns", rows.id);
      htmx.process(rows);
    }
    rows.hidden = false;
    item.setAttribute("aria-expanded", "true");
    stopAt(document.activeElement?.matches("[role=treeitem]") ? document.activeElement : item);
  }
  function close(item) {
    if (item.getAttribute("aria-expanded") !== "true") return;
    const rows = group(item);
    const had = rows?.contains(document.activeElement);
    if (rows) rows.hidden = true;
    item.setAttribute("aria-expanded", "false");
    if (had) focus(item);
  }
  async function more(item) {
    const row = item.parentElement;
    const holder = document.createElement("ul");
    try {
      holder.innerHTML = await rowsOf(item, item.ariaLevel);
    } catch {
      location.assign(item.href);
      return;
    }
    const first = holder.querySelector("[role=treeitem]");
    row.replaceWith(...holder.children);
    htmx.process(tree());
    focus(first);
  }

  document.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    const item = event.target.closest("#tree [role=treeitem]");
    if (!item) return;
    stopAt(item);
    if (item.hasAttribute("data-more")) {
      event.preventDefault();
      more(item);
    } else if (event.target.closest(".tw") && item.hasAttribute("aria-expanded")) {
      // The triangle opens and closes; the name also goes there.
      event.preventDefault();
      event.stopImmediatePropagation();
      if (item.ariaExpanded === "true") close(item);
      else open(item);
    } else if (item.hasAttribute("hx-get")) {
      open(item);
      choose(item);
    }
  }, true);

  function choose(item) {
    tree().querySelectorAll(".current").forEach((each) => {
      each.classList.remove("current");
      each.removeAttribute("aria-current");
    });
    item.classList.add("current");
    item.setAttribute("aria-current", "true");
  }

  // --- keyboard -----------------------------------------------------------------------------------
  let typed = "";
  let typedAt = 0;
  function typeAhead(item, char) {
    typed = Date.now() - typedAt < 600 ? typed + char : char;
    typedAt = Date.now();
    const all = items();
    const from = all.indexOf(item) + (typed.length > 1 ? 0 : 1);
    const ring = [...all.slice(from), ...all.slice(0, from)];
    const name = (each) => (each.querySelector(".nm") ?? each).textContent.toLowerCase();
    focus(ring.find((each) => name(each).replace(/^\W/, "").startsWith(typed) || name(each).startsWith(typed)));
  }
  const KEYS = {
    ArrowDown: (item, all) => focus(all[all.indexOf(item) + 1]),
    ArrowUp: (item, all) => focus(all[all.indexOf(item) - 1]),
    Home: (item, all) => focus(all[0]),
    End: (item, all) => focus(all.at(-1)),
    ArrowRight: (item, all) => {
      if (item.ariaExpanded === "false") open(item);
      else if (item.ariaExpanded === "true") focus(group(item)?.querySelector("[role=treeitem]"));
    },
    ArrowLeft: (item) => {
      if (item.ariaExpanded === "true") close(item);
      else focus(parent(item));
    },
    "*": (item) => {
      const level = item.parentElement.parentElement;
      level.querySelectorAll(":scope > li > [aria-expanded=false]").forEach((each) => open(each));
    },
    " ": (item) => item.click(),
  };
  document.addEventListener("keydown", (event) => {
    const item = event.target.closest?.("#tree [role=treeitem]");
    if (!item || event.ctrlKey || event.metaKey || event.altKey) return;
    const act = KEYS[event.key];
    if (act) {
      typed = "";
      act(item, items());
    }
    else if (event.key.length === 1 && event.key !== "/" && event.key !== "?") typeAhead(item, event.key.toLowerCase());
    else return;
    event.preventDefault();
    event.stopPropagation();
  }, true);

  // --- what the pane shows after a click in the tree ------------------------------------------------
  document.addEventListener("htmx:afterSettle", (event) => {
    if (event.detail.target?.id === "tree" || event.target.id === "tree") enter();
    if (event.target.id !== "pane") return;
    const browser = document.querySelector(".browser");
    const cause = event.detail.requestConfig?.elt;
    if (!cause?.matches("[role=treeitem]")) return;
    browser.dataset.show = cause.hasAttribute("aria-expanded") ? "tree" : "pane";
    // Whoever opened a key wants to read it and use its letters.
    if (!cause.hasAttribute("aria-expanded") && document.activeElement === cause) {
      const title = document.querySelector("#pane h1");
      title.tabIndex = -1;
      title.focus({ preventScroll: browser.dataset.show !== "pane" });
    }
  });

  // --- a search that goes on by itself, until the end or until somebody stops it ---------------------
  let running = false;
  async function runScan(button) {
    running = true;
    button.textContent = "Stop";
    const area = document.getElementById("scan");
    const rows = document.getElementById("scan-rows");
    while (running && area.isConnected && area.dataset.next) {
      const answer = await fetch(area.dataset.next);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("scan");
      if (!answer.ok || !fresh) {
        location.assign(area.dataset.next);
        return;
      }
      const found = page.querySelectorAll("#scan-rows tr:not(.none)");
      if (found.length) rows.querySelector(".none")?.remove();
      rows.append(...found);
      area.dataset.next = fresh.dataset.next;
      area.querySelector(".scan-line").replaceWith(fresh.querySelector(".scan-line"));
      area.querySelector("progress").value = fresh.querySelector("progress").value;
      const next = area.querySelector("a[rel=next]");
      if (area.dataset.next) next.href = area.dataset.next;
      else next.remove();
    }
    running = false;
    if (area.dataset.next) button.textContent = "Scan to the end";
    else {
      button.remove();
      if (!rows.querySelector("tr:not(.none)")) rows.querySelector("td").textContent = "Nothing matches.";
    }
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("#scan-run");
    if (!button) return;
    if (running) running = false;
    else runScan(button);
  });

  enter();
})();
