"use strict";
// Forms go to the API as JSON, live regions follow its events, arrow keys walk a replay. Text from outside is only ever rendered by the server.
(() => {
  const KINDS = ["queued", "started", "episode", "plan", "milestone", "step", "message", "approval_requested", "approved", "denied",
    "cancel_requested", "interrupted", "resumed", "ended"];
  const PAUSE = 250; // milliseconds between two looks, at least
  const csrf = document.querySelector("meta[name=csrf]")?.content ?? "";

  // --- forms ---------------------------------------------------------------------------------------------------------------------

  const put = (data, path, value) => {
    const [last, ...way] = path.split(".").reverse();
    way.reverse().reduce((inner, key) => (inner[key] ??= {}), data)[last] = value;
  };

  const values = (form, submitter) => {
    const data = {};
    for (const field of form.elements) {
      const text = (field.value ?? "").trim();
      if (!field.name || field.localName === "button" || !text || (field.type === "checkbox" && !field.checked)) continue;
      switch (field.dataset.type) {
        case "number": put(data, field.name, Number(text)); break;
        case "flag": put(data, field.name, true); break;
        case "one-of-many": (data[field.name] ??= []).push(text); break;
        case "words": put(data, field.name, text.split(/[\s,]+/)); break;
        default: put(data, field.name, text);
      }
    }
    if (submitter?.name) put(data, submitter.name, JSON.parse(submitter.value));
    return data;
  };

  const tell = (form, role, text) => {
    const place = form.querySelector(`[role=${role}]`);
    if (place) place.textContent = text;
  };

  const send = async (form, submitter) => {
    const question = submitter?.dataset.confirm;
    if (question && !window.confirm(question)) return;
    const address = submitter?.getAttribute("formaction") ?? form.getAttribute("action");
    const method = form.dataset.method ?? "POST";
    const headers = { "Content-Type": "application/json", "X-CSRF-Token": csrf };
    const body = method === "POST" ? JSON.stringify(values(form, submitter)) : undefined;
    tell(form, "alert", "");
    tell(form, "status", "Sending…");
    form.setAttribute("aria-busy", "true");
    try {
      const response = await fetch(address, { method, headers, body });
      const answer = await response.json().catch(() => ({}));
      if (!response.ok) throw new Error(answer.detail ?? `the daemon answered ${response.status}`);
      tell(form, "status", "Done.");
      if (form.dataset.then === "task") location.assign(`/tasks/${encodeURIComponent(answer.id)}`);
      else if (form.dataset.then === "reload") location.reload();
      else { form.reset(); look(); }
    } catch (error) {
      tell(form, "status", "");
      tell(form, "alert", error instanceof TypeError ? "The daemon cannot be reached; is it running?" : error.message);
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

  // A region is replaced only when the server says something new about it, so that what is being typed stays.
  const known = new Map([...document.querySelectorAll("[data-live]")].map((region) => [region.id, region.outerHTML]));

  const replace = (region) => {
    const old = document.getElementById(region.id);
    if (!old || known.get(region.id) === region.outerHTML) return;
    known.set(region.id, region.outerHTML);
    const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
    old.replaceWith(document.adoptNode(region));
    if (focused) (document.getElementById(focused) ?? document.getElementById("main")).focus();
  };

  const extend = (list) => {
    const old = document.getElementById(list.id);
    const last = Number(old?.lastElementChild?.dataset.seq ?? 0);
    for (const line of [...list.children]) if (old && Number(line.dataset.seq) > last) old.append(document.adoptNode(line));
  };

  let looking = null;
  let again = false;
  const look = () => {
    if (looking) { again = true; return; }
    looking = (async () => {
      const response = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
      if (response?.status === 401) location.reload();
      if (response?.ok) {
        const page = new DOMParser().parseFromString(await response.text(), "text/html");
        page.querySelectorAll("[data-live]").forEach(replace);
        page.querySelectorAll("[data-log]").forEach(extend);
      }
      await new Promise((done) => setTimeout(done, PAUSE));
    })().finally(() => {
      looking = null;
      if (again) { again = false; look(); }
    });
  };

  const connection = document.getElementById("connection");
  const follow = (address) => {
    const events = new EventSource(address);
    for (const kind of KINDS) events.addEventListener(kind, look);
    if (address.startsWith("/v1/tasks/")) events.addEventListener("ended", () => events.close());
    events.onopen = () => { connection.textContent = ""; look(); };
    events.onerror = () => {
      connection.textContent = "The connection was lost; trying again.";
      if (events.readyState !== EventSource.CLOSED) return;
      setTimeout(() => { look(); follow(address); }, 3000);
    };
  };
  const address = document.querySelector("[data-events]")?.dataset.events;
  if (address) follow(address);

  // --- replay --------------------------------------------------------------------------------------------------------------------

  const WAYS = { ArrowLeft: "prev", ArrowRight: "next", Home: "first", End: "last" };
  document.addEventListener("keydown", (event) => {
    const way = WAYS[event.key];
    const busy = event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || event.target.closest("input, textarea, select");
    const link = way && !busy && document.querySelector(`[data-replay] a[data-way=${way}]`);
    if (link) { event.preventDefault(); link.click(); }
  });
})();
