// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo trace plot`: address against time, a dot a fault.
//!
//! The address axis leaves out what no fault touched: each stretch of regions that hold faults is
//! a band, as high as its pages' share, but high enough to be seen. Dots are put on a grid of the
//! drawing's own pixels, so a million faults make no more dots than there are places.

use std::collections::BTreeMap;
use std::process::ExitCode;

use plotters::coord::Shift;
use plotters::prelude::*;
use virgo::trace::{History, AREA_EXEC, AREA_WRITE};

use super::record::span;
use super::Kind;
use crate::cli;
use crate::plot::{self, Format};
use crate::text::{self, Usage};

/// Columns and rows of the grid of dots.
const COLUMNS: u32 = 960;
const ROWS: u32 = 620;
/// Least rows of a band.
const BAND: f64 = 7.0;
/// Most bands with a row of their own; the least used are joined.
const BANDS: usize = 48;
/// Pages between two faults outside of the map that are still of one band.
const NEAR: u64 = 512;

/// A band: regions of one name, side by side.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Band {
    /// First page.
    pub(crate) first: u64,
    /// Last page and one.
    pub(crate) end: u64,
    pub(crate) name: String,
    pub(crate) code: bool,
    pub(crate) writable: bool,
    pub(crate) faults: u64,
    /// Top and bottom, in rows from the bottom.
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// What is drawn.
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) notes: String,
    pub(crate) seconds: f64,
    pub(crate) bands: Vec<Band>,
    /// Column and row of each dot, by kind.
    pub(crate) dots: [Vec<(u32, u32)>; 4],
    pub(crate) counts: [u64; 4],
}

/// Stretches of touched regions, in the order of addresses.
fn bands(history: &History, page: u64) -> Vec<Band> {
    let mut counts: BTreeMap<usize, (u64, u64, u64)> = BTreeMap::new();
    // In no region of the map, as the stack of a program that is just being loaded. What is not near
    // is not one stretch.
    let mut loose: Vec<Band> = Vec::new();
    let mut strangers: Vec<u64> = Vec::new();
    for fault in &history.faults {
        let number = fault.address / page;
        let Some(index) = history.region(fault).map(|region| region.number) else {
            strangers.push(number);
            continue;
        };
        let (faults, first, last) = counts.entry(index).or_insert((0, number, number));
        *faults += 1;
        *first = (*first).min(number);
        *last = (*last).max(number);
    }
    strangers.sort_unstable();
    for number in strangers {
        match loose.last_mut() {
            Some(band) if number <= band.end + NEAR => {
                // In order: none is before the last.
                band.end = number + 1;
                band.faults += 1;
            }
            _ => loose.push(Band {
                first: number,
                end: number + 1,
                name: "[not in the map]".into(),
                faults: 1,
                ..Band::default()
            }),
        }
    }
    let mut bands: Vec<Band> = counts
        .into_iter()
        .map(|(index, (faults, first, last))| {
            let region = history.regions.get(index);
            let bit = |flag| region.is_some_and(|region| region.area.flags & flag != 0);
            Band {
                first,
                end: last + 1,
                name: region.map_or(String::new(), |region| region.area.name.to_string()),
                code: bit(AREA_EXEC),
                writable: bit(AREA_WRITE),
                faults,
                ..Band::default()
            }
        })
        .chain(loose)
        .collect();
    bands.sort_by_key(|band| (band.first, band.end));
    // Those that overlap (in another program, or later) or touch under one name are one.
    let mut joined: Vec<Band> = Vec::new();
    for band in bands {
        match joined.last_mut() {
            Some(last)
                if band.first < last.end || (band.first == last.end && band.name == last.name) =>
            {
                join(last, &band);
            }
            _ => joined.push(band),
        }
    }
    // The least used give way.
    while joined.len() > BANDS {
        let at = (0..joined.len() - 1)
            .min_by_key(|at| joined[*at].faults + joined[at + 1].faults)
            .unwrap_or(0);
        let next = joined.remove(at + 1);
        join(&mut joined[at], &next);
    }
    joined
}

fn join(band: &mut Band, other: &Band) {
    if other.faults > band.faults {
        band.name.clone_from(&other.name);
        band.code = other.code;
        band.writable = other.writable;
    }
    band.end = band.end.max(other.end);
    band.faults += other.faults;
}

/// Gives each band its rows: a least height, and a share by the logarithm of its pages.
fn stack(bands: &mut [Band]) {
    let weight = |band: &Band| (1.0 + (band.end - band.first) as f64).log2();
    let sum: f64 = bands.iter().map(weight).sum();
    let free = (f64::from(ROWS) - BAND * bands.len() as f64).max(0.0);
    let mut at = 0.0;
    for band in bands {
        let height = BAND + free * weight(band) / sum.max(1.0);
        band.low = at;
        // A gap between two.
        band.high = at + height - 1.5;
        at += height;
    }
}

impl Chart {
    pub(crate) fn new(history: &History, title: String) -> Self {
        let page = history.begin.page_size.max(1);
        let mut bands = bands(history, page);
        stack(&mut bands);
        let (start, length) = span(history);
        let mut cells: Vec<[bool; 4]> = vec![[false; 4]; (COLUMNS * ROWS) as usize];
        let mut counts = [0; 4];
        for fault in &history.faults {
            let kind = Kind::of(fault) as usize;
            counts[kind] += 1;
            let number = fault.address / page;
            let at = bands.partition_point(|band| band.end <= number);
            let Some(band) = bands.get(at) else { continue };
            let within =
                (number.saturating_sub(band.first) as f64 + 0.5) / (band.end - band.first) as f64;
            let row = band.low + within * (band.high - band.low);
            let time = fault.time_ns.saturating_sub(start) as f64 / length.max(1) as f64;
            let column = (time * f64::from(COLUMNS - 1)) as u32;
            let row = (row as u32).min(ROWS - 1);
            let cell = (row * COLUMNS + column.min(COLUMNS - 1)) as usize;
            cells[cell][kind] = true;
        }
        let mut dots: [Vec<(u32, u32)>; 4] = Default::default();
        for (cell, kinds) in cells.iter().enumerate() {
            let place = (cell as u32 % COLUMNS, cell as u32 / COLUMNS);
            // The most telling kind alone: a dot covers what is below it.
            if let Some(kind) = (0..4).rev().find(|kind| kinds[*kind]) {
                dots[kind].push(place);
            }
        }
        Chart {
            title,
            notes: format!(
                "{} ({} major), {} dropped, {}",
                text::plural(history.faults.len() as u64, "fault"),
                text::count(counts[Kind::Major as usize]),
                text::count(history.dropped),
                text::plural(history.map_changes, "map change")
            ),
            seconds: length as f64 / 1e9,
            bands,
            dots,
            counts,
        }
    }
}

pub(crate) fn run(options: &cli::TracePlot) -> anyhow::Result<ExitCode> {
    let mut outputs = Vec::new();
    for path in &options.output {
        let format = Format::of(path).ok_or_else(|| {
            Usage(format!(
                "cannot draw {}: the name ends neither in .svg nor in .png. Choose one of them.",
                path.display()
            ))
        })?;
        outputs.push((path, format));
    }
    let history = super::load(&options.input)?;
    if history.faults.is_empty() {
        anyhow::bail!(
            "cannot draw {}: it holds no faults.",
            options.input.display()
        );
    }
    let title = match (&options.title, history.execs.last()) {
        (Some(title), _) => title.clone(),
        (None, Some(exec)) => format!("Page faults of {}", exec.path),
        (None, None) => format!("Page faults of process {}", history.begin.pid),
    };
    let chart = Chart::new(&history, title);
    for (path, format) in outputs {
        plot::write_trace(&chart, path, format)?;
    }
    Ok(ExitCode::SUCCESS)
}

const COLOURS: [RGBColor; 4] = [
    RGBColor(0x2c, 0x8c, 0x4a),
    RGBColor(0xd9, 0x7a, 0x0b),
    RGBColor(0x1f, 0x6f, 0xb4),
    RGBColor(0xc8, 0x1e, 0x2b),
];
/// Left of the dots, for the bands' names.
const NAMES: i32 = 230;
const TOP: i32 = 78;

/// Height of the drawing.
pub(crate) const HEIGHT: u32 = 78 + ROWS + 58;

/// Draws the chart into an area of `plot::WIDTH` times [`HEIGHT`] units.
pub(crate) fn draw<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    chart: &Chart,
    scale: u32,
) -> anyhow::Result<()> {
    let s = scale as i32;
    let fail = plot::drawing;
    let black = RGBColor(0x20, 0x20, 0x20);
    let grey = RGBColor(0x66, 0x66, 0x66);
    area.fill(&WHITE).map_err(fail)?;
    let write = |text: &str, x: i32, y: i32, size: u32, colour: RGBColor, right: bool| {
        area.draw(&plot::label(
            text,
            (x * s, y * s),
            size,
            scale,
            colour,
            right,
        ))
        .map_err(plot::drawing)
    };
    let title = plot::fit(&chart.title, 24, 900);
    write(&title, 16, 24, 22, black, false)?;
    write(&chart.notes, 16, 50, 13, grey, false)?;
    // Rows count from the bottom.
    let bottom = TOP + ROWS as i32;
    let y_of = |row: f64| f64::from(bottom) - row;
    let right = NAMES + COLUMNS as i32;
    for band in &chart.bands {
        let fill = if band.code {
            RGBColor(0xe4, 0xee, 0xf7)
        } else if band.writable {
            RGBColor(0xf8, 0xf1, 0xe3)
        } else {
            RGBColor(0xf0, 0xf0, 0xf0)
        };
        let (high, low) = (y_of(band.high), y_of(band.low));
        area.draw(&Rectangle::new(
            [
                (NAMES * s, (high * f64::from(s)) as i32),
                (right * s, (low * f64::from(s)) as i32),
            ],
            fill.filled(),
        ))
        .map_err(fail)?;
        if band.high - band.low >= 9.0 {
            let name = match band.name.rsplit_once('/') {
                Some((_, file)) => file,
                None if band.name.is_empty() => "anonymous",
                None => &band.name,
            };
            let name = plot::fit(
                &format!("{name} {:x}", band.first * 4096),
                10,
                NAMES as u32 - 14,
            );
            let middle = ((high + low) / 2.0) as i32;
            write(&name, NAMES - 6, middle, 10, grey, true)?;
        }
    }
    for (kind, dots) in chart.dots.iter().enumerate() {
        let style = COLOURS[kind].filled();
        for (column, row) in dots {
            let x = (NAMES + *column as i32) * s;
            let y = (bottom - 1 - *row as i32) * s;
            area.draw(&Rectangle::new(
                [(x, y), (x + (3 * s) / 2, y + (3 * s) / 2)],
                style,
            ))
            .map_err(fail)?;
        }
    }
    // Time.
    for tick in 0..=5 {
        let x = NAMES + (COLUMNS as i32 - 1) * tick / 5;
        area.draw(&PathElement::new(
            vec![(x * s, bottom * s), (x * s, (bottom + 5) * s)],
            grey,
        ))
        .map_err(fail)?;
        let seconds = chart.seconds * f64::from(tick) / 5.0;
        let label = if chart.seconds >= 1.0 {
            format!("{seconds:.2} s")
        } else {
            format!("{:.2} ms", seconds * 1e3)
        };
        write(&label, x + 18, bottom + 14, 11, grey, true)?;
    }
    // What the colours mean.
    let mut x = NAMES;
    for (kind, name) in Kind::ALL.iter().zip(["read", "write", "execute", "major"]) {
        let index = *kind as usize;
        area.draw(&Rectangle::new(
            [
                (x * s, (bottom + 34) * s),
                ((x + 10) * s, (bottom + 44) * s),
            ],
            COLOURS[index].filled(),
        ))
        .map_err(fail)?;
        let label = format!("{name}: {}", text::count(chart.counts[index]));
        write(&label, x + 16, bottom + 39, 12, black, false)?;
        x += 180;
    }
    Ok(())
}
