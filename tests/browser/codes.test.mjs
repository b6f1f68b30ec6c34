// One code, one scan: the second phone, giving up, a new code, the saved picture, and the question
// 查询缴费结果 when a notice was lost.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  confirm, content, control, heading, innocent, launch, order, pay, person, picture, says, scan, serve,
  truth, until, visit,
} from "./harness.mjs";

let browser;
let gateway;
let levers;
before(async () => {
  [browser, gateway] = await Promise.all([launch(), serve()]);
  levers = control(gateway.simulator);
});
after(() => Promise.all([browser?.close(), gateway?.stop()]));

/** A cashier at a desk, with its code on show. */
async function open(options = {}) {
  const desk = await person(browser, options);
  const { cashier, registration } = await order(gateway);
  const page = await visit(desk, cashier);
  await page.locator("#qr-path:not([d=''])").waitFor();
  return { desk, page, cashier, registration };
}

const phones = (count) =>
  Promise.all(Array.from({ length: count }, () => person(browser, { phone: true })));

test("a second phone is told that the code was scanned, and learns nothing else", async () => {
  const { desk, page } = await open();
  const [first, second] = await phones(2);
  const link = await page.locator("#demo").getAttribute("href");
  const claimed = await scan(first, page, "zhangsan");
  await heading(claimed, "请确认缴费信息");
  const late = await visit(second, link);
  await late.locator("button[name=user][value=wangwu]").click();
  await heading(late, "二维码已被扫描");
  await says(late, "#text", "请在原页面重新生成");
  const told = await late.locator("main").innerText();
  for (const secret of ["测*", "140.00", "普通逻辑", "ZK2021"]) assert.ok(!told.includes(secret), secret);
  assert.equal(await late.locator("main a").count(), 0, "no way to somebody else's page");
  await picture(late, "phone-scanned-by-other");
  // The first phone may come back as often as it likes.
  await claimed.reload();
  await heading(claimed, "请确认缴费信息");
  innocent(desk, first, second);
});

test("two phones at once: one has it", async () => {
  const { page } = await open();
  const [first, second] = await phones(2);
  const pages = await Promise.all([scan(first, page, "zhangsan"), scan(second, page, "wangwu")]);
  const found = await Promise.all(
    pages.map(async (one) => (await heading(one, /请确认缴费信息|二维码已被扫描/)).innerText()),
  );
  assert.deepEqual(found.sort(), ["二维码已被扫描", "请确认缴费信息"].sort());
});

test("given up on the phone, a new code starts and the old one stays dead", async () => {
  const { desk, page } = await open();
  const [first, second] = await phones(2);
  const link = await page.locator("#demo").getAttribute("href");
  const claimed = await scan(first, page, "lisi");
  await heading(claimed, "请确认缴费信息");
  await heading(page, "已扫码，请在手机上确认付款");
  await claimed.getByRole("button", { name: "放弃并释放二维码" }).click();
  await heading(claimed, "已放弃付款");
  await picture(claimed, "phone-released");
  await heading(page, "手机端已放弃付款");
  await picture(page, "cashier-released");
  await page.getByRole("button", { name: "重新生成二维码" }).click();
  await heading(page, "请扫码支付");
  assert.notEqual(await content(page), new URL(link).searchParams.get("scan"));
  const old = await visit(second, link);
  await old.locator("button[name=user][value=zhangsan]").click();
  await heading(old, "已放弃付款");
  assert.equal(await old.getByRole("button", { name: "确认付款" }).count(), 0);
  innocent(desk, first, second);
});

test("a new code while somebody may be paying: only after asking, and the old trade is closed", async () => {
  const { desk, page, cashier } = await open();
  const [first] = await phones(1);
  const link = await page.locator("#demo").getAttribute("href");
  const claimed = await scan(first, page, "zhangsan");
  await heading(claimed, "请确认缴费信息");
  await confirm(claimed);
  await heading(page, "已扫码，请在手机上确认付款");
  const mine = page.getByRole("button", { name: "不是我扫的？重新生成" });
  await mine.click();
  await says(page, "#ask", "手机上可能正在付款");
  await picture(page, "cashier-ask");
  await page.getByRole("button", { name: "再等等" }).click();
  await page.locator("#ask").waitFor({ state: "hidden" });
  assert.equal((await truth(cashier)).state, "scanned", "nothing happened yet");
  await mine.click();
  await page.getByRole("button", { name: "确定", exact: true }).click();
  await heading(page, "请扫码支付");
  assert.equal((await truth(cashier)).attempt, 2);
  assert.notEqual(await content(page), new URL(link).searchParams.get("scan"));
  // The wallet refuses: its trade was closed before the new code started.
  await claimed.locator("#ep-wallet-pay").click();
  await claimed.locator(".ep-wallet-sheet .ep-bad:not(:empty)").waitFor();
  await picture(claimed, "phone-refused");
  assert.equal((await truth(cashier)).state, "awaiting");
  innocent(desk, first);
});

test("cancelled on the wallet's sheet, the same person continues and pays", async () => {
  const { page, cashier } = await open();
  const [phone] = await phones(1);
  const claimed = await scan(phone, page, "zhaoliu");
  await heading(claimed, "请确认缴费信息");
  await confirm(claimed);
  await claimed.locator("#ep-wallet-poor").click();
  await says(claimed, ".ep-wallet-sheet .ep-bad", /./);
  await claimed.locator("#ep-wallet-cancel").click();
  await heading(claimed, "尚未付款，可重试");
  await picture(claimed, "phone-unpaid");
  await claimed.getByRole("button", { name: "继续支付" }).click();
  await pay(claimed);
  await heading(claimed, "已缴费，无需重复付款");
  await heading(page, "缴费成功");
  assert.equal((await truth(cashier)).state, "paid");
});

test("the saved picture is the code on show", async () => {
  const { desk, page } = await open();
  const side = Number((await page.locator("#qr").getAttribute("viewBox")).split(" ")[2]);
  const [download] = await Promise.all([page.waitForEvent("download"), page.locator("#save").click()]);
  assert.match(download.suggestedFilename(), /^ZK.*\.png$/);
  const stream = await download.createReadStream();
  const parts = [];
  for await (const part of stream) parts.push(part);
  const bytes = Buffer.concat(parts);
  assert.ok(bytes.length < 40_000, `${bytes.length} bytes`);
  const path = await page.locator("#qr-path").getAttribute("d");
  // Both are painted and compared module by module, on a page whose policy allows it.
  const blank = await desk.newPage();
  const seen = await blank.evaluate(
    async ({ data, path, side }) => {
      const image = new Image();
      image.src = `data:image/png;base64,${data}`;
      await image.decode();
      const paint = (width, height, draw) => {
        const canvas = document.createElement("canvas");
        canvas.width = width;
        canvas.height = height;
        const context = canvas.getContext("2d", { willReadFrequently: true });
        context.fillStyle = "#fff";
        context.fillRect(0, 0, width, height);
        draw(context);
        return (x, y) => context.getImageData(x, y, 1, 1).data[0] < 128;
      };
      const scale = Math.floor((image.width - 50) / side);
      const left = Math.floor((image.width - scale * side) / 2);
      const picture = paint(image.width, image.height, (to) => to.drawImage(image, 0, 0));
      const shown = paint(side * 4, side * 4, (to) => {
        to.scale(4, 4);
        to.fillStyle = "#000";
        to.fill(new Path2D(path));
      });
      let dark = 0;
      let different = 0;
      for (let y = 0; y < side; y += 1) {
        for (let x = 0; x < side; x += 1) {
          const here = shown(x * 4 + 2, y * 4 + 2);
          dark += here;
          different += here !== picture(left + x * scale + scale / 2, 25 + y * scale + scale / 2);
        }
      }
      return { width: image.width, height: image.height, dark, different };
    },
    { data: bytes.toString("base64"), path, side },
  );
  assert.deepEqual([seen.width, seen.height, seen.different], [750, 1000, 0]);
  assert.ok(seen.dark > 300, `${seen.dark} dark modules`);
});

test("a lost notice: 查询缴费结果 finds the payment", async () => {
  await levers.fault({ operation: "wechat.notice", fault: "lost" });
  try {
    const { page } = await open();
    const [phone] = await phones(1);
    const ask = page.locator("#query button");
    await ask.click();
    await says(page, "#answer", /暂未查到付款记录（\d\d:\d\d:\d\d 查询）/);
    await picture(page, "cashier-answer-unpaid");
    const claimed = await scan(phone, page, "zhangsan");
    await heading(claimed, "请确认缴费信息");
    await confirm(claimed);
    // Nothing else asks the provider while this phone looks away.
    await claimed.locator("#ep-wallet-pay").click();
    await says(claimed, ".ep-wallet-sheet h2", "支付成功");
    await ask.click();
    await heading(page, "缴费成功");
    await says(page, "#answer", "已查到付款");
    await until("the notice was lost", async () => (await levers.rules())[0].hits >= 1);
  } finally {
    await levers.heal();
  }
});

test("cancelled at the cashier: the order is closed and says so", async () => {
  const { page, registration } = await open();
  await page.locator("#cancel summary").click();
  await page.locator("#cancel button").click();
  await heading(page, "订单已取消");
  await picture(page, "cashier-cancelled");
  await page.goto(registration);
  await says(page, ".state", /已取消|已关闭|cancelled|closed/i);
});
