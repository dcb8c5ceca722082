"use strict";
(() => {
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const made = (name, properties = {}, ...children) => {
    const node = Object.assign(document.createElement(name), properties);
    node.append(...children);
    return node;
  };
  const error = one(".error"), work = one(".work"), words = one(".words"), bar = one("progress"), view = one(".view");
  const forms = Object.fromEntries(all("form").map((form) => [form.dataset.task, form]));
  const pause = (time) => new Promise((resolve) => setTimeout(resolve, time));
  let studio = { checkpoints: [], most_bytes: Infinity }, songs = [], song = null, version = null, stopPlayer = () => 0, busy = false, job = null;

  // Answers of the server; what goes wrong is one line.
  const ask = async (address, options = {}) => {
    const answer = await fetch(address, options).catch(() => null);
    if (!answer) throw new Error("stemforge does not answer: is it still running?");
    if (answer.ok) return answer;
    const told = await answer.json().catch(() => ({}));
    throw new Error(told.error ?? `${answer.status} ${answer.statusText}`);
  };
  const show = (line) => { error.textContent = line; error.hidden = !line; };
  const doing = (line, share) => {
    work.hidden = !line;
    words.textContent = line;
    if (share === undefined) bar.removeAttribute("value"); else bar.value = share;
    one(".stop").hidden = !job;
  };
  // Something to look at: it may be beside what is being made.
  const look = (task) => {
    show("");
    task().catch((failure) => show(failure.message));
  };
  // What is made is one thing at a time; then the line that it fails with, and the forms as they can be used.
  const attempt = async (task) => {
    if (busy) return show("One thing at a time: wait for it, or stop it.");
    busy = true;
    show("");
    usable();
    try {
      await task();
    } catch (failure) {
      show(failure.message);
    } finally {
      busy = false;
      job = null;
      doing("");
      usable();
    }
  };

  const choice = (form) => studio.checkpoints.find((found) => found.name === form.elements.checkpoint.value);
  const chosen = (form) => all(".stems input:checked", form).map((box) => box.value);
  const known = (name) => version?.stems.includes(name);
  const offered = {
    separate: (found) => [...(forms.separate.elements.vocals.checked && found.vocals ? ["vocals"] : []), ...found.stems],
    regenerate: (found) => (version?.stems ?? []).filter((name) => !found.stems.length || found.stems.includes(name)),
    impute: (found) => (found.stems.length ? found.stems : version?.stems ?? []),
  };
  // The boxes of a form for the stems that it can be about, with those that were chosen before.
  const boxes = (form) => {
    const task = form.dataset.task, before = new Set(chosen(form)), found = choice(form);
    if (!found) return;
    const held = one(".stems", form), names = offered[task](found);
    if (names.join() === all("input", held).map((box) => box.value).join()) return;
    held.replaceChildren(...names.map((name) => {
      const box = made("input", { type: "checkbox", value: name, checked: task === "separate" || before.has(name) });
      return made("label", { className: "check" }, box, name);
    }));
  };
  const usable = () => {
    for (const [task, form] of Object.entries(forms)) {
      const found = choice(form), ready = task === "separate" || version?.stems.length;
      form.hidden = !ready || !found;
      one("button", form).disabled = busy || !found;
    }
    one(".remove").disabled = busy;
    one(".vocals").hidden = !choice(forms.separate)?.vocals;
    mark();
  };
  const filled = () => {
    Object.values(forms).forEach(boxes);
    usable();
  };

  // The part that is to be made anew, on the pictures of the stems that it concerns.
  const lanes = () => all(".lane", view);
  const mark = () => {
    all(".chosen", view).forEach((node) => node.remove());
    const form = forms.regenerate, names = chosen(form);
    const seconds = song?.seconds, from = Number(form.elements.from.value), to = Number(form.elements.to.value);
    if (form.hidden || !(to > from)) return;
    for (const lane of lanes().filter((node) => names.includes(node.dataset.name))) {
      const left = Math.min(100, 100 * from / seconds), width = Math.min(100, 100 * to / seconds) - left;
      const part = made("div", { className: "region chosen" });
      part.style.cssText = `left: ${left}%; width: ${width}%`;
      one(".pictures", lane).append(part);
    }
  };
  const selecting = (lane) => {
    const pictures = one(".pictures", lane), form = forms.regenerate;
    let start = null, dragged = false;
    const at = (event) => {
      const box = pictures.getBoundingClientRect();
      return song.seconds * Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
    };
    pictures.addEventListener("pointerdown", (event) => {
      start = event.button === 0 && known(lane.dataset.name) ? event : null;
      dragged = false;
    });
    pictures.addEventListener("pointermove", (event) => {
      if (!start || (!dragged && Math.abs(event.clientX - start.clientX) < 6)) return;
      if (!dragged) pictures.setPointerCapture(event.pointerId);
      dragged = true;
      const ends = [at(start), at(event)].sort((a, b) => a - b);
      form.elements.from.value = ends[0].toFixed(2);
      form.elements.to.value = ends[1].toFixed(2);
      for (const box of all(".stems input", form)) box.checked = box.value === lane.dataset.name;
      mark();
    });
    for (const end of ["pointerup", "pointercancel"]) pictures.addEventListener(end, () => { start = null; });
    pictures.addEventListener("click", (event) => { if (dragged) event.stopImmediatePropagation(); }, { capture: true });
    pictures.addEventListener("dragstart", (event) => event.preventDefault());
  };

  const pressed = (nav, items, current, pick) => nav.replaceChildren(...items.map(([label, value]) => {
    const button = made("button", { type: "button", textContent: label });
    button.setAttribute("aria-pressed", String(value === current));
    button.addEventListener("click", () => look(() => pick(value)));
    return button;
  }));
  const opened = async (number) => {
    const text = await (await ask(`api/songs/${song.id}/versions/${number}`)).text();
    const at = stopPlayer(), same = view.dataset.song === song.id;
    view.innerHTML = text;
    view.dataset.song = song.id;
    version = song.versions[number];
    lanes().forEach(selecting);
    stopPlayer = player(one(".song", view), same ? at : 0);
    pressed(one(".made"), song.versions.map((each) => [each.title, each.number]), number, opened);
    const folder = `songs/${song.id}/${number}`, links = [];
    if (version.stems.length) links.push(made("a", { href: `${folder}/stems.zip`, textContent: "Download all stems (zip)" }));
    if (version.mix) links.push(made("a", { href: `${folder}/${version.mix}`, download: "", textContent: "Download their mix (wav)" }));
    one(".downloads").replaceChildren(...links);
    filled();
  };
  const enter = async (id, number) => {
    const before = song?.id, { from, to } = forms.regenerate.elements;
    song = await (await ask(`api/songs/${id}`)).json();
    if (id !== before) [from.value, to.value] = [0, Math.min(4, song.seconds).toFixed(2)];
    songs = [...songs.filter((each) => each.id !== id), song];
    document.body.classList.add("has-song");
    one(".studio").hidden = false;
    one(".title h2").textContent = song.name;
    one(".notes").textContent = song.notes.join(" ");
    one(".notes").hidden = !song.notes.length;
    one(".songs").hidden = songs.length < 2;
    pressed(one(".songs"), songs.map((each) => [each.name, each.id]), id, (other) => enter(other));
    await opened(number ?? song.versions.length - 1);
  };
  const left = () => {
    stopPlayer();
    stopPlayer = () => 0;
    song = version = null;
    view.replaceChildren();
    one(".studio").hidden = true;
    document.body.classList.remove("has-song");
  };

  const send = (file) => attempt(async () => {
    if (file.size > studio.most_bytes) {
      throw new Error(`'${file.name}': has more than ${studio.most_bytes / 1e6} MB. Send a smaller one, or a part of it.`);
    }
    doing(`Reading ${file.name} …`);
    const answer = await ask(`api/songs?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file });
    await enter((await answer.json()).id, 0);
  });
  const wish = (form) => {
    const fields = form.elements, stems = chosen(form), task = form.dataset.task;
    const asked = { task, checkpoint: fields.checkpoint.value, stems };
    if (task === "separate") {
      const everything = stems.length === all(".stems input", form).length;
      return { ...asked, stems: everything ? [] : stems, vocals: fields.vocals.checked && choice(form).vocals };
    }
    asked.version = version.number;
    for (const name of ["from", "to", "strength", "seed"]) if (fields[name]) asked[name] = Number(fields[name].value);
    return asked;
  };
  const run = (form) => attempt(async () => {
    const asked = wish(form), of = song.id, title = one("h3", form).textContent;
    if (asked.task === "separate" && !asked.stems.length && !chosen(form).length && one(".stems input", form)) {
      throw new Error("no stem is chosen. Choose those that are kept.");
    }
    job = await (await ask(`api/songs/${of}/jobs`, { method: "POST", body: JSON.stringify(asked) })).json();
    while (job.state === "waiting" || job.state === "working") {
      const percent = `${Math.round(100 * job.share)} %`;
      doing(`${title}: ${job.ahead ? `${job.ahead} before it` : percent}`, job.share);
      await pause(250);
      job = await (await ask(`api/jobs/${job.id}`)).json();
    }
    if (job.state === "failed") throw new Error(job.error);
    if (job.state === "done") {
      if (form.elements.seed) form.elements.seed.value = Number(form.elements.seed.value) + 1;
      await enter(of, job.version);
    }
  });

  for (const form of Object.values(forms)) {
    form.addEventListener("submit", (event) => { event.preventDefault(); run(form); });
    form.addEventListener("change", filled);
    form.addEventListener("input", mark);
  }
  one(".stop").addEventListener("click", () => { if (job) ask(`api/jobs/${job.id}`, { method: "DELETE" }).catch(() => {}); });
  one(".remove").addEventListener("click", () => attempt(async () => {
    await ask(`api/songs/${song.id}`, { method: "DELETE" });
    songs = songs.filter((each) => each.id !== song.id);
    left();
    if (songs.length) await enter(songs.at(-1).id);
  }));
  one(".file-input").addEventListener("change", (event) => {
    const file = event.target.files[0];
    event.target.value = "";
    if (file) send(file);
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  });
  for (const name of ["dragleave", "drop"]) {
    document.addEventListener(name, () => document.body.classList.remove("over"));
  }
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    const file = event.dataTransfer.files[0];
    if (file) send(file);
  });

  attempt(async () => {
    studio = await (await ask("api/studio")).json();
    for (const form of Object.values(forms)) {
      const fitting = studio.checkpoints.filter((found) => form.dataset.task === "separate" || found.makes);
      form.elements.checkpoint.replaceChildren(...fitting.map((found) => made("option", { value: found.name, textContent: found.name })));
    }
    songs = studio.songs;
    if (songs.length) await enter(songs.at(-1).id);
    filled();
  });
})();
