// Drives the page as its user does, and reads what it shows from the pixels of its canvases.
window.frameCheck = (() => {
  const BITS = 12, BLOCK = 24, OVERLAY_TOP = 96;
  const stage = () => document.querySelector(".stage");
  const player = () => document.getElementById("player");

  function bits(canvas, top, scaleX, scaleY, isSet) {
    const context = canvas.getContext("2d");
    let number = 0;
    for (let bit = 0; bit < BITS; bit++) {
      const x = Math.round((bit * BLOCK + BLOCK / 2) * scaleX);
      const y = Math.round((top + BLOCK / 2) * scaleY);
      const { data } = context.getImageData(x - 1, y - 1, 3, 3);
      let sum = 0;
      for (let i = 0; i < data.length; i += 4) sum += isSet(data, i);
      if (sum > data.length / 8) number |= 1 << bit;
    }
    return number;
  }

  /** What is on the stage now: row, number in the picture (null: none), number in the boxes. */
  function look() {
    const [below, above] = stage().querySelectorAll("canvas");
    const isWhite = (data, i) => (data[i] + data[i + 1] + data[i + 2] > 300 ? 1 : 0);
    const number = bits(below, 0, 1, 1, isWhite);
    const isWhole = (number ^ bits(below, BLOCK, 1, 1, isWhite)) === 2 ** BITS - 1;
    const isOpaque = (data, i) => (data[i + 3] > 100 ? 1 : 0);
    const [x, y] = [above.width / below.width, above.height / below.height];
    return {
      position: Number(stage().dataset.position),
      frame: Number(stage().dataset.frame),
      picture: isWhole ? number : null,
      boxes: bits(above, OVERLAY_TOP, x, y, isOpaque),
      way: player().dataset.way,
      note: document.querySelector(".hud-note").textContent,
      why: document.querySelector(".stage-note").textContent,
    };
  }

  async function until(condition, what) {
    const end = performance.now() + 300000;
    while (!condition()) {
      if (performance.now() > end) throw new Error(`still not: ${what}; ${JSON.stringify(look())}`);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }

  const isAt = (position) =>
    stage()?.dataset.position === String(position) && !player().hasAttribute("aria-busy");

  const DO = {
    key: (key) => {
      document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
    },
    seek: (value) => {
      const seek = document.querySelector(".seek");
      seek.value = value;
      seek.dispatchEvent(new Event("input", { bubbles: true }));
    },
    // A link to what the address says, which is written a moment later, would be none.
    link: async (hash) => {
      await until(() => location.hash !== `#${hash}`, "the address to be written");
      location.hash = hash;
    },
  };

  /** Do each step, wait for its row, and look. */
  async function visit(steps) {
    const seen = [];
    for (const [how, value, position] of steps) {
      await DO[how](value);
      await until(() => isAt(position), `row ${position} by ${how} ${value}`);
      seen.push(look());
    }
    return seen;
  }

  /** Play from the first row to the last; return each thing that was shown. */
  async function play(speed, last) {
    await visit([["key", "Home", 0]]);
    const select = document.querySelector(".controls select");
    select.value = String(speed);
    select.dispatchEvent(new Event("change", { bubbles: true }));
    const seen = [];
    let before = "";
    let isOn = true;
    const watch = () => {
      const now = look();
      const text = JSON.stringify(now);
      if (text !== before) seen.push(now);
      before = text;
      if (isOn) requestAnimationFrame(watch);
    };
    requestAnimationFrame(watch);
    DO.key(" ");
    await until(() => isAt(last), `row ${last} by playing`);
    await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
    isOn = false;
    return seen;
  }

  return { look, visit, play, isReady: () => !!stage()?.dataset.frame && !player().hasAttribute("aria-busy") };
})();
