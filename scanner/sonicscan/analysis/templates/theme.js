// Light or dark: what the system prefers, until the reader chooses.
const root = document.documentElement;
const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");

function setTheme(dark) {
  root.classList.toggle("dark", dark);
  root.style.colorScheme = dark ? "dark" : "light";
  document.dispatchEvent(new Event("themechange"));
}

prefersDark.addEventListener("change", (event) => setTheme(event.matches));
document.getElementById("theme").addEventListener("click", () => setTheme(!root.classList.contains("dark")));
setTheme(prefersDark.matches);
