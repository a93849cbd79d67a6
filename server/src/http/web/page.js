"use strict";
// Sends forms to the API as JSON, refreshes the live regions when events arrive, and moves through a replay by arrow keys. Text from
// outside is rendered by the server only.
(() => {
  // The kinds of events that a page follows.
  const KINDS = ["queued", "started", "episode", "plan", "milestone", "step", "message", "approval_requested", "approved", "denied",
    "cancel_requested", "interrupted", "resumed", "ended"];
  const MIN_REFRESH_PAUSE_MS = 250;
  const csrf = document.querySelector("meta[name=csrf]")?.content ?? "";

  // --- forms ---------------------------------------------------------------------------------------------------------------------

  // Sets a value at a path of keys, as in `limits.max_steps`; missing objects on the way are made.
  const setAt = (data, path, value) => {
    const [last, ...outer] = path.split(".").reverse();
    outer.reverse().reduce((inner, key) => (inner[key] ??= {}), data)[last] = value;
  };

  // Returns the form's fields as the API's JSON. Empty fields and unchecked boxes are left out; the button that submitted the form counts as a field.
  const values = (form, submitter) => {
    const data = {};
    for (const field of form.elements) {
      const text = (field.value ?? "").trim();
      if (!field.name || field.localName === "button" || !text || (field.type === "checkbox" && !field.checked)) continue;
      switch (field.dataset.type) {
        case "number": setAt(data, field.name, Number(text)); break;
        case "flag": setAt(data, field.name, true); break;
        case "one-of-many": (data[field.name] ??= []).push(text); break;
        case "words": setAt(data, field.name, text.split(/[\s,]+/)); break;
        default: setAt(data, field.name, text);
      }
    }
    if (submitter?.name) setAt(data, submitter.name, JSON.parse(submitter.value));
    return data;
  };

  // Shows a text in the form's element with this role, `status` or `alert`.
  const showText = (form, role, text) => {
    const element = form.querySelector(`[role=${role}]`);
    if (element) element.textContent = text;
  };

  // Sends the form, and then follows `data-then`: to the new task's page, a reload, or a refresh of the live regions.
  const send = async (form, submitter) => {
    const question = submitter?.dataset.confirm;
    if (question && !window.confirm(question)) return;
    const address = submitter?.getAttribute("formaction") ?? form.getAttribute("action");
    const method = form.dataset.method ?? "POST";
    const headers = { "Content-Type": "application/json", "X-CSRF-Token": csrf };
    const body = method === "POST" ? JSON.stringify(values(form, submitter)) : undefined;
    showText(form, "alert", "");
    showText(form, "status", "Sending…");
    form.setAttribute("aria-busy", "true");
    try {
      const response = await fetch(address, { method, headers, body });
      const answer = await response.json().catch(() => ({}));
      if (!response.ok) throw new Error(answer.detail ?? `the daemon answered ${response.status}`);
      showText(form, "status", "Done.");
      if (form.dataset.then === "task") location.assign(`/tasks/${encodeURIComponent(answer.id)}`);
      else if (form.dataset.then === "reload") location.reload();
      else { form.reset(); refresh(); }
    } catch (error) {
      showText(form, "status", "");
      showText(form, "alert", error instanceof TypeError ? "The daemon cannot be reached; is it running?" : error.message);
    } finally {
      form.removeAttribute("aria-busy");
    }
  };

  document.addEventListener("submit", (event) => {
    if (event.target.method !== "post") return;
    event.preventDefault();
    if (event.target.getAttribute("aria-busy") !== "true") send(event.target, event.submitter);
  });

  // --- live regions --------------------------------------------------------------------------------------------------------------

  // The regions as the server last sent them. A region is replaced only if the server sends something else, so that text being typed is kept.
  const received = new Map([...document.querySelectorAll("[data-live]")].map((region) => [region.id, region.outerHTML]));

  // Replaces a region that changed and keeps the focus in it.
  const replace = (region) => {
    const old = document.getElementById(region.id);
    if (!old || received.get(region.id) === region.outerHTML) return;
    received.set(region.id, region.outerHTML);
    const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
    old.replaceWith(document.adoptNode(region));
    if (focused) (document.getElementById(focused) ?? document.getElementById("main")).focus();
  };

  // Appends the lines that the list does not show yet.
  const extend = (list) => {
    const old = document.getElementById(list.id);
    const last = Number(old?.lastElementChild?.dataset.seq ?? 0);
    for (const line of [...list.children]) if (old && Number(line.dataset.seq) > last) old.append(document.adoptNode(line));
  };

  // Loads this page again and updates its regions. Calls during a refresh lead to one more refresh after it.
  let refreshing = null;
  let again = false;
  const refresh = () => {
    if (refreshing) { again = true; return; }
    refreshing = (async () => {
      const response = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
      if (response?.status === 401) location.reload();
      if (response?.ok) {
        const page = new DOMParser().parseFromString(await response.text(), "text/html");
        page.querySelectorAll("[data-live]").forEach(replace);
        page.querySelectorAll("[data-log]").forEach(extend);
      }
      await new Promise((done) => setTimeout(done, MIN_REFRESH_PAUSE_MS));
    })().finally(() => {
      refreshing = null;
      if (again) { again = false; refresh(); }
    });
  };

  const connection = document.getElementById("connection");
  // Refreshes the page at every event of the stream, and connects again when the stream breaks off.
  const follow = (address) => {
    const events = new EventSource(address);
    for (const kind of KINDS) events.addEventListener(kind, refresh);
    if (address.startsWith("/v1/tasks/")) events.addEventListener("ended", () => events.close());
    events.onopen = () => { connection.textContent = ""; refresh(); };
    events.onerror = () => {
      connection.textContent = "The connection was lost; trying again.";
      if (events.readyState !== EventSource.CLOSED) return;
      setTimeout(() => { refresh(); follow(address); }, 3000);
    };
  };
  const address = document.querySelector("[data-events]")?.dataset.events;
  if (address) follow(address);

  // --- replay --------------------------------------------------------------------------------------------------------------------

  // The links of the replay by key: the value of the link's `data-way`.
  const LINK_OF_KEY = { ArrowLeft: "prev", ArrowRight: "next", Home: "first", End: "last" };
  document.addEventListener("keydown", (event) => {
    const way = LINK_OF_KEY[event.key];
    const busy = event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || event.target.closest("input, textarea, select");
    const link = way && !busy && document.querySelector(`[data-replay] a[data-way=${way}]`);
    if (link) { event.preventDefault(); link.click(); }
  });
})();
