// A page that `ptv2 watch` serves renews itself, and keeps the reader's place, filters and runs.
const PAUSE = 2000; // milliseconds between two questions to the server

function start() {
  startTables();
  startRuns();
}

const nameOf = (region) => region.getAttribute('aria-label') || region.getAttribute('aria-labelledby');

function kept() {
  const focused = document.activeElement;
  return {
    fields: [...document.querySelectorAll('select[id], input[id]')].map((field) =>
      [field.id, field.type === 'checkbox' ? field.checked : field.value]),
    task: byId('filter-task') && byId('filter-task').selectedOptions[0].text, // its place may change
    open: [...document.querySelectorAll('details[open] > summary')].map((one) => one.textContent),
    sorting: Object.entries(sorting),
    focus: focused && focused.id,
    selection: focused && focused.id === 'filter-text' ? [focused.selectionStart, focused.selectionEnd] : null,
    places: new Map([...document.querySelectorAll('.wide')].map((one) => [nameOf(one), one.scrollLeft])),
    top: window.scrollY,
  };
}

function restore(state) {
  const setFields = (ids) => state.fields.filter(([id]) => ids.includes(id)).forEach(([id, value]) => {
    const field = byId(id);
    if (field) field.value = value;
  });
  setFields(['filter-method', 'filter-text', 'run-a', 'run-b']);
  if (byId('filters')) {
    const task = [...byId('filter-task').options].find((one) => one.text === state.task);
    if (task) task.selected = true;
    filter();
    show(false);
  }
  for (const [id, value] of state.fields) {
    const field = byId(id);
    if (field && field.type === 'checkbox' && value) field.click();
  }
  for (const [id, [name, direction]] of state.sorting) {
    const sorted = byId(id);
    const at = sorted ? [...sorted.tHead.rows[0].cells].findIndex((cell) => cell.dataset.name === name) : -1;
    if (at >= 0) sort(sorted, at, direction);
  }
  for (const summary of document.querySelectorAll('summary')) {
    summary.parentElement.open = state.open.includes(summary.textContent);
  }
  for (const one of document.querySelectorAll('.wide')) one.scrollLeft = state.places.get(nameOf(one)) || 0;
  const focused = state.focus && byId(state.focus);
  if (focused) {
    focused.focus({ preventScroll: true });
    if (state.selection) focused.setSelectionRange(...state.selection);
  }
  window.scrollTo({ top: state.top, behavior: 'instant' });
}

async function renew(version) {
  const answer = await fetch('/', { cache: 'no-store' });
  const next = new DOMParser().parseFromString(await answer.text(), 'text/html');
  const state = kept();
  byId('data').textContent = next.getElementById('data').textContent;
  byId('content').replaceWith(document.adoptNode(next.getElementById('content')));
  document.title = next.title;
  version.content = next.querySelector('meta[name="ptv2-live"]').content;
  start();
  restore(state);
}

function watch() {
  const version = document.querySelector('meta[name="ptv2-live"]');
  if (!version) return;
  const ask = async () => {
    try {
      const answer = await fetch('/version', { cache: 'no-store' });
      if ((await answer.text()) !== version.content) await renew(version);
    } catch (error) {
      byId('live').textContent = 'ptv2 watch does not answer; this is what it last showed.';
    }
    setTimeout(ask, PAUSE);
  };
  setTimeout(ask, PAUSE);
}

start();
watch();
window.addEventListener('popstate', () => openAddress(true));
