// For everybody: axe on each page in both languages and both colour schemes, the keyboard alone, and
// narrow screens. The same states are pictured for people to look at.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  AGENTS, confirm, faults, heading, innocent, launch, order, pay, person, picture, says, scan, serve, sticksOut,
  truth, visit,
} from "./harness.mjs";

let browser;
let gateway;
let brief;
before(async () => {
  [browser, gateway, brief] = await Promise.all([
    launch(),
    serve(),
    serve({ env: { ENROLLPAY__ORDER__QR_SECONDS: "10" } }),
  ]);
});
after(() => Promise.all([browser?.close(), gateway?.stop(), brief?.stop()]));

/**
 * One state in both schemes, on a desk and on phones of 375 and 320 points, in the languages that the
 * page has. `ready` waits until the page shows the state again after a reload.
 */
async function everywhere(page, name, { ready = async () => {}, english = true, sizes = [1280, 375, 320] } = {}) {
  const found = [];
  const chinese = page.url();
  const other = new URL(chinese);
  other.searchParams.set("lang", "en");
  for (const language of english ? ["zh", "en"] : ["zh"]) {
    if (language === "en") {
      await page.goto(other.href);
      await ready();
      assert.equal(await page.locator("html").getAttribute("lang"), "en", name);
    }
    for (const scheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
      for (const width of sizes) {
        await page.setViewportSize({ width, height: width > 400 ? 900 : 740 });
        if (await sticksOut(page)) found.push(`${language} ${width}: scrolls sideways`);
        if (width !== 320) await picture(page, `state-${name}-${language}-${scheme}-${width}`);
      }
      // What differs by width is layout; colours, names and structure are the same.
      for (const fault of await faults(page)) found.push(`${language} ${scheme}: ${fault}`);
    }
  }
  await page.emulateMedia({ colorScheme: null, reducedMotion: null });
  if (english) await page.goto(chinese);
  assert.deepEqual(found, [], name);
}

test("a payment's states", async () => {
  const desk = await person(browser);
  const phone = await person(browser, { phone: true });
  const { cashier } = await order(gateway);
  const page = await visit(desk, cashier);
  const code = () => page.locator("#qr-path:not([d=''])").waitFor();
  await code();
  await everywhere(page, "awaiting", { ready: code });
  await code();
  const link = await page.locator("#demo").getAttribute("href");
  const claimed = await scan(phone, page, "zhangsan");
  await heading(claimed, "请确认缴费信息");
  const scanned = new URL(link).searchParams.get("scan");
  await heading(page, "已扫码，请在手机上确认付款");
  await everywhere(page, "scanned");
  // The claim's answer has its own address, where the same phone finds it again.
  await claimed.goto(new URL(new URL(scanned).pathname, claimed.url()).href);
  await heading(claimed, "请确认缴费信息");
  await everywhere(claimed, "confirm", { sizes: [375, 320] });
  const second = await person(browser, { phone: true });
  const late = await visit(second, link);
  await late.locator("button[name=user][value=wangwu]").click();
  await heading(late, "二维码已被扫描");
  await everywhere(late, "scanned-by-other", { english: false, sizes: [375, 320] });
  await confirm(claimed);
  await pay(claimed);
  await heading(claimed, "已缴费，无需重复付款");
  await everywhere(claimed, "phone-paid", { english: false, sizes: [375, 320] });
  await page.goto(cashier);
  await heading(page, "缴费成功");
  await everywhere(page, "paid");
  innocent(desk, phone, second);
});

test("the end of a code, a phone's buttons, a bad link, an app that cannot pay", async () => {
  const desk = await person(browser);
  const { cashier } = await order(brief);
  const page = await visit(desk, cashier);
  await page.locator("#qr-path:not([d=''])").waitFor();
  const buttons = await person(browser, { phone: true, userAgent: AGENTS.phone });
  const choose = await visit(buttons, (await order(gateway)).cashier);
  await heading(choose, "请选择付款方式");
  await everywhere(choose, "phone-buttons", { sizes: [375, 320] });
  const wrong = await visit(desk, `${gateway.origin}/pay/${"A".repeat(22)}`);
  await heading(wrong, "链接无效或已失效");
  await everywhere(wrong, "bad-link");
  await heading(page, "二维码已过期");
  await everywhere(page, "expired");
  innocent(desk, buttons);
});

test("the school's pages and the documentation", async () => {
  const desk = await person(browser);
  const school = await visit(desk, gateway.school);
  await everywhere(school, "schools", { english: false });
  await school.goto(`${gateway.school}/selfstudy`);
  await everywhere(school, "school", { english: false });
  await school.goto(`${gateway.school}/events`);
  await everywhere(school, "school-events", { english: false });
  for (const [path, name] of [["/docs", "docs"], ["/docs/errors", "docs-errors"]]) {
    const page = await visit(desk, gateway.origin + path);
    await everywhere(page, name, { english: false, sizes: [1280, 320] });
  }
  innocent(desk);
});

/** Tab by tab: what has the focus, and whether one can see that. */
async function walk(page, steps) {
  const seen = [];
  for (let step = 0; step < steps; step += 1) {
    await page.keyboard.press("Tab");
    const here = await page.evaluate(() => {
      const element = document.activeElement;
      const { outlineStyle, outlineWidth } = getComputedStyle(element);
      const box = element.getBoundingClientRect();
      return {
        name: (element.getAttribute("aria-label") ?? element.innerText ?? "").trim().replace(/\s+/g, " "),
        body: element === document.body,
        visible: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 && box.width > 0 && box.height > 0,
        tall: box.height,
        inline: getComputedStyle(element).display === "inline",
      };
    });
    if (here.body) break;
    seen.push(here);
  }
  return seen;
}

test("the keyboard alone: order, visible focus, size, Enter and Space", async () => {
  const desk = await person(browser);
  const school = await visit(desk, `${gateway.school}/selfstudy`);
  // To 点击缴费 and in.
  const before = await walk(school, 12);
  const at = before.findIndex((one) => one.name.startsWith("点击缴费"));
  assert.ok(at > 0, JSON.stringify(before));
  assert.ok(before.slice(0, at + 1).every((one) => one.visible), JSON.stringify(before));
  await school.getByRole("button", { name: "点击缴费" }).focus();
  await school.keyboard.press("Enter");
  const page = school;
  await page.locator("#qr-path:not([d=''])").waitFor();
  await page.evaluate(() => document.activeElement.blur());
  const order = await walk(page, 14);
  const names = order.map((one) => one.name);
  assert.deepEqual(names, [
    "跳到主要内容", "English", "复制", "缴费明细（4 项）", "没有手机？打开模拟钱包", "查询缴费结果", "保存二维码",
    "返回报名系统", "扫码遇到问题？", "取消订单",
  ]);
  for (const one of order) {
    assert.ok(one.visible, `${one.name}: no visible focus`);
    assert.ok(one.tall >= 44, `${one.name}: ${one.tall} points tall`);
  }
  await page.locator("#query button").focus();
  await page.keyboard.press("Enter");
  await says(page, "#answer", "暂未查到付款记录");
  await page.locator("#cancel summary").focus();
  await page.keyboard.press("Space");
  assert.equal(await page.locator("#cancel button").isVisible(), true);
  // The whole payment on the phone by keys.
  const phone = await person(browser, { phone: true });
  const claimed = await scan(phone, page, "wangwu");
  await heading(claimed, "请确认缴费信息");
  await claimed.getByRole("button", { name: "确认付款" }).focus();
  await claimed.keyboard.press("Enter");
  // The sheet takes the focus to its own button.
  await claimed.locator("#ep-wallet-pay:focus").waitFor();
  await claimed.keyboard.press("Enter");
  await claimed.locator("#ep-wallet-done:focus").waitFor();
  await claimed.keyboard.press("Space");
  await heading(claimed, "已缴费，无需重复付款");
  // The result takes the focus where it appears, and is spoken.
  await heading(page, "缴费成功");
  assert.equal(await page.evaluate(() => document.activeElement.id), "heading");
  await says(page, "#assertive", "缴费成功");
  // Nobody is sent away against their will.
  await page.getByRole("button", { name: "留在本页" }).focus();
  await page.keyboard.press("Enter");
  await page.locator("#returning").waitFor({ state: "hidden" });
  assert.equal((await truth(page.url())).state, "paid");
  innocent(desk, phone);
});
