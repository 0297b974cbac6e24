// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

use proptest::prelude::*;

use super::*;

fn data(tasks: u64, samples: u64) -> Data {
    let mut data = Data::default();
    for sample in 0..samples {
        for task in 0..tasks {
            let point = Point {
                time: 100.0 + sample as f64 * 0.05,
                faults: 400 + sample * (task + 1) * 3,
                cpu: sample as f64 * 0.05 / (task + 1) as f64,
                rss: (sample * task) as f64 / 10.0,
            };
            data.add(task, 400 + task as u32, 400 + task as u32, "work", point);
        }
    }
    data
}

#[test]
fn names_of_files_tell_the_format() {
    let of = |name: &str| Format::of(Path::new(name));
    assert_eq!(of("a.svg"), Some(Format::Svg));
    assert_eq!(of("dir.svg/a.PNG"), Some(Format::Png));
    assert_eq!((of("a.pdf"), of("svg"), of("a")), (None, None, None));
}

#[test]
fn axes_are_labelled_briefly() {
    let cases = [
        (0.0, "0"),
        (0.25, "0.25"),
        (500.0, "500"),
        (20_000.0, "20k"),
        (1.5e6, "1.5M"),
        (2e9, "2G"),
    ];
    for (value, text) in cases {
        assert_eq!(short(value), text);
    }
    assert_eq!((ceiling(0.0), ceiling(f64::NAN)), (1.0, 1.0));
    assert_eq!(
        (ceiling(97.0), ceiling(99.0), ceiling(51_200.0)),
        (100.0, 120.0, 60_000.0)
    );
}

#[test]
fn faults_are_counted_from_the_first_sample() {
    let data = data(2, 11);
    assert_eq!(data.series[1].faults(), 60);
    let line = data.series[1].line(By::Faults, 100.0, 0.0);
    assert_eq!((line.first().copied(), line.len()), (Some((0.0, 0.0)), 11));
    assert_eq!(line.last().map(|point| point.1), Some(60.0));
}

#[test]
fn cpu_is_a_mean_over_the_bin() {
    let data = data(2, 101);
    for (series, percent) in data.series.iter().zip([100.0, 50.0]) {
        let line = series.line(By::Cpu, 100.0, 0.24);
        assert_eq!(line.len(), 20);
        for (_, y) in line {
            assert!((y - percent).abs() < 1e-6, "{y}");
        }
    }
}

#[test]
fn fifty_tasks_leave_seven_with_names() {
    let named = |of: usize| (0..of).filter(|rank| !look(*rank, of).crowd).count();
    assert_eq!((named(1), named(14), named(15), named(50)), (1, 14, 7, 7));
    let looks = |rank| (look(rank, 14).colour, look(rank, 14).dashed);
    for a in 0..14 {
        assert!((0..a).all(|b| looks(a) != looks(b)), "{a}");
    }
}

#[test]
fn long_names_are_cut_to_fit() {
    let long = "x".repeat(300);
    let cut = fit(&long, 14, 200);
    assert!(cut.ends_with('…') && cut.len() < 60, "{cut}");
    assert_eq!(fit("short", 14, 200), "short");
    assert_eq!(fit("short", 14, 0), "");
}

proptest! {
    /// No data makes a line longer than the drawing is wide, or out of order.
    #[test]
    fn lines_are_thin_and_in_order(
        steps in prop::collection::vec((0_u32..200, 0_u64..1000, 0_u32..300), 1..2000),
    ) {
        let mut data = Data::default();
        let (mut time, mut faults, mut cpu) = (0.0, 0, 0.0);
        for (dt, df, dc) in steps {
            time += f64::from(dt) / 1e3;
            faults += df;
            cpu += f64::from(dc) / 1e3;
            data.add(1, 1, 1, "", Point { time, faults, cpu, rss: 0.0 });
        }
        let (start, end) = data.span();
        let bin = (end - start) / BINS;
        for by in [By::Faults, By::Cpu, By::Rss] {
            let line = data.series[0].line(by, start, bin);
            prop_assert!(bin == 0.0 || line.len() <= BINS as usize + 2);
            prop_assert!(line.windows(2).all(|pair| pair[0].0 <= pair[1].0));
            prop_assert!(line.iter().all(|(x, y)| x.is_finite() && y.is_finite() && *y >= 0.0));
        }
    }
}
