"use strict";
// A model's output enters the page as text nodes only; nothing here makes HTML of a string.
(() => {
  const PAGE = 50;
  const root = document.documentElement;
  const $ = (id) => document.getElementById(id);

  // The system's theme, until the reader chooses one.
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const remember = (theme) => { try { localStorage.setItem("flywheel-theme", theme); } catch { /* storage is off */ } };
  const remembered = () => { try { return localStorage.getItem("flywheel-theme"); } catch { return null; } };
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const showTheme = () => {
    $("theme").setAttribute("aria-pressed", String(isDark()));
    $("theme").textContent = isDark() ? "Light" : "Dark";
    $("theme").setAttribute("aria-label", isDark() ? "Dark colours are on; switch to light" : "Light colours are on; switch to dark");
  };
  if (["light", "dark"].includes(remembered())) root.dataset.theme = remembered();
  $("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remember(root.dataset.theme);
    showTheme();
  });
  dark.addEventListener("change", showTheme);
  showTheme();

  // Print everything that is folded.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((part) => { part.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((part) => { part.open = false; }));

  // The bar marks the section in view.
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const watch = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      links.forEach((link, id) => id === target.id ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current"));
      const link = links.get(target.id);
      if (link) document.querySelector("nav").scrollLeft = link.offsetLeft - link.closest("nav").offsetLeft - 24;
    }
  }, { rootMargin: "-20% 0px -75% 0px" });
  document.querySelectorAll("main > section").forEach((section) => watch.observe(section));

  if (!$("data")) return;
  const data = JSON.parse($("data").textContent);
  const named = (names, values) => Object.fromEntries(names.map((name, place) => [name, values[place]]));
  const tasks = data.tasks.map((values) => {
    const task = named(data.fields, values);
    task.candidates = task.candidates.map((row) => named(data.candidateFields, row));
    task.winner = task.candidates.find((row) => row.candidate === task.selected[0]) ?? null;
    return task;
  });
  const judged = data.judges.length > 0;
  const judge = (candidate) => candidate?.judges[0] ?? null;
  const favourite = (task) => {
    const scores = task.candidates.map(judge).filter((score) => score !== null);
    return scores.length ? Math.max(...scores) : null;
  };
  const spread = (task) => {
    const rewards = task.candidates.map((row) => row.reward).filter((reward) => reward !== null);
    return rewards.length ? Math.max(...rewards) - Math.min(...rewards) : null;
  };
  const SCORES = {
    reward: ["winner’s reward", (task) => task.winner?.reward ?? null],
    ...(judged ? { judge: ["winner’s judge", (task) => judge(task.winner)] } : {}),
    margin: ["winner’s margin", (task) => task.margin],
    spread: ["spread of rewards", spread],
    tokens: ["winner’s tokens", (task) => task.winner?.tokens ?? null],
  };
  const byScore = (sign) => (a, b, score) => {
    const [x, y] = [score(a), score(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    return sign * (x - y);
  };
  const SORTS = {
    proposed: ["as proposed", () => 0],
    high: ["highest score first", byScore(-1)],
    low: ["lowest score first", byScore(1)],
    text: ["by instruction", (a, b) => (a.instruction < b.instruction ? -1 : a.instruction > b.instruction ? 1 : 0)],
  };
  const place = new Map(data.rounds.map((name, index) => [name, index]));
  tasks.sort((a, b) => place.get(a.round) - place.get(b.round) || a.attempt - b.attempt);
  const byId = new Map(tasks.map((task) => [`${task.round}/${task.id}`, task]));

  // Elements, with text and never HTML inside.
  const el = (tag, options = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(options)) element.setAttribute(name, value);
    element.append(...children.flat().filter((child) => child !== null));
    return element;
  };
  const terms = () => $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const marked = (text) => {
    const words = terms().map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    if (!words.length) return [text];
    // What a group matches is every second part.
    return text.split(new RegExp(`(${words.join("|")})`, "gi")).map((part, index) => (index % 2 ? el("mark", {}, part) : part));
  };
  const figure = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits).replace("-", "−"));
  const hasText = (text) => text && text !== "None";

  // The tasks that pass the filters, the page of them in the list, and the task in the detail pane.
  let [shown, page, current] = [tasks, 0, null];
  const state = { list: $("list"), detail: $("detail"), browser: $("browser") };
  const options = (select, values) => select.replaceChildren(...values.map(([value, label]) => el("option", { value }, label)));
  options($("round"), [["", "all rounds"], ...data.rounds.map((name) => [name, name])]);
  options($("score"), Object.entries(SCORES).map(([name, [label]]) => [name, label]));
  options($("sort"), Object.entries(SORTS).map(([name, [label]]) => [name, label]));
  $("disagree-line").hidden = !judged;

  let texts = null;
  const textOf = (task) => [
    task.id, task.instruction, task.input, task.constraints, ...task.candidates.map((row) => row.output), ...task.paraphrases.map(([text]) => text),
  ].join("\n").toLowerCase();
  const number = (id) => ($(id).value.trim() === "" ? null : Number($(id).value));

  function filter() {
    const [words, round, low, high] = [terms(), $("round").value, number("low"), number("high")];
    const score = SCORES[$("score").value][1];
    if (words.length && texts === null) texts = new Map(tasks.map((task) => [task, textOf(task)]));
    shown = tasks.filter((task) => {
      if (round && task.round !== round) return false;
      if (low !== null || high !== null) {
        const value = score(task);
        if (value === null || (low !== null && value < low) || (high !== null && value > high)) return false;
      }
      if ($("disagree").checked) {
        const [best, own] = [favourite(task), judge(task.winner)];
        if (best === null || own === null || own >= best) return false;
      }
      return words.every((word) => texts.get(task).includes(word));
    });
    if ($("sort").value !== "proposed") {
      const order = SORTS[$("sort").value][1];
      shown.sort((a, b) => order(a, b, score));
    }
    page = 0;
    if (!shown.includes(current)) select(shown[0] ?? null, { quiet: true });
    else page = Math.floor(shown.indexOf(current) / PAGE);
    list();
    detail();
  }

  function list() {
    const from = page * PAGE;
    const rows = shown.slice(from, from + PAGE).map((task, offset) => {
      const row = el("li", {
        role: "option", id: `option-${offset}`, "aria-selected": String(task === current),
        "aria-setsize": shown.length, "aria-posinset": from + offset + 1,
      });
      row.append(
        el("div", { class: "line" }, marked(task.instruction)),
        hasText(task.input) ? el("div", { class: "line given" }, marked(task.input)) : "",
        el("div", { class: "meta" },
          el("span", {}, task.round),
          el("span", {}, "reward ", el("b", {}, figure(task.winner?.reward))),
          judged && judge(task.winner) !== null ? el("span", {}, "judge ", el("b", {}, figure(judge(task.winner)))) : null),
      );
      row.addEventListener("click", () => { select(task); read(); });
      return row;
    });
    state.list.replaceChildren(...(rows.length ? rows : [el("li", { class: "empty", role: "option", "aria-disabled": "true" }, "No task matches.")]));
    $("count").textContent = shown.length === tasks.length
      ? `${tasks.length.toLocaleString("en")} tasks`
      : `${shown.length.toLocaleString("en")} of ${tasks.length.toLocaleString("en")} tasks`;
    const last = Math.min(from + PAGE, shown.length);
    $("page").textContent = shown.length ? `${(from + 1).toLocaleString("en")}–${last.toLocaleString("en")} of ${shown.length.toLocaleString("en")}` : "";
    $("before").disabled = page === 0;
    $("after").disabled = last >= shown.length;
    activate();
  }

  /** Mark the current row, and scroll the list (not the page) to it. */
  function activate() {
    const offset = shown.indexOf(current) - page * PAGE;
    [...state.list.children].forEach((row, index) => row.hasAttribute("aria-posinset") && row.setAttribute("aria-selected", String(index === offset)));
    const row = $(`option-${offset}`);
    if (!row) { state.list.removeAttribute("aria-activedescendant"); return; }
    state.list.setAttribute("aria-activedescendant", row.id);
    const [top, bottom] = [row.offsetTop - state.list.offsetTop, row.offsetTop - state.list.offsetTop + row.offsetHeight];
    if (top < state.list.scrollTop) state.list.scrollTop = top;
    else if (bottom > state.list.scrollTop + state.list.clientHeight) state.list.scrollTop = bottom - state.list.clientHeight;
  }

  function select(task, { quiet = false } = {}) {
    current = task;
    if (!quiet && task) history.replaceState(null, "", `#task=${task.round}/${task.id}`);
    const at = shown.indexOf(task);
    if (at >= 0 && Math.floor(at / PAGE) !== page) { page = Math.floor(at / PAGE); list(); } else activate();
    detail();
  }

  function move(by) {
    if (!shown.length) return;
    const at = shown.indexOf(current);
    select(shown[Math.max(0, Math.min(shown.length - 1, at < 0 ? 0 : at + by))]);
    // On a phone the list grows with its rows, and the page scrolls instead of it.
    if (state.list.scrollHeight <= state.list.clientHeight) $(state.list.getAttribute("aria-activedescendant"))?.scrollIntoView({ block: "nearest" });
  }

  const narrow = matchMedia("(max-width: 52rem)");
  function read() {
    if (!current) return;
    state.browser.classList.add("reading");
    if (narrow.matches) { state.detail.focus({ preventScroll: true }); $("browse").scrollIntoView({ block: "start", behavior: "instant" }); }
  }
  function back() {
    state.browser.classList.remove("reading");
    state.list.focus({ preventScroll: true });
    if (narrow.matches) $(state.list.getAttribute("aria-activedescendant"))?.scrollIntoView({ block: "center", behavior: "instant" });
  }

  const entry = (label, value, options = {}) => [el("dt", options, label), el("dd", options, value)];

  function candidate(task, row, best) {
    const won = row === task.winner;
    const policies = data.policies.filter((policy, index) => index > 0 && task.selected[index] === row.candidate);
    const cut = row.finish !== "stop";
    const liked = best !== null && judge(row) === best && task.candidates.some((other) => judge(other) !== null && judge(other) < best);
    return el("li", won ? { class: "won" } : {},
      el("p", { class: "head" },
        el("span", {}, `candidate ${row.candidate}`),
        won ? el("span", { class: "badge" }, "winner") : null,
        liked ? el("span", { class: "badge favourite" }, "judge’s favourite") : null,
        ...policies.map((policy) => el("span", { class: "badge policy", title: `selected by the policy ${policy}` }, policy))),
      el("p", { class: row.output.trim() ? "output" : "output none", tabindex: row.output.length > 1200 ? "0" : "-1" }, row.output.trim() ? marked(row.output) : "empty"),
      el("dl", { class: "scores" },
        ...entry("reward", figure(row.reward), { class: "main" }),
        ...data.judges.flatMap((name, index) => (row.judges.length ? entry(`judge ${name}`, figure(row.judges[index])) : [])),
        ...data.members.flatMap((name, index) => (row.members.length ? entry(name, figure(row.members[index])) : [])),
        ...entry("finish reason", { length: "token limit", "prompt-too-long": "prompt too long" }[row.finish] ?? row.finish, cut ? { class: "cut" } : {}),
        ...entry("tokens", String(row.tokens)),
        ...(row.logprob === null ? [] : entry("log-probability", figure(row.logprob)))));
  }

  function demo(id) {
    const [text, origin] = data.demos[id] ?? [null, null];
    const source = origin && origin !== "seed" ? byId.get(`${origin}/${id}`) : null;
    const body = text || `task ${id}`;
    if (!source) return el("li", {}, body, " ", el("small", {}, origin === "seed" ? "seed" : origin ?? "not in this workspace"));
    const link = el("a", { href: `#task=${origin}/${id}` }, body);
    return el("li", {}, link, " ", el("small", {}, `winner of ${origin}`));
  }

  function detail() {
    const task = current;
    if (!task) { state.detail.replaceChildren(el("p", { class: "lead" }, "No task is selected.")); return; }
    const leave = el("button", { type: "button", class: "back" }, "‹ All tasks");
    leave.addEventListener("click", back);
    const best = favourite(task);
    const ranked = [...task.candidates].sort((a, b) => (b === task.winner) - (a === task.winner) || (b.reward ?? -Infinity) - (a.reward ?? -Infinity));
    state.detail.replaceChildren(
      leave,
      el("p", { class: "over figures" },
        el("span", {}, task.round), task.kind ? el("span", {}, task.kind) : "", el("span", {}, `attempt ${task.attempt}`),
        task.margin === null ? "" : el("span", {}, `margin ${figure(task.margin)}`),
        el("code", {}, `flywheel show ${task.round} ${task.id}`)),
      el("h3", {}, marked(task.instruction)),
      el("dl", { class: "fields" },
        el("dt", {}, "Input"), el("dd", {}, marked(task.input)),
        el("dt", {}, "Constraints"), el("dd", {}, marked(task.constraints))),
      el("h4", {}, task.winner ? `${task.candidates.length} candidates` : `${task.candidates.length} candidates, none selected`),
      el("ul", { class: "candidates" }, ...ranked.map((row) => candidate(task, row, best))),
      ...(task.paraphrases.length ? [
        el("h4", {}, "Paraphrases, trained on with the winner’s output"),
        el("ul", { class: "origins" }, ...task.paraphrases.map(([text, reason]) => el("li", {}, marked(text), reason ? el("small", {}, ` dropped: ${reason}`) : ""))),
      ] : []),
      ...(task.demos.length ? [
        el("h4", {}, "Demos in the prompt that proposed it"),
        el("ol", { class: "origins" }, ...task.demos.map(demo)),
      ] : []),
    );
  }

  // Follow a link such as #task=r1/0badc0de.
  function follow() {
    const match = /^#task=(.+)$/.exec(decodeURIComponent(location.hash));
    const task = match ? byId.get(match[1]) : null;
    if (!task) return;
    if (!shown.includes(task)) { $("filters").reset(); filter(); }
    select(task, { quiet: true });
    state.browser.classList.add("reading");
    $("browse").scrollIntoView({ block: "start", behavior: "instant" });
  }

  // Keys and clicks.
  let waiting = 0;
  const soon = () => { clearTimeout(waiting); waiting = setTimeout(filter, 120); };
  for (const id of ["search", "low", "high"]) $(id).addEventListener("input", soon);
  for (const id of ["round", "score", "sort", "disagree"]) $(id).addEventListener("change", filter);
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("filters").addEventListener("reset", () => setTimeout(filter));
  $("before").addEventListener("click", () => { page -= 1; list(); state.list.scrollTop = 0; });
  $("after").addEventListener("click", () => { page += 1; list(); state.list.scrollTop = 0; });
  addEventListener("hashchange", follow);
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches("input, select, textarea");
    if (event.key === "Escape") {
      if (event.target === $("search") && $("search").value) { $("search").value = ""; filter(); return; }
      if (typing || state.browser.contains(event.target)) { event.preventDefault(); back(); }
      return;
    }
    if (event.target === $("search") && ["ArrowDown", "Enter"].includes(event.key)) { event.preventDefault(); clearTimeout(waiting); filter(); state.list.focus(); return; }
    if (typing) return;
    if (event.key === "/") { event.preventDefault(); back(); $("search").focus(); $("search").select(); return; }
    const listed = event.target === state.list;
    const by = { j: 1, k: -1, ...(listed ? { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity } : {}) }[event.key];
    if (by !== undefined) {
      event.preventDefault();
      const reading = narrow.matches && state.browser.classList.contains("reading");
      if (!listed && !reading) { state.list.focus({ preventScroll: true }); $("browser").scrollIntoView({ block: "nearest", behavior: "instant" }); }
      move(by);
    } else if (listed && ["Enter", " "].includes(event.key)) { event.preventDefault(); read(); state.detail.focus({ preventScroll: true }); }
  });

  state.browser.hidden = false;
  filter();
  follow();
})();
