// What is on the page: interactive elements with short ids, and the text around them. One call, read only: ids live in a
// WeakMap of the top window, never in the document.
// `limits`: { elements, characters, milliseconds (of reading), load (ms), quiet (ms; 0 reads at once), leave (ms) }.
const SKIPPED = new Set(["script", "style", "template", "noscript", "head", "canvas", "video", "audio", "object", "datalist", "title", "desc", "defs", "metadata"]);
const ROLES = new Set(["button", "link", "textbox", "searchbox", "combobox", "listbox", "option", "checkbox", "radio", "switch", "tab", "menuitem", "slider", "spinbutton"]);
const NATIVE = "a[href],button,input:not([type=hidden]),select,textarea,summary,[contenteditable]:not([contenteditable=false])";
const BUTTON_INPUTS = new Set(["submit", "button", "reset", "image"]);
const NAME_LIMIT = 300, VALUE_LIMIT = 2000, OPTION_LIMIT = 40;

let started = performance.now();
const memory = pageMemory();
const elements = [];
let truncated = false;
let visited = 0;
let over = false;

function pageMemory() {
  const key = Symbol.for("milepost.page");
  if (!window[key]) Object.defineProperty(window, key, { value: { ids: new WeakMap(), refs: new Map(), next: 1, waited: false } });
  return window[key];
}

function idOf(el) {
  let id = memory.ids.get(el);
  if (!id) {
    id = memory.next++;
    memory.ids.set(el, id);
    memory.refs.set(id, new WeakRef(el));
  }
  return id;
}

const fold = (text) => text.replace(/\s+/g, " ").trim();

function cut(text, limit) {
  if (text.length <= limit) return text;
  truncated = true;
  return text.slice(0, limit);
}

// The text as it is built: markers are held between control characters, so that page text cannot forge one.
const text = {
  lines: [], line: "", length: 0, cell: 0,
  add(data) { this.line += data.replace(/[\u0001\u0002]/g, ""); },
  mark(id) { this.line += "\u0001" + id + "\u0002"; },
  brk() {
    if (this.cell) { this.line += " "; return; }
    const line = fold(this.line).replaceAll("[#", "[ #").replace(/\u0001(\d+)\u0002/g, "[#$1]");
    this.line = "";
    if (!line) return;
    if (this.length + line.length > limits.characters) { truncated = true; this.length = limits.characters; return; }
    this.length += line.length + 1;
    this.lines.push(line);
  },
};

// Whether the budget is used up; once it is, nothing more is read: a page seen in part is its beginning, without holes.
function spent() {
  over ||= text.length >= limits.characters || (++visited % 64 === 0 && performance.now() - started >= limits.milliseconds);
  truncated ||= over;
  return over;
}

function explicitRole(el) {
  const role = (el.getAttribute("role") || "").trim().split(/\s+/)[0].toLowerCase();
  return role === "none" || role === "presentation" || role === "generic" ? "" : role;
}

function editable(el, tag) {
  const attribute = el.getAttribute("contenteditable");
  return (attribute !== null && attribute.toLowerCase() !== "false") || (tag === "body" && el.ownerDocument.designMode === "on");
}

const takesKeys = (el, tag) => tag === "textarea" || (tag === "input" && !BUTTON_INPUTS.has(el.type) && !["checkbox", "radio", "range", "file"].includes(el.type));

function roleOf(el, tag) {
  const role = explicitRole(el);
  // A text field that calls itself a combobox (an autocomplete) is still typed into.
  if (role === "combobox" && takesKeys(el, tag)) return "textbox";
  if (role) return role;
  if (tag === "a" && el.hasAttribute("href")) return "link";
  if (tag === "input") {
    if (BUTTON_INPUTS.has(el.type)) return "button";
    return { search: "searchbox", number: "spinbutton", checkbox: "checkbox", radio: "radio", range: "slider", file: "file" }[el.type] || "textbox";
  }
  if (tag === "select") return el.multiple || el.size > 1 ? "listbox" : "combobox";
  if (tag === "textarea" || editable(el, tag)) return "textbox";
  return "button";
}

function listens(el) {
  const hook = el.ownerDocument.defaultView && el.ownerDocument.defaultView[Symbol.for("milepost.hook")];
  return typeof el.onclick === "function" || typeof el.onmousedown === "function" || (hook !== undefined && hook !== null && hook.listeners.has(el));
}

// A handler on an ancestor of many things is a delegate: the things are the controls.
function delegates(el) {
  if (el.querySelector(NATIVE) || el.querySelector("[role=button],[role=link],[role=option],[role=tab],[role=menuitem],[role=checkbox],[role=radio],[role=switch],[onclick]")) return true;
  const inner = el.querySelectorAll("*");
  if (inner.length > 60) return true;
  for (const one of inner) if (listens(one)) return true;
  return /^(ul|ol|table|tbody|svg)$/.test(el.localName) && inner.length > 0;
}

// "control" for what is a control by itself, "delegate" for a container whose handler serves its children, else null.
function kindOf(el, tag, style, context) {
  if (tag === "a" ? el.hasAttribute("href") : tag === "input" ? el.type !== "hidden" : tag === "button" || tag === "select" || tag === "textarea") return "control";
  if (tag === "summary" || editable(el, tag) || ROLES.has(explicitRole(el))) return "control";
  if (context.inside || tag === "body" || tag === "html") return null;
  if (el.hasAttribute("onclick")) return "control";
  if (el.hasAttribute("tabindex") && el.tabIndex >= 0) return el.querySelector(NATIVE) ? null : "control";
  if (tag === "label" || tag === "form") return null;
  if (listens(el)) return delegates(el) ? "delegate" : "control";
  if (context.delegate) {
    if (/^(li|tr)$/.test(tag) && context.direct) return "control";
    if (style.cursor === "pointer" && !el.querySelector(NATIVE) && getComputedStyle(el.parentElement || el).cursor !== "pointer") return "control";
  }
  return null;
}

function sized(el, depth) {
  const rect = el.getBoundingClientRect();
  if (rect.width > 0 && rect.height > 0) return true;
  return depth > 0 && Array.from(el.children).some((child) => sized(child, depth - 1));
}

function shown(el) {
  for (let at = el; at; at = at.parentElement || (at.getRootNode() instanceof ShadowRoot ? at.getRootNode().host : null)) {
    if (at.hasAttribute("hidden") || at.getAttribute("aria-hidden") === "true") return false;
  }
  return el.checkVisibility({ visibilityProperty: true }) && sized(el, 3);
}

// Text of a subtree for a name: hidden parts left out, images by their alternative text; `without` and fields are not text.
function content(node, without) {
  let out = "";
  for (const child of childrenOf(node)) {
    if (child.nodeType === 3) out += child.data;
    if (child.nodeType !== 1 || child === without) continue;
    const tag = child.localName;
    if (tag === "title" && child.namespaceURI.endsWith("svg")) { out += " " + child.textContent + " "; continue; }
    if (SKIPPED.has(tag) || tag === "select" || tag === "textarea" || child.hasAttribute("hidden") || child.getAttribute("aria-hidden") === "true") continue;
    if (tag === "br") { out += " "; continue; }
    const style = getComputedStyle(child);
    if (style.display === "none" || style.visibility !== "visible") continue;
    if (tag === "img") { out += child.alt || ""; continue; }
    const inner = child.getAttribute("aria-label") || content(child, without);
    out += blocks(style) ? " " + inner + " " : inner;
  }
  return out;
}

function blocks(style) {
  return !style.display.startsWith("inline") && style.display !== "contents" && !style.display.startsWith("ruby");
}

function childrenOf(node) {
  if (node.shadowRoot) return node.shadowRoot.childNodes;
  if (node.localName === "slot") {
    const assigned = node.assignedNodes();
    if (assigned.length) return assigned;
  }
  return node.childNodes;
}

function nameOf(el, tag) {
  const root = el.getRootNode();
  const labelled = (el.getAttribute("aria-labelledby") || "").split(/\s+/).filter(Boolean)
    .map((id) => root.getElementById && root.getElementById(id)).filter(Boolean)
    .map((other) => fold(other.getAttribute("aria-label") || content(other, el) || other.textContent)).filter(Boolean).join(" ");
  const field = tag === "select" || tag === "textarea" || tag === "input" || editable(el, tag);
  return fold(labelled || el.getAttribute("aria-label") || "")
    || fold(Array.from(el.labels || []).map((label) => content(label, el)).join(" "))
    || (field ? buttonText(el, tag) : fold(content(el, null)))
    || fold(el.getAttribute("placeholder") || "") || fold(el.getAttribute("title") || "");
}

function buttonText(el, tag) {
  if (tag !== "input" || !BUTTON_INPUTS.has(el.type)) return "";
  return fold(el.type === "image" ? el.alt : el.value || { submit: "Submit", reset: "Reset" }[el.type] || "");
}

function valueOf(el, tag, role) {
  if (tag === "input" && el.type === "password") return null;
  if (takesKeys(el, tag)) return el.value;
  if (tag === "select" && role === "combobox") return el.selectedIndex < 0 ? "" : fold(el.options[el.selectedIndex].text);
  if (editable(el, tag)) return fold(content(el, null));
  return null;
}

function stateOf(el, tag) {
  const is = (name) => el.getAttribute(name) === "true";
  const current = el.getAttribute("aria-current");
  return [
    ["checked", tag === "input" && /^(checkbox|radio)$/.test(el.type) ? el.checked : is("aria-checked")],
    ["disabled", el.matches(":disabled") || is("aria-disabled")],
    ["expanded", is("aria-expanded") || (tag === "summary" && el.parentElement !== null && el.parentElement.localName === "details" && el.parentElement.open)],
    ["required", el.required === true || is("aria-required")],
    ["password", tag === "input" && el.type === "password"],
    ["invalid", is("aria-invalid")],
    ["selected", is("aria-selected") || (current !== null && current !== "" && current !== "false")],
  ].filter(([, holds]) => holds).map(([word]) => word);
}

function register(el, context, proxied) {
  if (elements.length >= limits.elements) { truncated = true; return; }
  const source = proxied || el, tag = source.localName, role = roleOf(source, tag), id = idOf(el);
  const rect = el.getBoundingClientRect();
  const round = (x) => Math.round(x * 10) / 10;
  const element = { id, role, name: cut(proxied ? fold(content(el, proxied)) : nameOf(el, tag), NAME_LIMIT), state: stateOf(source, tag), frame: context.frame,
    rect: { x: round(rect.left + context.x), y: round(rect.top + context.y), width: round(rect.width), height: round(rect.height) } };
  const value = valueOf(source, tag, role);
  if (value !== null) element.value = cut(value, VALUE_LIMIT);
  if (tag === "select") element.options = Array.from(source.options).slice(0, OPTION_LIMIT).map((option) => fold(option.text));
  elements.push(element);
  text.mark(id);
}

function visitChildren(node, context) {
  for (const child of childrenOf(node)) {
    if (child.nodeType === 1) visit(child, context);
    else if (child.nodeType === 3 && !context.muted) text.add(child.data);
  }
}

function visitFrame(el, context) {
  let inner = null;
  try { inner = el.contentDocument; } catch { inner = null; }
  if (!inner || !inner.body) return;
  const rect = el.getBoundingClientRect(), outer = el.ownerDocument.defaultView;
  let index = 0;
  while (index < outer.length && outer[index] !== el.contentWindow) index++;
  text.brk();
  visit(inner.body, { ...context, frame: [...context.frame, index], x: context.x + rect.left + el.clientLeft, y: context.y + rect.top + el.clientTop });
  text.brk();
}

function visit(el, context) {
  const tag = el.localName;
  if (spent() || SKIPPED.has(tag) || el.hasAttribute("hidden") || el.getAttribute("aria-hidden") === "true") return;
  if (tag === "br") { if (!context.inside) text.brk(); return; }
  const style = getComputedStyle(el);
  if (style.display === "none") return;
  if ((el.offsetWidth === 0 || el.offsetHeight === 0) && /hidden|clip/.test(style.overflow) && tag !== "body") return;
  const block = blocks(style) && !context.inside && tag !== "td" && tag !== "th";
  if (block) text.brk();
  visitShown(el, tag, style, context);
  if (block) text.brk();
}

function visitShown(el, tag, style, context) {
  const visible = style.visibility === "visible";
  if (tag === "iframe" || tag === "frame") { if (visible) visitFrame(el, context); return; }
  const kind = visible ? kindOf(el, tag, style, context) : null;
  const next = { ...context, muted: context.inside || (context.label && visible) || !visible, delegate: context.delegate || kind === "delegate", direct: kind === "delegate" || (context.direct && tag === "tbody") };
  if (kind === "control") {
    if (!sized(el, 3)) return;
    register(el, context, null);
    if (tag === "input" || tag === "select" || tag === "textarea" || editable(el, tag)) return;
    visitChildren(el, { ...next, inside: true, muted: true });
  } else if (tag === "label" && el.control) {
    // A control that is styled away is worked through its label.
    if (!context.inside && visible && !shown(el.control) && el.control.localName === "input") { register(el, context, el.control); return; }
    visitChildren(el, { ...next, label: true, muted: true });
  } else if (tag === "tr" || tag === "details") {
    (tag === "tr" ? visitRow : visitDetails)(el, next);
  } else {
    visitChildren(el, next);
  }
}

function visitRow(row, context) {
  let cells = 0;
  if (!context.inside) text.brk();
  for (const cell of row.children) {
    if (cells++ > 0 && !context.muted) text.add(" | ");
    text.cell++;
    visit(cell, context);
    text.cell--;
  }
}

function visitDetails(details, context) {
  if (details.open) { visitChildren(details, context); return; }
  const summary = Array.from(details.children).find((child) => child.localName === "summary");
  if (summary) visit(summary, context);
}

async function loaded() {
  if (document.readyState === "complete" || memory.waited) return;
  memory.waited = true;
  await new Promise((done) => { window.addEventListener("load", done, { once: true }); setTimeout(done, limits.load); });
}

// Resolves once the document has been quiet for a while. A navigation that has begun ends this script, and the caller looks
// at the new page; one that never comes (a download, an empty answer) is waited for once.
function settled() {
  return new Promise((done) => {
    const hook = window[Symbol.for("milepost.hook")] || { navigating: false };
    const begun = performance.now();
    let last = begun;
    const observer = new MutationObserver(() => { last = performance.now(); });
    observer.observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
    const look = () => {
      const now = performance.now();
      if (hook.navigating && now - begun < limits.leave) { setTimeout(look, 10); return; }
      hook.navigating = false;
      if (now - last >= limits.quiet || now - begun >= 20 * limits.quiet) { observer.disconnect(); done(); } else setTimeout(look, 4);
    };
    setTimeout(look, limits.quiet);
  });
}

async function observe() {
  await loaded();
  if (limits.quiet > 0) await settled();
  started = performance.now();
  if (document.body) visit(document.body, { frame: [], x: 0, y: 0, muted: false, inside: false, label: false, delegate: false, direct: false });
  text.brk();
  for (const [id, ref] of memory.refs) if (!ref.deref()) memory.refs.delete(id);
  return JSON.stringify({ url: document.URL, title: document.title, elements, text: text.lines.join("\n"), truncated });
}
