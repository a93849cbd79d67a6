// Reads the page: the interactive elements with short ids, and the text around them. The document is not changed: the ids are kept in a WeakMap of
// the top window.
//
// `limits` has the maximum number of `elements` and of `characters` of text, the maximum time to read the page (`milliseconds`), to wait for the
// load event (`load`, ms), for a navigation that has started (`leave`, ms), and the time without changes that must pass before the page is read
// (`quiet`, ms; 0 reads at once).
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
let exhausted = false;

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

const collapse = (text) => text.replace(/\s+/g, " ").trim();

function truncate(text, limit) {
  if (text.length <= limit) return text;
  truncated = true;
  return text.slice(0, limit);
}

// Builds the text, line by line. An element's marker stands between control characters until the line ends, so that text of the page cannot
// imitate one.
const text = {
  lines: [], line: "", length: 0, cell: 0,
  add(data) { this.line += data.replace(/[\u0001\u0002]/g, ""); },
  mark(id) { this.line += "\u0001" + id + "\u0002"; },
  endLine() {
    if (this.cell) { this.line += " "; return; }
    const line = collapse(this.line).replaceAll("[#", "[ #").replace(/\u0001(\d+)\u0002/g, "[#$1]");
    this.line = "";
    if (!line) return;
    if (this.length + line.length > limits.characters) { truncated = true; this.length = limits.characters; return; }
    this.length += line.length + 1;
    this.lines.push(line);
  },
};

// Whether the budget of text or time is used up. From then on nothing more is read, so that a page that is read in part is read from its beginning
// without gaps.
function budgetSpent() {
  exhausted ||= text.length >= limits.characters || (++visited % 64 === 0 && performance.now() - started >= limits.milliseconds);
  truncated ||= exhausted;
  return exhausted;
}

// Returns the first word of the attribute `role`, without the roles that mean none.
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
  // A text field with the role combobox (an autocomplete) takes text, so it is reported as a textbox.
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

// Whether the element has a click listener of its own.
function listens(el) {
  const hook = el.ownerDocument.defaultView && el.ownerDocument.defaultView[Symbol.for("milepost.hook")];
  return typeof el.onclick === "function" || typeof el.onmousedown === "function" || (hook !== undefined && hook !== null && hook.listeners.has(el));
}

// Whether the element's click listener serves its descendants (event delegation): then the descendants are the controls, not the element.
function isDelegate(el) {
  if (el.querySelector(NATIVE) || el.querySelector("[role=button],[role=link],[role=option],[role=tab],[role=menuitem],[role=checkbox],[role=radio],[role=switch],[onclick]")) return true;
  const inner = el.querySelectorAll("*");
  if (inner.length > 60) return true;
  for (const one of inner) if (listens(one)) return true;
  return /^(ul|ol|table|tbody|svg)$/.test(el.localName) && inner.length > 0;
}

// Returns "control" for an element that can be acted on, "delegate" for a container whose click listener serves its descendants, else null.
function kindOf(el, tag, style, context) {
  if (tag === "a" ? el.hasAttribute("href") : tag === "input" ? el.type !== "hidden" : tag === "button" || tag === "select" || tag === "textarea") return "control";
  if (tag === "summary" || editable(el, tag) || ROLES.has(explicitRole(el))) return "control";
  if (context.inside || tag === "body" || tag === "html") return null;
  if (el.hasAttribute("onclick")) return "control";
  if (el.hasAttribute("tabindex") && el.tabIndex >= 0) return el.querySelector(NATIVE) ? null : "control";
  if (tag === "label" || tag === "form") return null;
  if (listens(el)) return isDelegate(el) ? "delegate" : "control";
  if (context.delegate) {
    if (/^(li|tr)$/.test(tag) && context.direct) return "control";
    if (style.cursor === "pointer" && !el.querySelector(NATIVE) && getComputedStyle(el.parentElement || el).cursor !== "pointer") return "control";
  }
  return null;
}

// Whether the element, or a descendant down to this depth, takes up room on the page.
function sized(el, depth) {
  const rect = el.getBoundingClientRect();
  if (rect.width > 0 && rect.height > 0) return true;
  return depth > 0 && Array.from(el.children).some((child) => sized(child, depth - 1));
}

// Whether the element is drawn and takes up room.
function shown(el) {
  for (let at = el; at; at = at.parentElement || (at.getRootNode() instanceof ShadowRoot ? at.getRootNode().host : null)) {
    if (at.hasAttribute("hidden") || at.getAttribute("aria-hidden") === "true") return false;
  }
  return el.checkVisibility({ visibilityProperty: true }) && sized(el, 3);
}

// Returns the text of a subtree for a name: without hidden parts, form fields and the element `without`, with images as their alternative text.
function visibleText(node, without) {
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
    const inner = child.getAttribute("aria-label") || visibleText(child, without);
    out += isBlock(style) ? " " + inner + " " : inner;
  }
  return out;
}

// Whether an element with this style begins and ends a line.
function isBlock(style) {
  return !style.display.startsWith("inline") && style.display !== "contents" && !style.display.startsWith("ruby");
}

// Returns the child nodes as they are drawn: those of the shadow root, or those assigned to a slot.
function childrenOf(node) {
  if (node.shadowRoot) return node.shadowRoot.childNodes;
  if (node.localName === "slot") {
    const assigned = node.assignedNodes();
    if (assigned.length) return assigned;
  }
  return node.childNodes;
}

// Returns the accessible name, with its white space collapsed.
function nameOf(el, tag) {
  const root = el.getRootNode();
  const labelled = (el.getAttribute("aria-labelledby") || "").split(/\s+/).filter(Boolean)
    .map((id) => root.getElementById && root.getElementById(id)).filter(Boolean)
    .map((other) => collapse(other.getAttribute("aria-label") || visibleText(other, el) || other.textContent)).filter(Boolean).join(" ");
  const field = tag === "select" || tag === "textarea" || tag === "input" || editable(el, tag);
  return collapse(labelled || el.getAttribute("aria-label") || "")
    || collapse(Array.from(el.labels || []).map((label) => visibleText(label, el)).join(" "))
    || (field ? buttonText(el, tag) : collapse(visibleText(el, null)))
    || collapse(el.getAttribute("placeholder") || "") || collapse(el.getAttribute("title") || "");
}

// Returns the text of a button that is an input; empty for other elements.
function buttonText(el, tag) {
  if (tag !== "input" || !BUTTON_INPUTS.has(el.type)) return "";
  return collapse(el.type === "image" ? el.alt : el.value || { submit: "Submit", reset: "Reset" }[el.type] || "");
}

// Returns the value that the observation shows; null for elements without one and for passwords.
function valueOf(el, tag, role) {
  if (tag === "input" && el.type === "password") return null;
  if (takesKeys(el, tag)) return el.value;
  if (tag === "select" && role === "combobox") return el.selectedIndex < 0 ? "" : collapse(el.options[el.selectedIndex].text);
  if (editable(el, tag)) return collapse(visibleText(el, null));
  return null;
}

// Returns the names of the states that hold.
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

// Adds an element to the observation. Where `control` is given, `el` is its label and stands for it, because the control itself is not drawn.
function addElement(el, context, control) {
  if (elements.length >= limits.elements) { truncated = true; return; }
  const source = control || el, tag = source.localName, role = roleOf(source, tag), id = idOf(el);
  const rect = el.getBoundingClientRect();
  const round = (x) => Math.round(x * 10) / 10;
  const element = { id, role, name: truncate(control ? collapse(visibleText(el, control)) : nameOf(el, tag), NAME_LIMIT), state: stateOf(source, tag), frame: context.frame,
    rect: { x: round(rect.left + context.x), y: round(rect.top + context.y), width: round(rect.width), height: round(rect.height) } };
  const value = valueOf(source, tag, role);
  if (value !== null) element.value = truncate(value, VALUE_LIMIT);
  if (tag === "select") element.options = Array.from(source.options).slice(0, OPTION_LIMIT).map((option) => collapse(option.text));
  elements.push(element);
  text.mark(id);
}

function visitChildren(node, context) {
  for (const child of childrenOf(node)) {
    if (child.nodeType === 1) visit(child, context);
    else if (child.nodeType === 3 && !context.skipText) text.add(child.data);
  }
}

// Reads a frame of the same origin.
function visitFrame(el, context) {
  let inner = null;
  try { inner = el.contentDocument; } catch { inner = null; }
  if (!inner || !inner.body) return;
  const rect = el.getBoundingClientRect(), outer = el.ownerDocument.defaultView;
  let index = 0;
  while (index < outer.length && outer[index] !== el.contentWindow) index++;
  text.endLine();
  visit(inner.body, { ...context, frame: [...context.frame, index], x: context.x + rect.left + el.clientLeft, y: context.y + rect.top + el.clientTop });
  text.endLine();
}

// Reads an element and its descendants unless they are hidden.
function visit(el, context) {
  const tag = el.localName;
  if (budgetSpent() || SKIPPED.has(tag) || el.hasAttribute("hidden") || el.getAttribute("aria-hidden") === "true") return;
  if (tag === "br") { if (!context.inside) text.endLine(); return; }
  const style = getComputedStyle(el);
  if (style.display === "none") return;
  if ((el.offsetWidth === 0 || el.offsetHeight === 0) && /hidden|clip/.test(style.overflow) && tag !== "body") return;
  const block = isBlock(style) && !context.inside && tag !== "td" && tag !== "th";
  if (block) text.endLine();
  visitShown(el, tag, style, context);
  if (block) text.endLine();
}

function visitShown(el, tag, style, context) {
  const visible = style.visibility === "visible";
  if (tag === "iframe" || tag === "frame") { if (visible) visitFrame(el, context); return; }
  const kind = visible ? kindOf(el, tag, style, context) : null;
  const next = { ...context, skipText: context.inside || (context.label && visible) || !visible, delegate: context.delegate || kind === "delegate", direct: kind === "delegate" || (context.direct && tag === "tbody") };
  if (kind === "control") {
    if (!sized(el, 3)) return;
    addElement(el, context, null);
    if (tag === "input" || tag === "select" || tag === "textarea" || editable(el, tag)) return;
    visitChildren(el, { ...next, inside: true, skipText: true });
  } else if (tag === "label" && el.control) {
    // A control that is not drawn is acted on through its label.
    if (!context.inside && visible && !shown(el.control) && el.control.localName === "input") { addElement(el, context, el.control); return; }
    visitChildren(el, { ...next, label: true, skipText: true });
  } else if (tag === "tr" || tag === "details") {
    (tag === "tr" ? visitRow : visitDetails)(el, next);
  } else {
    visitChildren(el, next);
  }
}

// Reads a table row as one line, with a bar between the cells.
function visitRow(row, context) {
  let cells = 0;
  if (!context.inside) text.endLine();
  for (const cell of row.children) {
    if (cells++ > 0 && !context.skipText) text.add(" | ");
    text.cell++;
    visit(cell, context);
    text.cell--;
  }
}

// Reads a `details` element; of a closed one its summary alone.
function visitDetails(details, context) {
  if (details.open) { visitChildren(details, context); return; }
  const summary = Array.from(details.children).find((child) => child.localName === "summary");
  if (summary) visit(summary, context);
}

// Waits once for the load event of the document.
async function waitForLoad() {
  if (document.readyState === "complete" || memory.waited) return;
  memory.waited = true;
  await new Promise((done) => { window.addEventListener("load", done, { once: true }); setTimeout(done, limits.load); });
}

// Resolves when the document has not changed for a while. A navigation that has started ends this script, and the caller reads the new page instead;
// a navigation that leads to no page (a download, an empty answer) is waited for once.
function waitUntilSettled() {
  return new Promise((done) => {
    const hook = window[Symbol.for("milepost.hook")] || { navigating: false };
    const start = performance.now();
    let last = start;
    const observer = new MutationObserver(() => { last = performance.now(); });
    observer.observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
    const check = () => {
      const now = performance.now();
      if (hook.navigating && now - start < limits.leave) { setTimeout(check, 10); return; }
      hook.navigating = false;
      if (now - last >= limits.quiet || now - start >= 20 * limits.quiet) { observer.disconnect(); done(); } else setTimeout(check, 4);
    };
    setTimeout(check, limits.quiet);
  });
}

async function observe() {
  await waitForLoad();
  if (limits.quiet > 0) await waitUntilSettled();
  started = performance.now();
  if (document.body) visit(document.body, { frame: [], x: 0, y: 0, skipText: false, inside: false, label: false, delegate: false, direct: false });
  text.endLine();
  for (const [id, ref] of memory.refs) if (!ref.deref()) memory.refs.delete(id);
  return JSON.stringify({ url: document.URL, title: document.title, elements, text: text.lines.join("\n"), truncated });
}
