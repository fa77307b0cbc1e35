// Keeps the list fresh while the tab is visible and nobody is typing.
const live = document.getElementById("live");
async function refresh() {
  if (document.hidden || document.activeElement?.name === "q") return;
  const answer = await fetch(location.href, { headers: { accept: "text/html" } });
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("live");
  if (fresh && fresh.innerHTML !== live.innerHTML) live.replaceChildren(...fresh.childNodes);
}
if (live) setInterval(() => refresh().catch(() => {}), 1000);
