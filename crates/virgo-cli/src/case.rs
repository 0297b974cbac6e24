// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo profiler case`: the original's two case studies.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use serde::Serialize;

use crate::cli;
use crate::plot::{self, Against, AgainstPanel, Format};
use crate::report::Report;
use crate::run::draw;
use crate::session::{self, Finished, Output, Plan, Planned};
use crate::text;

/// What part of the available memory the processes may use.
const SHARE: f64 = 0.7;

/// One process of a study: `work MB LOCALITY ACCESSES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Load {
    locality: char,
    accesses: u64,
}

pub(crate) fn run(options: &cli::Case, json: bool) -> anyhow::Result<ExitCode> {
    fs::create_dir_all(&options.out).map_err(|error| {
        text::file_error(
            "make",
            &options.out,
            &error,
            "Choose another directory with --out.",
        )
    })?;
    match options.number {
        1 => pairs(options, json),
        _ => multiprogramming(options, json),
    }
}

/// Case 1: how locality and the number of accesses change the faults.
fn pairs(options: &cli::Case, json: bool) -> anyhow::Result<ExitCode> {
    let most = options.accesses.unwrap_or(50_000);
    let fewer = options
        .accesses
        .map_or(10_000, |accesses| (accesses / 5).max(1));
    let memory = memory(options.mb, 1024, 2)?;
    let first = Load {
        locality: 'R',
        accesses: most,
    };
    let studies = [
        ("profile1", 'R', "random beside random"),
        ("profile2", 'L', "random beside local"),
    ];
    let mut reports = Vec::new();
    for (name, locality, words) in studies {
        let second = Load {
            locality,
            accesses: fewer,
        };
        let study = Study {
            options,
            memory,
            name: name.into(),
            quiet: options.quiet,
        };
        let finished = study.run(&[first, second])?;
        let title = format!("Case study 1: {words}, {memory} MiB each");
        study.draw(&finished, &title)?;
        let report = Report::from(&finished);
        if !json {
            writeln!(io::stdout().lock(), "{title}\n{report}")?;
        }
        reports.push(report);
        if finished.interrupted {
            return Ok(ExitCode::FAILURE);
        }
    }
    if json {
        writeln!(io::stdout().lock(), "{}", serde_json::to_string(&reports)?)?;
    }
    Ok(exit_code(&reports))
}

/// One row of case 2.
#[derive(Debug, Serialize)]
struct Step {
    processes: u32,
    seconds: f64,
    /// CPU time of all processes against the time that passed, of one CPU.
    utilisation_pct: f64,
    faults: u64,
    faults_per_s: f64,
}

impl Step {
    fn new(processes: u32, finished: &Finished) -> Self {
        let firsts = finished
            .outcomes
            .iter()
            .map(|outcome| outcome.first.time_ns);
        let lasts = finished.outcomes.iter().map(|outcome| outcome.last.time_ns);
        let wall = lasts
            .max()
            .unwrap_or(0)
            .saturating_sub(firsts.min().unwrap_or(0));
        let (mut cpu, mut faults) = (0, 0);
        for outcome in &finished.outcomes {
            let delta = virgo::Delta::between(&outcome.first, &outcome.last);
            cpu += delta.cpu_ns();
            faults += delta.faults();
        }
        let seconds = wall as f64 / 1e9;
        let per_second = |value: f64| if seconds > 0.0 { value / seconds } else { 0.0 };
        Step {
            processes,
            seconds,
            utilisation_pct: per_second(cpu as f64 / 1e7),
            faults,
            faults_per_s: per_second(faults as f64),
        }
    }
}

/// Case 2: how the CPU's utilisation grows with the number of processes.
fn multiprogramming(options: &cli::Case, json: bool) -> anyhow::Result<ExitCode> {
    let most = options.processes.iter().copied().max().unwrap_or(1);
    let memory = memory(options.mb, 200, most)?;
    let load = Load {
        locality: 'R',
        accesses: options.accesses.unwrap_or(10_000),
    };
    let mut steps: Vec<Step> = Vec::new();
    let mut reports = Vec::new();
    for processes in &options.processes {
        let study = Study {
            options,
            memory,
            name: format!("case2-{processes}"),
            quiet: options.quiet,
        };
        let loads = vec![load; usize::try_from(*processes)?];
        let finished = study.run(&loads)?;
        let title = format!(
            "Case study 2: {} x work {memory} R {}",
            processes, load.accesses
        );
        study.draw(&finished, &title)?;
        if finished.interrupted {
            return Ok(ExitCode::FAILURE);
        }
        let step = Step::new(*processes, &finished);
        if !json {
            writeln!(
                io::stdout().lock(),
                "{:>13}: {:>6.1} % CPU, {} faults ({:.0} a second), {:.1} s",
                processes_word(step.processes),
                step.utilisation_pct,
                text::count(step.faults),
                step.faults_per_s,
                step.seconds
            )?;
        }
        steps.push(step);
        reports.push(Report::from(&finished));
    }
    steps.sort_by_key(|step| step.processes);
    write_steps(&options.out.join("case2.csv"), &steps)?;
    draw_steps(options, memory, load, &steps)?;
    if json {
        writeln!(io::stdout().lock(), "{}", serde_json::to_string(&steps)?)?;
    }
    Ok(exit_code(&reports))
}

fn processes_word(count: u32) -> String {
    match count {
        1 => "1 process".into(),
        count => format!("{count} processes"),
    }
}

fn write_steps(path: &Path, steps: &[Step]) -> anyhow::Result<()> {
    let fail = |error: &io::Error| {
        text::file_error("write", path, error, "Choose another directory with --out.")
    };
    let file = fs::File::create(path).map_err(|error| fail(&error))?;
    let mut writer = csv::Writer::from_writer(file);
    for step in steps {
        writer
            .serialize(step)
            .map_err(|error| fail(&io::Error::from(error)))?;
    }
    writer.flush().map_err(|error| fail(&error))
}

fn draw_steps(options: &cli::Case, memory: u32, load: Load, steps: &[Step]) -> anyhow::Result<()> {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let points = |value: fn(&Step) -> f64| {
        let pairs = steps
            .iter()
            .map(|step| (f64::from(step.processes), value(step)));
        pairs.collect::<Vec<_>>()
    };
    let capacity = 100.0 * cpus as f64;
    let chart = Against {
        title: "Case study 2: utilisation against the number of processes".into(),
        notes: format!(
            "each: work {memory} R {}, {} iterations, {} ms pause after each; {}, sampled at {} Hz",
            load.accesses,
            options.iterations,
            options.pause,
            text::plural(cpus as u64, "CPU"),
            options.rate
        ),
        x_label: "processes at the same time".into(),
        panels: vec![
            AgainstPanel {
                y_label: "CPU used, % of one".into(),
                percent: true,
                points: points(|step| step.utilisation_pct),
                limit: Some((
                    capacity,
                    format!("all of this machine's {}", text::plural(cpus as u64, "CPU")),
                )),
            },
            AgainstPanel {
                y_label: "page faults a second".into(),
                percent: false,
                points: points(|step| step.faults_per_s),
                limit: None,
            },
        ],
    };
    plot::write_against(&chart, &options.out.join("case2.svg"), Format::Svg)?;
    plot::write_against(&chart, &options.out.join("case2.png"), Format::Png)
}

/// One profiled group of `work` processes.
struct Study<'a> {
    options: &'a cli::Case,
    memory: u32,
    name: String,
    quiet: bool,
}

impl Study<'_> {
    fn file(&self, extension: &str) -> PathBuf {
        self.options.out.join(format!("{}.{extension}", self.name))
    }

    fn run(&self, loads: &[Load]) -> anyhow::Result<Finished> {
        let commands = loads.iter().map(|load| self.command(*load)).collect();
        session::run(Plan {
            commands,
            rate: Some(self.options.rate),
            csv: Some(self.file("csv")),
            keep: true,
            quiet: self.quiet,
            // Up to eleven processes that count their iterations tell nobody anything.
            output: Output::Discard,
        })
    }

    fn command(&self, load: Load) -> Planned {
        let work = [
            "work".to_owned(),
            self.memory.to_string(),
            load.locality.to_string(),
            load.accesses.to_string(),
        ];
        let label = work.join(" ");
        // The gate becomes itself once more: this program, wherever it lies.
        let options = [
            format!("--iterations={}", self.options.iterations),
            format!("--pause={}", self.options.pause),
        ];
        let argv = ["/proc/self/exe".to_owned()]
            .into_iter()
            .chain(work)
            .chain(options);
        Planned {
            label,
            argv: argv.map(OsString::from).collect(),
        }
    }

    fn draw(&self, finished: &Finished, title: &str) -> anyhow::Result<()> {
        draw(finished, Some(title), &self.file("svg"), Format::Svg)?;
        draw(finished, Some(title), &self.file("png"), Format::Png)
    }
}

fn exit_code(reports: &[Report]) -> ExitCode {
    let mut lines = reports.iter().flat_map(|report| &report.commands);
    if lines.all(|line| line.exit == 0) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Memory of each process in MiB: what the user asked for, else the original's, else what this
/// machine has room for; in the latter case says so.
fn memory(asked: Option<u32>, original: u32, processes: u32) -> anyhow::Result<u32> {
    if let Some(asked) = asked {
        return Ok(asked);
    }
    let path = Path::new("/proc/meminfo");
    let text = fs::read_to_string(path)
        .map_err(|error| text::file_error("read", path, &error, "Give --mb."))?;
    let Some(available) = available_mib(&text) else {
        anyhow::bail!(
            "cannot tell how much memory there is: /proc/meminfo does not say. Give --mb."
        );
    };
    let fits = share(available, processes);
    if fits < original {
        text::remark(&format!(
            "{fits} MiB for each process instead of the original's {original}: \
             {available} MiB are available here for {}",
            processes_word(processes)
        ));
    }
    Ok(fits.min(original))
}

/// `MemAvailable`, in MiB.
fn available_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

/// Each one's part of the available memory, at least 1 MiB.
fn share(available: u64, processes: u32) -> u32 {
    let each = available as f64 * SHARE / f64::from(processes.max(1));
    // CAST: between 1 and 1024.
    each.clamp(1.0, 1024.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_scaled_to_the_machine() {
        let text = "MemTotal:  2000000 kB\nMemFree: 10 kB\nMemAvailable:    1024000 kB\n";
        assert_eq!(available_mib(text), Some(1000));
        assert_eq!(available_mib("MemTotal: 1 kB\n"), None);
        assert_eq!(
            (share(1000, 2), share(1000, 7), share(0, 11)),
            (350, 100, 1)
        );
        assert_eq!(share(1_000_000, 1), 1024);
        assert_eq!(memory(Some(17), 1024, 2).unwrap(), 17);
    }
}
