// A payer's list of bills: the sum follows the ticks. Without it the page gives the sum of all.
(() => {
  "use strict";
  const line = document.getElementById("sum");
  if (!line) return;
  const [label, amount] = line.children;
  const boxes = [...document.querySelectorAll("input[name=bill]")];
  const count = () => {
    const ticked = boxes.filter((box) => box.checked);
    const fen = ticked.reduce((sum, box) => sum + Number(box.dataset.fen), 0);
    label.textContent = line.dataset.label.replace("{count}", ticked.length);
    amount.textContent = `¥${Math.floor(fen / 100)}.${String(fen % 100).padStart(2, "0")}`;
  };
  document.addEventListener("change", count);
  // A browser that comes back ticks again what was ticked.
  addEventListener("pageshow", count);
  count();
})();
