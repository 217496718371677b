// What a browser does by itself: step through the denoising, show a point's outputs.
(() => {
  const show = (answers, step) => {
    const slider = answers.querySelector("[data-step]");
    slider.value = step;
    answers.style.setProperty("--step", step - 1);
    answers.querySelector("[data-now]").textContent = `${step} of ${slider.max}`;
  };
  const play = (answers) => {
    const last = Number(answers.querySelector("[data-step]").max);
    let step = 1;
    clearInterval(answers.playing);
    show(answers, step);
    answers.playing = setInterval(() => {
      if (step >= last || !answers.isConnected) return clearInterval(answers.playing);
      show(answers, ++step);
    }, 350);
  };
  // Runs by the names of their folders: Gradio redraws in place, so the element that was one run's
  // mark may be another's a moment later.
  let focused = null, pointed = null;
  const markOf = (run) =>
    [...document.querySelectorAll("#curve .mark")].find((one) => one.dataset.run === run);
  const reveal = (mark) => {
    pointed = mark.dataset.run;
    const curve = mark.closest(".curve");
    curve.querySelectorAll("[data-of]").forEach((one) => {
      const hide = one.dataset.of !== mark.dataset.show;
      if (one.hidden !== hide) one.hidden = hide; // else we would hear of it again and again
    });
    curve.querySelectorAll(".mark").forEach((one) => one.classList.toggle("on", one === mark));
  };
  const point = (event) => {
    const mark = event.target.closest?.("[data-show]");
    if (mark) reveal(mark);
  };
  // What the server redraws: the curve's pictures that were looked at, and the mark that had the
  // focus.
  const redrawn = () => {
    const active = document.activeElement, looked = pointed, mark = markOf(focused);
    if (mark && mark !== active && (active === document.body || active.matches("#curve .mark"))) {
      mark.focus({ preventScroll: true }); // which is pointing too
    }
    if (markOf(looked)) reveal(markOf(looked));
  };
  new MutationObserver(redrawn).observe(document.documentElement, {
    childList: true, subtree: true, attributeFilter: ["class", "data-run", "hidden"],
  });
  for (const kind of ["focusin", "pointerdown"]) {
    document.addEventListener(kind, (event) => {
      focused = event.target.closest?.("#curve .mark")?.dataset.run;
    });
  }
  document.addEventListener("input", (event) => {
    if (event.target.matches("[data-step]")) {
      const answers = event.target.closest(".answers");
      clearInterval(answers.playing);
      show(answers, Number(event.target.value));
    }
  });
  // The address names what is looked at: a reload, or a link that is passed on, leads back to it.
  const remember = () => {
    const address = new URL(location);
    const part = document.querySelector("#parts [role=tab][aria-selected=true]");
    const n = document.querySelector("#n input:checked");
    const prompt = document.querySelector("#prompt :is(input, textarea)");
    if (part) address.searchParams.set("part", part.textContent.trim());
    if (prompt) address.searchParams.set("prompt", prompt.value.slice(0, 1000));
    if (n) address.searchParams.set("n", n.value);
    history.replaceState(null, "", address);
  };
  const asked = () => {
    remember();
    if (innerWidth < 600) document.querySelector("#answer").scrollIntoView({ behavior: "smooth" });
  };
  document.addEventListener("click", (event) => {
    const pressed = (what) => event.target.closest?.(what);
    if (pressed("[data-play]")) play(pressed(".answers"));
    if (pressed(".ideas button, #ask")) setTimeout(asked, 200);
    if (pressed("#parts [role=tab]")) setTimeout(remember, 200);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.closest?.("#prompt")) setTimeout(asked, 200);
  });
  // The row of tabs is measured before our style is there: measure it once more.
  for (const later of [300, 1500]) {
    setTimeout(() => window.dispatchEvent(new Event("resize")), later);
  }
  for (const kind of ["pointerover", "focusin", "click"]) document.addEventListener(kind, point);
})();
