// A student's whole way in a real browser, against a running demo node:
//   cargo run -- serve            (or DEMO_SCHOOL=http://127.0.0.1:8084 for another address)
//   cd tests/browser && npm ci && npm test
// Needs Chromium (CHROMIUM, by default Debian's /usr/bin/chromium).
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const school = process.env.DEMO_SCHOOL || "http://127.0.0.1:8084";
const executablePath = process.env.CHROMIUM || "/usr/bin/chromium";
let browser;

before(async () => {
  browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
});
after(() => browser.close());

/** A fresh registration, its cashier page open on a computer. */
async function cashier(options = {}) {
  const context = await browser.newContext({ locale: "zh-CN", viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const faults = [];
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("console", (message) => {
    const ours = message.location().url.includes("/pay/");
    if (ours && /Content Security Policy|TrustedHTML/.test(message.text())) faults.push(message.text());
  });
  await context.request.post(`${school}/registrations`, { headers: { origin: school } });
  await page.goto(school);
  await page.getByRole("button", { name: /缴费/ }).first().click();
  await page.waitForURL(/\/pay\//);
  return { context, page, faults };
}

const heading = (page, text) => page.locator("#heading", { hasText: text }).waitFor({ timeout: 15000 });

/** The simulated phone of one person, with this code scanned. */
async function phone(context, page, user) {
  const wallet = await context.newPage();
  await wallet.setViewportSize({ width: 375, height: 812 });
  await wallet.goto(await page.locator("#demo").getAttribute("href"));
  await wallet.locator(`button[value=${user}]`).click();
  return wallet;
}

test("scan, confirm, pay: the open page knows at once", async () => {
  const { context, page, faults } = await cashier();
  await page.locator("#code").waitFor();
  const seconds = Number(await page.locator("#seconds").textContent());
  assert.ok(seconds > 170 && seconds <= 180, String(seconds));

  const wallet = await phone(context, page, "zhangsan");
  await heading(wallet, "请确认缴费信息");
  const shown = await wallet.locator("main").innerText();
  assert.match(shown, /测\*/);
  assert.doesNotMatch(shown, /测试考生/);
  await heading(page, "已扫码");
  assert.equal(await page.locator("#code").isVisible(), false);

  await wallet.getByRole("button", { name: "确认付款" }).click();
  await wallet.locator("#ep-wallet-pay").click();
  await heading(page, "缴费成功");
  await heading(wallet, "已缴费");
  assert.equal(await page.evaluate(() => document.activeElement.id), "heading");
  assert.match(await page.locator("#voucher").innerText(), /壹佰肆拾元整/);
  assert.deepEqual(faults, []);
  await context.close();
});

test("a second phone is too late, and a newer code ends the first", async () => {
  const { context, page } = await cashier();
  await page.locator("#code").waitFor();
  const first = await phone(context, page, "zhangsan");
  const link = await page.locator("#demo").getAttribute("href");
  await heading(first, "请确认缴费信息");
  const second = await context.newPage();
  await second.goto(link);
  await second.locator("button[value=lisi]").click();
  await heading(second, "二维码已被扫描");
  assert.doesNotMatch(await second.locator("main").innerText(), /测\*/);

  await heading(page, "已扫码");
  await page.locator("#start-label").click();
  await page.locator("#ask button[value=yes]").click();
  await heading(page, "请扫码支付");
  await first.getByRole("button", { name: "确认付款" }).click();
  await heading(first, "二维码已停用");
  await context.close();
});

test("without scripts: forms, the same words, the same code", async () => {
  const { context, page } = await cashier({ javaScriptEnabled: false });
  await heading(page, "请生成付款二维码");
  await page.getByRole("button", { name: "生成二维码" }).click();
  await heading(page, "请扫码支付");
  assert.ok((await page.locator("#qr-path").getAttribute("d")).length > 1000);
  assert.equal(await page.locator(".timer").isVisible(), false);
  await page.getByRole("button", { name: "查询缴费结果" }).click();
  await page.locator("#answer", { hasText: "暂未查到付款记录" }).waitFor();
  await context.close();
});

test("the wall clock may lie, the countdown does not", async () => {
  const { context, page } = await cashier();
  await page.locator("#code").waitFor();
  await page.evaluate(() => {
    const real = Date.now;
    Date.now = () => real() + 86_400_000;
  });
  await page.waitForTimeout(2500);
  const seconds = Number(await page.locator("#seconds").textContent());
  assert.ok(seconds > 160 && seconds < 180, String(seconds));
  await context.close();
});

test("nothing is cut off at 320 px, and it is dark where people want it so", async () => {
  const { context, page } = await cashier({ viewport: { width: 320, height: 640 }, colorScheme: "dark" });
  await page.locator("#code").waitFor();
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(wide <= 320, String(wide));
  const paper = await page.locator("#qr").evaluate((node) => getComputedStyle(node).backgroundColor);
  assert.equal(paper, "rgb(255, 255, 255)");
  const small = await page.evaluate(() =>
    [...document.querySelectorAll("button, a.button, summary")]
      .filter((node) => node.offsetParent && node.getBoundingClientRect().height < 44)
      .map((node) => node.textContent),
  );
  assert.deepEqual(small, []);
  await context.close();
});
