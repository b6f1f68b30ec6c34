// A self-study examination, by the notes of its manual, where the other files do not show them already: the whole way
// and 已扫码 (newcomer), the second scan and 查询缴费结果 (codes), the end of a code and 重新生成 (time).
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  confirm, content, control, heading, innocent, launch, pay, person, picture, says, scan, serve, truth, until, visit,
} from "./harness.mjs";

let browser;
let gateway;
let levers;
before(async () => {
  [browser, gateway] = await Promise.all([launch(), serve()]);
  levers = control(gateway.simulator);
});
after(() => Promise.all([browser?.close(), gateway?.stop()]));

/** A new registration's page at the office. */
async function register(desk) {
  const page = await visit(desk, `${gateway.school}/selfstudy`);
  await page.getByRole("button", { name: "新的报考" }).click();
  await says(page, ".state", "未缴费");
  return page;
}

/** 点击缴费, up to the code. */
async function toCashier(page) {
  await page.getByRole("button", { name: "点击缴费" }).click();
  await page.locator("#qr-path:not([d=''])").waitFor();
}

const code = (page) => page.locator("#qr-path").getAttribute("d");

test("who registers, for what and how much stands on both pages; no way past it (S3-5 to S3-8)", async () => {
  const desk = await person(browser);
  const page = await register(desk);
  for (const [label, value] of [
    ["身份证号", "6*****"], ["联系电话", "1*****"], ["专业", "工商企业管理"], ["考区", "乌鲁木齐"],
    ["缴费方式", "个人缴费"], ["缴费地点", "网上缴费"], ["收费金额", "140"],
  ]) {
    await says(page, "dl.grid > div", new RegExp(`${label}[^]*${value.replaceAll("*", "\\*")}`));
  }
  assert.equal(await page.locator("tbody tr").count(), 4);
  await toCashier(page);
  for (const value of ["工商企业管理", "乌鲁木齐", "个人缴费", "网上缴费"]) await says(page, ".facts", value);
  for (const line of [/00024.*普通逻辑.*35\.00/s, /00144.*企业管理概论.*2021年04月11日 下午.*35\.00/s]) {
    await says(page, ".items tbody tr", line);
  }
  await says(page, ".items tfoot", "140.00");
  await says(page, ".caption", "支付宝 / 微信");
  innocent(desk);
});

test("until it is paid the courses may change: the old order is closed first (S3-3, S3-4)", async () => {
  const desk = await person(browser);
  const phone = await person(browser, { phone: true });
  const page = await register(desk);
  const first = page.url();
  await toCashier(page);
  const cashier = page.url();
  const claimed = await scan(phone, page, "zhangsan");
  await heading(claimed, "请确认缴费信息");
  await confirm(claimed);

  const office = await visit(desk, first);
  await office.getByRole("button", { name: "修改报考" }).click();
  await says(office, ".state", "未缴费");
  assert.notEqual(office.url(), first);
  await picture(office, "selfstudy-modified");
  await heading(page, "订单已取消");
  // The sheet that was open pays nothing any more.
  await claimed.locator("#ep-wallet-pay").click();
  await claimed.locator(".ep-wallet-sheet .ep-bad:not(:empty)").waitFor();
  assert.equal((await truth(cashier)).state, "cancelled");
  await office.goto(first);
  await says(office, ".state", "已关闭");
  assert.equal(await office.getByRole("button", { name: "点击缴费" }).count(), 0);

  // Its successor is paid; from then on a form that was open before changes nothing.
  await office.getByRole("link", { name: /^ZK/ }).first().click();
  const second = office.url();
  await toCashier(office);
  const stale = await visit(desk, second);
  const paying = await scan(phone, office, "wangwu");
  await heading(paying, "请确认缴费信息");
  await confirm(paying);
  await pay(paying);
  await heading(office, "缴费成功");
  const refused = await stale.evaluate(async () => {
    const form = document.querySelector("form[action$='/modify']");
    const answer = await fetch(form.action, { method: "POST" });
    return { status: answer.status, text: await answer.text() };
  });
  assert.match(refused.text, /already_paid|已缴费/);
  await stale.goto(second);
  await says(stale, ".state", "已缴费");
  assert.equal(await stale.getByRole("button", { name: "修改报考" }).count(), 0);
  innocent(desk, phone);
});

test("two tabs follow one order, and a code that was replaced is covered in both (S3-14)", async () => {
  const desk = await person(browser);
  const phone = await person(browser, { phone: true });
  const page = await register(desk);
  const registration = page.url();
  await toCashier(page);
  const other = await visit(desk, registration);
  await toCashier(other);
  assert.equal(other.url(), page.url(), "点击缴费 twice is one order");
  const old = await content(page);
  assert.equal(await content(other), old, "and one code");
  const claimed = await scan(phone, page, "lisi");
  await heading(claimed, "请确认缴费信息");
  for (const tab of [page, other]) {
    await heading(tab, "已扫码，请在手机上确认付款");
    assert.equal(await code(tab), "", "covered");
  }
  await other.getByRole("button", { name: "不是我扫的？重新生成" }).click();
  await other.getByRole("button", { name: "确定", exact: true }).click();
  await heading(other, "请扫码支付");
  await until("the first tab has let the old code go", async () => {
    const shown = await code(page);
    return shown ? (await content(page)) !== old : /旧二维码已停用/.test(await page.locator("#heading").innerText());
  });
  await picture(page, "selfstudy-other-tab");
  assert.notEqual(await content(other), old);
  // Paid from one tab's code, both say so.
  const next = await person(browser, { phone: true });
  const paying = await scan(next, other, "zhaoliu");
  await heading(paying, "请确认缴费信息");
  await confirm(paying);
  await pay(paying);
  for (const tab of [page, other]) await heading(tab, "缴费成功");
  innocent(desk, phone, next);
});

test("with every notice of the provider lost: nobody presses, and it is paid; the office may ask too (S3-12, S3-13)", async () => {
  await levers.fault({ operation: "wechat.notice", fault: "lost", count: null });
  try {
    const desk = await person(browser);
    const phone = await person(browser, { phone: true });
    const page = await register(desk);
    const registration = page.url();
    const office = await visit(desk, registration);
    await toCashier(page);
    await office.reload();
    await office.getByRole("button", { name: "更新缴费结果" }).click();
    await says(office, ".notice", /暂未查到付款记录（\d\d:\d\d:\d\d 查询）/);
    await picture(office, "selfstudy-not-yet");
    const claimed = await scan(phone, page, "zhangsan");
    await heading(claimed, "请确认缴费信息");
    await confirm(claimed);
    // The wallet is put away before it can tell the page.
    await claimed.locator("#ep-wallet-pay").click();
    await says(claimed, ".ep-wallet-sheet h2", "支付成功");
    await claimed.close();
    await heading(page, "缴费成功", 30_000);
    await office.goto(registration);
    await office.getByRole("button", { name: "更新缴费结果" }).click();
    await says(office, ".notice", "已查到缴费记录");
    await says(office, ".state", "已缴费");
    await picture(office, "selfstudy-asked");
    assert.ok((await levers.rules())[0].hits >= 1, "the notice was lost");
    innocent(desk, phone);
  } finally {
    await levers.heal();
  }
});
