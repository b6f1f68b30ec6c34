// A university's tuition, in the steps of its manual: the student's space and its code, the finance site inside
// WeChat, 待缴费 / 缴费中 / 已完成, a payment that was broken off, and the voucher under 我的发票.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  AGENTS, confirm, faults, heading, innocent, inWallet, launch, pay, person, picture, readCode, says, serve, sticksOut,
  until, visit,
} from "./harness.mjs";

let browser;
let gateway;
before(async () => ([browser, gateway] = await Promise.all([launch(), serve()])));
after(() => Promise.all([browser?.close(), gateway?.stop()]));

const FINANCE = "/tuition/finance";

/** 登录, where the finance site asks for it. */
async function logIn(page, password = "03071234") {
  await page.getByLabel("密码").fill(password);
  await page.getByRole("button", { name: "登录" }).click();
}

/** 账单缴费, from the finance site. */
async function openBills(page) {
  await page.getByRole("button", { name: "账单缴费" }).click();
  await says(page, "h1", "账单缴费");
}

const tab = (page, name) => page.locator(".tabs").getByRole("link", { name, exact: true }).click();
const bill = (page, name) => page.getByRole("checkbox", { name });
/** The bills that a list shows. */
const listed = (page) => page.locator(".bill .what b").allInnerTexts();

/** A page in both languages, each in one of the two schemes, and three widths. */
async function everywhere(page, name) {
  const found = [];
  const plain = page.url();
  for (const [language, colorScheme] of [["zh-CN", "light"], ["en", "dark"]]) {
    const address = new URL(plain);
    address.searchParams.set("lang", language);
    await page.goto(address.href);
    assert.equal(await page.locator("html").getAttribute("lang"), language);
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    for (const width of [1280, 320, 375]) {
      await page.setViewportSize({ width, height: 740 });
      if (await sticksOut(page)) found.push(`${language} ${width}: scrolls sideways`);
    }
    await picture(page, `${name}-${language}-${colorScheme}`);
    for (const fault of await faults(page)) found.push(`${language}: ${fault}`);
  }
  await page.emulateMedia({ colorScheme: null, reducedMotion: null });
  await page.goto(plain);
  assert.deepEqual(found, [], name);
}

/** A page of the school's, on a desk and on a phone. */
async function looked(page, name, widths = [1280, 375]) {
  const found = [];
  const size = page.viewportSize();
  for (const width of widths) {
    await page.setViewportSize({ width, height: 740 });
    if (await sticksOut(page)) found.push(`${width}: scrolls sideways`);
    await picture(page, `${name}-${width}`);
  }
  await page.setViewportSize(size);
  assert.deepEqual([...found, ...(await faults(page))], [], name);
}

test("first way: from the student's space by a code into WeChat, two bills paid together", async () => {
  const desk = await person(browser);
  const phone = await person(browser, { phone: true });
  // 第一步、第二步 (S1-8): the face, then a code that WeChat opens.
  const space = await visit(desk, `${gateway.school}/tuition`);
  await says(space, "h2", "人脸信息采集");
  await looked(space, "tuition-face", [1280]);
  await space.getByRole("button", { name: "采集完成，确定" }).click();
  await says(space, ".notice", "识别成功");
  await says(space, "dd", "2024013307");
  await says(space, "dd", "03071234");
  await looked(space, "tuition-code", [1280]);
  const address = await readCode(desk, await space.locator(".code-picture svg").screenshot());
  assert.equal(address, gateway.school + FINANCE);

  // 第三步 (S1-16).
  const page = await inWallet(phone, gateway.simulator, "zhangsan", address);
  await logIn(page, "12345678");
  await says(page, ".notice", "账号或密码不正确");
  await looked(page, "tuition-login", [375]);
  await logIn(page);
  await says(page, "h1", "智慧缴费");
  await looked(page, "tuition-finance", [375]);

  // 第四步 (S1-3, S1-10, S1-11): who, what, how much; ticked, with an e-mail address.
  await openBills(page);
  assert.deepEqual(await listed(page), ["2026学年学费", "2026学年教材费", "学士学位外语培训费"], "as they were uploaded");
  await says(page, ".facts", /王\*/);
  await says(page, ".facts", /3706\*+1234/);
  assert.ok(!(await page.content()).includes("370602200503071234"), "the id number is masked");
  await picture(page, "tuition-bills-unpaid");
  const second = await inWallet(phone, gateway.simulator, "zhangsan", gateway.school + FINANCE);
  await openBills(second);
  await page.getByRole("button", { name: "立即支付" }).click();
  await says(page, ".notice", "请先勾选要缴费的账单");
  for (const one of [page, second]) {
    await bill(one, "2026学年学费").check();
    await bill(one, "2026学年教材费").check();
    await one.getByLabel("电子邮箱").fill("wang@example.edu.cn");
  }
  await says(page, "#sum", /已勾选 2 项.*2543\.00/s);
  await picture(page, "tuition-bills-ticked");
  await page.getByRole("button", { name: "立即支付" }).click();

  // Inside WeChat there is one button and no code (S1-9).
  await heading(page, "请选择付款方式");
  await says(page, ".sum b", "2543.00");
  await says(page, ".subject", "2026学年学费 等2项");
  assert.equal(await page.locator("#code").isVisible(), false);
  await picture(page, "tuition-cashier-wechat");
  const cashier = new URL(page.url()).pathname;
  // Pressed in another tab as well, it is the same order (S1-4).
  await second.getByRole("button", { name: "立即支付" }).click();
  await heading(second, "请选择付款方式");
  assert.equal(new URL(second.url()).pathname, cashier);
  await second.close();
  await page.reload();
  const ways = page.locator("#ways button").filter({ visible: true });
  assert.deepEqual((await ways.allInnerTexts()).map((text) => text.trim()), ["微信支付"]);
  await ways.first().click();
  await heading(page, "请确认缴费信息");
  await says(page, ".lines", "护理学（专升本）学费");
  // Reloaded in the middle, the same phone goes on.
  await page.reload();
  await heading(page, "请确认缴费信息");
  await confirm(page);
  await picture(page, "tuition-wechat-sheet");
  await pay(page);
  await heading(page, "已缴费，无需重复付款");
  await picture(page, "tuition-wechat-paid");
  await page.getByRole("link", { name: "查看缴费页" }).click();
  await heading(page, "缴费成功");
  await page.locator("#leave").click();

  // 已完成 (S1-5, S1-13): amount, time, wallet, transaction.
  await says(page, "h1", "智慧缴费");
  await openBills(page);
  assert.deepEqual(await listed(page), ["学士学位外语培训费"]);
  await tab(page, "已完成");
  assert.deepEqual(await listed(page), ["2026学年学费", "2026学年教材费"]);
  await says(page, ".card", "2400.00");
  await says(page, ".facts", /20\d\d-\d\d-\d\d \d\d:\d\d:\d\d/);
  await says(page, ".facts", "微信支付");
  await says(page, ".facts", /42\d{10,}/);
  await everywhere(page, "tuition-bills-paid");

  // 第五步 (S1-15): the voucher, here and under 我的发票.
  await page.getByRole("link", { name: "查看凭证" }).first().click();
  await heading(page, "缴费凭证");
  await says(page, ".capitals", "贰仟伍佰肆拾叁元整");
  const receipt = new URL(page.url()).pathname;
  await picture(page, "tuition-receipt");
  const mine = await inWallet(phone, gateway.simulator, "zhangsan", `${gateway.school}/tuition/finance/mine`);
  await says(mine, "h1", "我的发票");
  await says(mine, "li", "2543 元");
  await looked(mine, "tuition-mine", [375]);
  await mine.getByRole("link", { name: "领取凭证" }).click();
  await heading(mine, "缴费凭证");
  assert.equal(new URL(mine.url()).pathname, receipt);

  // The university was told by webhook.
  const office = await visit(desk, `${gateway.school}/tuition/office`);
  assert.equal(await office.locator("tr", { hasText: "2026学年" }).filter({ hasText: "已缴费" }).count(), 2);
  await says(office, "td", "order.paid");
  await looked(office, "tuition-office");
  innocent(desk, phone);
});

test("second way, broken off: found under 缴费中, cancelled, and paid with Alipay in a phone's browser", async () => {
  const phone = await person(browser, { phone: true });
  // 缴费方式二 (S1-9): the official account's menu.
  const page = await inWallet(phone, gateway.simulator, "lisi", `${gateway.school}/tuition/account`);
  await says(page, ".bubble", "智慧缴费");
  await looked(page, "tuition-account", [375]);
  await page.getByRole("link", { name: "智慧缴费" }).filter({ visible: true }).last().click();
  await page.getByLabel("账号").fill("370602200503071234");
  await logIn(page);
  await openBills(page);
  await everywhere(page, "tuition-bills-unpaid");
  await bill(page, "学士学位外语培训费").check();
  await page.getByRole("button", { name: "立即支付" }).click();
  await page.locator("#ways button").filter({ visible: true }).first().click();
  await heading(page, "请确认缴费信息");
  await confirm(page);
  const sheet = page.locator("#ep-wallet-pay");
  await sheet.waitFor();

  // Left in the middle of paying; another entrance shows it under 缴费中 (S1-14).
  const again = await inWallet(phone, gateway.simulator, "lisi", gateway.school + FINANCE);
  await openBills(again);
  assert.ok(!(await listed(again)).includes("学士学位外语培训费"), "not to be paid twice");
  await tab(again, "缴费中");
  assert.deepEqual(await listed(again), ["学士学位外语培训费"]);
  await everywhere(again, "tuition-bills-paying");
  await again.getByRole("button", { name: "取消订单" }).click();
  await says(again, ".notice", "订单已取消，未产生扣款");
  assert.ok((await listed(again)).includes("学士学位外语培训费"), "back under 待缴费");
  await picture(again, "tuition-bills-cancelled");
  // The sheet that was left open pays nothing: its trade was closed first.
  await sheet.click();
  await page.locator(".ep-wallet-sheet .ep-bad:not(:empty)").waitFor();

  // Ticked anew, with Alipay, in a browser on a phone.
  const other = await person(browser, { phone: true, userAgent: AGENTS.phone });
  const plain = await visit(other, gateway.school + FINANCE);
  await logIn(plain);
  await openBills(plain);
  await bill(plain, "学士学位外语培训费").check();
  await plain.getByRole("button", { name: "立即支付" }).click();
  await heading(plain, "请选择付款方式");
  await plain.getByRole("button", { name: "打开支付宝付款" }).click();
  await plain.getByRole("button", { name: "确认付款" }).click();
  await plain.locator("button.face:not([disabled])").first().click();
  await plain.locator("button[name=action][value=pay]").click();
  await says(plain, "h2", "支付成功");
  await plain.locator("a.button").click();
  await heading(plain, /已缴费，无需重复付款|缴费成功/);
  await plain.goto(gateway.school + FINANCE);
  await openBills(plain);
  await tab(plain, "已完成");
  const paid = plain.locator(".card", { hasText: "学士学位外语培训费" });
  await paid.filter({ hasText: "支付宝" }).waitFor();
  const office = await visit(other, `${gateway.school}/tuition/office`);
  await until("the university was told", async () => {
    await office.reload();
    return office.locator("tr", { hasText: "培训费" }).filter({ hasText: "已缴费" }).count();
  });
  innocent(phone, other);
});
