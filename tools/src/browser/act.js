// Functions that carry out actions in the page: find an element by its id, find a point to click, fill a field, wait for a change.
const memory = window[Symbol.for("milepost.page")];
const collapse = (text) => text.replace(/\s+/g, " ").trim();

// Returns the element with this id, or null where it is no longer in the document.
function find(id) {
  const ref = memory && memory.refs.get(id);
  const el = ref && ref.deref();
  if (!el || !el.isConnected || !el.ownerDocument.defaultView) return null;
  // The elements of a removed frame still count as connected, because their own document is intact.
  for (let frame = el.ownerDocument.defaultView; frame !== window; frame = frame.parent) {
    if (!frame.frameElement || !frame.frameElement.isConnected) return null;
  }
  return el;
}

const parentOf = (el) => el.assignedSlot || el.parentElement || (el.getRootNode() instanceof ShadowRoot ? el.getRootNode().host : null);

// Whether `inner` is `outer` or a descendant of it, across shadow roots.
function within(inner, outer) {
  for (let at = inner; at; at = parentOf(at)) if (at === outer) return true;
  return false;
}

// Returns the topmost element at a point of a document, inside shadow roots too.
function hitAt(doc, x, y) {
  let hit = doc.elementFromPoint(x, y);
  while (hit && hit.shadowRoot) {
    const deeper = hit.shadowRoot.elementFromPoint(x, y);
    if (!deeper || deeper === hit) break;
    hit = deeper;
  }
  return hit;
}

// Returns the element that would receive a click at this point in place of `target` or one of its labels; null where nothing covers them. The
// point is in the coordinates of the element's own document; the frames around it are checked too, up to the top window.
function coveringElement(el, target, x, y) {
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

// Returns the position of the element's document in the top window.
function frameOffset(el) {
  let x = 0, y = 0;
  for (let view = el.ownerDocument.defaultView; view !== window; view = view.parent) {
    const frame = view.frameElement, rect = frame.getBoundingClientRect();
    x += rect.left + frame.clientLeft;
    y += rect.top + frame.clientTop;
  }
  return { x, y };
}

// Returns points inside the visible parts of the element's boxes, in the coordinates of its own document.
function clickCandidates(el) {
  const view = el.ownerDocument.defaultView, out = [];
  for (const box of el.getClientRects()) {
    const left = Math.max(box.left, 0), top = Math.max(box.top, 0);
    const right = Math.min(box.right, view.innerWidth), bottom = Math.min(box.bottom, view.innerHeight);
    if (right - left < 1 || bottom - top < 1) continue;
    for (const [fx, fy] of [[0.5, 0.5], [0.2, 0.5], [0.8, 0.5], [0.5, 0.2], [0.5, 0.8]]) out.push({ x: left + (right - left) * fx, y: top + (bottom - top) * fy });
  }
  return out;
}

// Describes a covering element by its role, its text and the nearest element that has an id.
function describe(el) {
  const owner = nearestId(el);
  const words = collapse(el.getAttribute("aria-label") || el.innerText || el.id || "").slice(0, 300);
  return `${el.getAttribute("role") || el.localName} ${JSON.stringify(words)}${owner ? ` (element ${owner})` : ""}`;
}

// Returns the id of the element or of its nearest ancestor that has one; 0 where none has.
function nearestId(el) {
  for (let at = el; at; at = parentOf(at)) {
    const id = memory.ids.get(at);
    if (id) return id;
  }
  return 0;
}

// Returns the point of the top window where a click hits the element, or the reason why there is none.
function clickPoint(id) {
  const el = find(id);
  if (!el) return { missing: true };
  if (el.matches(":disabled") || el.getAttribute("aria-disabled") === "true") return { refused: "is disabled" };
  if (el.localName === "input" && el.type === "file") return { refused: "opens a file chooser, and files cannot be uploaded" };
  // A click on a drop-down list would open a menu outside the page; its options are chosen by the action `select`.
  if (el.localName === "select") { el.focus(); return { focused: true }; }
  const targets = [el, ...Array.from(el.labels || [])];
  let covering = null;
  for (const scroll of [false, true]) {
    for (const target of targets) {
      if (scroll) target.scrollIntoView({ block: "center", inline: "center", behavior: "instant" });
      for (const point of clickCandidates(target)) {
        const hit = coveringElement(target, el, point.x, point.y);
        if (!hit) {
          const shift = frameOffset(el);
          return { x: Math.floor(point.x + shift.x), y: Math.floor(point.y + shift.y) };
        }
        covering = hit;
      }
    }
  }
  return covering ? { covered: describe(covering) } : { refused: "has no place on the page to click" };
}

const originOf = (el) => el.ownerDocument.defaultView.origin;

// Returns the origin of the page that a field belongs to.
function fieldOrigin(id) {
  const el = find(id);
  return el ? { origin: originOf(el) } : { missing: true };
}

// Dispatches an event that bubbles.
function dispatch(el, type, Kind, options) {
  el.dispatchEvent(new Kind(type, { bubbles: true, composed: true, ...options }));
}

// Replaces a field's content and dispatches the events that a person's typing would cause. Where `origin` is not null, the field's page must have
// this origin.
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
  // A cut secret would be useless, and the rest of it could not be recognised and hidden on the page.
  if (origin !== null && el.maxLength > 0 && value.length > el.maxLength) return { refused: `takes at most ${el.maxLength} characters, fewer than the secret has` };
  const text = el.maxLength > 0 ? value.slice(0, el.maxLength) : value;
  const key = { key: text.slice(-1) || "Backspace" };
  dispatch(el, "keydown", view.KeyboardEvent, { ...key, cancelable: true });
  Object.getOwnPropertyDescriptor(prototype, "value").set.call(el, text);
  if (text !== "" && el.value === "") return { refused: `takes no such text (it is a ${el.type} field${el.type === "date" ? ", write 2024-12-31" : el.type === "time" ? ", write 23:59" : ""})` };
  dispatch(el, "input", view.InputEvent, { data: text, inputType: "insertText" });
  dispatch(el, "keyup", view.KeyboardEvent, key);
  dispatch(el, "change", view.Event, {});
  return { done: true };
}

// Replaces the content of an editable element that is not a form field.
function fillRich(el, value) {
  const doc = el.ownerDocument;
  if (!el.isContentEditable && doc.designMode !== "on") return { refused: "takes no text", invalid: true };
  const selection = doc.getSelection();
  selection.selectAllChildren(el);
  doc.execCommand(value === "" ? "delete" : "insertText", false, value);
  return { done: true };
}

// Selects the option with this text.
function choose(id, option) {
  const el = find(id);
  if (!el) return { missing: true };
  if (el.localName !== "select") return { refused: "has no options to select", invalid: true };
  if (el.matches(":disabled")) return { refused: "is disabled" };
  const found = Array.from(el.options).find((one) => collapse(one.text) === collapse(option));
  if (!found) return { refused: `has no option ${JSON.stringify(option)}`, invalid: true };
  if (found.disabled || (found.parentElement.localName === "optgroup" && found.parentElement.disabled)) return { refused: `has the option ${JSON.stringify(option)}, but it is disabled` };
  el.focus();
  found.selected = true;
  const view = el.ownerDocument.defaultView;
  dispatch(el, "input", view.Event, {});
  dispatch(el, "change", view.Event, {});
  return { done: true };
}

// Scrolls by most of the window's height, down (1) or up (-1): the page, or else the element in the middle of the window that can scroll.
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

// Resolves when something in the document changes, or after `milliseconds`.
function waitForChange(milliseconds) {
  return new Promise((done) => {
    const finish = () => { observer.disconnect(); clearTimeout(timer); done({ done: true }); };
    const observer = new MutationObserver(finish);
    observer.observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
    const timer = setTimeout(finish, milliseconds);
  });
}

// Draws the values of these fields as dots ("disc") or as text (""), for a screenshot.
function maskValues(ids, style) {
  for (const id of ids) {
    const el = find(id);
    if (el) el.style.webkitTextSecurity = style;
  }
}
