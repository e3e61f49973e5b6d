"use strict";
// Latent maps: show the level whose sampled point is nearest to the pointer.
for (const panel of document.querySelectorAll(".latent")) {
  const data = JSON.parse(panel.querySelector("script").textContent);
  const preview = panel.querySelector(".preview");
  if (!data.points.length || !preview) continue;
  const image = preview.querySelector("div");
  const words = preview.querySelector("p");
  const maps = [...panel.querySelectorAll(".map")];
  const show = (index) => {
    const point = data.points[index];
    const across = Math.max(1, data.columns - 1), down = Math.max(1, data.rows - 1);
    image.style.backgroundImage = `url(${data.sheet})`;
    image.style.backgroundSize = `${100 * data.columns}% ${100 * data.rows}%`;
    image.style.backgroundPosition =
      `${(100 * (index % data.columns)) / across}% ${(100 * Math.floor(index / data.columns)) / down}%`;
    words.textContent = point.caption;
    for (const map of maps) {
      const ring = map.querySelector(".ring");
      ring.setAttribute("cx", point.x);
      ring.setAttribute("cy", point.y);
      ring.setAttribute("visibility", "visible");
    }
  };
  const follow = (event) => {
    const map = event.currentTarget;
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(map.getScreenCTM().inverse());
    let best = 0, distance = Infinity;
    data.points.forEach((point, index) => {
      const d = (point.x - at.x) ** 2 + (point.y - at.y) ** 2;
      if (d < distance) [best, distance] = [index, d];
    });
    show(best);
  };
  for (const map of maps) {
    map.addEventListener("pointermove", follow);
    map.addEventListener("pointerdown", follow);
  }
  show(data.points.length - 1);
}
// Dreams: one step of all pictures at a time, by slider or playing; green while fed, red while dreaming.
for (const dream of document.querySelectorAll(".dream")) {
  const steps = Number(dream.dataset.steps), context = Number(dream.dataset.context);
  const slider = dream.querySelector("input"), button = dream.querySelector("button");
  const words = dream.querySelector("output"), screens = [...dream.querySelectorAll(".screen")];
  let timer = null;
  const show = () => {
    const step = Number(slider.value), dreaming = step >= context;
    dream.classList.toggle("dreaming", dreaming);
    dream.classList.toggle("fed", !dreaming);
    for (const screen of screens) {
      screen.style.backgroundSize = `${100 * steps}% 100%`;
      screen.style.backgroundPosition = `${(100 * step) / Math.max(1, steps - 1)}% 0`;
    }
    words.textContent = dreaming ? `dreaming, ${step - context + 1} ahead` : `fed, frame ${step + 1} of ${context}`;
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    button.textContent = "Play";
  };
  button.addEventListener("click", () => {
    if (timer) return stop();
    button.textContent = "Pause";
    timer = setInterval(() => {
      slider.value = (Number(slider.value) + 1) % steps;
      show();
    }, 80);
  });
  slider.addEventListener("input", () => {
    stop();
    show();
  });
  show();
}
