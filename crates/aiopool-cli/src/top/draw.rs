//! The screen.

use aiopool::Snapshot;
use aiopool::view::{State, WorkerView};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Table, TableState};

use super::format::{bytes, count, percent, rate, time};
use super::model::{self, Model, Tab};
use crate::pools::{ended, plain};

/// From this height on all tables are shown at once.
const ROOMY: u16 = 36;

/// Draws everything.
pub fn all(model: &mut Model, frame: &mut Frame<'_>) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(4), Constraint::Min(1), Constraint::Length(1)])
            .areas(frame.area());
    frame.render_widget(Paragraph::new(header(model, head.width)), head);
    frame.render_widget(Paragraph::new(footer(model)), foot);
    if let Some(seat) = model.detail {
        detail(model, seat, frame, body);
    } else if body.height >= ROOMY - 5 {
        let rows = [model.workers().len(), model.queues().len(), model.functions().len()];
        let workers = (rows[0] as u16).saturating_add(2).min(body.height / 2);
        let queues = (rows[1] as u16).saturating_add(2).min(body.height / 6);
        let functions = (rows[2] as u16).saturating_add(2).min(body.height / 4);
        let areas: [Rect; 4] = Layout::vertical([
            Constraint::Length(workers),
            Constraint::Length(queues),
            Constraint::Length(functions),
            Constraint::Min(3),
        ])
        .areas(body);
        for (tab, area) in Tab::ALL.into_iter().zip(areas) {
            table(model, tab, frame, area);
        }
    } else {
        table(model, model.tab, frame, body);
    }
}

fn styled(model: &Model, text: impl Into<String>, style: Style) -> Span<'static> {
    let style = if model.colours { style } else { Style::default() };
    Span::styled(text.into(), style)
}

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().fg(Color::DarkGray);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const WARN: Style = Style::new().fg(Color::Yellow);
const GOOD: Style = Style::new().fg(Color::Green);

fn header(model: &Model, width: u16) -> Vec<Line<'static>> {
    let Some(snapshot) = model.snapshot() else {
        let text = model.trouble.clone().unwrap_or_else(|| "asking the pool …".to_owned());
        return vec![Line::from(plain(&text))];
    };
    let pool = &snapshot.pool;
    let mut first = vec![
        styled(model, plain(&pool.name), BOLD),
        Span::raw(format!("  host {} ({})  ", pool.host_pid, plain(&pool.program))),
        styled(model, plain(&pool.stage), if pool.stage == "open" { GOOD } else { WARN }),
        Span::raw(format!("  up {}", time(pool.age_ns))),
    ];
    if model.paused {
        first.push(styled(model, "  PAUSED", WARN));
    }
    if let Some(trouble) = &model.trouble {
        first.push(styled(model, format!("  {}", plain(trouble)), BAD));
    }
    vec![
        Line::from(first),
        tasks_line(model, snapshot),
        outcomes_line(model, snapshot, width),
        use_line(model, snapshot),
    ]
}

fn tasks_line(model: &Model, snapshot: &Snapshot) -> Line<'static> {
    let (stats, rates) = (&snapshot.pool.stats, model.rates());
    let per_second = rates.map_or(0.0, |rates| rates.ended(snapshot));
    Line::from(vec![
        Span::raw(format!(
            "tasks  {} submitted, {} ended ",
            count(stats.submitted),
            count(ended(snapshot))
        )),
        styled(model, rate(per_second), BOLD),
        Span::raw(format!(", {} queued, {} running", count(stats.queued), count(stats.running))),
    ])
}

fn outcomes_line(model: &Model, snapshot: &Snapshot, _: u16) -> Line<'static> {
    let stats = &snapshot.pool.stats;
    let mut spans = vec![Span::raw(format!("ended  {} ok", count(stats.ok)))];
    let bad = [
        ("failed", stats.failed),
        ("panicked", stats.panicked),
        ("timed out", stats.timed_out),
        ("lost", stats.worker_lost),
        ("cancelled", stats.cancelled),
        ("closed", stats.pool_closed),
        ("other", stats.other),
    ];
    for (name, number) in bad {
        if number > 0 {
            spans.push(styled(model, format!(", {} {name}", count(number)), BAD));
        }
    }
    for (name, number) in [
        ("retries", stats.retries),
        ("deaths", stats.deaths),
        ("recycles", stats.recycles),
        ("damages", stats.damages),
    ] {
        if number > 0 {
            spans.push(styled(model, format!(", {} {name}", count(number)), WARN));
        }
    }
    Line::from(spans)
}

fn use_line(model: &Model, snapshot: &Snapshot) -> Line<'static> {
    let (pool, rates) = (&snapshot.pool, model.rates());
    let workers: Option<f64> = rates
        .as_ref()
        .map(|rates| snapshot.workers.iter().filter_map(|worker| rates.cpu(worker)).sum());
    let host = rates.as_ref().map(|rates| rates.host_cpu(snapshot));
    let full = pool.input_arena > 0 && pool.stats.input_bytes >= pool.input_arena / 10 * 9;
    let inputs = format!("inputs {} of {}", bytes(pool.stats.input_bytes), bytes(pool.input_arena));
    Line::from(vec![
        Span::raw(format!(
            "use    {} of {} workers, cpu {}% workers {}% host, ",
            pool.stats.workers,
            pool.processes,
            percent(workers),
            percent(host),
        )),
        styled(model, inputs, if full { BAD } else { Style::default() }),
        Span::raw(format!(", {} records free", count(pool.stats.free_records))),
    ])
}

fn footer(model: &Model) -> Line<'static> {
    if model.typing {
        return Line::from(format!("filter: {}_", plain(&model.filter)));
    }
    let mut text =
        "q quit  Tab table  s sort  r reverse  / filter  p pause  ↵ tasks  +- pace".to_owned();
    if !model.filter.is_empty() {
        text = format!("[{}]  {text}", plain(&model.filter));
    }
    Line::from(styled(model, text, DIM))
}

fn state_style(state: State) -> Style {
    match state {
        State::Blocked | State::Stopped => BAD,
        State::Starting | State::Retiring | State::Leaving => WARN,
        State::Polling | State::Busy => GOOD,
        State::Waiting => Style::new().fg(Color::Cyan),
        _ => DIM,
    }
}

/// A column: its title, its width, and whether its cells stand to the right.
type Column = (&'static str, u16);

fn table(model: &mut Model, tab: Tab, frame: &mut Frame<'_>, area: Rect) {
    let wide = area.width >= 110;
    let (columns, rows): (Vec<Column>, Vec<Row<'static>>) = match tab {
        Tab::Workers => (
            workers_columns(wide),
            model.workers().iter().map(|worker| worker_row(model, worker, wide)).collect(),
        ),
        Tab::Queues => (
            vec![
                ("queue", 5),
                ("depth by class", 22),
                ("pending", 8),
                ("oldest", 7),
                ("free", 8),
                ("outputs", 8),
                ("workers", 7),
            ],
            model
                .queues()
                .iter()
                .map(|queue| {
                    let depth = queue.depth.iter().map(|n| count(*n)).collect::<Vec<_>>().join(" ");
                    let oldest = queue.oldest_ns.map_or_else(|| "-".to_owned(), time);
                    let oldest = styled(
                        model,
                        oldest,
                        if queue.oldest_ns > Some(1_000_000_000) { WARN } else { Style::default() },
                    );
                    let free = styled(
                        model,
                        count(queue.free_records),
                        if queue.free_records == 0 { BAD } else { Style::default() },
                    );
                    Row::new(vec![
                        Line::from(queue.queue.to_string()),
                        Line::from(depth),
                        Line::from(count(queue.pending)),
                        Line::from(oldest),
                        Line::from(free),
                        Line::from(bytes(queue.output_bytes)),
                        Line::from(queue.workers.to_string()),
                    ])
                })
                .collect(),
        ),
        Tab::Functions => {
            let name = area.width.saturating_sub(62).max(12);
            let columns = vec![
                ("function", name),
                ("ended", 7),
                ("rate", 7),
                ("errors", 6),
                ("run 50", 6),
                ("90", 6),
                ("99", 6),
                ("wait 50", 7),
                ("99", 6),
            ];
            let rates = model.rates();
            let rows = model.functions().into_iter().map(|function| {
                let ns = |share, histogram: &aiopool::Histogram| {
                    time(histogram.quantile(share).as_nanos() as u64)
                };
                let errors = styled(
                    model,
                    count(function.errors()),
                    if function.errors() > 0 { BAD } else { DIM },
                );
                let short = short(&function.name, usize::from(name));
                Row::new(vec![
                    Line::from(short),
                    Line::from(count(function.count())),
                    Line::from(rate(rates.as_ref().map_or(0.0, |rates| rates.function(function)))),
                    Line::from(errors),
                    Line::from(ns(0.5, &function.ran)),
                    Line::from(ns(0.9, &function.ran)),
                    Line::from(ns(0.99, &function.ran)),
                    Line::from(ns(0.5, &function.waited)),
                    Line::from(ns(0.99, &function.waited)),
                ])
            });
            (columns, rows.collect())
        }
        Tab::Events => {
            let rows = model.events().into_iter().map(|event| {
                let subject = match (event.task, event.worker) {
                    (Some(task), _) => format!("task {task}"),
                    (_, Some(seat)) => format!("worker {seat}"),
                    _ => String::new(),
                };
                let style = if model::kind(event) == "recycle" { DIM } else { BAD };
                Row::new(vec![
                    Line::from(time(event.age_ns)),
                    Line::from(styled(model, model::kind(event), style)),
                    Line::from(subject),
                    Line::from(plain(&event.text)),
                ])
            });
            (
                vec![
                    ("ago", 6),
                    ("event", 16),
                    ("of", 12),
                    ("what", area.width.saturating_sub(37)),
                ],
                rows.collect(),
            )
        }
    };
    let active = tab == model.tab;
    if active {
        model.chosen = model.chosen.min(rows.len().saturating_sub(1));
    }
    let [title, below] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    frame.render_widget(Paragraph::new(title_line(model, tab, rows.len(), active)), title);
    let head = Row::new(columns.iter().map(|(name, _)| Line::from(styled(model, *name, DIM))));
    let widths = columns.iter().map(|&(_, width)| Constraint::Length(width));
    let highlight = if model.colours {
        Style::new().add_modifier(Modifier::REVERSED)
    } else {
        Style::default()
    };
    let table = Table::new(rows, widths).header(head).row_highlight_style(highlight);
    let mut state = TableState::new().with_selected(active.then_some(model.chosen));
    frame.render_stateful_widget(table, below, &mut state);
}

fn title_line(model: &Model, tab: Tab, rows: usize, active: bool) -> Line<'static> {
    let (order, backwards) = model.orders[tab as usize];
    let mut spans = Vec::new();
    for (at, other) in Tab::ALL.into_iter().enumerate() {
        if other == tab {
            let text = format!("{}:{} ({rows})", at + 1, other.title());
            spans.push(styled(
                model,
                text,
                if active { BOLD.add_modifier(Modifier::UNDERLINED) } else { BOLD },
            ));
            let arrow = if backwards { "↑" } else { "↓" };
            spans.push(styled(model, format!(" by {}{arrow}  ", tab.orders()[order]), DIM));
        } else if active {
            spans.push(styled(model, format!("{}:{}  ", at + 1, other.title()), DIM));
        }
    }
    Line::from(spans)
}

fn workers_columns(wide: bool) -> Vec<Column> {
    let mut columns = vec![
        ("seat", 4),
        ("pid", 8),
        ("q", 3),
        ("state", 9),
        ("flight", 6),
        ("oldest", 6),
        ("cpu%", 4),
        ("rss", 6),
        ("done", 6),
        ("again", 5),
    ];
    if wide {
        columns.extend([("pss", 6), ("task", 44)]);
    } else {
        columns.push(("task", 11));
    }
    columns
}

fn worker_row(model: &Model, worker: &WorkerView, wide: bool) -> Row<'static> {
    let oldest = worker.tasks.iter().map(|task| task.age_ns).max();
    let first = worker.tasks.iter().max_by_key(|task| (task.polled, task.age_ns));
    let cpu = model.rates().and_then(|rates| rates.cpu(worker));
    let memory = |bytes_used: Option<u64>| bytes_used.map_or_else(|| "?".to_owned(), bytes);
    let again =
        styled(model, worker.restarts.to_string(), if worker.restarts > 0 { WARN } else { DIM });
    let mut cells = vec![
        Line::from(worker.seat.to_string()),
        Line::from(worker.pid.to_string()),
        Line::from(worker.queue.to_string()),
        Line::from(styled(model, worker.state.name(), state_style(worker.state))),
        Line::from(worker.in_flight.to_string()),
        Line::from(oldest.map_or_else(|| "-".to_owned(), time)),
        Line::from(percent(cpu)),
        Line::from(memory(worker.rss_bytes)),
        Line::from(count(worker.done)),
        Line::from(again),
    ];
    if wide {
        cells.push(Line::from(memory(worker.pss_bytes)));
    }
    let width = if wide { 44 } else { 11 };
    cells.push(Line::from(first.map_or_else(String::new, |task| short(&task.function, width))));
    Row::new(cells)
}

/// The end of a path of modules, which says most.
fn short(name: &str, width: usize) -> String {
    let name = plain(name);
    let long = name.chars().count();
    if long <= width {
        name
    } else {
        format!("…{}", name.chars().skip(long - width + 1).collect::<String>())
    }
}

fn detail(model: &Model, seat: u32, frame: &mut Frame<'_>, area: Rect) {
    let workers = model.workers();
    let Some(worker) = workers.iter().find(|worker| worker.seat == seat) else {
        frame.render_widget(Paragraph::new(format!("worker {seat} is not there now (Esc)")), area);
        return;
    };
    let mut lines = vec![
        Line::from(vec![
            styled(model, format!("worker {seat}"), BOLD),
            Span::raw(format!(
                "  pid {}  queue {}  up {}  ",
                worker.pid,
                worker.queue,
                time(worker.age_ns)
            )),
            styled(model, worker.state.name(), state_style(worker.state)),
            Span::raw(
                worker.polling_ns.map_or_else(String::new, |ns| format!(" for {}", time(ns))),
            ),
        ]),
        Line::from(format!(
            "{} tasks done, {} in flight, {} restarts",
            worker.done, worker.in_flight, worker.restarts
        )),
    ];
    if let Some(end) = &worker.last_end {
        lines.push(Line::from(styled(
            model,
            format!("the process before it {}", plain(end)),
            WARN,
        )));
    }
    lines.push(Line::default());
    lines.push(Line::from(styled(model, format!("{:>12}  {:>8}  function", "task", "age"), DIM)));
    for task in &worker.tasks {
        let text =
            format!("{:>12}  {:>8}  {}", task.task, time(task.age_ns), plain(&task.function));
        let note = if task.polled {
            "  ← polled"
        } else if task.cancelling {
            "  cancelled"
        } else {
            ""
        };
        lines.push(Line::from(vec![Span::raw(text), styled(model, note, WARN)]));
    }
    frame.render_widget(Paragraph::new(lines), area);
}
