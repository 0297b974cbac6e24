// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The command as users call it, on a machine without VIRGO's modules.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;

fn virgo(arguments: &[&str]) -> Output {
    let mut command = Command::cargo_bin("virgo").unwrap();
    command.args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// An own directory for a test's files.
fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

fn has_modules() -> bool {
    Path::new("/dev/virgo-profiler").exists()
}

#[test]
fn wrong_usage_exits_with_2_and_says_why() {
    let cases: [(&[&str], &str); 28] = [
        (&[], "Usage"),
        (&["nonsense"], "nonsense"),
        (&["profiler"], "Usage"),
        (&["profiler", "run"], "--command"),
        (&["profiler", "run", "-c", "unclosed 'quote"], "quote"),
        (&["profiler", "run", "-c", ""], "empty"),
        (&["profiler", "register"], "PID"),
        (&["profiler", "register", "0"], "0"),
        (&["profiler", "register", "-5"], "-5"),
        (&["profiler", "register", "4294967296"], "4294967296"),
        (&["profiler", "monitor", "--classic", "--csv"], "--csv"),
        (&["profiler", "monitor", "--duration", "0"], "seconds"),
        (&["profiler", "monitor", "--hz", "250"], "--classic"),
        (&["profiler", "case", "3"], "3"),
        (&["profiler", "plot", "in.csv", "-o", "out.pdf"], ".svg"),
        (&["profiler", "top", "--json"], "--batch"),
        (&["mem"], "Usage"),
        (&["mem", "malloc"], "SIZE"),
        (&["mem", "malloc", "much"], "number of bytes"),
        (
            &["mem", "malloc", "1K", "--node", "1", "--stripe"],
            "--stripe",
        ),
        (&["mem", "set", "12", "x"], "32 hexadecimal digits"),
        (&["mem", "free"], "BLOCK"),
        (&["mem", "put"], "KEY"),
        (&["mem", "put", "k", "v", "--add", "--append"], "--append"),
        (&["mem", "put", "k", "v", "--file", "f"], "--file"),
        (&["mem", "take", "k", "--here", "--node", "2"], "--node"),
        (&["mem", "load", "f", "--check", "--salvage"], "--salvage"),
        (&["mem", "settings", "--evict", "perhaps"], "perhaps"),
    ];
    for (arguments, words) in cases {
        let output = virgo(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(text(&output.stdout).is_empty(), "{arguments:?}");
        assert!(
            text(&output.stderr).contains(words),
            "{arguments:?}: {output:?}"
        );
    }
}

#[test]
fn without_the_modules_every_command_says_what_to_do() {
    if has_modules() {
        return;
    }
    let cases: [&[&str]; 24] = [
        &["status"],
        &["profiler", "list"],
        &["profiler", "rate"],
        &["profiler", "rate", "20"],
        &["profiler", "register", "1"],
        &["profiler", "unregister", "1"],
        &["profiler", "monitor", "--dump"],
        &["profiler", "record", "-o", "/nonexistent/x.csv"],
        &["profiler", "top", "--batch", "1"],
        &["profiler", "run", "--", "true"],
        &["work", "1", "R", "1", "--register"],
        &["mem", "malloc", "100"],
        &["mem", "get", "0123456789abcdef0123456789abcdef"],
        &["mem", "free", "0123456789abcdef0123456789abcdef"],
        &["mem", "list"],
        &["mem", "stat"],
        &["mem", "put", "key", "value"],
        &["mem", "take", "key"],
        &["mem", "delete", "key"],
        &["mem", "count", "key"],
        &["mem", "keys"],
        &["mem", "watch", "a:"],
        &["mem", "save", "-"],
        &["mem", "share", "a:"],
    ];
    for arguments in cases {
        let output = virgo(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        let message = text(&output.stderr);
        assert!(
            message.starts_with("virgo: cannot open /dev/virgo"),
            "{message}"
        );
        assert!(message.contains("is not loaded (ENOENT)"), "{message}");
        assert!(message.contains("sudo modprobe virgo-"), "{message}");
    }
}

#[test]
fn doctor_names_the_missing_modules() {
    if has_modules() {
        return;
    }
    let output = virgo(&["doctor"]);
    assert_eq!(output.status.code(), Some(1));
    let findings = text(&output.stdout);
    assert!(
        findings.contains("FAIL  core      virgo-core is not loaded"),
        "{findings}"
    );
    assert!(findings.contains("insmod-scripts/preflight"), "{findings}");

    let output = virgo(&["doctor", "--json"]);
    let checks: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(checks[1]["name"], "core");
    assert_eq!(checks[1]["grade"], "fail");
    assert!(checks[1]["next"].is_string());
}

#[test]
fn version_never_fails() {
    let own = format!("virgo {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(text(&virgo(&["--version"]).stdout), own);
    let output = virgo(&["version"]);
    assert!(output.status.success());
    assert!(text(&output.stdout).starts_with(&own));
    let output = virgo(&["version", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["virgo"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn work_prints_what_the_original_prints() {
    let output = virgo(&["work", "2", "T", "100", "--iterations", "3", "--pause", "0"]);
    assert!(output.status.success(), "{output:?}");
    let lines: Vec<&str> = text(&output.stdout).lines().collect();
    assert_eq!(lines[0], "A work process starts (configuration: 2 1 100)");
    assert_eq!(lines.len(), 4);
    for (number, line) in lines[1..].iter().enumerate() {
        let (pid, rest) = line.strip_prefix('[').unwrap().split_once("] ").unwrap();
        assert!(pid.parse::<u32>().is_ok(), "{line}");
        assert_eq!(rest, format!("{number} iteration"));
    }
}

#[test]
fn work_refuses_with_the_originals_words() {
    let usage = "usage: work <memsize in MB> <locality: R for Random or T for Temporal> \
                 <# of memory accesses per iteration>";
    let cases: [(&[&str], &str); 4] = [
        (&["work"], usage),
        (&["work", "1", "Q", "1"], usage),
        (
            &["work", "0", "R", "1"],
            "memsize shall be between 1 and 1024",
        ),
        (
            &["work", "1025", "L", "1"],
            "memsize shall be between 1 and 1024",
        ),
    ];
    for (arguments, words) in cases {
        let output = virgo(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(text(&output.stderr), format!("virgo: {words}\n"));
    }
}

#[test]
fn a_closed_pipe_is_no_fault() {
    let binary = assert_cmd::cargo::cargo_bin("virgo");
    let output = std::process::Command::new("sh")
        .arg("-c")
        .arg("{ \"$1\" completions bash; echo status $? >&2; } | :")
        .arg("sh")
        .arg(binary)
        .output()
        .unwrap();
    assert_eq!(text(&output.stderr), "status 0\n");
}

#[test]
fn the_gate_is_for_run_alone() {
    let output = virgo(&["gate", "--parent", "1", "--", "true"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        text(&output.stderr).contains("virgo profiler run"),
        "{output:?}"
    );
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = virgo(&["completions", shell]);
        assert!(output.status.success(), "{shell}");
        let script = text(&output.stdout);
        for word in ["profiler", "monitor", "classic", "doctor"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn manual_pages_are_made_for_every_command() {
    let directory = directory("man");
    let output = virgo(&["mangen", directory.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    for page in [
        "virgo.1",
        "virgo-doctor.1",
        "virgo-work.1",
        "virgo-profiler.1",
        "virgo-profiler-run.1",
        "virgo-profiler-monitor.1",
    ] {
        let page = fs::read_to_string(directory.join(page)).unwrap_or_else(|_| panic!("{page}"));
        assert!(
            page.contains(".TH") && page.contains(".SH SYNOPSIS"),
            "{page}"
        );
    }
    assert!(
        !directory.join("virgo-gate.1").exists(),
        "hidden commands have no page"
    );
}

/// Two processes for two seconds at 20 Hz.
fn fixture() -> String {
    let mut text = String::from(
        "time_s,id,pid,tid,comm,state,min_flt,maj_flt,utime_ms,stime_ms,cpu_pct,rss_kib,flags,\
         lost,label\n",
    );
    for sample in 0..40 {
        for task in 1..=2 {
            let time = 100.0 + f64::from(sample) * 0.05;
            let flags = ["first", "", "exit"][usize::from(sample > 0) + usize::from(sample == 39)];
            text += &format!(
                "{time},{task},{pid},{pid},work,R,{faults},0,{cpu},0,,1000,{flags},0,work <&> {task}\n",
                pid = 400 + task,
                faults = 200 + sample * 600 * task,
                cpu = sample * 20 * task,
            );
        }
    }
    text
}

/// A process that draws a picture alone, as most do: what the other format would have set up for it
/// is not there.
#[test]
fn a_recorded_file_is_drawn_as_a_picture_alone() {
    let directory = directory("picture");
    let (input, png) = (directory.join("in.csv"), directory.join("out.png"));
    fs::write(&input, fixture()).unwrap();
    let output = virgo(&[
        "profiler",
        "plot",
        input.to_str().unwrap(),
        "-o",
        png.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{output:?}");
    let decoder = png::Decoder::new(fs::File::open(png).unwrap());
    assert_eq!(decoder.read_info().unwrap().info().width, 2400);
}

#[test]
fn a_recorded_file_is_drawn() {
    let directory = directory("plot");
    let input = directory.join("in.csv");
    fs::write(&input, fixture()).unwrap();
    let (svg, png) = (directory.join("out.svg"), directory.join("out.png"));
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let output = virgo(&[
        "profiler",
        "plot",
        &path(&input),
        "-o",
        &path(&svg),
        "-o",
        &path(&png),
    ]);
    assert!(output.status.success(), "{output:?}");
    assert!(
        output.stdout.is_empty() && output.stderr.is_empty(),
        "{output:?}"
    );

    let svg = fs::read_to_string(svg).unwrap();
    let document = roxmltree::Document::parse(&svg).unwrap();
    let texts: Vec<&str> = document
        .descendants()
        .filter(|node| node.has_tag_name("text"))
        .filter_map(|node| node.text())
        .map(str::trim)
        .collect();
    for expected in [
        "Page faults and CPU over time",
        "2 tasks, 2.0 s, 80 samples; sampled by virgo-profiler, 0 records lost",
        "page faults since the start",
        "time, s",
        "work <&> 2",
        "pid 402 · 46 800 faults · 80 % CPU",
    ] {
        assert!(texts.contains(&expected), "{expected}: {texts:?}");
    }
    // Two lines in each of two panels, beside the axes.
    let lines = document.descendants().filter(|node| {
        node.has_tag_name("polyline")
            && ["#0072B2", "#D55E00"].contains(&node.attribute("stroke").unwrap_or_default())
    });
    assert!(lines.count() >= 4, "{svg}");

    let decoder = png::Decoder::new(fs::File::open(png).unwrap());
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size()];
    let frame = reader.next_frame(&mut pixels).unwrap();
    assert_eq!((frame.width, frame.color_type), (2400, png::ColorType::Rgb));
    let has = |colour: [u8; 3]| pixels.chunks_exact(3).any(|pixel| pixel == colour);
    assert!(has([0, 114, 178]) && has([213, 94, 0]) && has([255, 255, 255]));
}

#[test]
fn each_kind_of_drawing_has_its_title() {
    let directory = directory("plot-by");
    let input = directory.join("in.csv");
    fs::write(&input, fixture()).unwrap();
    for (by, title) in [
        ("faults", "Page faults over time"),
        ("cpu", "CPU over time"),
        ("rss", "Resident memory over time"),
    ] {
        let svg = directory.join(format!("{by}.svg"));
        let (from, to) = (input.to_str().unwrap(), svg.to_str().unwrap());
        let output = virgo(&["profiler", "plot", from, "-o", to, "--by", by]);
        assert!(output.status.success(), "{output:?}");
        assert!(fs::read_to_string(&svg).unwrap().contains(title), "{by}");
    }
}

#[test]
fn files_that_cannot_be_drawn_are_named_with_the_line() {
    let directory = directory("plot-wrong");
    let heading = fixture().lines().next().unwrap().to_owned();
    let cases = [
        ("empty", String::new(), "no samples"),
        ("heading", format!("{heading}\n"), "no samples"),
        ("other", "a,b\n1,2\n".into(), "line 2 is not a sample"),
        (
            "short",
            format!("{heading}\n1,2\n"),
            "line 2 has another number of columns",
        ),
        (
            "word",
            fixture().replacen(",work,", ",work,R", 1),
            "line 2 is not a sample",
        ),
    ];
    for (name, content, words) in cases {
        let input = directory.join(name);
        fs::write(&input, content).unwrap();
        let output = directory.join("out.svg");
        let output = virgo(&[
            "profiler",
            "plot",
            input.to_str().unwrap(),
            "-o",
            output.to_str().unwrap(),
        ]);
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert!(text(&output.stderr).contains(words), "{name}: {output:?}");
    }
    let output = virgo(&["profiler", "plot", "/nonexistent.csv", "-o", "x.svg"]);
    assert!(
        text(&output.stderr).contains("no such file or directory"),
        "{output:?}"
    );
}

#[test]
fn a_file_of_values_is_checked_without_the_modules() {
    let folder = directory("snapshot");
    let path = folder.join("values.virgomem");
    let name = path.to_str().unwrap();
    let mut writer = virgo::snapshot::Writer::new(Vec::new(), 1).unwrap();
    for key in ["one", "two"] {
        writer
            .add(&virgo::snapshot::Saved {
                key: key.into(),
                value: b"value".to_vec(),
                ..Default::default()
            })
            .unwrap();
    }
    let (mut bytes, _) = writer.finish().unwrap();
    fs::write(&path, &bytes).unwrap();
    let output = virgo(&["mem", "load", "--check", name]);
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output.stderr).contains("is whole: 2 values"));
    let output = virgo(&["mem", "load", "--check", "--json", name]);
    assert_eq!(text(&output.stdout), "{\"bytes\":136,\"values\":2}\n");

    let at = bytes.len() - 30;
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let output = virgo(&["mem", "load", name]);
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    assert!(
        message.contains("is damaged") && message.contains("--salvage"),
        "{message}"
    );

    let cases: [(&[u8], &str); 2] = [
        (b"something else", "virgo mem save"),
        (&bytes[..60], "cut off"),
    ];
    for (content, words) in cases {
        fs::write(&path, content).unwrap();
        let output = virgo(&["mem", "load", "--check", name]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(words), "{output:?}");
    }
}

#[test]
fn each_command_of_the_memory_pool_has_an_example() {
    let output = virgo(&["mem", "--help"]);
    let help = text(&output.stdout).to_owned();
    assert!(help.contains("Examples:"), "{help}");
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let mut count = 0;
    for line in commands.take_while(|line| !line.is_empty()) {
        // A description may go on in a line of its own, further in.
        let Some(name) = line
            .strip_prefix("  ")
            .and_then(|rest| rest.split(' ').next())
        else {
            continue;
        };
        if name.is_empty() {
            continue;
        }
        let output = virgo(&["mem", name, "--help"]);
        let help = text(&output.stdout);
        assert!(
            help.contains("Example") && help.contains("virgo mem "),
            "{name}: {help}"
        );
        count += 1;
    }
    assert!(count >= 16, "{help}");
}
