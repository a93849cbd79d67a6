// Runs in every document before its own scripts. It records which elements listen for clicks, and whether a navigation has started.
(() => {
  const key = Symbol.for("milepost.hook");
  if (window[key]) return;
  const hook = { listeners: new WeakSet(), navigating: false };
  Object.defineProperty(window, key, { value: hook });
  const clicks = new Set(["click", "mousedown", "mouseup", "pointerdown", "pointerup", "dblclick", "touchstart"]);
  const native = EventTarget.prototype.addEventListener;
  EventTarget.prototype.addEventListener = function addEventListener(type, listener, options) {
    if (listener && clicks.has(type) && this instanceof Element) hook.listeners.add(this);
    return native.call(this, type, listener, options);
  };
  if (window.navigation && window === window.top) {
    native.call(navigation, "navigate", (event) => {
      if (!event.hashChange && event.downloadRequest === null && !event.destination.sameDocument) hook.navigating = true;
    });
    for (const end of ["navigatesuccess", "navigateerror"]) native.call(navigation, end, () => { hook.navigating = false; });
  }
})();
