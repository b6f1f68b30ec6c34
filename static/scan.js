// The phone's pages, enhanced. A wallet's own "ok" is a hint: only our server's word counts.
(() => {
  "use strict";
  const main = document.getElementById("main");
  if (!main) return;
  document.documentElement.classList.add("live");
  const $ = (id) => document.getElementById(id);
  const data = main.dataset;
  const words = data.words ? JSON.parse(data.words) : {};

  // Nothing happens before somebody looks: previews and prefetches see a page, no more.
  function seen(work) {
    const looked = () => !document.hidden && !document.prerendering;
    if (looked()) return work();
    const wait = () => {
      if (!looked()) return;
      document.removeEventListener("visibilitychange", wait);
      document.removeEventListener("prerenderingchange", wait);
      work();
    };
    document.addEventListener("visibilitychange", wait);
    document.addEventListener("prerenderingchange", wait);
  }

  document.addEventListener("submit", (event) => {
    const button = event.target.querySelector("button");
    if (button.getAttribute("aria-busy")) event.preventDefault();
    button.setAttribute("aria-busy", "true");
  });
  addEventListener("pageshow", () => {
    for (const button of document.querySelectorAll("[aria-busy]")) button.removeAttribute("aria-busy");
  });

  const form = document.querySelector("form[data-by-itself]");
  if (form) seen(() => form.requestSubmit());
  if (data.follow) seen(() => location.replace(data.follow));

  function tell(heading, text, tone) {
    if ($("heading").textContent === heading) return;
    $("heading").textContent = heading;
    $("text").textContent = text;
    $("heading").closest("section").dataset.tone = tone;
    $("polite").textContent = `${heading}. ${text}`;
    document.title = heading;
  }

  // --- The result: asked of our server ---------------------------------------------------------
  let polls = 0;
  let timer = 0;
  let state = data.state;

  async function look(extra) {
    clearTimeout(timer);
    try {
      const url = new URL(data.watch, location.href);
      if (extra) url.searchParams.set("bridge", extra);
      const answer = await fetch(url, { headers: { Accept: "application/json" }, cache: "no-store" });
      if (answer.ok) {
        const now = await answer.json();
        if (now.state !== "open") {
          state = now.state;
          tell(now.heading, now.text, now.tone);
          if ($("trying")) $("trying").hidden = true;
        }
        if (now.done) {
          $("heading").focus();
          return;
        }
      }
    } catch {
      if (words.offline) tell(words.offline[0], words.offline[1], "wait");
    }
    polls += 1;
    const pause = polls < 15 ? 2000 : polls < 40 ? 5000 : 10000;
    timer = setTimeout(() => (document.hidden ? 0 : look()), pause * (0.8 + Math.random() * 0.4));
  }

  if (data.watch) {
    timer = setTimeout(look, 2000);
    document.addEventListener("visibilitychange", () => document.hidden || look());
    addEventListener("pageshow", (event) => event.persisted && look());
  }

  // --- The wallet's payment ------------------------------------------------------------------
  if (!data.kind) return;
  const parameters = JSON.parse(data.parameters);
  const bridges = {
    jsapi: ["WeixinJSBridge", "WeixinJSBridgeReady"],
    trade_pay: ["AlipayJSBridge", "AlipayJSBridgeReady"],
  };

  function unpaid() {
    if (state === "paying") tell(words.unpaid[0], words.unpaid[1], "wait");
    look();
  }

  function invoke() {
    if (data.kind === "jsapi") {
      window.WeixinJSBridge.invoke("getBrandWCPayRequest", parameters, (result) => {
        if (result.err_msg === "get_brand_wcpay_request:ok") look();
        else unpaid();
      });
    } else {
      window.AlipayJSBridge.call("tradePay", parameters, (result) => {
        if (String(result.resultCode) === "9000") look();
        else unpaid();
      });
    }
  }

  function start() {
    if (data.kind === "link") {
      location.assign(parameters.url);
      return;
    }
    const [name, ready] = bridges[data.kind];
    if (window[name]) return invoke();
    let late = 0;
    const go = () => {
      clearTimeout(late);
      document.removeEventListener(ready, go);
      invoke();
    };
    document.addEventListener(ready, go);
    late = setTimeout(() => {
      document.removeEventListener(ready, go);
      tell(words.bridge[0], words.bridge[1], "wait");
      look("timeout");
    }, 5000);
  }

  if ($("again")) $("again").addEventListener("click", start);
  // Coming back by the back button must not pay again by itself.
  const [navigation] = performance.getEntriesByType("navigation");
  if (!navigation || navigation.type !== "back_forward") seen(start);
  else unpaid();
})();
