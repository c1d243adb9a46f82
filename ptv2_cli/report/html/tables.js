// Tables: sorted by their headings, filtered by task, method and text.
const byId = (id) => document.getElementById(id);
const sorting = {}; // table -> [heading, 'ascending' | 'descending']

function value(row, at, figure) {
  const cell = row.cells[at];
  if (!figure) return cell.textContent.trim();
  return cell.dataset.v === undefined ? null : Number(cell.dataset.v);
}

function sort(table, at, direction) {
  const headings = table.tHead.rows[0].cells;
  for (const cell of headings) cell.removeAttribute('aria-sort');
  headings[at].setAttribute('aria-sort', direction);
  const figure = headings[at].classList.contains('figure');
  const sign = direction === 'ascending' ? 1 : -1;
  const words = new Intl.Collator('en', { numeric: true });
  const rows = [...table.tBodies[0].rows].map((row) => [value(row, at, figure), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null); // no figure: last
    return sign * (figure ? a - b : words.compare(a, b));
  });
  table.tBodies[0].append(...rows.map(([, row]) => row));
  sorting[table.id] = [headings[at].dataset.name, direction];
}

function sortable(table) {
  [...table.tHead.rows[0].cells].forEach((cell, at) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.id = `${table.id}-${at}`;
    cell.dataset.name = cell.textContent.trim();
    button.append(...cell.childNodes);
    cell.append(button);
    const first = cell.classList.contains('figure') ? 'descending' : 'ascending';
    const other = first === 'ascending' ? 'descending' : 'ascending';
    button.addEventListener('click', () => {
      sort(table, at, cell.getAttribute('aria-sort') === first ? other : first);
    });
  });
}

function filter() {
  const task = byId('filter-task').value;
  const method = byId('filter-method').value;
  const words = byId('filter-text').value.toLowerCase().split(/\s+/).filter(Boolean);
  const counts = [];
  for (const table of document.querySelectorAll('table.sorted')) {
    const rows = [...table.tBodies[0].rows];
    let shown = 0;
    for (const row of rows) {
      const { method: own, tasks, text } = row.dataset;
      const fits = (!method || own === method) && (!task || tasks.includes(` ${task} `)) &&
        words.every((word) => text.includes(word));
      row.hidden = !fits;
      shown += fits;
    }
    counts.push(`${shown} of ${rows.length} ${table.id === 'table-runs' ? 'runs' : 'settings'}`);
    for (const cell of table.querySelectorAll('[data-task]')) {
      cell.hidden = task !== '' && cell.dataset.task !== task;
    }
  }
  for (const section of document.querySelectorAll('section.task')) {
    section.hidden = task !== '' && section.dataset.task !== task;
  }
  byId('shown').textContent = `${counts.join(', ')} shown`;
}

function startTables() {
  const form = byId('filters');
  if (!form) return;
  document.querySelectorAll('table.sorted').forEach(sortable);
  form.hidden = false;
  form.addEventListener('input', filter);
  form.addEventListener('submit', (event) => event.preventDefault());
  form.addEventListener('reset', () => setTimeout(filter)); // after the fields are empty
  filter();
}
