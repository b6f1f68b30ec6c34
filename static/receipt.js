// A receipt's page: the one thing that needs a script is printing it.
(() => {
  "use strict";
  document.documentElement.classList.add("live");
  const button = document.getElementById("print");
  if (button) button.addEventListener("click", () => print());
})();
