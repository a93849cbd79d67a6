// What actions need of the page: find an element by its id, aim at it, fill it, wait for a change.
const memory = window[Symbol.for("milepost.page")];
const fold = (text) => text.replace(/\s+/g, " ").trim();

function find(id) {
  const ref = memory && memory.refs.get(id);
  const el = ref && ref.deref();
  if (!el || !el.isConnected || !el.ownerDocument.defaultView) return null;
  // A frame's document stays connected to itself when the frame is gone.
  for (let frame = el.ownerDocument.defaultView; frame !== window; frame = frame.parent) {
    if (!frame.frameElement || !frame.frameElement.isConnected) return null;
  }
  return el;
}

const parentOf = (el) => el.assignedSlot || el.parentElement || (el.getRootNode() instanceof ShadowRoot ? el.getRootNode().host : null);

function within(inner, outer) {
  for (let at = inner; at; at = parentOf(at)) if (at === outer) return true;
  return false;
}

function hitAt(doc, x, y) {
  let hit = doc.elementFromPoint(x, y);
  while (hit && hit.shadowRoot) {
    const deeper = hit.shadowRoot.elementFromPoint(x, y);
    if (!deeper || deeper === hit) break;
    hit = deeper;
  }
  return hit;
}

// The element that would take a click at a point of the element's own document, looking down from the top window.
function cover(el, target, x, y) {
  const hit = hitAt(el.ownerDocument, x, y);
  if (!hit) return el.ownerDocument.documentElement;
  const labels = Array.from(target.labels || []);
  if (!within(hit, target) && !within(target, hit.closest("label") || hit) && !labels.some((label) => within(hit, label))) return hit;
  for (let view = el.ownerDocument.defaultView; view !== window; view = view.parent) {
    const frame = view.frameElement, rect = frame.getBoundingClientRect();
    x += rect.left + frame.clientLeft;
    y += rect.top + frame.clientTop;
    const outer = hitAt(frame.ownerDocument, x, y);
    if (outer !== frame) return outer || frame.ownerDocument.documentElement;
  }
  return null;
}

function offset(el) {
  let x = 0, y = 0;
  for (let view = el.ownerDocument.defaultView; view !== window; view = view.parent) {
    const frame = view.frameElement, rect = frame.getBoundingClientRect();
    x += rect.left + frame.clientLeft;
    y += rect.top + frame.clientTop;
  }
  return { x, y };
}

function points(el) {
  const view = el.ownerDocument.defaultView, out = [];
  for (const box of el.getClientRects()) {
    const left = Math.max(box.left, 0), top = Math.max(box.top, 0);
    const right = Math.min(box.right, view.innerWidth), bottom = Math.min(box.bottom, view.innerHeight);
    if (right - left < 1 || bottom - top < 1) continue;
    for (const [fx, fy] of [[0.5, 0.5], [0.2, 0.5], [0.8, 0.5], [0.5, 0.2], [0.5, 0.8]]) out.push({ x: left + (right - left) * fx, y: top + (bottom - top) * fy });
  }
  return out;
}

function describe(el) {
  const owner = parentsWithId(el);
  const words = fold(el.getAttribute("aria-label") || el.innerText || el.id || "").slice(0, 300);
  return `${el.getAttribute("role") || el.localName} ${JSON.stringify(words)}${owner ? ` (element ${owner})` : ""}`;
}

function parentsWithId(el) {
  for (let at = el; at; at = parentOf(at)) {
    const id = memory.ids.get(at);
    if (id) return id;
  }
  return 0;
}

// Where a pointer must go to press the element, or what is in its way.
function aim(id) {
  const el = find(id);
  if (!el) return { missing: true };
  if (el.matches(":disabled") || el.getAttribute("aria-disabled") === "true") return { refused: "is disabled" };
  if (el.localName === "input" && el.type === "file") return { refused: "opens a file chooser, and files cannot be uploaded" };
  // A drop-down list opens a menu of the system's own; its options are chosen by `select`.
  if (el.localName === "select") { el.focus(); return { focused: true }; }
  const targets = [el, ...Array.from(el.labels || [])];
  let covering = null;
  for (const scroll of [false, true]) {
    for (const target of targets) {
      if (scroll) target.scrollIntoView({ block: "center", inline: "center", behavior: "instant" });
      for (const point of points(target)) {
        const hit = cover(target, el, point.x, point.y);
        if (!hit) {
          const shift = offset(el);
          return { x: Math.floor(point.x + shift.x), y: Math.floor(point.y + shift.y) };
        }
        covering = hit;
      }
    }
  }
  return covering ? { covered: describe(covering) } : { refused: "has no place on the page to click" };
}

const originOf = (el) => el.ownerDocument.defaultView.origin;

function field(id) {
  const el = find(id);
  return el ? { origin: originOf(el) } : { missing: true };
}

function emit(el, type, Kind, options) {
  el.dispatchEvent(new Kind(type, { bubbles: true, composed: true, ...options }));
}

// Replaces a field's content, with the events that a person's typing makes. `origin` (or null) must own the field.
function fill(id, value, origin) {
  const el = find(id);
  if (!el) return { missing: true };
  if (origin !== null && originOf(el) !== origin) return { refused: "is no longer on the page that the secret is bound to" };
  if (el.matches(":disabled")) return { refused: "is disabled" };
  if (el.readOnly) return { refused: "is read-only" };
  const view = el.ownerDocument.defaultView;
  const prototype = el.localName === "textarea" ? view.HTMLTextAreaElement.prototype : el.localName === "input" ? view.HTMLInputElement.prototype : null;
  el.scrollIntoView({ block: "nearest", inline: "nearest", behavior: "instant" });
  el.focus();
  if (!prototype) return fillRich(el, value);
  // A part of a secret would be of no use, and could not be told from other text on the page.
  if (origin !== null && el.maxLength > 0 && value.length > el.maxLength) return { refused: `takes at most ${el.maxLength} characters, fewer than the secret has` };
  const text = el.maxLength > 0 ? value.slice(0, el.maxLength) : value;
  const key = { key: text.slice(-1) || "Backspace" };
  emit(el, "keydown", view.KeyboardEvent, { ...key, cancelable: true });
  Object.getOwnPropertyDescriptor(prototype, "value").set.call(el, text);
  if (text !== "" && el.value === "") return { refused: `takes no such text (it is a ${el.type} field${el.type === "date" ? ", write 2024-12-31" : el.type === "time" ? ", write 23:59" : ""})` };
  emit(el, "input", view.InputEvent, { data: text, inputType: "insertText" });
  emit(el, "keyup", view.KeyboardEvent, key);
  emit(el, "change", view.Event, {});
  return { done: true };
}

function fillRich(el, value) {
  const doc = el.ownerDocument;
  if (!el.isContentEditable && doc.designMode !== "on") return { refused: "takes no text", invalid: true };
  const selection = doc.getSelection();
  selection.selectAllChildren(el);
  doc.execCommand(value === "" ? "delete" : "insertText", false, value);
  return { done: true };
}

function choose(id, option) {
  const el = find(id);
  if (!el) return { missing: true };
  if (el.localName !== "select") return { refused: "has no options to select", invalid: true };
  if (el.matches(":disabled")) return { refused: "is disabled" };
  const found = Array.from(el.options).find((one) => fold(one.text) === fold(option));
  if (!found) return { refused: `has no option ${JSON.stringify(option)}`, invalid: true };
  if (found.disabled || (found.parentElement.localName === "optgroup" && found.parentElement.disabled)) return { refused: `has the option ${JSON.stringify(option)}, but it is disabled` };
  el.focus();
  found.selected = true;
  const view = el.ownerDocument.defaultView;
  emit(el, "input", view.Event, {});
  emit(el, "change", view.Event, {});
  return { done: true };
}

function scroll(sign) {
  const page = document.scrollingElement || document.documentElement;
  const before = page.scrollTop;
  window.scrollBy({ top: sign * window.innerHeight * 0.9, behavior: "instant" });
  if (page.scrollTop !== before) return { done: true };
  for (let at = document.elementFromPoint(window.innerWidth / 2, window.innerHeight / 2); at; at = parentOf(at)) {
    const top = at.scrollTop;
    at.scrollBy({ top: sign * at.clientHeight * 0.9, behavior: "instant" });
    if (at.scrollTop !== top) break;
  }
  return { done: true };
}

// Resolves when something on the page changes, or after `most` ms.
function change(most) {
  return new Promise((done) => {
    const finish = () => { observer.disconnect(); clearTimeout(timer); done({ done: true }); };
    const observer = new MutationObserver(finish);
    observer.observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
    const timer = setTimeout(finish, most);
  });
}

// Shows the values of these fields as dots ("disc"), or as they are ("").
function veil(ids, as) {
  for (const id of ids) {
    const el = find(id);
    if (el) el.style.webkitTextSecurity = as;
  }
}
