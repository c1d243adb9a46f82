// A run in detail, alone or beside another: scores, curves, wrong rows, config, environment, data.
let data;
let places; // mark of a run -> its place in data.runs

// An element with attributes and children; texts stay texts.
function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

function drawn(name, attributes, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const percent = (value) => (value === null || value === undefined ? '-' : (100 * value).toFixed(1));
const title = (run) => `${data.columns[run.column].name}: ${run.title}`;

// A table in a region that scrolls; `rows` are lists of texts or elements, the first a heading.
function table(caption, headings, rows, name = 'plain pair', figures = false) {
  const cell = (content, at) => make(at ? 'td' : 'th',
    at ? (figures ? { class: 'figure' } : {}) : { scope: 'row' }, content);
  const head = headings.map((text, at) => make('th',
    { scope: 'col', ...(figures && at ? { class: 'figure' } : {}) }, text));
  return make('div', { class: 'wide', role: 'region', 'aria-label': caption, tabindex: '0' },
    make('table', { class: name }, make('caption', {}, make('span', {}, caption)),
      make('thead', {}, make('tr', {}, head)),
      make('tbody', {}, rows.map((row) => make('tr', {}, row.map(cell))))));
}

function factsOf(run) {
  const facts = new Map();
  run.facts.forEach((place, at) => {
    if (place >= 0) facts.set(data.keys[at], data.values[place]);
  });
  return facts;
}

function figureText(value, unit) {
  if (unit === 's') return value < 100 ? `${value.toFixed(1)} s` : `${(value / 60).toFixed(1)} min`;
  if (unit === 'bytes') return `${(value / 2 ** 30).toFixed(2)} GiB`;
  if (unit === 'count') return value.toLocaleString('en');
  return `${Number(value.toPrecision(4))}${unit ? ` ${unit}` : ''}`;
}

// Rows of one table for both runs: key -> a text for each.
function beside(runs, read) {
  const rows = new Map();
  runs.forEach((run, at) => {
    for (const [key, text] of read(run)) {
      if (!rows.has(key)) rows.set(key, runs.map(() => '-'));
      rows.get(key)[at] = text;
    }
  });
  return [...rows].map(([key, texts]) => [key, ...texts]);
}

function curve(runs, at, name, unit) {
  const lines = runs.map((run) => run.history.filter((point) => point[at] !== null));
  const all = lines.flat();
  if (!all.length) return null;
  const [left, right, top, bottom] = [46, 448, 12, 238];
  const span = (values) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const pad = Math.max((high - low) * 0.06, 1e-3);
    return [low - pad, high + pad];
  };
  const [x0, x1] = span(all.map((point) => point[0]));
  const [y0, y1] = span(all.map((point) => unit * point[at]));
  const x = (value) => left + ((value - x0) / (x1 - x0)) * (right - left);
  const y = (value) => bottom - ((unit * value - y0) / (y1 - y0)) * (bottom - top);
  const picture = drawn('svg', { viewBox: '0 0 460 280', role: 'img', 'aria-label': `${name} by epoch` });
  const grid = drawn('g', { class: 'grid' });
  for (let step = 0; step <= 4; step += 1) {
    const value = y0 + ((y1 - y0) * step) / 4;
    const height = bottom - ((bottom - top) * step) / 4;
    grid.append(drawn('path', { d: `M${left} ${height}H${right}` }),
      drawn('text', { x: left - 4, y: height + 4, 'text-anchor': 'end' },
        unit === 100 ? value.toFixed(1) : value.toPrecision(3)));
  }
  const epochs = [...new Set(all.map((point) => point[0]))].sort((a, b) => a - b);
  const every = Math.ceil(epochs.length / 8);
  epochs.filter((_, place) => place % every === 0).forEach((epoch) => grid.append(
    drawn('text', { x: x(epoch), y: bottom + 17, 'text-anchor': 'middle' }, String(Number(epoch.toPrecision(3))))));
  grid.append(drawn('path', { class: 'axis', d: `M${left} ${top}V${bottom}H${right}` }),
    drawn('text', { x: 247, y: 274, 'text-anchor': 'middle' }, 'training (epochs)'));
  picture.append(grid);
  lines.forEach((line, place) => {
    const points = line.map((point) => `${x(point[0]).toFixed(1)},${y(point[at]).toFixed(1)}`);
    const group = drawn('g', { class: `s${place}` }, drawn('polyline', { class: 'line', points: points.join(' ') }));
    const shape = place ? 'M-3.5 -3.5h7v7h-7z' : 'M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0';
    line.forEach((point, number) => {
      if (number % Math.ceil(line.length / 12)) return;
      const marked = { class: 'marker', d: shape, transform: `translate(${x(point[0])} ${y(point[at])})` };
      group.append(drawn('path', marked));
    });
    picture.append(group);
  });
  return make('figure', {}, make('figcaption', {}, name), picture);
}

function curves(runs) {
  const metric = data.columns[runs[0].column].metric;
  const made = [[1, `${metric} (%)`, 100], [3, 'validation loss', 1], [2, 'train loss', 1]]
    .map(([at, name, unit]) => curve(runs, at, name, unit)).filter(Boolean);
  if (!made.length) return null;
  const legend = runs.map((run, at) => make('li', { class: `s${at}` },
    drawn('svg', { viewBox: '0 0 34 12', 'aria-hidden': 'true' }, drawn('path', { class: 'line', d: 'M1 6H33' })),
    ` ${title(run)}`));
  return make('section', {}, make('h3', {}, 'Training'), make('ul', { class: 'legend' }, legend),
    make('div', { class: 'charts' }, made));
}

function confusion(run) {
  if (!run.confusion) return null;
  const { names, cells } = run.confusion;
  const counts = names.map(() => names.map(() => 0));
  for (const [gold, guess, count] of cells) counts[gold][guess] = count;
  const made = table(`${title(run)}: gold down, predicted across`, ['gold', ...names],
    names.map((name, gold) => [name, ...counts[gold].map(String)]), 'heat', true);
  [...made.querySelector('tbody').rows].forEach((row, gold) => {
    const total = Math.max(1, counts[gold].reduce((sum, count) => sum + count, 0));
    counts[gold].forEach((count, guess) => {
      row.cells[guess + 1].classList.add(`h${Math.round((count / total) * 7)}`);
    });
  });
  return made;
}

// A run's answer to a row of its set, with its probability and that of the right label.
function answer(run, at) {
  const given = run.answers[at];
  const sure = (value) => (value === null ? '' : ` (${value < 0 ? 'log ' : ''}${value.toFixed(2)})`);
  if (!Array.isArray(given)) return make('span', {}, `right${sure(given)}`);
  const [text, own, gold] = given;
  return make('span', {}, make('span', { class: 'wrong' }, data.sets[run.set].answers[text]), sure(own),
    gold === null ? '' : `; gold has ${gold.toFixed(2)}`);
}

function wrongRows(runs) {
  const [first, second] = runs;
  if (first.set === undefined) {
    return make('section', {}, make('h3', {}, 'Wrong rows'),
      make('p', {}, 'The predictions of this run are missing or cannot be read.'));
  }
  const shared = second && second.set === first.set ? [first, second] : [first];
  const { rows } = data.sets[first.set];
  const wrong = (run, at) => Array.isArray(run.answers[at]);
  const size = (at) => Math.max(...shared.map((run) => (wrong(run, at) ? 1 - (run.answers[at][2] ?? 0) : 0)));
  const shown = rows.map((row, at) => at).filter((at) => shared.some((run) => wrong(run, at)));
  shown.sort((a, b) => size(b) - size(a));
  const split = data.columns[first.column].split;
  const counts = shared.map((run, place) => make('p', {},
    `${shared.length > 1 ? `${'AB'[place]}: ` : ''}${title(run)}: ${run.wrong} of ${run.count} rows are wrong. `,
    run.wrong ? make('code', {}, `ptv2 errors ${run.directory} --split ${split} --limit ${run.wrong}`) : null,
    run.wrong ? ' shows them.' : ''));
  const only = shared.length > 1 ? make('label', {}, make('input', { type: 'checkbox', id: 'differ' }),
    ' only rows on which the answers differ') : null;
  const list = make('div', {}, shown.map((at) => {
    const row = rows[at];
    const terms = [...Object.entries(row.columns), ['gold', row.gold]];
    const given = shared.map((run, place) => [shared.length > 1 ? 'AB'[place] : 'predicted', answer(run, at)]);
    const same = shared.length > 1 && JSON.stringify(shared.map((run) => wrong(run, at) && run.answers[at][0]));
    const differs = same && new Set(JSON.parse(same)).size > 1;
    return make('div', { class: 'row', ...(differs ? {} : { 'data-same': '' }) }, make('h4', {}, `row ${row.number}`),
      make('dl', {}, [...terms, ...given].map(([name, content]) =>
        [make('dt', {}, name), make('dd', {}, content)]).flat()));
  }));
  if (only) {
    only.firstChild.addEventListener('change', (event) => {
      for (const row of list.querySelectorAll('[data-same]')) row.hidden = event.target.checked;
    });
  }
  const other = second && shared.length === 1
    ? make('p', {}, 'The second run was scored on other rows, so its answers do not stand beside these.') : null;
  return make('section', { id: 'wrong' }, make('h3', {}, 'Wrong rows'), counts, other,
    make('p', {}, `Rows on this page: ${shown.length}.`), only, list);
}

function configs(runs) {
  const facts = runs.map(factsOf);
  const keys = [...new Set(facts.flatMap((own) => [...own.keys()]))];
  const rows = keys.map((key) => [key, ...facts.map((own) => own.get(key) ?? '-')]);
  const section = make('section', {}, make('h3', {}, runs.length > 1 ? 'What differs' : 'Config and environment'));
  const headings = ['key', ...(runs.length > 1 ? ['A', 'B'] : ['value'])];
  const different = rows.filter((row) => row[1] !== row[2]);
  if (runs.length > 1) {
    section.append(different.length
      ? table('Config, weights and environment where the runs differ', headings, different)
      : make('p', {}, 'Nothing: configs, weights and environments are equal.'));
  }
  const environment = rows.filter(([key]) => key.startsWith('environment.'));
  const config = rows.filter(([key]) => !key.startsWith('environment.'));
  for (const [name, part] of [['The whole config', config], ['Environment', environment]]) {
    section.append(make('details', { id: `part-${name}` }, make('summary', {}, name), table(name, headings, part)));
  }
  return section;
}

function detail(runs) {
  const headings = ['what', ...(runs.length > 1 ? ['A', 'B'] : ['value'])];
  const about = beside(runs, (run) => [
    ['run', run.name],
    ['task', `${data.columns[run.column].task}, ${data.columns[run.column].metric} on ${data.columns[run.column].split}`],
    ['setting', run.title],
    ['directory', make('code', {}, run.directory)],
    ['train it again', make('code', {}, run.command)],
    ...(run.started ? [['started by', make('code', {}, run.started)]] : []),
    ['state', run.status.replace('_', ' ')],
    ['epoch chosen', String(run.epoch ?? '-')],
    ['standard error', percent(run.error)],
    ...run.figures.map(([name, value, unit]) => [name, figureText(value, unit)]),
    ...run.data.map(([split, rows, sha, cut]) => [`data: ${split}`,
      [`${rows} rows${cut ? `, ${cut} cut at max_len` : ''}, sha256 `, make('code', {}, sha)]]),
    ...(run.seeds.length ? [['other seeds', run.seeds.map((mark) =>
      [make('a', { href: `#run-${mark}` }, `seed ${data.runs[places.get(mark)].seed}`), ' ']).flat()]] : []),
    ...(run.warnings.length ? [['warnings', run.warnings.join('; ')]] : []),
  ]);
  const scores = beside(runs, (run) => run.scores.map(([split, name, chosen, final]) =>
    [`${split} ${name}`, `${percent(chosen)} (last epoch ${percent(final)})`]));
  const matrices = runs.map(confusion).filter(Boolean);
  return [
    table(runs.length > 1 ? 'The two runs' : 'The run', headings, about),
    table('Scores at the chosen epoch', headings, scores, 'plain pair'),
    curves(runs),
    matrices.length ? make('section', {}, make('h3', {}, 'Confusion'), matrices) : null,
    runs.length > 1 ? configs(runs) : null,
    wrongRows(runs),
    runs.length > 1 ? null : configs(runs),
  ].filter(Boolean);
}

function show(focus) {
  const runs = ['run-a', 'run-b'].map((id) => data.runs[places.get(byId(id).value)]).filter(Boolean);
  byId('detail-content').replaceChildren(...(runs.length ? detail(runs) : []));
  const opened = new Set(runs.map((run) => `run-${run.mark}`));
  for (const row of document.querySelectorAll('#table-runs tbody tr')) row.classList.toggle('opened', opened.has(row.id));
  const marks = runs.map((run) => run.mark).join(',');
  if (marks) history.replaceState(null, '', `#run-${marks}`);
  if (focus && runs.length) byId('detail-title').focus();
}

// Opens the runs that the address names: #run-MARK, or #run-MARK,MARK.
function openAddress(focus) {
  const marks = location.hash.startsWith('#run-') ? decodeURIComponent(location.hash.slice(5)).split(',') : [];
  if (!marks.length || !places.has(marks[0])) return;
  byId('run-a').value = marks[0];
  if (marks.length > 1) byId('run-b').value = places.has(marks[1]) ? marks[1] : '';
  if (byId('run-b').value === marks[0]) byId('run-b').value = '';
  show(focus);
  if (focus) byId('detail').scrollIntoView();
}

function startRuns() {
  data = JSON.parse(byId('data').textContent);
  places = new Map(data.runs.map((run, at) => [run.mark, at]));
  if (!byId('detail')) return;
  byId('detail').hidden = false;
  const groups = () => data.columns.map((column, at) => make('optgroup', { label: column.name },
    data.runs.filter((run) => run.column === at).map((run) => make('option', { value: run.mark },
      `${run.title} (${run.mark})`)))); 
  byId('run-a').append(make('option', { value: '' }, 'choose a run'), ...groups());
  byId('run-b').append(make('option', { value: '' }, 'none'), ...groups());
  byId('chosen').addEventListener('change', () => show(false));
  byId('chosen').addEventListener('submit', (event) => event.preventDefault());
  byId('content').addEventListener('click', (event) => {
    const link = event.target.closest('a[href^="#run-"]');
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    history.pushState(null, '', link.hash);
    openAddress(true);
  });
  openAddress(false);
}
