// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo profiler top`: a live table.

use std::collections::HashSet;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Alignment, Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line as TextLine, Span, Text};
use ratatui::widgets::{Cell, Paragraph, Row, Table};
use ratatui::Frame;
use virgo::{Header, Profiler};

use crate::board::{cells, plain, Board, TITLES};
use crate::cli::{self, Sort};
use crate::collect::{register_bound, Collector, Until};
use crate::text;

pub(crate) fn run(options: &cli::Top, json: bool) -> anyhow::Result<ExitCode> {
    if options.batch.is_none() && json {
        return Err(text::Usage(
            "cannot draw a live table as JSON. Add --batch N, or use \"virgo profiler monitor\"."
                .into(),
        )
        .into());
    }
    if options.batch.is_none() && !io::stdout().is_terminal() {
        anyhow::bail!("cannot draw a live table: this is no terminal. Add --batch N.");
    }
    let until = Until::new(None)?;
    let source = Source {
        _bound: register_bound(&options.bound)?,
        profiler: Profiler::open()?,
        collector: Collector::open()?,
        board: Board::default(),
    };
    match options.batch {
        Some(count) => batch(source, options, &until, count, json),
        None => live(source, options, &until),
    }
}

/// Where the tables' figures come from.
struct Source {
    _bound: Option<Profiler>,
    profiler: Profiler,
    collector: Collector,
    board: Board,
}

impl Source {
    fn take_all(&mut self) {
        while let Some(seen) = self.collector.next() {
            self.board.take(&seen.sample, seen.lost);
        }
    }

    fn refresh(&mut self) -> anyhow::Result<()> {
        self.take_all();
        let ids: HashSet<u64> = self.profiler.list()?.iter().map(|entry| entry.id).collect();
        self.board.refresh(|id| ids.contains(&id));
        Ok(())
    }
}

/// What stands above the table.
fn summary(header: &Header, lost: u64) -> String {
    format!(
        "{} registered, {} Hz, {}; {} not taken, {} lost here",
        text::plural(u64::from(header.registered), "task"),
        header.rate_hz,
        text::plural(header.head, "record"),
        text::plural(header.dropped, "sample"),
        text::count(lost),
    )
}

fn batch(
    mut source: Source,
    options: &cli::Top,
    until: &Until,
    count: u64,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let delay = Duration::from_secs_f64(options.delay);
    // What the buffer held is a first interval, which no table shows: it may be long ago.
    source.refresh()?;
    for number in 0..count {
        let next = Instant::now() + delay;
        loop {
            let Some(left) = next.checked_duration_since(Instant::now()) else {
                break;
            };
            if until.left().is_none() {
                return Ok(ExitCode::SUCCESS);
            }
            source.collector.wait(left)?;
            source.take_all();
        }
        source.refresh()?;
        let lines = source.board.sorted(options.sort, false);
        let mut out = io::stdout().lock();
        if json {
            let rows: Vec<serde_json::Value> = lines
                .iter()
                .map(|line| {
                    serde_json::json!({
                        "id": line.new.id,
                        "pid": line.new.pid,
                        "tid": line.new.tid,
                        "state": char::from(line.new.state),
                        "cpu_pct": line.cpu,
                        "min_flt_per_s": line.min_per_s,
                        "maj_flt_per_s": line.maj_per_s,
                        "rss_kib": line.new.rss_bytes / 1024,
                        "cpu_ms": line.new.cpu_ns() as f64 / 1e6,
                        "faults": line.new.faults(),
                        "comm": line.new.comm.to_string(),
                        "ended": line.has_ended(),
                    })
                })
                .collect();
            writeln!(out, "{}", serde_json::to_string(&rows)?)?;
        } else {
            if number > 0 {
                writeln!(out)?;
            }
            writeln!(
                out,
                "{}",
                summary(&source.collector.header(), source.board.lost)
            )?;
            write!(out, "{}", plain(&lines))?;
        }
        out.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the keys have chosen.
struct View {
    sort: Sort,
    reverse: bool,
    paused: bool,
    first: usize,
}

/// What a key does.
fn key(code: KeyCode, view: &mut View) -> bool {
    let sort = match code {
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char(' ') => {
            view.paused = !view.paused;
            None
        }
        KeyCode::Char('i') => {
            view.reverse = !view.reverse;
            None
        }
        KeyCode::Down => {
            view.first = view.first.saturating_add(1);
            None
        }
        KeyCode::Up => {
            view.first = view.first.saturating_sub(1);
            None
        }
        KeyCode::PageDown => {
            view.first = view.first.saturating_add(10);
            None
        }
        KeyCode::PageUp => {
            view.first = view.first.saturating_sub(10);
            None
        }
        KeyCode::Home => {
            view.first = 0;
            None
        }
        KeyCode::Char('c') => Some(Sort::Cpu),
        KeyCode::Char('f') => Some(Sort::Faults),
        KeyCode::Char('m') => Some(Sort::Major),
        KeyCode::Char('r') => Some(Sort::Rss),
        KeyCode::Char('t') => Some(Sort::Time),
        KeyCode::Char('n') => Some(Sort::Pid),
        _ => None,
    };
    if let Some(sort) = sort {
        view.sort = sort;
        view.reverse = false;
        view.first = 0;
    }
    true
}

/// Sets the terminal back, whatever happens.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn live(mut source: Source, options: &cli::Top, until: &Until) -> anyhow::Result<ExitCode> {
    let delay = Duration::from_secs_f64(options.delay);
    let mut view = View {
        sort: options.sort,
        reverse: false,
        paused: false,
        first: 0,
    };
    source.refresh()?;
    let mut terminal = ratatui::try_init().map_err(|error| {
        anyhow::anyhow!("cannot draw on this terminal: {error}. Add --batch N.")
    })?;
    let _restore = Restore;
    let mut next = Instant::now() + delay;
    while until.left().is_some() {
        if Instant::now() >= next {
            source.refresh()?;
            next = Instant::now() + delay;
            if view.paused {
                continue;
            }
        }
        if !view.paused {
            let header = source.collector.header();
            terminal.draw(|frame| draw(frame, &source.board, &header, &mut view))?;
        }
        // Keys are answered at once; samples wait in the buffer meanwhile.
        let wait = next
            .saturating_duration_since(Instant::now())
            .min(Duration::from_millis(200));
        if event::poll(wait)? {
            match event::read()? {
                Event::Key(pressed) if pressed.kind == KeyEventKind::Press => {
                    let control = pressed.modifiers.contains(KeyModifiers::CONTROL);
                    if control && pressed.code == KeyCode::Char('c') {
                        break;
                    }
                    if !key(pressed.code, &mut view) {
                        break;
                    }
                    let header = source.collector.header();
                    terminal.draw(|frame| draw(frame, &source.board, &header, &mut view))?;
                }
                _ => {}
            }
        }
        source.take_all();
    }
    Ok(ExitCode::SUCCESS)
}

/// Which columns are set to the right.
fn is_right(title: &str) -> bool {
    !matches!(title, "S" | "COMMAND")
}

/// The column that shows what is sorted by.
fn sorted_column(sort: Sort) -> &'static str {
    match sort {
        Sort::Cpu => "CPU %",
        Sort::Faults => "MINFLT/s",
        Sort::Major => "MAJFLT/s",
        Sort::Rss => "RSS",
        Sort::Time => "CPU TIME",
        Sort::Pid => "TID",
    }
}

fn draw(frame: &mut Frame<'_>, board: &Board, header: &Header, view: &mut View) {
    let [top, middle, bottom] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let state = if view.paused { "  PAUSED" } else { "" };
    let title = TextLine::from(vec![
        Span::styled(
            "virgo profiler top  ",
            Style::new().add_modifier(Modifier::BOLD),
        ),
        Span::raw(summary(header, board.lost)),
        Span::styled(state, Style::new().fg(Color::Yellow)),
    ]);
    frame.render_widget(Paragraph::new(title), top);

    let lines = board.sorted(view.sort, view.reverse);
    view.first = view.first.min(lines.len().saturating_sub(1));
    if lines.is_empty() {
        let hint = "No task is registered. In another terminal: virgo profiler register PID";
        frame.render_widget(Paragraph::new(hint), middle);
    } else {
        const GRAPH: u16 = 20;
        let heading = TITLES.iter().map(|title| {
            let mut style = Style::new().add_modifier(Modifier::BOLD);
            if *title == sorted_column(view.sort) {
                style = style.add_modifier(Modifier::REVERSED);
            }
            cell((*title).into(), is_right(title)).style(style)
        });
        let heading = heading.chain([Cell::from("CPU HISTORY").style(Modifier::BOLD)]);
        let rows = lines.iter().skip(view.first).map(|line| {
            let style = if line.has_ended() {
                Style::new().add_modifier(Modifier::DIM)
            } else if line.maj_per_s > 0.0 {
                Style::new().fg(Color::Yellow)
            } else {
                Style::new()
            };
            let texts = cells(line).into_iter().zip(TITLES);
            let graph =
                Cell::from(line.graph(usize::from(GRAPH))).style(Style::new().fg(Color::Cyan));
            let texts = texts.map(|(text, title)| cell(text, is_right(title)));
            Row::new(texts.chain([graph])).style(style)
        });
        let widths = [7, 7, 1, 6, 8, 8, 10, 9, 11, 15, GRAPH].map(Constraint::Length);
        let table = Table::new(rows, widths)
            .header(Row::new(heading))
            .column_spacing(1);
        frame.render_widget(table, middle);
    }
    let keys =
        "q quit  space pause  sort: c CPU  f faults  m major  r RSS  t time  n pid  i reverse";
    let style = Style::new().add_modifier(Modifier::DIM);
    frame.render_widget(Paragraph::new(keys).style(style), bottom);
}

fn cell(text: String, right: bool) -> Cell<'static> {
    let alignment = if right {
        Alignment::Right
    } else {
        Alignment::Left
    };
    Cell::from(Text::from(text).alignment(alignment))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::backend::TestBackend;
    use ratatui::Terminal;
    use virgo::Sample;

    fn screen(board: &Board, view: &mut View) -> String {
        let mut terminal = Terminal::new(TestBackend::new(120, 6)).unwrap();
        let header = Header::default();
        terminal
            .draw(|frame| draw(frame, board, &header, view))
            .unwrap();
        terminal.backend().to_string()
    }

    fn view() -> View {
        View {
            sort: Sort::Cpu,
            reverse: false,
            paused: false,
            first: 0,
        }
    }

    #[test]
    fn an_empty_table_says_what_to_do() {
        let text = screen(&Board::default(), &mut view());
        assert!(text.contains("virgo profiler register PID"), "{text}");
        assert!(text.contains("q quit"), "{text}");
    }

    #[test]
    fn tasks_are_shown_and_scrolled() {
        let mut board = Board::default();
        for id in 1..=9 {
            let mut sample = Sample::default();
            sample.id = id;
            sample.tid = 400 + id as u32;
            sample.state = b'S';
            board.take(&sample, 0);
        }
        let mut view = view();
        let text = screen(&board, &mut view);
        assert!(text.contains(" 401 ") && !text.contains(" 409 "), "{text}");
        view.first = 100;
        let text = screen(&board, &mut view);
        assert!(text.contains(" 409 ") && !text.contains(" 401 "), "{text}");
        assert_eq!(view.first, 8);
    }

    #[test]
    fn keys_choose_the_order_and_quit() {
        let mut view = view();
        view.first = 3;
        assert!(key(KeyCode::Char('r'), &mut view));
        assert_eq!((view.sort, view.first), (Sort::Rss, 0));
        assert!(key(KeyCode::Char(' '), &mut view) && view.paused);
        assert!(key(KeyCode::Char('i'), &mut view) && view.reverse);
        assert!(key(KeyCode::PageDown, &mut view) && view.first == 10);
        assert!(!key(KeyCode::Char('q'), &mut view));
    }
}
