// The cashier where it is open on a phone: inside WeChat, inside Alipay, in a browser, in English.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  AGENTS, confirm, heading, innocent, inWallet, launch, order, pay, person, picture, says, serve, truth, visit,
} from "./harness.mjs";

let browser;
let gateway;
before(async () => ([browser, gateway] = await Promise.all([launch(), serve()])));
after(() => Promise.all([browser?.close(), gateway?.stop()]));

for (const [wallet, who, own, other] of [
  ["wechat", "zhangsan", "微信支付", "要用支付宝？"],
  ["alipay", "wangwu", "支付宝付款", "要用微信？"],
]) {
  test(`inside ${wallet}: one button, no code, and it pays`, async () => {
    const phone = await person(browser, { phone: true });
    const { cashier } = await order(gateway);
    const page = await inWallet(phone, gateway.simulator, who, cashier);
    await heading(page, "请选择付款方式");
    const ways = page.locator("#ways button").filter({ visible: true });
    assert.deepEqual((await ways.allInnerTexts()).map((text) => text.trim()), [own]);
    await says(page, "#ways", other);
    assert.equal(await page.locator("#code").isVisible(), false);
    assert.equal(await page.getByRole("button", { name: "生成二维码" }).isVisible(), false);
    assert.equal((await truth(cashier)).attempt, null, "looking starts nothing");
    await picture(page, `phone-inside-${wallet}`);
    await ways.first().click();
    await heading(page, "请确认缴费信息");
    await confirm(page);
    await pay(page);
    await heading(page, "已缴费，无需重复付款");
    await page.getByRole("link", { name: "查看缴费页" }).click();
    await heading(page, "缴费成功");
    await picture(page, `phone-paid-page-${wallet}`);
    innocent(phone);
  });
}

for (const [name, label] of [["H5", "打开微信付款"], ["Alipay", "打开支付宝付款"]]) {
  test(`in a phone's browser: both wallets' buttons; ${name} pays`, async () => {
    const phone = await person(browser, { phone: true, userAgent: AGENTS.phone });
    const { cashier } = await order(gateway);
    const page = await visit(phone, cashier);
    await heading(page, "请选择付款方式");
    const ways = await page.locator("#ways button").filter({ visible: true }).allInnerTexts();
    assert.deepEqual(ways.map((text) => text.trim()).sort(), ["打开微信付款", "打开支付宝付款"].sort());
    await says(page, "summary", "用另一部手机扫码");
    await picture(page, `phone-browser-${name}`);
    await page.getByRole("button", { name: label }).click();
    await page.getByRole("button", { name: "确认付款" }).click();
    // The wallet's own page, reached by a link or by itself.
    await page.locator("button.face:not([disabled])").first().click();
    await picture(page, `phone-browser-sheet-${name}`);
    await page.locator("button[name=action][value=pay]").click();
    await says(page, "h2", "支付成功");
    await page.locator("a.button").click();
    await heading(page, /已缴费，无需重复付款|缴费成功/);
    await picture(page, `phone-browser-paid-${name}`);
    assert.equal((await truth(cashier)).state, "paid");
    innocent(phone);
  });
}

test("in a phone's browser, another phone scans the code that unfolds", async () => {
  const phone = await person(browser, { phone: true, userAgent: AGENTS.phone });
  const { cashier } = await order(gateway);
  const page = await visit(phone, cashier);
  await page.locator("#fold summary").click();
  await page.getByRole("button", { name: "生成二维码" }).click();
  await page.locator("#qr-path:not([d=''])").waitFor();
  assert.ok(await page.locator("#qr").isVisible());
  await picture(page, "phone-browser-code");
  innocent(phone);
});

test("an app that is no wallet is told so, and claims nothing", async () => {
  const desk = await person(browser);
  const { cashier } = await order(gateway);
  const page = await visit(desk, cashier);
  await page.locator("#qr-path:not([d=''])").waitFor();
  const scanned = new URL(await page.locator("#demo").getAttribute("href")).searchParams.get("scan");
  const other = await person(browser, { phone: true, userAgent: `${AGENTS.wechat} wxwork/4.1` });
  const told = await visit(other, scanned);
  await heading(told, "请使用微信或支付宝扫一扫打开");
  await picture(told, "phone-wrong-app");
  assert.equal((await truth(cashier)).state, "awaiting");
});

test("in English for who asks for it, and the choice stays", async () => {
  const phone = await person(browser, { phone: true, english: true, userAgent: AGENTS.wechat });
  const { cashier } = await order(gateway);
  const page = await visit(phone, cashier);
  await heading(page, "Choose how to pay");
  assert.equal(await page.locator("html").getAttribute("lang"), "en");
  assert.deepEqual(
    (await page.locator("#ways button").allInnerTexts()).map((text) => text.trim()),
    ["Pay with WeChat"],
  );
  const desk = await person(browser);
  const chosen = await visit(desk, cashier);
  await chosen.locator(".lang").click();
  await chosen.locator("#qr-path:not([d=''])").waitFor();
  await heading(chosen, "Scan to pay");
  await chosen.getByRole("button", { name: "Check result" }).click();
  await says(chosen, "#answer", "No payment found yet");
  assert.match(chosen.url(), /lang=en/);
  innocent(phone, desk);
});
