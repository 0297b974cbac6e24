// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! What `top` shows: every registered task, and what it did since the last refresh.

use std::collections::{HashMap, VecDeque};

use virgo::{Delta, Sample};

use crate::cli::Sort;
use crate::text::{self, Align, Table};

/// How many refreshes the small graph of a task goes back.
const HISTORY: usize = 60;
/// For how many refreshes a task that has ended is still shown.
const FAREWELL: u32 = 3;

/// One task.
#[derive(Debug)]
pub(crate) struct Line {
    /// At the last refresh.
    old: Sample,
    pub(crate) new: Sample,
    pub(crate) cpu: f64,
    pub(crate) min_per_s: f64,
    pub(crate) maj_per_s: f64,
    /// CPU in percent, the newest last.
    pub(crate) history: VecDeque<f64>,
    /// Refreshes since it ended.
    ended: Option<u32>,
}

impl Line {
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    fn key(&self, sort: Sort) -> f64 {
        match sort {
            Sort::Cpu => self.cpu,
            Sort::Faults => self.min_per_s + self.maj_per_s,
            Sort::Major => self.maj_per_s,
            Sort::Rss => self.new.rss_bytes as f64,
            Sort::Time => self.new.cpu_ns() as f64,
            // The smallest first, unlike the others.
            Sort::Pid => -f64::from(self.new.tid),
        }
    }

    /// The last `width` refreshes as blocks of eight heights; the highest is 100 %, or more if
    /// the task used more.
    pub(crate) fn graph(&self, width: usize) -> String {
        const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let top = self.history.iter().copied().fold(100.0, f64::max);
        let shown = self
            .history
            .iter()
            .skip(self.history.len().saturating_sub(width));
        shown
            .map(|value| {
                let step = (value / top * 8.0).ceil() as usize;
                if step == 0 {
                    ' '
                } else {
                    BLOCKS[step.min(8) - 1]
                }
            })
            .collect()
    }
}

/// Every task that has been seen lately.
#[derive(Debug, Default)]
pub(crate) struct Board {
    lines: HashMap<u64, Line>,
    pub(crate) lost: u64,
}

impl Board {
    pub(crate) fn take(&mut self, sample: &Sample, lost: u64) {
        self.lost += lost;
        let line = self.lines.entry(sample.id).or_insert_with(|| Line {
            old: *sample,
            new: *sample,
            cpu: 0.0,
            min_per_s: 0.0,
            maj_per_s: 0.0,
            history: VecDeque::new(),
            ended: None,
        });
        line.new = *sample;
        if sample.is_last() {
            line.ended.get_or_insert(0);
        }
    }

    /// Ends an interval: works out the rates, and forgets tasks that ended a while ago.
    /// `registered` tells whether a registration is still there, for those whose last record was
    /// lost.
    pub(crate) fn refresh(&mut self, registered: impl Fn(u64) -> bool) {
        for (id, line) in &mut self.lines {
            let delta = Delta::between(&line.old, &line.new);
            // Without a new sample, at low rates, the figures stay as they are.
            if delta.time_ns > 0 || line.ended.is_some() {
                line.cpu = delta.cpu_percent().unwrap_or(0.0);
                line.min_per_s = delta.per_second(delta.min_flt).unwrap_or(0.0);
                line.maj_per_s = delta.per_second(delta.maj_flt).unwrap_or(0.0);
            }
            line.old = line.new;
            if line.history.len() == HISTORY {
                line.history.pop_front();
            }
            line.history.push_back(line.cpu);
            if line.ended.is_none() && !registered(*id) {
                line.ended = Some(0);
            } else if let Some(refreshes) = &mut line.ended {
                *refreshes += 1;
            }
        }
        self.lines
            .retain(|_, line| line.ended.is_none_or(|refreshes| refreshes <= FAREWELL));
    }

    /// The tasks in order: the largest figure first, unless `reverse`.
    pub(crate) fn sorted(&self, sort: Sort, reverse: bool) -> Vec<&Line> {
        let mut lines: Vec<&Line> = self.lines.values().collect();
        lines.sort_by(|a, b| {
            let order = b.key(sort).total_cmp(&a.key(sort));
            let order = if reverse { order.reverse() } else { order };
            order
                .then(a.new.tid.cmp(&b.new.tid))
                .then(a.new.id.cmp(&b.new.id))
        });
        lines
    }
}

/// The columns' titles.
pub(crate) const TITLES: [&str; 10] = [
    "PID", "TID", "S", "CPU %", "MINFLT/s", "MAJFLT/s", "RSS", "CPU TIME", "FAULTS", "COMMAND",
];

/// The columns' texts.
pub(crate) fn cells(line: &Line) -> [String; 10] {
    [
        line.new.pid.to_string(),
        line.new.tid.to_string(),
        char::from(line.new.state).to_string(),
        format!("{:.1}", line.cpu),
        format!("{:.0}", line.min_per_s),
        format!("{:.0}", line.maj_per_s),
        text::bytes(line.new.rss_bytes),
        text::cpu_time(line.new.cpu_ns()),
        text::count(line.new.faults()),
        line.new.comm.to_string(),
    ]
}

/// The table as plain text.
pub(crate) fn plain(lines: &[&Line]) -> Table {
    let columns = TITLES.map(|title| match title {
        "S" | "COMMAND" => (title, Align::Left),
        _ => (title, Align::Right),
    });
    let mut table = Table::new(&columns);
    for line in lines {
        table.row(cells(line).to_vec());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use virgo::uapi;

    fn sample(id: u64, time_ms: u64, cpu_ms: u64, faults: u64, flags: u32) -> Sample {
        let mut sample = Sample::default();
        sample.id = id;
        sample.tid = id as u32;
        sample.pid = id as u32;
        sample.state = b'R';
        sample.time_ns = time_ms * 1_000_000;
        sample.utime_ns = cpu_ms * 1_000_000;
        sample.min_flt = faults;
        sample.flags = flags;
        sample
    }

    fn order(board: &Board, sort: Sort, reverse: bool) -> Vec<u64> {
        board
            .sorted(sort, reverse)
            .iter()
            .map(|line| line.new.id)
            .collect()
    }

    #[test]
    fn rates_are_those_of_the_last_interval() {
        let mut board = Board::default();
        board.take(&sample(1, 0, 900, 50, uapi::SAMPLE_FIRST), 0);
        board.take(&sample(2, 0, 0, 0, uapi::SAMPLE_FIRST), 3);
        board.refresh(|_| true);
        for time in [50, 100] {
            board.take(&sample(1, time, 900 + time / 2, 50, 0), 0);
            board.take(&sample(2, time, 0, time, 0), 0);
        }
        board.refresh(|_| true);
        let lines = board.sorted(Sort::Cpu, false);
        assert_eq!((lines[0].cpu, lines[0].min_per_s), (50.0, 0.0));
        assert_eq!((lines[1].cpu, lines[1].min_per_s), (0.0, 1000.0));
        assert_eq!(order(&board, Sort::Faults, false), [2, 1]);
        assert_eq!(order(&board, Sort::Faults, true), [1, 2]);
        assert_eq!(order(&board, Sort::Time, false), [1, 2]);
        assert_eq!(order(&board, Sort::Pid, false), [1, 2]);
        assert_eq!(board.lost, 3);
        assert_eq!(lines[0].graph(10), " ▄");
    }

    #[test]
    fn tasks_that_ended_stay_a_little_and_go() {
        let mut board = Board::default();
        board.take(&sample(1, 0, 0, 0, 0), 0);
        board.take(&sample(2, 0, 0, 0, uapi::SAMPLE_EXIT), 0);
        // The first one's last record was lost.
        for _ in 0..FAREWELL {
            board.refresh(|_| false);
        }
        assert!(board
            .sorted(Sort::Pid, false)
            .iter()
            .all(|line| line.has_ended()));
        board.refresh(|_| false);
        board.refresh(|_| false);
        assert!(board.sorted(Sort::Pid, false).is_empty());
    }

    #[test]
    fn the_plain_table_has_a_line_for_each_task() {
        let mut board = Board::default();
        board.take(&sample(1, 0, 1500, 25_120, 0), 0);
        let text = plain(&board.sorted(Sort::Cpu, false)).to_string();
        assert_eq!(
            text,
            "PID  TID  S  CPU %  MINFLT/s  MAJFLT/s    RSS  CPU TIME  FAULTS  COMMAND\n  \
             1    1  R    0.0         0         0  0 KiB    1.50 s  25 120\n"
        );
    }

    #[test]
    fn the_graph_grows_beyond_one_cpu() {
        let mut board = Board::default();
        board.take(&sample(1, 0, 0, 0, 0), 0);
        board.refresh(|_| true);
        for (time, cpu) in [(100, 200), (200, 250)] {
            board.take(&sample(1, time, cpu, 0, 0), 0);
            board.refresh(|_| true);
        }
        assert_eq!(board.sorted(Sort::Cpu, false)[0].graph(2), "█▂");
    }
}
