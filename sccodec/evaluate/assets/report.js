"use strict";

// Hover values: the title of each point, shown at once and beside the pointer.
const tip = document.getElementById("tip");
for (const circle of document.querySelectorAll(".plots circle")) {
  const title = circle.querySelector("title");
  const words = title.textContent;
  title.remove();
  circle.setAttribute("aria-label", words);
  circle.addEventListener("pointermove", (event) => {
    tip.textContent = words;
    tip.style.display = "block";
    tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8) + "px";
    tip.style.top = event.clientY + 14 + "px";
  });
  circle.addEventListener("pointerleave", () => { tip.style.display = "none"; });
}

// A click on a name, or Enter, takes its curve out of all plots, or puts it back.
for (const name of document.querySelectorAll(".plots [data-name]")) {
  const toggle = () => {
    const off = !name.classList.contains("off");
    for (const other of document.querySelectorAll(".plots [data-name]"))
      if (other.dataset.name === name.dataset.name) {
        other.classList.toggle("off", off);
        other.setAttribute("aria-pressed", !off);
      }
    for (const line of document.querySelectorAll(".plots [data-line]"))
      if (line.dataset.line === name.dataset.name) line.style.display = off ? "none" : "";
  };
  name.setAttribute("tabindex", "0");
  name.setAttribute("role", "button");
  name.setAttribute("aria-pressed", "true");
  name.addEventListener("click", toggle);
  name.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault(); // a space would scroll
    toggle();
  });
}

// Sliders: the left picture up to the bar, the right one beyond it.
for (const slider of document.querySelectorAll(".slider")) {
  const pictures = JSON.parse(slider.querySelector("script").textContent);
  const stage = slider.querySelector(".stage");
  const range = slider.querySelector("input");
  const sides = ["left", "right"].map((side) => ({
    image: slider.querySelector("img." + side),
    select: slider.querySelector("select." + side),
  }));
  const place = () => {
    sides[1].image.style.clipPath = `inset(0 0 0 ${range.value}%)`;
    slider.querySelector(".bar").style.left = range.value + "%";
  };
  const choose = (side) => {
    const chosen = pictures[side.select.value];
    side.image.src = chosen.data;
    side.image.alt = chosen.label;
  };
  for (const [n, side] of sides.entries()) {
    for (const [index, { label }] of pictures.entries())
      side.select.add(new Option(label, index));
    side.select.value = Math.min(n, pictures.length - 1);
    side.select.addEventListener("change", () => choose(side));
    choose(side);
  }
  range.addEventListener("input", place);
  const follow = (event) => {
    const box = stage.getBoundingClientRect();
    range.value = (100 * (event.clientX - box.left)) / box.width;
    place();
  };
  stage.addEventListener("pointerdown", follow);
  stage.addEventListener("pointermove", (event) => { if (event.buttons) follow(event); });
  place();
}
