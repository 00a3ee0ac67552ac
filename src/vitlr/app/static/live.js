// The camera's part of the page: shows the camera, sends frames one after the other, draws the answers.
(() => {
  "use strict";
  const WIDTH = 320; // pixels of a frame that is sent
  const PAUSE = 100; // milliseconds between two frames at least
  const visitor = (crypto.randomUUID ? crypto.randomUUID() : String(Math.random()).slice(2) + Date.now());
  const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
  let root, video, overlay, nameField, teachButton, startButton, attention;
  let running = false, held = false, taken = 0, pending = Promise.resolve();

  const part = (name) => root.querySelector("." + name);

  function say(text, bad = false) {
    const line = part("message");
    line.textContent = text;
    line.classList.toggle("bad", bad);
  }

  async function ask(path, body, type) {
    const reply = await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      headers: { "X-Vitlr": "1", ...(type ? { "Content-Type": type } : {}) },
      body,
    });
    let content = {};
    try { content = await reply.json(); } catch { /* reported below */ }
    if (!reply.ok) throw new Error(content.error || `the page's server answered ${reply.status}`);
    return content;
  }

  async function start() {
    if (!navigator.mediaDevices) {
      say("This browser allows the camera only on pages that are encrypted or on this machine; teach from files instead.", true);
      return;
    }
    startButton.disabled = true;
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 }, audio: false });
      video.srcObject = stream;
      await video.play();
      fit();
      stream.getVideoTracks()[0].addEventListener("ended", () => stop("The camera was disconnected. Connect it and start again.", true));
      running = true;
      part("hint").hidden = true;
      startButton.textContent = "Stop camera";
      teachButton.disabled = false;
      say("Give an object a name, show it, and hold the blue button.");
      loop();
    } catch (error) {
      say(`No camera: ${error.message || error.name}. Allow or connect one, or teach from files.`, true);
    } finally {
      startButton.disabled = false;
    }
  }

  function stop(text = "", bad = false) {
    running = false;
    letGo(true);
    if (video.srcObject) video.srcObject.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
    part("hint").hidden = false;
    clear();
    startButton.textContent = "Start camera";
    teachButton.disabled = true;
    say(text, bad);
  }

  function clear() { // no answer is better than an outdated one
    part("said").textContent = "";
    part("bars").replaceChildren();
    overlay.hidden = true;
  }

  function fit() { // the whole picture is shown, upright ones too, so that the map lies over what was looked at
    if (video.videoWidth) part("stage").style.aspectRatio = `${video.videoWidth} / ${video.videoHeight}`;
  }

  function frame() {
    const canvas = document.createElement("canvas");
    canvas.width = WIDTH;
    canvas.height = Math.round((WIDTH * video.videoHeight) / Math.max(1, video.videoWidth)) || 240;
    canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
    return new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.9));
  }

  async function loop() {
    while (running) {
      const began = performance.now();
      try {
        const picture = await frame();
        if (held) {
          pending = ask(`/live/frame?visitor=${visitor}`, picture, "image/jpeg");
          taken = (await pending).taken;
          part("counter").textContent = `${taken} frame${taken === 1 ? "" : "s"}`;
          part("counter").hidden = false;
        } else {
          show(await ask(`/live/answer?attention=${attention.checked ? 1 : 0}`, picture, "image/jpeg"));
        }
      } catch (error) {
        clear();
        say(error.message === "Failed to fetch" ? "The page's server does not answer. Is it still running?" : error.message, true);
        await sleep(1000);
      }
      await sleep(Math.max(5, PAUSE - (performance.now() - began)));
    }
  }

  function show(answer) {
    const said = part("said");
    said.textContent = answer.label ?? "";
    said.classList.toggle("unknown", answer.label === "unknown");
    part("bars").replaceChildren(...answer.probabilities.map(([name, share]) => {
      const bar = document.createElement("div");
      bar.className = "bar";
      for (const [kind, text] of [["name", name], ["track", ""], ["share", `${Math.round(100 * share)} %`]]) {
        const piece = document.createElement("div");
        piece.className = kind;
        piece.textContent = text;
        bar.append(piece);
      }
      const fill = document.createElement("div");
      fill.className = "fill";
      fill.style.width = `${100 * share}%`;
      bar.querySelector(".track").append(fill);
      return bar;
    }));
    overlay.hidden = !answer.attention;
    if (answer.attention) draw(answer.attention);
  }

  function draw(map) { // small squares, smoothed by the browser as it enlarges them
    const height = map.length, width = map[0].length;
    overlay.width = width;
    overlay.height = height;
    const pixels = new ImageData(width, height), values = map.flat(), least = Math.min(...values);
    values.forEach((value, index) => { // the least attended parts stay clear
      const v = Math.sqrt((value - least) / Math.max(1e-9, 1 - least)); // rollout is steep: a few patches hold most of it
      pixels.data.set([255, 90 + 140 * v, 0, 200 * v * v], 4 * index);
    });
    overlay.getContext("2d").putImageData(pixels, 0, 0);
  }

  function press(event) {
    event.preventDefault();
    if (!running || held) return;
    if (!nameField.value.trim()) {
      nameField.focus();
      say("Give the object a name first.", true);
      return;
    }
    taken = 0;
    held = true;
    teachButton.classList.add("held");
    say("Turn the object slowly. Release the button when it was seen from all sides.");
  }

  async function letGo(lost = false) {
    if (!held) return;
    held = false;
    const began = performance.now(), name = nameField.value.trim();
    teachButton.classList.remove("held");
    try { await pending; } catch { /* reported where it was sent */ }
    part("counter").hidden = true;
    if (lost) {
      ask(`/live/drop?visitor=${visitor}`, "{}", "application/json").catch(() => {});
      return;
    }
    try {
      let job = await ask(`/live/release?visitor=${visitor}`, JSON.stringify({ label: name }), "application/json");
      while (job.state === "waiting" || job.state === "learning") {
        say(`${name}: ${job.frames} frames ${job.state === "waiting" ? "wait to be learned" : "are being learned"} …`);
        await sleep(60);
        job = await ask(`/live/job?number=${job.number}`);
      }
      if (job.state === "failed") throw new Error(job.message);
      const seconds = ((performance.now() - began) / 1000).toFixed(1);
      say(`${name}: ${job.frames} frames learned in ${seconds} s. ${job.message}`);
      root.dataset.learned = String(1 + Number(root.dataset.learned || 0));
    } catch (error) {
      say(error.message, true);
    }
  }

  function setUp() {
    root = document.getElementById("live-root");
    if (!root || root.dataset.ready) return;
    root.dataset.ready = "1";
    video = root.querySelector("video");
    overlay = root.querySelector("canvas");
    nameField = root.querySelector("input[type=text]");
    teachButton = root.querySelector("button.teach");
    startButton = root.querySelector("button.start");
    attention = root.querySelector("input[type=checkbox]");
    video.addEventListener("resize", fit); // when a phone is turned
    startButton.addEventListener("click", () => (running ? stop() : start()));
    teachButton.addEventListener("pointerdown", press);
    for (const kind of ["pointerup", "pointercancel"]) window.addEventListener(kind, () => letGo());
    teachButton.addEventListener("keydown", (event) => { if ((event.key === " " || event.key === "Enter") && !event.repeat) press(event); });
    teachButton.addEventListener("keyup", (event) => { if (event.key === " " || event.key === "Enter") letGo(); });
    window.addEventListener("blur", () => letGo());
  }
  setInterval(setUp, 200); // Gradio builds the page, and builds it again after a reconnection
})();
