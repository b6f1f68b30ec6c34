// The gateway is killed while a page is open: the page says so, comes back, and nothing is lost.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  confirm, folder, freePort, heading, innocent, inWallet, launch, order, pay, person, picture, remove, says,
  serve, simulate, truth, visit,
} from "./harness.mjs";

let browser;
let providers;
let gateway;
let place;
let again;
before(async () => {
  place = await folder();
  [browser, providers] = await Promise.all([launch(), simulate(place)]);
  const env = {
    ENROLLPAY__SERVER__LISTEN: `127.0.0.1:${await freePort()}`,
    ENROLLPAY__DEMO__LISTEN: `127.0.0.1:${await freePort()}`,
  };
  again = () => serve({ args: ["--config", providers.accounts], cwd: place, env });
  gateway = await again();
});
after(async () => {
  await Promise.all([browser?.close(), gateway?.stop()]);
  await providers?.stop();
  await remove(place);
});

test("kill -9: the countdown goes on from the server's truth, and the payment counts once", async () => {
  const desk = await person(browser);
  const phone = await person(browser, { phone: true });
  const { cashier, registration } = await order(gateway);
  const page = await visit(desk, cashier);
  await page.locator("#qr-path:not([d=''])").waitFor();
  const end = await page.locator("#until").innerText();
  await gateway.stop("SIGKILL");
  await page.locator("#query button").click();
  await heading(page, "网络已断开");
  await picture(page, "cashier-gateway-gone");
  gateway = await again();
  await heading(page, "请扫码支付");
  assert.equal(await page.locator("#until").innerText(), end, "the same end");
  const { remaining_ms: left, attempt } = await truth(cashier);
  assert.equal(attempt, 1, "the same code");
  const shown = Number(await page.locator("#seconds").innerText());
  assert.ok(Math.abs(shown - left / 1000) <= 1.5, `shows ${shown}, server says ${left / 1000}`);

  // Killed again between the claim and the payment: the claim stands, the trade is there.
  const claimed = await inWallet(phone, providers.simulator, "zhangsan", cashier);
  await claimed.locator("#ways button").first().click();
  await heading(claimed, "请确认缴费信息");
  await heading(page, "已扫码，请在手机上确认付款");
  await confirm(claimed);
  await gateway.stop("SIGKILL");
  await claimed.locator("#ep-wallet-pay").click();
  await says(claimed, ".ep-wallet-sheet h2", "支付成功");
  gateway = await again();
  await claimed.locator("#ep-wallet-done").click();
  await heading(page, "缴费成功", 30_000);
  await heading(claimed, "已缴费，无需重复付款", 30_000);
  await page.goto(registration);
  await says(page, ".state", "已缴费");
  innocent(phone);
});
