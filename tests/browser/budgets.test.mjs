// Light pages that ask nobody else: origins, policies, bytes, requests, and nothing that jumps.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { gzipSync } from "node:zlib";
import { AGENTS, heading, innocent, launch, order, person, serve, visit } from "./harness.mjs";

let browser;
let gateway;
before(async () => ([browser, gateway] = await Promise.all([launch(), serve()])));
after(() => Promise.all([browser?.close(), gateway?.stop()]));

const KILO = 1024;

test("no page of the gateway asks another origin, or breaks its own policy", async () => {
  const desk = await person(browser);
  const { cashier } = await order(gateway);
  const page = await visit(desk, cashier);
  await page.locator("#qr-path:not([d=''])").waitFor();
  const scanned = new URL(await page.locator("#demo").getAttribute("href")).searchParams.get("scan");
  for (const address of [`${cashier}?lang=en`, scanned, "/docs", "/docs/errors", `/pay/${"A".repeat(22)}`]) {
    await page.goto(new URL(address, gateway.origin).href);
  }
  assert.ok(desk.requests.length > 12, "the requests were seen");
  const origins = new Set(desk.requests.map((request) => new URL(request.url()).origin));
  assert.deepEqual([...origins], [gateway.origin]);
  innocent(desk);
});

test("the cashier keeps to its budget of bytes and requests, and nothing jumps", async () => {
  for (const phone of [false, true]) {
    const someone = await person(browser, { phone, ...(phone ? { userAgent: AGENTS.phone } : {}) });
    const { cashier } = await order(gateway);
    await visit(someone, cashier).then(async (page) => {
      if (!phone) await page.locator("#qr-path:not([d=''])").waitFor();
      await page.close();
    });
    someone.requests.length = 0;
    const page = await someone.newPage();
    await page.addInitScript(() => {
      window.shift = 0;
      new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
      }).observe({ type: "layout-shift", buffered: true });
    });
    await page.goto(cashier, { waitUntil: "load" });
    await heading(page, phone ? "请选择付款方式" : "请扫码支付");
    const loaded = someone.requests.filter((request) => ["document", "script", "stylesheet", "image", "font"].includes(request.resourceType()));
    assert.ok(loaded.length <= 3, loaded.map((request) => request.url()).join("\n"));
    const bytes = {};
    for (const request of loaded) {
      const body = await (await request.response()).body();
      bytes[request.resourceType()] = gzipSync(body).length;
      if (request.resourceType() !== "document") {
        assert.match((await request.response()).headers()["cache-control"], /immutable/);
      }
    }
    const { document = 0, stylesheet = 0, script = 0 } = bytes;
    assert.ok(document > 0 && document <= 12 * KILO, `HTML ${document}`);
    assert.ok(stylesheet > 0 && stylesheet <= 5 * KILO, `CSS ${stylesheet}`);
    assert.ok(script > 0 && script <= 7 * KILO, `JS ${script}`);
    assert.ok(document + stylesheet + script <= 25 * KILO);
    const shift = await page.evaluate(() => window.shift);
    assert.ok(shift <= 0.02, `layout shift ${shift}`);
    innocent(someone);
  }
});

test("every page forbids what it does not need", async () => {
  const { cashier } = await order(gateway);
  const answer = await fetch(cashier, { headers: { "User-Agent": AGENTS.phone } });
  const header = (name) => answer.headers.get(name) ?? "";
  for (const directive of [
    "default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'",
    "form-action 'self'", "require-trusted-types-for 'script'",
  ]) {
    assert.ok(header("content-security-policy").includes(directive), directive);
  }
  assert.equal(header("x-content-type-options"), "nosniff");
  assert.equal(header("referrer-policy"), "strict-origin-when-cross-origin");
  assert.equal(header("cross-origin-opener-policy"), "same-origin");
  assert.ok(header("permissions-policy"), "a permissions policy");
  assert.match(header("cache-control"), /no-store/);
  assert.match(header("x-robots-tag"), /noindex/);
});
