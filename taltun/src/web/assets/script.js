// Puts parts of the page in their place as they come. Without it all pages work; they stand still.
"use strict";

(() => {
  const main = document.querySelector("[data-live]");
  if (!main || !window.EventSource) return;
  const offline = document.getElementById("offline");

  // Changes only what differs, so that focus and selections stay.
  const follow = (now, wanted) => {
    const same = (one, other) =>
      one.nodeType === other.nodeType && one.nodeName === other.nodeName && (one.id || "") === (other.id || "");
    const wants = [...wanted.childNodes];
    const haves = [...now.childNodes];
    wants.forEach((want, place) => {
      const have = haves[place];
      if (!have) {
        now.append(want);
      } else if (!same(have, want)) {
        have.replaceWith(want);
      } else if (want.nodeType !== Node.ELEMENT_NODE) {
        if (have.nodeValue !== want.nodeValue) have.nodeValue = want.nodeValue;
      } else {
        for (const { name, value } of want.attributes) {
          if (have.getAttribute(name) !== value) have.setAttribute(name, value);
        }
        for (const { name } of [...have.attributes]) {
          if (!want.hasAttribute(name)) have.removeAttribute(name);
        }
        follow(have, want);
      }
    });
    haves.slice(wants.length).forEach((have) => have.remove());
  };

  const place = (id, html) => {
    const element = document.getElementById(id);
    if (!element) return;
    const template = document.createElement("template");
    template.innerHTML = html;
    follow(element, template.content);
  };

  // Parts come each second. A hub that is gone can't always say so: the way to it may be its tunnel.
  const patience = 5000;
  let last = Date.now();
  let source = null;

  const listen = () => {
    last = Date.now();
    source = new EventSource(main.dataset.live);
    source.addEventListener("parts", (event) => {
      last = Date.now();
      offline.hidden = true;
      for (const [id, html] of Object.entries(JSON.parse(event.data))) place(id, html);
    });
    source.addEventListener("over", () => {
      source.close();
      location.assign("/login");
    });
    source.onerror = () => {
      offline.hidden = false;
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
    };
  };
  listen();
  setInterval(() => {
    if (source.readyState === EventSource.CLOSED || Date.now() - last < patience) return;
    offline.hidden = false;
    source.close();
    listen();
  }, 1000);
})();
