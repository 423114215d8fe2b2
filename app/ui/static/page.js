// What the templates cannot do: copy to the clipboard, say what changed, show that the service is away.
"use strict";

const announce = () => {
  const live = document.getElementById("live");
  const said = document.getElementById("announce");
  if (live && said && said.textContent !== live.dataset.announce) said.textContent = live.dataset.announce;
};

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const label = button.firstChild;
  const before = button.dataset.label || label.textContent;
  button.dataset.label = before;
  try {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent.trim());
    label.textContent = "Copied";
  } catch {
    // No clipboard without a secure context: select the text, so that a key press copies it.
    getSelection().selectAllChildren(document.getElementById(button.dataset.copy));
    label.textContent = "Selected";
  }
  setTimeout(() => { label.textContent = before; }, 1500);
});

const offline = (away) => { document.getElementById("offline").hidden = !away; };
document.addEventListener("htmx:sendError", () => offline(true));
document.addEventListener("htmx:responseError", (event) => {
  // A session that has ended, or a job that is gone: the page itself says so.
  if ([401, 403, 404].includes(event.detail.xhr.status)) location.reload();
  else offline(true);
});
document.addEventListener("htmx:afterSwap", () => { offline(false); announce(); });
