// The cashier's page, enhanced. The server decides and words everything; this keeps the page true.
(() => {
  "use strict";
  const main = document.getElementById("main");
  if (!main || !main.dataset.panel) return;
  const $ = (id) => document.getElementById(id);
  const words = JSON.parse(main.dataset.words);
  const base = main.dataset.base;
  const query = main.dataset.query;
  const here = base + query;
  let panel = JSON.parse(main.dataset.panel);
  let deadline = null; // on performance.now(): the earliest possible truth
  let shownAttempt = panel.attempt;
  let busy = false;
  let over = false; // at zero, until the server has spoken
  document.documentElement.classList.add("live");

  const put = (id, text) => {
    const node = $(id);
    if (node && node.textContent !== text) node.textContent = text;
  };
  const show = (id, on) => {
    const node = $(id);
    if (node) node.hidden = !on;
  };
  const say = (text, urgent) => put(urgent ? "assertive" : "polite", text);

  // --- The countdown: server-owned, monotonic -------------------------------------------------
  let ticking = 0;
  let spoken = Infinity;
  let lastTick = 0;
  let drift = Date.now() - performance.now();

  const remaining = () => (deadline === null ? null : Math.max(0, deadline - performance.now()));

  function resync(left, asked) {
    if (left === null || left === undefined) {
      deadline = null;
      return;
    }
    const next = asked + left;
    // Later only by a new code; earlier silently.
    deadline = deadline === null ? next : Math.min(deadline, next);
  }

  function tick() {
    clearTimeout(ticking);
    const left = remaining();
    if (left === null || document.hidden) return;
    const now = performance.now();
    const moved = Math.abs(Date.now() - now - drift) > 2000;
    if ((lastTick && now - lastTick > 3000) || moved) {
      drift = Date.now() - now;
      look();
    }
    lastTick = now;
    const seconds = Math.ceil(left / 1000);
    put("seconds", String(seconds));
    const bar = $("bar");
    const rect = bar.querySelector(".left");
    rect.replaceChildren();
    rect.setAttribute("width", String(Math.round((1000 * left) / panel.total_ms)));
    bar.classList.add("stepped");
    if (panel.state === "warning") put("heading", words.warning.replace("{seconds}", seconds));
    for (const at of [120, 60, 30, 10]) {
      if (seconds <= at && spoken > at) {
        spoken = at;
        if (seconds > at - 3) say(words.countdown.replace("{seconds}", seconds), false);
      }
    }
    if (left <= 0) return end();
    ticking = setTimeout(tick, left % 1000 || 1000);
  }

  // The code leaves the page at once; only the server may say expired.
  function end() {
    if (over) return;
    over = true;
    $("qr-path").setAttribute("d", "");
    for (const id of ["code", "save", "count", "ways", "start", "phone"]) show(id, false);
    local("confirming", "wait");
    setTimeout(look, 700);
  }

  function local(name, tone, values) {
    let [heading, text] = words[name];
    for (const key in values) text = text.replace(`{${key}}`, values[key]);
    $("pay").dataset.tone = tone;
    put("heading", heading);
    put("text", text);
    say(`${heading}. ${text}`, name === "offline");
  }

  // --- What the server says --------------------------------------------------------------------
  function apply(next, asked) {
    if (next.version < panel.version) return;
    const before = panel;
    const changed = next.state !== before.state || next.attempt !== before.attempt;
    const newer = next.attempt !== shownAttempt;
    panel = next;
    over = false;
    if (newer || next.remaining_ms === null) deadline = null;
    if (newer) spoken = Infinity;
    resync(next.remaining_ms, asked);
    $("pay").dataset.tone = next.tone;
    quiet();
    put("heading", next.heading);
    put("text", next.text);
    if (next.answer || changed) put("answer", next.answer || "");
    put("checked", next.checked);
    put("refund", next.refund || "");
    show("refund", next.refund);
    put("until", next.until || "");
    show("count", next.remaining_ms !== null);
    show("phone", next.phone);
    show("ways", next.go);
    show("code", next.code);
    show("save", next.code);
    if (next.code) {
      if (next.code.path) {
        const side = next.code.side;
        $("qr").setAttribute("viewBox", `0 0 ${side} ${side}`);
        $("qr").setAttribute("aria-label", next.code.label);
        $("qr-path").setAttribute("d", next.code.path);
      }
      put("caption", next.code.caption);
      put("tip", next.code.tip);
      const demo = $("demo");
      if (demo && next.code.demo) demo.href = next.code.demo;
      if (newer && $("fold")) $("fold").open = true;
    } else {
      $("qr-path").setAttribute("d", "");
    }
    if (newer && shownAttempt && next.code) say(words.newer, false);
    shownAttempt = next.attempt;
    const start = next.start;
    show("start", start);
    show("fold", start || next.code);
    if (start) {
      put("start-label", start.label);
      $("start-label").classList.toggle("primary", start.primary);
      show("tick", start.tick);
      $("tick").querySelector("input").required = start.tick;
    }
    show("choose", next.wallets.length);
    for (const wallet of ["alipay", "wechat"]) show(`pick-${wallet}`, next.wallets.includes(wallet));
    show("query", next.query);
    show("cancel", next.cancel);
    paid(next.payment);
    for (const [id, href] of [["receipt", next.receipt && next.receipt + query], ["fiscal", next.fiscal]]) {
      show(id, href);
      if (href) $(id).href = href;
    }
    if (changed) {
      document.title = `${next.heading} - ${words.service}`;
      if (next.announce !== "none") say(`${next.heading}. ${next.text}`, next.announce === "assertive");
      if (next.focus) $("heading").focus();
      if (next.returns && before.state !== next.state) goBack();
    }
    later(next.again_ms);
    tick();
    if (next.done) stop();
    else auto();
  }

  // A small sign is enough while the code or the countdown is on show.
  function quiet() {
    $("pay").toggleAttribute("data-quiet", panel.remaining_ms !== null);
  }

  function paid(lines) {
    show("payment", lines.length);
    if (!lines.length) return;
    put("sum-label", words.amount_paid);
    $("payment-lines").replaceChildren(
      ...lines.map(([label, value]) => {
        const row = document.createElement("div");
        for (const [kind, text] of [["dt", label], ["dd", value]]) {
          row.appendChild(document.createElement(kind)).textContent = text;
        }
        return row;
      }),
    );
  }

  let again = 0;
  function later(after) {
    clearTimeout(again);
    if (after !== null && after !== undefined) again = setTimeout(look, after + 150 + Math.random() * 300);
  }

  // --- Asking and telling ----------------------------------------------------------------------
  let tag = "";
  async function look() {
    const asked = performance.now();
    try {
      const headers = { Accept: "application/json" };
      if (tag) headers["If-None-Match"] = tag;
      const answer = await fetch(here, { headers, cache: "no-store" });
      if (answer.status === 304) {
        if (local.off) apply(panel, asked);
      } else if (answer.ok) {
        tag = answer.headers.get("ETag") || "";
        apply(await answer.json(), asked);
      } else if (answer.status === 404) {
        location.reload();
      } else {
        wait(answer);
      }
      local.off = false;
      return true;
    } catch {
      offline();
      return false;
    }
  }

  function offline() {
    local.off = true;
    tag = "";
    local("offline", "wait");
  }

  function wait(answer, repeat) {
    const seconds = Number(answer.headers.get("Retry-After")) || 5;
    local("busy", "wait", { seconds });
    tag = "";
    setTimeout(repeat || look, seconds * 1000 * (1 + Math.random()));
  }

  async function press(act, body, button) {
    if (busy) return;
    busy = true;
    if (button) button.setAttribute("aria-busy", "true");
    if (act === "attempts") local("loading", "calm");
    const asked = performance.now();
    try {
      const answer = await fetch(`${base}/${act}${query}`, {
        method: "POST",
        headers: { Accept: "application/json" },
        body,
      });
      if (answer.status === 503 || answer.status === 502) {
        const repeat = () => press(act, body, button);
        wait(answer, act === "cancel" ? look : repeat);
      } else if (answer.ok) {
        tag = "";
        apply(await answer.json(), asked);
      } else {
        const problem = await answer.json();
        if (problem.code === "page_stale") location.reload();
        if (problem.panel) apply(problem.panel, asked);
        else await look();
      }
    } catch {
      offline();
    } finally {
      busy = false;
      if (button) button.removeAttribute("aria-busy");
    }
  }

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.dataset.act) return;
    event.preventDefault();
    const body = new URLSearchParams(new FormData(form, event.submitter));
    const go = () => press(form.dataset.act, body, event.submitter);
    if (form.id === "start" && panel.start && panel.start.ask && $("ask").showModal) {
      const ask = $("ask");
      ask.returnValue = "no";
      ask.onclose = () => ask.returnValue === "yes" && go();
      ask.showModal();
    } else {
      go();
    }
  });

  // The 180 seconds start when a person is looking.
  function auto() {
    if (!panel.start || !panel.start.auto || busy || document.hidden || document.prerendering) return;
    press("attempts", new URLSearchParams({ csrf: main.dataset.csrf, auto: "1" }), null);
  }

  // --- Live updates: events, else asking now and then ------------------------------------------
  let source = null;
  let beat = 0;
  let failures = 0;
  let polling = 0;
  let pollingSince = 0;
  let stopped = false;

  function open() {
    if (stopped || source || document.hidden) return;
    if (!window.EventSource || failures >= 3) return poll();
    const stream = new EventSource(`${base}/events${query}`);
    source = stream;
    watchdog(15000);
    stream.onopen = () => look();
    stream.addEventListener("state", (event) => {
      heard();
      apply(JSON.parse(event.data), performance.now());
    });
    stream.addEventListener("beat", (event) => {
      heard();
      resync(JSON.parse(event.data).remaining_ms, performance.now());
      tick();
    });
    stream.addEventListener("poll", () => {
      close();
      poll();
    });
    stream.onerror = () => {
      failures += 1;
      if (failures >= 3 || stream.readyState === EventSource.CLOSED) {
        close();
        poll();
      }
    };
  }

  function heard() {
    failures = 0;
    clearTimeout(polling);
    polling = 0;
    watchdog(25000);
  }

  function watchdog(after) {
    clearTimeout(beat);
    beat = setTimeout(() => {
      failures += 1;
      close();
      open();
    }, after);
  }

  function close() {
    clearTimeout(beat);
    if (source) source.close();
    source = null;
  }

  function poll() {
    if (stopped || polling || document.hidden) return;
    pollingSince = pollingSince || performance.now();
    const since = performance.now() - pollingSince;
    const pause = since < 30000 ? 2000 : since < 120000 ? 5000 : 10000;
    polling = setTimeout(async () => {
      polling = 0;
      await look();
      if (performance.now() - pollingSince > 60000) {
        pollingSince = 0;
        failures = 0;
        open();
      }
      if (!source) poll();
    }, pause * (0.8 + Math.random() * 0.4));
  }

  function stop() {
    stopped = true;
    close();
    clearTimeout(polling);
    clearTimeout(again);
  }

  let away = 0;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(away);
    if (document.hidden) {
      away = setTimeout(close, 60000);
    } else {
      lastTick = 0;
      look().then(() => {
        if (!source) open();
        auto();
      });
    }
  });
  for (const name of ["pageshow", "focus", "online"]) {
    addEventListener(name, (event) => {
      if (name !== "pageshow" || event.persisted) look();
    });
  }
  addEventListener("offline", offline);
  addEventListener("pagehide", close);

  // --- Small things ------------------------------------------------------------------------------
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.copy && navigator.clipboard) {
      await navigator.clipboard.writeText(button.dataset.copy);
      const label = button.textContent;
      button.textContent = words.copied;
      setTimeout(() => (button.textContent = label), 2000);
    }
  });

  function goBack() {
    const leave = $("leave");
    const line = $("returning");
    if (!leave || !line) return;
    let left = 8;
    line.hidden = false;
    line.querySelector("button").onclick = () => {
      clearInterval(timer);
      line.hidden = true;
    };
    const write = () => (line.firstElementChild.textContent = words.returning.replace("{seconds}", left));
    write();
    const timer = setInterval(() => {
      left -= 1;
      write();
      if (left <= 0) {
        clearInterval(timer);
        location.assign(leave.href);
      }
    }, 1000);
  }

  const [navigation] = performance.getEntriesByType("navigation");
  resync(panel.remaining_ms, navigation ? navigation.requestStart : 0);
  if (panel.remaining_ms === null) deadline = null;
  quiet();
  tick();
  later(panel.again_ms);
  if (panel.done) stop();
  else if (document.prerendering) document.addEventListener("prerenderingchange", () => (open(), auto()));
  else {
    open();
    auto();
  }
})();
