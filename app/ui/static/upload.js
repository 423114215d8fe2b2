// Sends the file of a form in parts before the form itself, shows how far it is, and goes on where a connection broke.
// Without scripts the form sends the file as forms do.

const LEAST_BYTES = 1024 * 1024; // a smaller file is sent in one with the form
const PART_BYTES = 8 * 1024 * 1024;
const READ_BYTES = 4 * 1024 * 1024;
const MOST_PAUSE = 30_000;
const AT = "/ui/datasets/uploads";

class Refused extends Error {}

const size = (bytes) => (bytes >= 1e9 ? `${(bytes / 1e9).toPrecision(3)} GB` : `${(bytes / 1e6).toPrecision(3)} MB`);

const digest = async (file, Sha256, state) => {
  const sha256 = new Sha256();
  for (let at = 0; at < file.size; at += READ_BYTES) {
    if (state.stopped) return "";
    sha256.update(new Uint8Array(await file.slice(at, at + READ_BYTES).arrayBuffer()));
    state.show(at / file.size, `Reading ${file.name}`);
  }
  return sha256.hex();
};

// One call, again after a pause for as long as the service does not answer.
const call = async (state, address, options = {}) => {
  for (let pause = 1000; !state.stopped; pause = Math.min(2 * pause, MOST_PAUSE)) {
    try {
      const answer = await fetch(address, { ...options, signal: state.signal });
      if (answer.ok) return await answer.json();
      const problem = await answer.json().catch(() => ({}));
      if (answer.status < 500 && answer.status !== 429) throw new Refused(problem.detail || `the service answered ${answer.status}`);
    } catch (error) {
      if (error instanceof Refused || state.stopped) throw error;
    }
    state.say("The connection broke. It goes on by itself.");
    await new Promise((resolve) => { setTimeout(resolve, pause); });
  }
  throw new Refused("stopped");
};

const send = async (file, wanted, state) => {
  const { Sha256 } = await import("./sha256.js");
  const sha256 = await digest(file, Sha256, state);
  if (state.stopped) throw new Refused("stopped");
  const json = { method: "POST", headers: { "Content-Type": "application/json" } };
  const body = { name: file.name.slice(0, 200), bytes: file.size, sha256, part_bytes: PART_BYTES, ...wanted };
  const waiting = (await call(state, `${AT}?sha256=${sha256}`)).data.find(
    (each) => each.part_bytes === PART_BYTES && each.name === body.name && (each.format ?? undefined) === wanted.format
      && JSON.stringify(each.columns ?? {}) === JSON.stringify(wanted.columns ?? {}),
  );
  const upload = waiting ? await call(state, `${AT}/${waiting.id}`) : await call(state, AT, { ...json, body: JSON.stringify(body) });
  const there = new Set((upload.parts ?? []).map((part) => part.number));
  for (let number = 1; number <= upload.num_parts; number++) {
    const from = (number - 1) * PART_BYTES;
    state.show(from / file.size, `${size(from)} of ${size(file.size)} sent${there.size ? ", going on from before" : ""}`);
    if (there.has(number)) continue;
    const part = file.slice(from, from + PART_BYTES);
    await call(state, `${AT}/${upload.id}/parts/${number}`, { method: "PUT", body: part, headers: { "Content-Type": "application/octet-stream" } });
  }
  state.show(1, "Putting it together");
  return (await call(state, `${AT}/${upload.id}/complete`, { method: "POST" })).id;
};

const stateOf = (form) => {
  const box = form.querySelector("[data-uploading]");
  const stop = new AbortController();
  box.hidden = false;
  const state = {
    stopped: false,
    signal: stop.signal,
    say: (text) => { box.querySelector("[role=status]").textContent = text; },
    show: (share, text) => { box.querySelector("progress").value = share; state.say(text); },
    end: () => { box.querySelector("[data-stop]").hidden = true; },
  };
  const button = box.querySelector("[data-stop]");
  button.hidden = false;
  button.onclick = () => { state.stopped = true; stop.abort(); };
  return state;
};

// What was chosen for each column; what was asked for before, where that was not changed.
const columns = (form) => {
  const found = {};
  if (!form.elements.as_read) return found;
  const read = JSON.parse(form.elements.as_read.value);
  for (const select of form.querySelectorAll("[name^=role-]")) {
    if (select.value) found[select.value] = form.elements[select.name.replace("role", "column")].value;
  }
  const same = Object.keys(read).length === Object.keys(found).length && Object.keys(read).every((role) => read[role] === found[role]);
  return same ? JSON.parse(form.elements.columns.value || "{}") : found;
};

document.addEventListener("submit", async (event) => {
  const { target: form, submitter } = event;
  const file = form.matches("[data-upload]") && form.querySelector("#file")?.files[0];
  const goes = form.dataset.upload;
  if (!file || file.size < LEAST_BYTES || (goes && submitter?.dataset.keep === undefined)) return;
  event.preventDefault();
  event.stopPropagation();
  if (form.dataset.busy) return;
  form.dataset.busy = "yes";
  const state = stateOf(form);
  try {
    const mapped = goes ? columns(form) : {};
    const wanted = { ...(goes && form.elements.format.value ? { format: form.elements.format.value } : {}), ...(Object.keys(mapped).length ? { columns: mapped } : {}) };
    const id = await send(file, wanted, state);
    if (goes) { location.assign(goes + id); return; }
    form.elements.dataset_id.add(new Option(file.name, id, true, true));
    form.querySelector("#file").value = "";
    delete form.dataset.busy;
    form.requestSubmit(submitter);
  } catch (error) {
    state.say(state.stopped ? "Stopped. Sent again, the file goes on from here." : `Not sent: ${error.message}`);
  } finally {
    state.end();
    delete form.dataset.busy;
  }
}, true);
