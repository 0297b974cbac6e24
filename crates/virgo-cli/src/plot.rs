// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Drawing: samples over time, a line for each task, as SVG or PNG.
//!
//! Text is measured, and drawn into PNG, with DejaVu Sans, which is a part of this program: a
//! small guest has no fonts.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufWriter};
use std::path::Path;
use std::sync::Once;

use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{register_font, FontStyle, ShapeStyle};

use crate::cli::By;
use crate::row::Row;
use crate::text;
use crate::trace::{self, Chart as TraceChart};

/// The two panels of the usual drawing.
pub(crate) const BOTH: [By; 2] = [By::Faults, By::Cpu];

/// The kind of file to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Svg,
    Png,
}

impl Format {
    /// What a file's name asks for.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?;
        match extension.to_ascii_lowercase().as_str() {
            "svg" => Some(Format::Svg),
            "png" => Some(Format::Png),
            _ => None,
        }
    }
}

/// A sample, reduced to what is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    /// Seconds.
    pub(crate) time: f64,
    /// Faults since the task began.
    pub(crate) faults: u64,
    /// CPU seconds since the task began.
    pub(crate) cpu: f64,
    /// Resident memory, in MiB.
    pub(crate) rss: f64,
}

impl From<&virgo::Sample> for Point {
    fn from(sample: &virgo::Sample) -> Self {
        Point {
            time: sample.time_ns as f64 / 1e9,
            faults: sample.faults(),
            cpu: sample.cpu_ns() as f64 / 1e9,
            rss: sample.rss_bytes as f64 / f64::from(1 << 20),
        }
    }
}

impl From<&Row> for Point {
    fn from(row: &Row) -> Self {
        Point {
            time: row.time_s,
            faults: row.min_flt.saturating_add(row.maj_flt),
            cpu: (row.utime_ms + row.stime_ms) / 1e3,
            rss: row.rss_kib as f64 / 1024.0,
        }
    }
}

/// One task's samples.
#[derive(Debug)]
struct Series {
    pid: u32,
    tid: u32,
    label: String,
    points: Vec<Point>,
}

impl Series {
    fn faults(&self) -> u64 {
        match (self.points.first(), self.points.last()) {
            (Some(first), Some(last)) => last.faults.saturating_sub(first.faults),
            _ => 0,
        }
    }

    fn cpu_percent(&self) -> f64 {
        match (self.points.first(), self.points.last()) {
            (Some(first), Some(last)) if last.time > first.time => {
                100.0 * (last.cpu - first.cpu) / (last.time - first.time)
            }
            _ => 0.0,
        }
    }

    fn peak_rss(&self) -> f64 {
        self.points
            .iter()
            .map(|point| point.rss)
            .fold(0.0, f64::max)
    }

    /// What the task is ranked by in a panel's order.
    fn rank(&self, by: By) -> f64 {
        match by {
            By::Faults => self.faults() as f64,
            By::Cpu => self.cpu_percent(),
            By::Rss => self.peak_rss(),
        }
    }

    /// The line of one panel, from `start` on, with about one point for each `bin` seconds.
    fn line(&self, by: By, start: f64, bin: f64) -> Vec<(f64, f64)> {
        let Some(first) = self.points.first() else {
            return Vec::new();
        };
        match by {
            By::Faults => self.thin(bin, |point| {
                (
                    point.time - start,
                    point.faults.saturating_sub(first.faults) as f64,
                )
            }),
            By::Rss => self.thin(bin, |point| (point.time - start, point.rss)),
            By::Cpu => self.cpu_line(start, bin),
        }
    }

    /// The last point of each bin, and the first of all.
    fn thin(&self, bin: f64, value: impl Fn(&Point) -> (f64, f64)) -> Vec<(f64, f64)> {
        let mut line: Vec<(f64, f64)> = Vec::new();
        let mut kept = f64::NEG_INFINITY;
        for (index, point) in self.points.iter().enumerate() {
            let is_last = index + 1 == self.points.len();
            if index == 0 || is_last || point.time - kept >= bin {
                line.push(value(point));
                kept = point.time;
            }
        }
        line
    }

    /// CPU in percent, as the mean over each bin: what the task used between two samples that are
    /// at least a bin apart, drawn in their middle.
    fn cpu_line(&self, start: f64, bin: f64) -> Vec<(f64, f64)> {
        let mut line = Vec::new();
        let Some((first, rest)) = self.points.split_first() else {
            return line;
        };
        let mut old = first;
        for (index, point) in rest.iter().enumerate() {
            let apart = point.time - old.time;
            let is_last = index + 1 == rest.len();
            // Short of a bin at the end there is too little time for a fair mean.
            if apart < bin && !(is_last && (line.is_empty() || apart > bin / 2.0)) {
                continue;
            }
            if apart > 0.0 {
                let percent = 100.0 * (point.cpu - old.cpu).max(0.0) / apart;
                line.push((old.time + apart / 2.0 - start, percent));
            }
            old = point;
        }
        line
    }
}

/// All tasks' samples, in the order of their registration.
#[derive(Debug, Default)]
pub(crate) struct Data {
    series: Vec<Series>,
    by_id: HashMap<u64, usize>,
}

impl Data {
    /// Adds a sample to the series of its registration. The newest label is kept: a process's
    /// name changes when it becomes another program.
    pub(crate) fn add(&mut self, id: u64, pid: u32, tid: u32, label: &str, point: Point) {
        let index = *self.by_id.entry(id).or_insert_with(|| {
            self.series.push(Series {
                pid,
                tid,
                label: String::new(),
                points: Vec::new(),
            });
            self.series.len() - 1
        });
        let series = &mut self.series[index];
        if series.label != label {
            series.label = label.into();
        }
        series.points.push(point);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// When the first sample was taken, and when the last.
    fn span(&self) -> (f64, f64) {
        let times = || {
            self.series
                .iter()
                .flat_map(|series| &series.points)
                .map(|point| point.time)
        };
        let start = times().fold(f64::INFINITY, f64::min);
        let end = times().fold(f64::NEG_INFINITY, f64::max);
        if start <= end {
            (start, end)
        } else {
            (0.0, 0.0)
        }
    }

    /// The usual time between two samples of a task.
    fn round(&self) -> f64 {
        let mut gaps: Vec<f64> = self
            .series
            .iter()
            .flat_map(|series| series.points.windows(2))
            .map(|pair| pair[1].time - pair[0].time)
            .filter(|gap| *gap > 0.0)
            .take(10_000)
            .collect();
        gaps.sort_by(f64::total_cmp);
        gaps.get(gaps.len() / 2).copied().unwrap_or(0.05)
    }
}

/// What to draw, beside the data.
#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) title: String,
    /// Ends the line below the title.
    pub(crate) notes: String,
    pub(crate) panels: Vec<By>,
}

/// A figure against a number of processes, for the case study.
#[derive(Debug)]
pub(crate) struct Against {
    pub(crate) title: String,
    pub(crate) notes: String,
    pub(crate) x_label: String,
    /// Title, format of a value, and the points.
    pub(crate) panels: Vec<AgainstPanel>,
}

/// One panel of [`Against`].
#[derive(Debug)]
pub(crate) struct AgainstPanel {
    pub(crate) y_label: String,
    pub(crate) percent: bool,
    pub(crate) points: Vec<(f64, f64)>,
    /// A line across, with its name.
    pub(crate) limit: Option<(f64, String)>,
}

/// Colours that people with any colour vision can tell apart (Okabe and Ito), without the yellow,
/// which is too light for a thin line on white.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(60, 60, 60),
];
const INK: RGBColor = RGBColor(34, 34, 34);
const SOFT: RGBColor = RGBColor(105, 105, 105);
const GRID: RGBColor = RGBColor(228, 228, 228);
const CROWD: RGBColor = RGBColor(190, 190, 190);

const WIDTH: u32 = 1200;
const LEGEND: u32 = 300;
const HEADING: u32 = 74;
const PANEL: u32 = 380;
/// Pixels of a PNG for each of the drawing's units.
const PNG_SCALE: u32 = 2;
/// More lines than that, and only the first seven have a colour each.
const NAMED: usize = COLOURS.len() * 2;
/// About so many points of a line are drawn over the whole width.
const BINS: f64 = 300.0;

/// About so many points of all CPU lines together.
const CPU_POINTS: f64 = 500.0;

/// How one series looks.
#[derive(Clone, Copy)]
struct Look {
    colour: RGBColor,
    dashed: bool,
    crowd: bool,
}

fn look(rank: usize, of: usize) -> Look {
    let named = if of > NAMED { COLOURS.len() } else { NAMED };
    Look {
        colour: if rank < named {
            COLOURS[rank % COLOURS.len()]
        } else {
            CROWD
        },
        dashed: rank >= COLOURS.len() && rank < named,
        crowd: rank >= named,
    }
}

/// Draws into a file.
pub(crate) fn write(chart: &Chart, data: &Data, path: &Path, format: Format) -> anyhow::Result<()> {
    let height = HEADING + PANEL * chart.panels.len() as u32;
    to_file(path, format, height, Painter::Lines(chart, data))
}

/// Draws into a file.
pub(crate) fn write_against(chart: &Against, path: &Path, format: Format) -> anyhow::Result<()> {
    let height = HEADING + PANEL * chart.panels.len() as u32;
    to_file(path, format, height, Painter::Against(chart))
}

/// Draws a page-fault trace into a file.
pub(crate) fn write_trace(chart: &TraceChart, path: &Path, format: Format) -> anyhow::Result<()> {
    to_file(path, format, trace::HEIGHT, Painter::Trace(chart))
}

/// Text, with its middle at the height of `at`; it begins there, or with `right` ends there.
pub(crate) fn label(
    text: &str,
    at: (i32, i32),
    size: u32,
    scale: u32,
    colour: RGBColor,
    right: bool,
) -> Text<'static, (i32, i32), String> {
    let pos = Pos {
        h_pos: if right { HPos::Right } else { HPos::Left },
        v_pos: VPos::Center,
    };
    Text::new(text.to_owned(), at, styled(size, scale, colour, pos))
}

#[derive(Clone, Copy)]
enum Painter<'a> {
    Lines(&'a Chart, &'a Data),
    Against(&'a Against),
    Trace(&'a TraceChart),
}

impl Painter<'_> {
    fn paint<B: DrawingBackend>(self, area: &Area<B>, scale: u32) -> anyhow::Result<()> {
        match self {
            Painter::Lines(chart, data) => draw_lines(area, chart, data, scale),
            Painter::Against(chart) => draw_against(area, chart, scale),
            Painter::Trace(chart) => trace::draw(area, chart, scale),
        }
    }
}

type Area<B> = DrawingArea<B, Shift>;

fn to_file(path: &Path, format: Format, height: u32, painter: Painter<'_>) -> anyhow::Result<()> {
    let fail = |error: &io::Error| text::file_error("write", path, error, "Choose another place.");
    match format {
        Format::Svg => {
            let mut svg = String::new();
            {
                let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
                painter.paint(&area, 1)?;
                area.present().map_err(drawing)?;
            }
            fs::write(path, svg).map_err(|error| fail(&error))
        }
        Format::Png => {
            let size = (WIDTH * PNG_SCALE, height * PNG_SCALE);
            let mut pixels = vec![0; size.0 as usize * size.1 as usize * 3];
            {
                let area = BitMapBackend::with_buffer(&mut pixels, size).into_drawing_area();
                painter.paint(&area, PNG_SCALE)?;
                area.present().map_err(drawing)?;
            }
            let file = fs::File::create(path).map_err(|error| fail(&error))?;
            let mut encoder = png::Encoder::new(BufWriter::new(file), size.0, size.1);
            encoder.set_color(png::ColorType::Rgb);
            encoder.set_depth(png::BitDepth::Eight);
            encoder
                .write_header()
                .and_then(|mut writer| {
                    writer.write_image_data(&pixels)?;
                    writer.finish()
                })
                .map_err(|error| fail(&io::Error::from(error)))
        }
    }
}

/// An error of the drawing library: it has no files, so this is a fault of this program.
pub(crate) fn drawing(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}. This is a fault of this program; please report it.")
}

/// Hands the fonts over to the drawing library, once.
fn fonts() {
    static FONTS: Once = Once::new();
    FONTS.call_once(|| {
        // Both fonts are parts of this program, and are sound: a test draws with them.
        let _ = register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular());
        let _ = register_font("sans-serif", FontStyle::Bold, dejavu::sans::bold());
    });
}

fn font(size: u32, scale: u32) -> FontDesc<'static> {
    fonts();
    ("sans-serif", size * scale).into_font()
}

fn styled(size: u32, scale: u32, colour: RGBColor, pos: Pos) -> TextStyle<'static> {
    text_style(font(size, scale), colour, pos)
}

/// Not `font(...).style(...)`, which would keep the thin font's shapes.
fn title_font(scale: u32) -> FontDesc<'static> {
    fonts();
    FontDesc::new(
        FontFamily::SansSerif,
        f64::from(24 * scale),
        FontStyle::Bold,
    )
}

fn text_style(font: FontDesc<'static>, colour: RGBColor, pos: Pos) -> TextStyle<'static> {
    TextStyle {
        font,
        color: colour.to_backend_color(),
        pos,
    }
}

const MIDDLE: Pos = Pos {
    h_pos: HPos::Left,
    v_pos: VPos::Center,
};
const BASE: Pos = Pos {
    h_pos: HPos::Left,
    v_pos: VPos::Top,
};

/// Cuts `text` with an ellipsis so that it fits into `width` units.
pub(crate) fn fit(text: &str, size: u32, width: u32) -> String {
    let wide = |text: &str| font(size, 1).box_size(text).map_or(0, |(wide, _)| wide);
    if wide(text) <= width {
        return text.into();
    }
    let mut chars: Vec<char> = text.chars().collect();
    while chars.pop().is_some() {
        let cut: String = chars.iter().copied().chain(['…']).collect();
        if wide(&cut) <= width {
            return cut;
        }
    }
    String::new()
}

/// 0, 500, 20k, 1.5M.
fn short(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        value if value >= 1e9 => (1e9, "G"),
        value if value >= 1e6 => (1e6, "M"),
        value if value >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    let text = format!("{:.2}", value / scaled);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{unit}")
}

/// A round number not below `value`, to end an axis with.
fn ceiling(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|round| *round >= value * 1.02)
        .unwrap_or(power * 12.0)
}

fn heading<B: DrawingBackend>(
    area: &Area<B>,
    title: &str,
    notes: &str,
    scale: u32,
) -> anyhow::Result<()> {
    let s = scale as i32;
    area.fill(&WHITE).map_err(drawing)?;
    let bold = text_style(title_font(scale), INK, BASE);
    let title = fit(title, 27, WIDTH - 60);
    area.draw(&Text::new(title, (24 * s, 16 * s), bold))
        .map_err(drawing)?;
    let small = styled(15, scale, SOFT, BASE);
    area.draw(&Text::new(
        fit(notes, 13, WIDTH - 60),
        (24 * s, 46 * s),
        small,
    ))
    .map_err(drawing)
}

fn draw_lines<B: DrawingBackend>(
    area: &Area<B>,
    chart: &Chart,
    data: &Data,
    scale: u32,
) -> anyhow::Result<()> {
    let (start, end) = data.span();
    let seconds = (end - start).max(data.round());
    let samples: usize = data.series.iter().map(|series| series.points.len()).sum();
    let notes = format!(
        "{}, {:.1} s, {}; {}",
        text::plural(data.series.len() as u64, "task"),
        end - start,
        text::plural(samples as u64, "sample"),
        chart.notes
    );
    heading(area, &chart.title, &notes, scale)?;

    let by = chart.panels.first().copied().unwrap_or(By::Faults);
    let mut ranked: Vec<&Series> = data.series.iter().collect();
    ranked.sort_by(|a, b| b.rank(by).total_cmp(&a.rank(by)).then(a.pid.cmp(&b.pid)));

    let (_, body) = area.split_vertically(HEADING * scale);
    let (left, right) = body.split_horizontally((WIDTH - LEGEND) * scale);
    let areas = left.split_evenly((chart.panels.len().max(1), 1));
    for (index, (area, by)) in areas.iter().zip(&chart.panels).enumerate() {
        let lowest = index + 1 == chart.panels.len();
        panel(
            area,
            *by,
            &ranked,
            (start, seconds),
            data.round(),
            lowest,
            scale,
        )?;
    }
    legend(&right, &ranked, by, scale)
}

fn panel<B: DrawingBackend>(
    area: &Area<B>,
    by: By,
    ranked: &[&Series],
    (start, seconds): (f64, f64),
    round: f64,
    lowest: bool,
    scale: u32,
) -> anyhow::Result<()> {
    // A CPU's share over one round jumps with the scheduler's slices; a few rounds show the trend,
    // and the more lines there are the calmer each must be.
    let bin = match by {
        By::Cpu => {
            let bins = (CPU_POINTS / ranked.len().max(1) as f64).clamp(25.0, BINS);
            (seconds / bins).max(round * 3.9)
        }
        By::Faults | By::Rss => seconds / (BINS * 4.0),
    };
    let lines: Vec<Vec<(f64, f64)>> = ranked
        .iter()
        .map(|series| series.line(by, start, bin))
        .collect();
    let highest = lines.iter().flatten().map(|(_, y)| *y).fold(0.0, f64::max);
    let y_label = match by {
        By::Faults => "page faults since the start".into(),
        By::Cpu => format!(
            "CPU, % of one (mean of {} s)",
            short((bin * 100.0).round() / 100.0)
        ),
        By::Rss => "resident memory, MiB".into(),
    };
    let y_label_format = move |value: &f64| match by {
        By::Cpu => format!("{}%", short(*value)),
        By::Faults | By::Rss => short(*value),
    };
    let mut context = ChartBuilder::on(area)
        .margin_left(14 * scale)
        .margin_right(22 * scale)
        .margin_top(10 * scale)
        .margin_bottom(14 * scale)
        .x_label_area_size(if lowest { 46 } else { 26 } * scale)
        .y_label_area_size(72 * scale)
        .build_cartesian_2d(0.0..seconds, 0.0..ceiling(highest))
        .map_err(drawing)?;
    let mut mesh = context.configure_mesh();
    mesh.max_light_lines(0)
        .bold_line_style(GRID.stroke_width(scale))
        .axis_style(SOFT.stroke_width(scale))
        .x_labels(10)
        .y_labels(7)
        .x_label_formatter(&|value| short(*value))
        .y_label_formatter(&y_label_format)
        .label_style(styled(15, scale, SOFT, MIDDLE))
        .axis_desc_style(styled(16, scale, INK, MIDDLE))
        .y_desc(y_label);
    if lowest {
        mesh.x_desc("time, s");
    }
    mesh.draw().map_err(drawing)?;

    // The crowd first, so that the lines with names lie above it, the first one on top.
    for (rank, line) in lines.iter().enumerate().rev() {
        let look = look(rank, ranked.len());
        let width = if look.crowd { scale } else { 2 * scale };
        let style = look.colour.stroke_width(width);
        if look.dashed {
            let dashes = DashedPathElement::new(line.clone(), 7 * scale, 4 * scale, style);
            context.draw_series([dashes]).map_err(drawing)?;
        } else {
            context
                .draw_series(LineSeries::new(line.iter().copied(), style))
                .map_err(drawing)?;
        }
        // Where the task ended, or the recording did.
        if let (Some(end), false) = (line.last(), look.crowd) {
            let dot = Circle::new(*end, 3 * scale, look.colour.filled());
            context.draw_series([dot]).map_err(drawing)?;
        }
    }
    Ok(())
}

fn legend<B: DrawingBackend>(
    area: &Area<B>,
    ranked: &[&Series],
    by: By,
    scale: u32,
) -> anyhow::Result<()> {
    const STEP: i32 = 45;
    let s = scale as i32;
    let (_, height) = area.dim_in_pixel();
    let room = (height as i32 / s - 70) / STEP;
    let named = ranked
        .iter()
        .enumerate()
        .take_while(|(rank, _)| !look(*rank, ranked.len()).crowd);
    let named: Vec<_> = named
        .take(usize::try_from(room).unwrap_or(0).max(1))
        .collect();
    let order = match by {
        By::Faults => "most faults first",
        By::Cpu => "most CPU first",
        By::Rss => "most memory first",
    };
    let small = styled(14, scale, SOFT, MIDDLE);
    area.draw(&Text::new(order, (0, 18 * s), small.clone()))
        .map_err(drawing)?;
    let mut y = 44;
    let swatch = |y: i32, look: Look| {
        let line = vec![(0, y * s), (26 * s, y * s)];
        let style = ShapeStyle::from(look.colour).stroke_width(3 * scale);
        (line, style)
    };
    for (rank, series) in &named {
        let look = look(*rank, ranked.len());
        let (line, style) = swatch(y, look);
        if look.dashed {
            area.draw(&DashedPathElement::new(line, 7 * scale, 4 * scale, style))
                .map_err(drawing)?;
        } else {
            area.draw(&PathElement::new(line, style)).map_err(drawing)?;
        }
        let name = fit(&series.label, 16, LEGEND - 50);
        area.draw(&Text::new(
            name,
            (34 * s, y * s),
            styled(16, scale, INK, MIDDLE),
        ))
        .map_err(drawing)?;
        let task = if series.tid == series.pid {
            format!("pid {}", series.pid)
        } else {
            format!("tid {}", series.tid)
        };
        let facts = match by {
            By::Rss => format!("{task} · {:.0} MiB at most", series.peak_rss()),
            By::Faults | By::Cpu => format!(
                "{task} · {} · {:.0} % CPU",
                text::plural(series.faults(), "fault"),
                series.cpu_percent()
            ),
        };
        let facts = fit(&facts, 14, LEGEND - 46);
        area.draw(&Text::new(facts, (34 * s, (y + 18) * s), small.clone()))
            .map_err(drawing)?;
        y += STEP;
    }
    let rest = ranked.len() - named.len();
    if rest > 0 {
        if look(named.len(), ranked.len()).crowd {
            let (line, style) = swatch(y, look(named.len(), ranked.len()));
            area.draw(&PathElement::new(line, style)).map_err(drawing)?;
        }
        let more = format!("{} more", text::count(rest as u64));
        area.draw(&Text::new(more, (34 * s, y * s), small))
            .map_err(drawing)?;
    }
    Ok(())
}

fn draw_against<B: DrawingBackend>(
    area: &Area<B>,
    chart: &Against,
    scale: u32,
) -> anyhow::Result<()> {
    heading(area, &chart.title, &chart.notes, scale)?;
    let (_, body) = area.split_vertically(HEADING * scale);
    let areas = body.split_evenly((chart.panels.len().max(1), 1));
    for (index, (area, panel)) in areas.iter().zip(&chart.panels).enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let lowest = index + 1 == chart.panels.len();
        against_panel(
            area,
            panel,
            lowest.then_some(chart.x_label.as_str()),
            colour,
            scale,
        )?;
    }
    Ok(())
}

fn against_panel<B: DrawingBackend>(
    area: &Area<B>,
    panel: &AgainstPanel,
    x_label: Option<&str>,
    colour: RGBColor,
    scale: u32,
) -> anyhow::Result<()> {
    let s = scale as i32;
    let values = panel.points.iter().map(|(_, y)| *y);
    let highest = values
        .chain(panel.limit.iter().map(|(y, _)| *y))
        .fold(0.0, f64::max);
    let last = panel.points.iter().map(|(x, _)| *x).fold(1.0, f64::max);
    let percent = panel.percent;
    let write_value = move |value: f64| {
        if percent {
            format!("{}%", short(value))
        } else {
            short(value)
        }
    };
    let label_format = move |value: &f64| write_value(*value);
    let mut context = ChartBuilder::on(area)
        .margin_left(14 * scale)
        .margin_right(40 * scale)
        .margin_top(10 * scale)
        .margin_bottom(14 * scale)
        .x_label_area_size(if x_label.is_some() { 46 } else { 26 } * scale)
        .y_label_area_size(82 * scale)
        .build_cartesian_2d(0.0..last + 1.0, 0.0..ceiling(highest * 1.1))
        .map_err(drawing)?;
    let mut mesh = context.configure_mesh();
    mesh.max_light_lines(0)
        .disable_x_mesh()
        .bold_line_style(GRID.stroke_width(scale))
        .axis_style(SOFT.stroke_width(scale))
        .x_labels((last as usize + 2).min(20))
        .y_labels(7)
        .x_label_formatter(&|value| short(*value))
        .y_label_formatter(&label_format)
        .label_style(styled(15, scale, SOFT, MIDDLE))
        .axis_desc_style(styled(16, scale, INK, MIDDLE))
        .y_desc(panel.y_label.clone());
    if let Some(label) = x_label {
        mesh.x_desc(label);
    }
    mesh.draw().map_err(drawing)?;
    if let Some((limit, name)) = &panel.limit {
        let across = vec![(0.0, *limit), (last + 1.0, *limit)];
        let dashes = DashedPathElement::new(across, 6 * scale, 5 * scale, SOFT.stroke_width(scale));
        context.draw_series([dashes]).map_err(drawing)?;
        let style = styled(14, scale, SOFT, MIDDLE);
        let label =
            EmptyElement::at((0.0, *limit)) + Text::new(name.clone(), (8 * s, -10 * s), style);
        context.draw_series([label]).map_err(drawing)?;
    }
    let line = LineSeries::new(panel.points.iter().copied(), colour.stroke_width(2 * scale));
    context.draw_series(line).map_err(drawing)?;
    let above = Pos::new(HPos::Center, VPos::Bottom);
    let marks = panel.points.iter().map(|point| {
        EmptyElement::at(*point)
            + Circle::new((0, 0), 5 * scale, colour.filled())
            + Text::new(
                write_value(short_of(point.1)),
                (0, -10 * s),
                styled(15, scale, INK, above),
            )
    });
    context.draw_series(marks).map_err(drawing)?;
    Ok(())
}

/// Three digits that count.
fn short_of(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let scale = 10_f64.powf(2.0 - value.abs().log10().floor());
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests;
