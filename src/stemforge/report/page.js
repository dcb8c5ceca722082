"use strict";

// The player of the lanes below `root`, at a time in seconds. What it returns stops it for good, and gives its time.
const player = (root, position = 0) => {
  const one = (selector, within = root) => within.querySelector(selector);
  const all = (selector, within = root) => [...within.querySelectorAll(selector)];
  const seconds = Number(root.dataset.seconds), first = Number(root.dataset.first);
  const near = root.dataset.sounds === "near";  // a server has them, that takes no time to send them
  const closing = new AbortController();
  const lanes = all(".lane").map((node) => ({
    node,
    group: Number(node.dataset.group),
    key: node.dataset.key,
    audio: one("audio", node),
    solo: one(".solo", node),
    mute: one(".mute", node),
    listen: one(".listen", node),
  }));
  const playing = lanes.filter((lane) => lane.audio);
  if (!playing.length) return () => 0;
  const seek = one(".seek"), now = one(".now"), play = one(".play"), status = one(".status");

  // Sounds of the page, decoded: one clock for all of them, to the sample.
  class Decoded {
    constructor() {
      this.context = new AudioContext();
      this.sources = [];
      this.gains = playing.map(() => {
        const gain = this.context.createGain();
        gain.gain.value = 0;
        gain.connect(this.context.destination);
        return gain;
      });
    }
    async load() {
      this.buffers = await Promise.all(playing.map(async (lane) =>
        this.context.decodeAudioData(await this.bytes(lane.audio.src))));
    }
    async bytes(address) {
      if (!address.startsWith("data:")) {
        const answer = await fetch(address);
        if (!answer.ok) throw new Error(answer.statusText);
        return answer.arrayBuffer();
      }
      const text = atob(address.slice(address.indexOf(",") + 1));
      return Uint8Array.from(text, (letter) => letter.charCodeAt(0)).buffer;
    }
    close() { this.context.close(); }
    async start(at) {
      this.context.resume();
      const when = this.context.currentTime + 0.03;
      this.sources = this.buffers.map((buffer, number) => {
        const source = this.context.createBufferSource();
        source.buffer = buffer;
        source.connect(this.gains[number]);
        source.start(when, Math.min(at, buffer.duration));
        return source;
      });
      this.zero = when - at;
    }
    stop() {
      for (const source of this.sources) source.stop();
      this.sources = [];
    }
    time() { return Math.max(0, this.context.currentTime - this.zero); }
    level(number, value) { this.gains[number].gain.setTargetAtTime(value, this.context.currentTime, 0.008); }
  }

  // Players of long songs: each has its own clock, the first leads and the others are drawn to it.
  class Players {
    constructor() { this.players = playing.map((lane) => lane.audio); }
    async load() {}
    async start(at) {
      await Promise.all(this.players.map(async (player) => {
        player.currentTime = at;
        await player.play();
      }));
      this.timer = setInterval(() => this.align(), 200);
    }
    align() {
      const time = this.time();
      for (const player of this.players.slice(1)) {
        const late = time - player.currentTime;
        if (Math.abs(late) > 0.25) player.currentTime = time;
        player.playbackRate = Math.abs(late) < 0.005 ? 1 : 1 + Math.max(-0.04, Math.min(0.04, late));
      }
    }
    stop() {
      clearInterval(this.timer);
      for (const player of this.players) player.pause();
    }
    close() {}
    time() { return this.players[0].currentTime; }
    level(number, value) { this.players[number].muted = !value; }
  }

  const inside = near || playing.every((lane) => lane.audio.src.startsWith("data:"));
  const most = matchMedia("(pointer: coarse)").matches ? 2e8 : 9e8;  // bytes of decoded sound that a device bears
  const small = seconds * playing.length * 48000 * 2 * 4 < most;
  let engine = null, loading = null;
  let wanted = false, running = false, turns = 0, next = 0;
  let group = Number(root.dataset.group), previous = playing.find((lane) => lane.group !== group)?.group ?? group;
  const soloed = new Set(), muted = new Set();

  const clock = (time) => {
    const tenths = Math.floor((first + time) * 10 + 1e-6);
    return `${Math.floor(tenths / 600)}:${String(Math.floor(tenths / 10) % 60).padStart(2, "0")}.${tenths % 10}`;
  };
  const heard = (lane) => {
    if (lane.group !== group) return false;
    const alone = [...soloed].some((other) => other.group === group);
    return alone ? soloed.has(lane) : !muted.has(lane);
  };
  const pressed = (button, value) => button && button.setAttribute("aria-pressed", String(value));
  const show = () => {
    for (const lane of lanes) {
      lane.node.dataset.heard = String(heard(lane));
      pressed(lane.solo, soloed.has(lane));
      pressed(lane.mute, muted.has(lane));
      pressed(lane.listen, lane.group === group);
    }
    for (const button of all(".switch button")) pressed(button, Number(button.dataset.group) === group);
    if (engine) playing.forEach((lane, number) => engine.level(number, heard(lane) ? 1 : 0));
  };
  const place = () => {
    if (running) position = Math.min(engine.time(), seconds);
    root.style.setProperty("--at", 100 * position / seconds);
    now.value = clock(position);
    seek.value = position;
    seek.setAttribute("aria-valuetext", clock(position));
  };
  const looks = () => {
    root.classList.toggle("playing", running);
    play.setAttribute("aria-label", running ? "Pause" : "Play");
    place();
  };
  const frame = () => {
    if (!running) return;
    place();
    if (position < seconds) next = requestAnimationFrame(frame);
    else { pause(); position = 0; looks(); }
  };
  const ready = () => {
    loading ??= (async () => {
      status.textContent = "Reading the sounds …";
      const made = inside && small ? new Decoded() : new Players();
      await made.load().catch((error) => { made.close(); throw error; });
      engine = made;
      status.textContent = "";
      show();
    })();
    return loading;
  };
  const start = async () => {
    wanted = true;
    const turn = ++turns;
    try {
      await ready();
      if (turn !== turns) return;
      engine.stop();
      await engine.start(position);
      if (turn !== turns) return;
      running = true;
      looks();
      cancelAnimationFrame(next);
      frame();
    } catch (error) {
      if (turn !== turns) return;
      wanted = false;
      status.textContent = near ? "The sounds cannot be had: is stemforge still running?"
        : inside ? "This browser cannot play the sounds of this page."
        : "The sounds cannot be played: are the files still beside this page?";
      if (!engine) loading = null;
    }
  };
  const pause = () => {
    wanted = false;
    turns++;
    if (running) place();
    running = false;
    engine?.stop();
    looks();
  };
  const go = (time) => {
    position = Math.max(0, Math.min(time, seconds - 0.01));
    running = false;
    place();
    if (wanted) start();
  };
  const choose = (number) => { group = number; show(); };
  const alone = (lane) => {
    const own = lanes.filter((other) => other.group === lane.group);
    const only = own.every((other) => soloed.has(other) === (other === lane));
    if (own.length > 1) {
      for (const other of own) soloed.delete(other);
      if (!(only && lane.group === group)) soloed.add(lane);
    } else if (lane.group === group && lanes.some((other) => other.group !== group)) {
      return choose(previous);
    }
    if (lane.group !== group) previous = group;
    choose(lane.group);
  };
  const toggle = (set, lane) => {
    if (!set.delete(lane)) set.add(lane);
    choose(lane.group);
  };

  play.addEventListener("click", () => (wanted ? pause() : start()));
  seek.addEventListener("input", () => go(Number(seek.value)));
  for (const button of all(".switch button")) {
    button.addEventListener("click", () => {
      if (group !== Number(button.dataset.group)) previous = group;
      choose(Number(button.dataset.group));
    });
  }
  for (const lane of lanes) {
    lane.solo?.addEventListener("click", () => toggle(soloed, lane));
    lane.mute?.addEventListener("click", () => toggle(muted, lane));
    lane.listen?.addEventListener("click", () => alone(lane));
    const pictures = one(".pictures", lane.node);
    pictures.addEventListener("click", (event) => {
      const box = pictures.getBoundingClientRect();
      go(seconds * (event.clientX - box.left) / box.width);
    });
  }
  // A button that was clicked shall not take the space bar.
  const signal = closing.signal;
  document.addEventListener("click", (event) => { if (event.detail) event.target.closest("button")?.blur(); }, { signal });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input:not(.seek), select, textarea")) return;
    const key = event.key, step = event.shiftKey ? 1 : 5;
    const lane = lanes.find((other) => other.key && other.key === key && other.audio);
    if (key === " " && event.target.closest("button, a, summary")) return;
    if (key === " ") { if (!event.repeat) wanted ? pause() : start(); }
    else if (key === "ArrowLeft" || key === "ArrowRight") go(position + (key === "ArrowRight" ? step : -step));
    else if (key === "Home") go(0);
    else if (lane) alone(lane);
    else return;
    event.preventDefault();
  }, { signal });

  document.documentElement.classList.add("js");
  show();
  looks();
  return () => {
    pause();
    closing.abort();
    loading?.then(() => engine.close(), () => {});
    return position;
  };
};
